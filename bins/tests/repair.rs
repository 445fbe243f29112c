//! `svc-repair repair`, `undo` and `list` without a service, as a person runs them.

// Helpers of tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use support::{Place, Said};

fn library(place: &Place) -> PathBuf {
    std::fs::create_dir(place.path("data")).unwrap();
    let path = place.path("data/library.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size=1024; PRAGMA journal_mode=WAL; CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
             CREATE INDEX notes_title ON notes(title);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO notes SELECT i, 'title ' || i, 'some words of note ' || i FROM n;",
        )
        .unwrap();
    connection.close().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    path
}

/// Pages of an object, by SQLite's word.
fn pages(path: &Path, object: &str, kind: &str) -> Vec<usize> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([object, kind], |row| row.get::<_, i64>(0)).unwrap();
    pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
}

fn zero(path: &Path, pages: &[usize]) {
    let mut bytes = std::fs::read(path).unwrap();
    for page in pages {
        bytes[(page - 1) * 1024..page * 1024].fill(0);
    }
    std::fs::write(path, bytes).unwrap();
}

fn rows(path: &Path) -> (i64, String) {
    let connection = Connection::open(path).unwrap();
    let rows = connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
    (rows, connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap())
}

fn json(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
    serde_json::from_str(said.out.lines().last().unwrap()).unwrap()
}

/// Everything that lies in the directory of the database.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn index_damage_is_repaired_whole_and_undone_to_the_byte() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes_title", "leaf");
    zero(&path, &leaves[..5]);
    let damaged = std::fs::read(&path).unwrap();

    let would = place.repair(&["repair", "data/library.db", "--dry-run"]);
    assert!(would.succeeds().contains("would be repaired, complete"), "{}", would.out);
    assert_eq!(names(&path), ["library.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);

    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 0);
    assert_eq!((&value["kind"], &value["outcome"]), (&"done".into(), &"complete".into()), "{value}");
    assert_eq!(value["accounting"]["step"], "indices");
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(&std::fs::read(&path).unwrap()[18..20], [2, 2], "it is a WAL database still");
    let preserved = PathBuf::from(value["preserved"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&preserved).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read(preserved.join("library.db")).unwrap(), damaged);
    assert!(preserved.join("report.json").exists());
    assert_eq!(names(&preserved.join("x")), ["library.db", "preserved.json", "report.json"]);

    // Once more: nothing is left to do, and nothing is done.
    let again = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 0);
    assert_eq!(again["outcome"], "whole");
    let listed = place.repair(&["list", "data"]);
    assert!(listed.succeeds().contains("repaired, complete"), "{}", listed.out);

    let repaired = std::fs::read(&path).unwrap();
    place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let sets = place.repair(&["list", "data/library.db", "--json"]);
    let last: Value = serde_json::from_str(sets.succeeds().lines().last().unwrap()).unwrap();
    assert_eq!(last["before"], "undo");
    // And that can be undone as well.
    let id = last["id"].as_str().unwrap().to_owned();
    place.repair(&["undo", "data/library.db", "--no-service", "--set", &id]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), repaired);
    assert!(names(&path).iter().all(|name| name == "library.db" || name.contains("svckit-preserved-")));
}

#[test]
fn lost_rows_are_told_and_the_original_stays_until_the_loss_is_accepted() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes", "leaf");
    zero(&path, &leaves[3..13]);
    let damaged = std::fs::read(&path).unwrap();
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    for wanted in ["NOT repaired", "--accept-loss", "LOST OR DOUBTFUL: notes: ", " rows are lost", "the original: "] {
        assert!(said.out.contains(wanted), "{wanted:?} is not in {}", said.out);
    }
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--accept-loss", "--json"]), 13);
    assert_eq!((&value["kind"], &value["outcome"]), (&"partial".into(), &"partial-replaced".into()));
    let lost = value["accounting"]["tables"][0]["lost"].as_i64().unwrap();
    assert!(lost > 50);
    assert_eq!(rows(&path), (4000 - lost, "ok".to_owned()));
    // The same original is not preserved twice.
    assert_eq!(names(&path).len(), 2, "{:?}", names(&path));
    place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[test]
fn an_undo_brings_the_log_back_with_the_database() {
    let place = Place::new();
    let path = library(&place);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap_or(());
    for id in 5000..5010 {
        connection.execute("INSERT INTO notes VALUES(?1, 'late', 'x')", [id]).unwrap();
    }
    // As a crash leaves it, and then a bit of the log turns.
    let dead = place.path("data/dead.db");
    for suffix in ["", "-wal", "-shm"] {
        let name = |stem: &str| place.path(format!("data/{stem}.db{suffix}"));
        std::fs::copy(name("library"), name("dead")).unwrap();
    }
    drop(connection);
    let wal = place.path("data/dead.db-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let frame = 24 + 1024;
    bytes[32 + 4 * frame + 100] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let before: Vec<_> =
        ["", "-wal", "-shm"].map(|s| std::fs::read(place.path(format!("data/dead.db{s}"))).unwrap()).into();
    let said = place.repair(&["repair", "data/dead.db", "--no-service", "--accept-loss"]);
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("by its log or journal alone") && said.out.contains("commits are lost"), "{}", said.out);
    assert!(!wal.exists());
    let (count, verdict) = rows(&dead);
    assert!((4000..4010).contains(&count) && verdict == "ok");
    for suffix in ["-wal", "-shm"] {
        let _not_there = std::fs::remove_file(place.path(format!("data/dead.db{suffix}")));
    }
    place.repair(&["undo", "data/dead.db", "--no-service"]).succeeds();
    let after: Vec<_> =
        ["", "-wal", "-shm"].map(|s| std::fs::read(place.path(format!("data/dead.db{s}"))).unwrap()).into();
    assert!(before == after);
}

#[test]
fn a_database_without_its_first_page_is_repaired_with_the_definitions_of_its_backup() {
    let place = Place::new();
    let path = library(&place);
    place.backup(&["backup", "--sqlite", "data/library.db", "--to", "store"]).succeeds();
    let connection = Connection::open(&path).unwrap();
    connection.execute("INSERT INTO notes VALUES(4001, 'since the backup', 'x')", []).unwrap();
    connection.close().unwrap();
    zero(&path, &[1]);
    let damaged = std::fs::read(&path).unwrap();
    let alone = place.repair(&["repair", "data/library.db", "--no-service"]);
    alone.fails(11, &["no definition of any table can be read", "hint: "]);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    place.repair(&["repair", "data/library.db", "--no-service", "--from", "none"]).fails(10, &["there is no store"]);
    let said = place.repair(&["repair", "data/library.db", "--no-service", "--from", "store"]);
    assert!(said.succeeds().contains("are those of the backup"), "{}", said.out);
    assert_eq!(rows(&path), (4001, "ok".to_owned()));
}

#[test]
fn a_database_that_somebody_has_open_is_not_touched() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes_title", "leaf");
    zero(&path, &leaves[..2]);
    let damaged = std::fs::read(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    let _row: i64 = connection.query_row("SELECT id FROM notes WHERE id = 7", [], |row| row.get(0)).unwrap();
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    said.fails(21, &["has it open", "name its service (--unit"]);
    place.repair(&["undo", "data/library.db", "--no-service"]).fails(10, &["there is no preserved original"]);
    drop(connection);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    assert_eq!(names(&path), ["library.db"]);
    place.repair(&["repair", "data/library.db"]).fails(2, &["which service", "--no-service"]);
    place.repair(&["repair", "data/library.db", "--unit", "a", "--no-service"]).fails(2, &["cannot be used"]);
}
