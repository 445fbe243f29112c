//! Rows that a repair can't read any more come from a backup, when a person says so.

use rusqlite::Connection;
use svckit_testbed::command::{ours, run, svc_backup, svc_repair};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

use crate::patient::{NOTES, damage, enable_resume, notes, start};

pub(crate) const STORIES: &[Story] =
    &[("what a repair loses is filled from the backup that the report names, with the service back on it", filled)];

fn filled() {
    enable_resume();
    let unit = start("repair-filled", Recipe::new().service("Restart=always"));
    let (name, database) = (unit.name.as_str(), unit.databases[0].to_str().unwrap());
    unit.systemctl("start").expect(0);
    unit.record.wait_for_commits(3, QUICK);
    // Hot, while the service writes.
    let store = unit.directory.join("store");
    let store = store.to_str().unwrap();
    svc_backup(["backup", "--sqlite", database, "--name", "filled", "--to", store]).expect(0);
    unit.systemctl("stop").expect(0);
    let connection = Connection::open(database).unwrap();
    connection
        .execute_batch("DELETE FROM notes WHERE id % 100 = 7; UPDATE notes SET body = 'since' WHERE id % 100 = 8;")
        .unwrap();
    connection.close().unwrap();
    let now = notes(&unit.databases[0]);
    assert_eq!(now.len() as i64, NOTES - NOTES / 100);
    let lost = damage(&unit, "notes", 20);
    let observer = unit.observe();

    let said = svc_repair(["repair", database, "--unit", name, "--from", store, "--json"]).expect(13).json();
    assert_eq!(said["outcome"], "partial-not-replaced");
    let next = said["next"].as_str().unwrap();
    assert_eq!(
        next,
        format!("svc-repair repair {database} --unit {name} --strategy restore --from {store} --target filled")
    );
    let words = next.split(' ').skip(1).chain(["--json"]);
    let said = run(ours("svc-repair", words), QUICK * 4).expect(13).json();
    assert_eq!((&said["outcome"], &said["service"]), (&"partial-replaced".into(), &"started".into()), "{said}");
    let told = said["accounting"]["tables"].as_array().unwrap();
    let of_notes = told.iter().find(|table| table["table"] == "notes").unwrap();
    assert_eq!((&of_notes["from_backup"], &of_notes["lost"]), (&lost.into(), &0.into()), "{of_notes}");
    assert_eq!(said["losses"].as_array().unwrap().len(), 1, "{said}");
    unit.assert_running();
    unit.assert_clean();
    // Every row that the service had committed, before and after, and every note that there was, is there.
    unit.assert_nothing_lost();
    assert!(notes(&unit.databases[0]) == now);
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(QUICK).unwrap();
    let since = "SELECT count(*) FROM notes WHERE id % 100 = 8 AND body <> 'since'";
    let older: i64 = connection.query_row(since, [], |row| row.get(0)).unwrap();
    assert!(older > 0 && older as u64 <= lost, "{older} of {lost} are of the time of the backup, as was told");
    svc_repair(["check", database, "--deep"]).expect(0);
    assert_eq!(observer.no_kill(), []);
}
