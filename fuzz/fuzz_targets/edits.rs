//! Changes in a database that is whole, five bytes each: where, and what. They reach what a checksum or a length would
//! keep a fuzzer from for long.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use svckit::database::sqlite::SqliteError;
use svckit::database::sqlite::repair::{RepairInput, repair};
use svckit::progress::Silent;

#[path = "reader.rs"]
mod reader;

/// Small, so that most changes hit something.
const TABLES: &str = "
    PRAGMA page_size=512; PRAGMA auto_vacuum=1;
    CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT NOT NULL, size INT, cover BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
    INSERT INTO items SELECT i, 'title ' || i, i % 7, CASE WHEN i % 10 = 0 THEN zeroblob(1500) END FROM n;
    CREATE INDEX items_title ON items(title);
    CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO settings SELECT 'key ' || id, title FROM items;
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
    INSERT INTO counted(t) SELECT title FROM items;
    CREATE TABLE gone(x); INSERT INTO gone SELECT zeroblob(300) FROM items; DROP TABLE gone;
    CREATE VIEW large AS SELECT * FROM items WHERE size > 5;";
/// What only the log has.
const LATER: &str = "UPDATE items SET title = 'now ' || id WHERE id % 9 = 0; DELETE FROM settings WHERE key LIKE '%7';";

struct Whole {
    place: reader::Place,
    database: Vec<u8>,
    log: Vec<u8>,
}

static WHOLE: OnceLock<Whole> = OnceLock::new();

fn whole() -> Whole {
    let place = reader::Place::new();
    let db = place.path("");
    let connection = Connection::open(&db).expect("SQLite");
    connection.execute_batch(TABLES).expect("the tables");
    connection.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA journal_mode=WAL;").expect("a log");
    connection.execute_batch(LATER).expect("the log's commits");
    let read = |suffix| std::fs::read(place.path(suffix)).expect("a file");
    let (database, log) = (read(""), read("-wal"));
    drop(connection);
    Whole { place, database, log }
}

fuzz_target!(|data: &[u8]| {
    let Whole { place, database, log } = WHOLE.get_or_init(whole);
    // One bit decides whether the log lies beside it: without one, every change counts.
    let Some((first, edits)) = data.split_first() else { return };
    let (mut database, mut log) = (database.clone(), if first & 1 == 1 { log.clone() } else { Vec::new() });
    for edit in edits.chunks_exact(5) {
        let at = u32::from_be_bytes([edit[0], edit[1], edit[2], edit[3]]) as usize % (database.len() + log.len());
        match at.checked_sub(database.len()) {
            None => database[at] = edit[4],
            Some(at) => log[at] = edit[4],
        }
    }
    place.write("", &database);
    place.write("-wal", &log);
    if !reader::read(&place.path(""), &place.cancel) {
        return;
    }
    let work = place.directory.path().join("work");
    std::fs::create_dir(&work).expect("a directory");
    let (copy, cancel) = (place.path(""), &place.cancel);
    let input = RepairInput {
        copy: &copy,
        work: &work,
        reference: None,
        program: None,
        only: None,
        log_losses: &[],
        cancel,
        observer: &Silent,
    };
    match repair(input) {
        Ok(repaired) if repaired.accounting.complete => {
            assert!(!reader::read(&repaired.file, cancel), "it is called complete, and is damaged");
        }
        Ok(_) | Err(SqliteError::Unrepaired { .. } | SqliteError::NotSqlite { .. } | SqliteError::Empty { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    std::fs::remove_dir_all(&work).expect("it is ours");
});
