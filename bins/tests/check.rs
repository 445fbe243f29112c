//! `svc-repair check` as a person runs it: what it says, its exit code, and that nothing is changed.

// Helpers of tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;
use support::{Place, Said};

const NOTES: &str = "PRAGMA page_size=1024; CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
    CREATE INDEX notes_title ON notes(title); CREATE VIRTUAL TABLE words USING fts5(body);
    CREATE TABLE tags(note INTEGER REFERENCES notes(id), tag TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO notes SELECT i, 'title ' || i, 'some words of note ' || i FROM n;
    INSERT INTO words SELECT body FROM notes WHERE id < 100; INSERT INTO tags VALUES(1, 'a'), (2, 'b');";

fn notes(place: &Place) -> PathBuf {
    let path = place.path("notes.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(NOTES).unwrap();
    connection.close().unwrap();
    path
}

fn json(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
    serde_json::from_str(&said.out).unwrap()
}

/// Name and content of all that lies beside the database.
fn beside(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files.filter(|p| p.is_file()).map(|p| (p.clone(), std::fs::read(&p).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_whole_database_is_called_whole_and_stays_as_it_is() {
    let place = Place::new();
    let path = notes(&place);
    let before = beside(&path);
    let out = place.repair(&["check", "notes.db"]);
    let text = out.succeeds();
    assert!(text.contains("notes.db: nothing is damaged\n") && text.contains("how: nobody had it open"), "{text}");
    let value = json(&place.repair(&["check", "--deep", "--json", "notes.db"]), 0);
    assert_eq!((&value["kind"], &value["damaged"], &value["next"]), (&"done".into(), &false.into(), &Value::Null));
    assert_eq!(value["deep"]["findings"], serde_json::json!([]));
    assert_eq!(beside(&path), before);
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("svckit-check")), "{left:?}");
}

#[test]
fn a_lost_page_is_told_with_its_table_its_rows_and_what_to_type() {
    let place = Place::new();
    let path = notes(&place);
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT max(pageno) FROM dbstat WHERE name = 'notes' AND pagetype = 'leaf'";
    let page: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from(page - 1).unwrap() * 1024;
    bytes[at..at + 1024].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let said = place.repair(&["check", "notes.db"]);
    assert_eq!(said.code, 11, "{}", said.err);
    let place_of_it = format!("notes, page {page}: its type byte is 0x00");
    for wanted in ["ROWS ARE AT RISK", &place_of_it, "(rows are lost), rowids after", "of 2000 that its indices know"] {
        assert!(said.out.contains(wanted), "{wanted:?} is not in {}", said.out);
    }
    let next = format!("next: svc-repair repair {} --no-service\n", path.canonicalize().unwrap().display());
    assert!(said.out.ends_with(&next), "{}", said.out);
    let value = json(&place.repair(&["check", "--json", "notes.db"]), 11);
    assert_eq!((&value["kind"], &value["rows_at_risk"]), (&"corrupt".into(), &true.into()));
    assert!(value["findings"].as_array().unwrap().iter().any(|f| f["page"] == page && f["object"] == "notes"));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_only_sqlite_knows_is_found_in_a_copy() {
    let place = Place::new();
    let path = notes(&place);
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    // The words of the index are not those of the text any more; a note is gone that a tag belongs to.
    let damage =
        "PRAGMA foreign_keys=OFF; UPDATE words_content SET c0 = 'others' WHERE id = 7; DELETE FROM notes WHERE id = 2;";
    connection.execute_batch(damage).unwrap();
    connection.close().unwrap();
    let before = beside(&path);
    assert_eq!(place.repair(&["check", "notes.db"]).code, 0);
    let value = json(&place.repair(&["check", "--deep", "--json", "notes.db"]), 11);
    let kinds: Vec<&str> =
        value["deep"]["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["full-text", "foreign-key"], "{value}");
    assert_eq!(value["rows_at_risk"], false);
    assert_eq!(beside(&path), before);
}

#[test]
fn a_database_in_use_is_seen_with_its_log_and_the_log_of_the_dead_is_audited() {
    let place = Place::new();
    let path = notes(&place);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; INSERT INTO notes VALUES(5000, 'x', 'y');",
        )
        .unwrap_or(());
    connection
        .execute_batch("INSERT INTO notes VALUES(5001, 'x', 'y'); INSERT INTO notes VALUES(5002, 'z', 'y');")
        .unwrap();
    // Seen by another process: this one has it open.
    let said = place.repair(&["check", "notes.db"]);
    assert!(said.succeeds().contains("in use; as of one commit, through the log"), "{}", said.out);
    // As a crash leaves it: the files, and nobody who has them open.
    let copy = place.path("dead.db");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(place.path(format!("notes.db{suffix}")), place.path(format!("dead.db{suffix}"))).unwrap();
    }
    drop(connection);
    let wal = place.path("dead.db-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    bytes[32 + 24 + 100] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let before = beside(&copy);
    let said = place.repair(&["check", "dead.db"]);
    assert_eq!(said.code, 11, "{}", said.out);
    assert!(said.out.contains("(commits are lost)"), "{}", said.out);
    assert_eq!(beside(&copy), before);
}

#[test]
fn values_of_many_megabytes_are_checked_in_bounded_memory() {
    let place = Place::new();
    let connection = Connection::open(place.path("large.db")).unwrap();
    connection.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;").unwrap();
    for table in ["one", "other"] {
        let sql = format!(
            "CREATE TABLE {table}(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3)
             INSERT INTO {table} SELECT 'key ' || i, zeroblob(15000000) FROM n;"
        );
        connection.execute_batch(&sql).unwrap();
    }
    connection.close().unwrap();
    // In KiB, of all that is written to: a bound that the kernel holds the program to.
    let script = "ulimit -d 65536 && exec \"$0\" check --threads 2 large.db";
    let out = place.command("/bin/sh").args(["-c", script, env!("CARGO_BIN_EXE_svc-repair")]).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.contains("nothing is damaged"), "{text}{error}");
}

#[test]
fn a_database_that_was_written_in_the_future_is_checked_and_backed_up() {
    let place = Place::new();
    let path = notes(&place);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    place.repair(&["check".as_ref(), path.as_os_str()]).succeeds();
    place
        .backup(&["backup".as_ref(), "--sqlite".as_ref(), path.as_os_str(), "--to".as_ref(), "store".as_ref()])
        .succeeds();
}
