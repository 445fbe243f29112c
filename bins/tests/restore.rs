//! `svc-backup restore` of one database without a service.

// Helpers of the tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use support::Place;

fn rows(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
}

/// A place with a store that has a backup of a database of one row; the database has two by now.
fn place() -> Place {
    let place = Place::new();
    let database = Connection::open(place.path("notes.db")).unwrap();
    database.execute_batch("CREATE TABLE notes (body TEXT); INSERT INTO notes VALUES ('kept');").unwrap();
    place.backup(&["backup", "--sqlite", "notes.db", "--to", "store"]).succeeds();
    database.execute_batch("INSERT INTO notes VALUES ('later');").unwrap();
    place
}

#[test]
fn what_is_replaced_is_kept_and_the_backup_is_in_place() {
    let place = place();
    let said = place.backup(&["restore", "--from", "store", "notes", "--to", "notes.db", "--json"]);
    let report: serde_json::Value = serde_json::from_str(said.succeeds()).unwrap();
    assert_eq!(rows(&place.path("notes.db")), 1);
    let kept = Path::new(report["kept"][0].as_str().unwrap());
    let kept = if kept.is_dir() { kept.join("notes.db") } else { kept.to_owned() };
    assert_eq!(rows(&kept), 2, "{report}");
    place.backup(&["restore", "--from", "store", "notes", "--to", "beside.db"]).succeeds();
    assert_eq!(rows(&place.path("beside.db")), 1);
}

#[test]
fn a_dry_run_and_a_backup_that_is_not_there_change_nothing() {
    let place = place();
    let said = place.backup(&["restore", "--from", "store", "notes", "--to", "notes.db", "--dry-run"]);
    assert!(said.succeeds().contains("would: "), "{}", said.out);
    place.backup(&["restore", "--from", "store", "other", "--to", "notes.db"]).fails(10, &["no backup of other"]);
    place.backup(&["restore", "--from", "none", "notes", "--to", "notes.db"]).fails(10, &["none"]);
    assert_eq!(rows(&place.path("notes.db")), 2);
}

#[test]
fn a_database_that_a_live_process_has_open_is_not_replaced() {
    let place = place();
    let open = Connection::open(place.path("notes.db")).unwrap();
    let held: i64 = open.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
    let said = place.backup(&["restore", "--from", "store", "notes", "--to", "notes.db"]);
    assert!(matches!(said.code, 21 | 22), "{} {}", said.out, said.err);
    said.fails(said.code, &["notes.db"]);
    assert_eq!((held, rows(&place.path("notes.db"))), (2, 2));
}

/// A place whose store has a set of two databases and a file beside them, all from the directory `data`.
fn set() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    for name in ["notes.db", "tags.db"] {
        let database = Connection::open(place.path("data").join(name)).unwrap();
        database.execute_batch("CREATE TABLE notes (body TEXT); INSERT INTO notes VALUES ('kept');").unwrap();
    }
    std::fs::write(place.path("data/setting"), "blue").unwrap();
    set_mode(&place.path("data/tags.db"), 0o646);
    set_mode(&place.path("data"), 0o710);
    let databases = ["--sqlite", "data/notes.db", "--sqlite", "data/tags.db"];
    let mut words = vec!["backup", "--name", "set", "--include", "data/setting", "--to", "store"];
    words.extend(databases);
    place.backup(&words).succeeds();
    place
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_set_is_restored_into_a_directory_that_is_made_for_it() {
    let place = set();
    let words = ["restore", "--from", "store", "set", "--to", "new", "--json"];
    let mut dry = words.to_vec();
    dry.push("--dry-run");
    let plan: serde_json::Value = serde_json::from_str(place.backup(&dry).succeeds()).unwrap();
    assert!(plan["plan"][0].as_str().unwrap().contains("create the directory"), "{plan}");
    assert_eq!(plan["restored"], serde_json::json!([]));
    assert!(!place.path("new").exists());

    let report: serde_json::Value = serde_json::from_str(place.backup(&words).succeeds()).unwrap();
    let new = place.path("new");
    assert_eq!((rows(&new.join("notes.db")), rows(&new.join("tags.db"))), (1, 1));
    // Whose they were, and what the group may; others get nothing by coming to another place.
    assert_eq!((mode(&new), mode(&new.join("tags.db"))), (0o710, 0o640));
    assert_eq!(report["restored"].as_array().unwrap().len(), 3, "{report}");
    let files = Path::new(report["restored"][2].as_str().unwrap());
    let found = std::process::Command::new("find").arg(files).args(["-name", "setting"]).output().unwrap().stdout;
    let found = String::from_utf8(found).unwrap();
    assert_eq!(std::fs::read_to_string(found.trim()).unwrap(), "blue");

    // Once more into the same place: what stood there is kept, and files never overwrite.
    let again: serde_json::Value = serde_json::from_str(place.backup(&words).succeeds()).unwrap();
    assert_eq!(again["kept"].as_array().unwrap().len(), 2, "{again}");
    assert_ne!(again["restored"][2], report["restored"][2]);
}

#[test]
fn a_directory_that_was_made_for_a_restore_goes_when_that_fails() {
    let place = set();
    std::fs::remove_dir_all(place.path("state")).unwrap();
    std::fs::create_dir_all(place.path("state/state")).unwrap();
    std::fs::write(place.path("state/state/journal"), "").unwrap();
    place.backup(&["restore", "--from", "store", "set", "--to", "new"]).fails(30, &["restore set", "journal"]);
    assert!(!place.path("new").exists());
    place
        .backup(&["restore", "--from", "store", "set", "--to", "none/new"])
        .fails(2, &["there is no directory", "none"]);
    place
        .backup(&["restore", "--from", "store", "set", "--to", "data/notes.db"])
        .fails(2, &["2 databases", "is a file"]);
}

#[test]
fn what_is_no_file_and_what_is_in_the_store_is_not_replaced() {
    let place = place();
    let pipe = place.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    place.backup(&["restore", "--from", "store", "notes", "--to", "pipe"]).fails(2, &["pipe", "is not a file"]);
    assert!(!std::fs::metadata(&pipe).unwrap().is_file());
    for to in ["store", "store/notes", "store/notes/new.db"] {
        place.backup(&["restore", "--from", "store", "notes", "--to", to]).fails(2, &["inside the store", "hint: "]);
    }
    place.backup(&["verify", "--from", "store"]).succeeds();
}

#[test]
fn one_database_is_restored_to_a_file_and_with_a_slash_into_a_directory() {
    let place = place();
    place.backup(&["restore", "--from", "store", "notes", "--to", "look"]).succeeds();
    assert_eq!(rows(&place.path("look")), 1);
    place.backup(&["restore", "--from", "store", "notes", "--to", "new/"]).succeeds();
    assert_eq!(rows(&place.path("new/notes.db")), 1);

    // With files beside it, a new path is a directory, unless it is the database by name.
    std::fs::write(place.path("setting"), "blue").unwrap();
    place
        .backup(&["backup", "--sqlite", "notes.db", "--include", "setting", "--name", "both", "--to", "store"])
        .succeeds();
    place.backup(&["restore", "--from", "store", "both", "--to", "all"]).succeeds();
    assert_eq!(rows(&place.path("all/notes.db")), 2);
    std::fs::create_dir(place.path("empty")).unwrap();
    let said = place.backup(&["restore", "--from", "store", "both", "--to", "empty/notes.db"]);
    assert!(said.succeeds().contains("also holds files"), "{}", said.out);
    assert_eq!(rows(&place.path("empty/notes.db")), 2);
}

#[test]
fn two_databases_of_one_name_are_both_restored() {
    let place = Place::new();
    for (directory, count) in [("a", 1), ("b", 2)] {
        std::fs::create_dir(place.path(directory)).unwrap();
        let database = Connection::open(place.path(directory).join("notes.db")).unwrap();
        database.execute_batch("CREATE TABLE notes (body TEXT)").unwrap();
        for _ in 0..count {
            database.execute("INSERT INTO notes VALUES ('x')", []).unwrap();
        }
    }
    place
        .backup(&["backup", "--name", "two", "--sqlite", "a/notes.db", "--sqlite", "b/notes.db", "--to", "store"])
        .succeeds();
    let said = place.backup(&["restore", "--from", "store", "two", "--to", "new"]);
    assert!(said.succeeds().contains("notes.db-2"), "{}", said.out);
    assert_eq!((rows(&place.path("new/notes.db")), rows(&place.path("new/notes.db-2"))), (1, 2));
}

#[test]
fn two_databases_of_one_file_name_never_share_a_target_unasked() {
    let place = Place::new();
    for app in ["app1", "app2"] {
        std::fs::create_dir(place.path(app)).unwrap();
        let sql = format!("CREATE TABLE of_{app} (x)");
        Connection::open(place.path(app).join("db.sqlite3")).unwrap().execute_batch(&sql).unwrap();
    }
    let backup = |app: &str, more: &[&str]| {
        let file = format!("{app}/db.sqlite3");
        place.backup(&[&["backup", "--sqlite", &file, "--to", "store"], more].concat())
    };
    backup("app1", &[]).succeeds();
    backup("app1", &[]).succeeds();
    for more in [&[][..], &["--dry-run"]] {
        backup("app2", more).fails(2, &["is of", "app1/db.sqlite3", "--name OTHER", "--name db"]);
    }
    backup("app1", &["--sqlite", "app2/db.sqlite3"]).succeeds();
    backup("app1", &[]).fails(2, &["app2/db.sqlite3"]);
    backup("app2", &["--name", "second"]).succeeds();
    let said = place.backup(&["restore", "--from", "store", "second", "--to", "app1/db.sqlite3", "--dry-run"]);
    assert!(said.succeeds().contains("app1/db.sqlite3 is another database"), "{}", said.out);
    let said = place.backup(&["restore", "--from", "store", "second", "--to", "app2/db.sqlite3", "--dry-run"]);
    assert!(!said.succeeds().contains("another database"), "{}", said.out);
    // Who gives the name means it: a database that was moved.
    backup("app2", &["--name", "db"]).succeeds();
    backup("app2", &[]).succeeds();
}
