//! Backups of the test bed's own service: every row that it was told is committed is in every backup.

use std::path::{Path, PathBuf};

use svckit_testbed::command::{Outcome, ours, sh, start, svc_backup};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit, assert_has_rows, property_of};

pub(crate) const STORIES: &[Story] = &[
    ("hot, fenced and cold: every acknowledged row is in the backup", every_mode),
    ("journal modes other than WAL are backed up hot", every_journal),
    ("includes keep owner, mode and attributes", includes),
    ("a backup that was damaged, cut or edited does not verify, and is not restored", damage),
    ("expire never removes the last good backup", expire),
    ("a killed backup leaves nothing visible, and the service comes back", killed),
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(unit: &Unit, mode: &str, more: &[&str]) -> Outcome {
    let store = unit.directory.join("store");
    let mut args = vec!["backup", "--to", text(&store), "--unit", &unit.name, "--name", "t", "--mode", mode, "--json"];
    for database in &unit.databases {
        args.extend(["--sqlite", text(database)]);
    }
    args.extend(more);
    svc_backup(args)
}

fn id(outcome: &Outcome) -> String {
    outcome.json()["backup"].as_str().unwrap_or_else(|| panic!("{outcome:?}")).to_owned()
}

fn restore(unit: &Unit, id: &str) -> PathBuf {
    let to = unit.directory.join(format!("restored-{id}"));
    if unit.databases.len() > 1 {
        std::fs::create_dir(&to).unwrap();
    }
    svc_backup(["restore", "--from", text(&unit.directory.join("store")), "t", id, "--to", text(&to)]).expect(0);
    to
}

fn restored(unit: &Unit, to: &Path) -> Vec<PathBuf> {
    // One database is restored to the file that was named, several into the directory.
    let name = |database: &PathBuf| to.join(database.file_name().unwrap());
    if unit.databases.len() == 1 { vec![to.to_owned()] } else { unit.databases.iter().map(name).collect() }
}

fn every_mode() {
    let unit = Recipe::new().databases(2).args("--pause 1").start("backup-modes");
    for mode in ["hot", "fenced", "cold"] {
        unit.record.wait_for_commits(20, QUICK);
        let acknowledged = unit.record.acknowledged();
        let observer = unit.observe();
        let id = id(&backup(&unit, mode, &[]).expect(0));
        assert_eq!(observer.no_kill(), []);
        unit.assert_running();
        unit.assert_clean();
        for database in restored(&unit, &restore(&unit, &id)) {
            assert_has_rows(&database, &acknowledged);
        }
    }
    unit.assert_nothing_lost();
    // Nothing of ours lies beside the service's files.
    let mut names: Vec<String> =
        std::fs::read_dir(&unit.directory).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into()).collect();
    names.retain(|name| name.starts_with("data") && !name.ends_with(".db"));
    names.sort();
    assert_eq!(names, ["data0.db-shm", "data0.db-wal", "data1.db-shm", "data1.db-wal"]);
}

fn every_journal() {
    for mode in ["delete", "truncate", "persist", "memory", "off"] {
        let unit = Recipe::new().args(&format!("--journal-mode {mode} --pause 3")).start(&format!("backup-{mode}"));
        let acknowledged = unit.record.acknowledged();
        let id = id(&backup(&unit, "hot", &[]).expect(0));
        assert_has_rows(&restored(&unit, &restore(&unit, &id))[0], &acknowledged);
        unit.assert_running();
        unit.assert_nothing_lost();
        unit.systemctl("stop").expect(0);
    }
}

fn includes() {
    let unit = Recipe::new().start("backup-files");
    let files = unit.directory.join("config");
    std::fs::create_dir_all(files.join("deep")).unwrap();
    let file = files.join("deep/setting");
    std::fs::write(&file, "colour=blue\n").unwrap();
    sh("chown", ["1234:2345", text(&file)]).expect(0);
    sh("chmod", ["0640", text(&file)]).expect(0);
    sh("setfattr", ["-n", "user.note", "-v", "kept", text(&file)]).expect(0);
    std::os::unix::fs::symlink("deep/setting", files.join("link")).unwrap();
    let id = id(&backup(&unit, "hot", &["--include", text(&files)]).expect(0));
    let store = unit.directory.join("store");
    let to = unit.directory.join("back");
    std::fs::create_dir(&to).unwrap();
    svc_backup(["restore", "--from", text(&store), "t", &id, "--to", text(&to)]).expect(0);
    let found = sh("find", [text(&to), "-name", "setting"]).expect(0).stdout;
    let found = found.trim();
    assert!(!found.is_empty(), "{}", sh("find", [text(&to)]).stdout);
    assert_eq!(sh("stat", ["-c", "%u:%g %a", found]).stdout.trim(), "1234:2345 640");
    assert_eq!(sh("getfattr", ["--only-values", "-n", "user.note", found]).stdout, "kept");
    assert_eq!(std::fs::read_to_string(found).unwrap(), "colour=blue\n");
}

fn damage() {
    let unit = Recipe::new().start("backup-damage");
    let good = id(&backup(&unit, "hot", &[]).expect(0));
    let bad = id(&backup(&unit, "hot", &[]).expect(0));
    let store = unit.directory.join("store");
    let payload = sh("sh", ["-c", &format!("ls {}/t/{bad}/*.zst | head -1", text(&store))]).expect(0).stdout;
    let payload = Path::new(payload.trim());
    let whole = std::fs::read(payload).unwrap();
    let verify = |wanted: i32| svc_backup(["verify", "--from", text(&store), "t", &bad]).expect(wanted);
    verify(0);
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
        std::fs::write(payload, damaged).unwrap();
        verify(12);
        let to = unit.directory.join("never");
        svc_backup(["restore", "--from", text(&store), "t", &bad, "--to", text(&to)]).expect(12);
        assert!(!to.exists());
    }
    std::fs::remove_file(payload).unwrap();
    verify(12);
    // The latest that verifies is meant where none is named.
    let to = unit.directory.join("latest");
    let said = svc_backup(["restore", "--from", text(&store), "t", "--to", text(&to), "--json"]).expect(0).json();
    assert_eq!(said["backup"], good.as_str());
    std::fs::write(payload, &whole).unwrap();
    verify(0);
    let manifest = store.join("t").join(&bad).join("manifest.json");
    let words = std::fs::read_to_string(&manifest).unwrap();
    for edited in [words[..words.len() / 2].to_owned(), words.replacen("\"mode\"", "\"moda\"", 1), String::new()] {
        std::fs::write(&manifest, edited).unwrap();
        verify(12);
    }
}

fn expire() {
    let unit = Recipe::new().start("backup-expire");
    let ids: Vec<String> = (0..4).map(|_| id(&backup(&unit, "hot", &[]).expect(0))).collect();
    let store = unit.directory.join("store");
    svc_backup(["expire", "--from", text(&store), "t", "--keep-last", "2", "--dry-run"]).expect(0);
    let left = || -> Vec<String> {
        let all = ids.iter().filter(|id| store.join("t").join(id).join("manifest.json").exists());
        all.cloned().collect()
    };
    assert_eq!(left(), ids);
    svc_backup(["expire", "--from", text(&store), "t", "--keep-last", "2"]).expect(0);
    assert_eq!(left(), ids[2..]);
    // The newest is damaged: the one before it is the last good one now.
    let payload = sh("sh", ["-c", &format!("ls {}/t/{}/*.zst | head -1", text(&store), ids[3])]).expect(0).stdout;
    std::fs::write(payload.trim(), "x").unwrap();
    svc_backup(["expire", "--from", text(&store), "t", "--keep-last", "1"]);
    assert!(left().contains(&ids[2]), "the last good backup was removed");
}

fn killed() {
    let unit = Recipe::new().args("--on-term slow --slow-for 1000").start("backup-killed");
    let first = id(&backup(&unit, "hot", &[]).expect(0));
    let store = unit.directory.join("store");
    let database = text(&unit.databases[0]);
    let args =
        ["backup", "--to", text(&store), "--unit", &unit.name, "--name", "t", "--mode", "cold", "--sqlite", database];
    let mut running = start(ours("svc-backup", args));
    unit.record.wait_for("its stop has begun", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    unit.record.wait_for("it is started again", QUICK, |e| e.iter().filter(|e| e.what == "start").count() == 2);
    unit.wait_clean(QUICK);
    unit.assert_running();
    assert_eq!(property_of(&unit.name, "NeedDaemonReload"), "no");
    let list = svc_backup(["list", "--from", text(&store), "--json"]).expect(0).stdout;
    assert!(list.contains(&first) && list.matches("\"stored_bytes\"").count() == 1, "{list}");
    // The next run sweeps what the dead one left.
    let second = id(&backup(&unit, "cold", &[]).expect(0));
    let names: Vec<String> = std::fs::read_dir(store.join("t"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 2, "{first} {second} {names:?}");
}
