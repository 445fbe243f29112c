//! Check, repair and undo of a database whose service runs.

use svckit_testbed::command::{ours, sh, start as run_in_background, svc_repair};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

use crate::patient::{NOTES, damage, enable_resume, notes, preserved, start};

pub(crate) const STORIES: &[Story] = &[
    ("a running unit's database is checked, repaired and undone, and every row is accounted for", life),
    ("nothing starts the service while its database is repaired", nobody_starts_it),
    ("a repair that is killed leaves the original, and the guard brings the service back", killed),
];

fn life() {
    let unit = start("repair-life", Recipe::new().service("Restart=always"));
    let (name, database) = (unit.name.as_str(), unit.databases[0].to_str().unwrap());
    let lost = damage(&unit, "notes", 10);
    let observer = unit.observe();

    let said = svc_repair(["check", database, "--json"]).expect(11).json();
    assert_eq!((&said["consistency"], &said["rows_at_risk"]), (&"read-mark".into(), &true.into()));
    assert_eq!(said["next"], format!("svc-repair repair {database} --unit {name}"));
    unit.assert_running();
    let said = svc_repair(["repair", database, "--unit", name, "--dry-run", "--json"]).expect(13).json();
    assert_eq!(said["outcome"], "would-be-partial");
    assert_eq!(unit.record.starts().len(), 2, "a dry run stops nothing");
    // A replacement of a unit's database needs what finishes it after a power cut.
    let refused = svc_repair(["repair", database, "--unit", name]).expect(22);
    assert!(refused.stderr.contains("systemctl enable svc-resume.service"), "{}", refused.stderr);
    enable_resume();

    let said = svc_repair(["repair", database, "--unit", name, "--json"]).expect(13).json();
    assert_eq!(said["outcome"], "partial-not-replaced");
    unit.assert_running();
    assert_eq!(svc_repair(["check", database]).expect(11).stdout.matches("its type byte is 0x00").count(), 10);
    let said = svc_repair(["repair", database, "--unit", name, "--accept-loss", "--json"]).expect(13).json();
    assert_eq!((&said["outcome"], &said["service"]), (&"partial-replaced".into(), &"started".into()), "{said}");
    assert_eq!(said["losses"], serde_json::json!([format!("notes: {lost} rows are lost")]));
    assert_eq!(notes(&unit.databases[0]).len() as u64, NOTES as u64 - lost);
    unit.assert_running();
    unit.assert_clean();
    // All that the service had committed is there, before and after.
    unit.assert_nothing_lost();
    svc_repair(["check", database, "--deep"]).expect(0);

    // Undone while it does not run, it can be compared to the byte; it is not started by that.
    let original = std::fs::read(preserved(&said, &unit)).unwrap();
    unit.systemctl("stop").expect(0);
    let said = svc_repair(["undo", database, "--unit", name, "--json"]).expect(0).json();
    assert_eq!(said["service"], "was-not-running");
    assert!(std::fs::read(database).unwrap() == original, "the original is back, byte for byte");
    unit.assert_stopped();
    unit.systemctl("start").expect(0);
    unit.assert_running();
    svc_repair(["check", database]).expect(11);
    // And the repaired one again, while the service runs.
    let sets = svc_repair(["list", database, "--json"]).expect(0).stdout;
    let last: serde_json::Value = serde_json::from_str(sets.lines().last().unwrap()).unwrap();
    assert_eq!(last["before"], "undo");
    let set = last["id"].as_str().unwrap();
    let said = svc_repair(["undo", database, "--unit", name, "--set", set, "--json"]).expect(0).json();
    assert_eq!(said["service"], "started");
    unit.assert_running();
    unit.assert_clean();
    assert_eq!(notes(&unit.databases[0]).len() as u64, NOTES as u64 - lost);
    svc_repair(["check", database]).expect(0);
    assert_eq!(svc_repair(["list", database]).expect(0).stdout.lines().count(), 4 + 1);
    assert_eq!(observer.no_kill(), []);
}

fn nobody_starts_it() {
    enable_resume();
    let unit = start("repair-held", Recipe::new().service("Restart=always"));
    let (name, database) = (unit.name.as_str(), unit.databases[0].to_str().unwrap());
    damage(&unit, "notes_title", 8);
    let starts = unit.record.starts().len();
    let repair = run_in_background(ours("svc-repair", ["repair", database, "--unit", name, "--json"]));
    // `start` has stopped it once.
    unit.record.wait_for("it has been asked to stop", QUICK, |events| {
        events.iter().filter(|event| event.what == "signal").count() == 2
    });
    // A person who does not know: refused while it is held, or waiting until the repair is over.
    let attempt = sh("systemctl", ["start", name]);
    let said = repair.finish(QUICK).expect(0).json();
    assert_eq!((&said["outcome"], &said["accounting"]["step"]), (&"complete".into(), &"indices".into()), "{said}");
    unit.assert_running();
    assert_eq!(unit.record.starts().len(), starts + 1, "{attempt:?}");
    unit.assert_clean();
    unit.assert_nothing_lost();
    assert_eq!(notes(&unit.databases[0]).len() as i64, NOTES);
    svc_repair(["check", database, "--deep"]).expect(0);
}

fn killed() {
    enable_resume();
    let unit = start("repair-killed", Recipe::new());
    let (name, database) = (unit.name.as_str(), unit.databases[0].to_str().unwrap());
    damage(&unit, "notes_title", 8);
    let starts = unit.record.starts().len();
    let mut repair = run_in_background(ours("svc-repair", ["repair", database, "--unit", name]));
    // `start` has stopped it once.
    unit.record.wait_for("it has been asked to stop", QUICK, |events| {
        events.iter().filter(|event| event.what == "signal").count() == 2
    });
    repair.kill();
    repair.finish(QUICK).expect(128 + 9);
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() > starts
    });
    unit.wait_clean(QUICK);
    unit.assert_running();
    // Either the original, or the whole replacement: never something between.
    let check = svc_repair(["check", database]);
    assert!([0, 11].contains(&check.status), "{check:?}");
    assert_eq!(notes(&unit.databases[0]).len() as i64, NOTES);
    let left: Vec<_> = std::fs::read_dir(&unit.directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("svckit-restore")), "{left:?}");
    svc_repair(["repair", database, "--unit", name]).expect(0);
    svc_repair(["check", database]).expect(0);
    unit.assert_nothing_lost();
}
