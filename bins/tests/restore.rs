//! `svc-backup restore` of one database without a service.

// Helpers of the tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

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
