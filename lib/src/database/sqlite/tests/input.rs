//! What is no database, and paths that are unusual.

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::database::sqlite::{JournalMode, identify, snapshot_fenced, snapshot_hot};
use crate::sqlite_locks::testing::{Task, Writer};

#[test]
fn what_is_no_database_is_said_distinctly_and_stays_as_it_is() {
    let place = Place::new();
    let path = |name: &str| place.service.join(name);
    std::fs::write(path("empty"), b"").unwrap();
    std::fs::write(path("short"), b"SQLite format 3\0").unwrap();
    std::fs::write(path("other"), vec![b'x'; 4096]).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
    let before = place.names();
    for (name, wanted) in [
        ("missing", "there is no database"),
        ("dangling", "there is no database"),
        ("empty", "is empty"),
        ("short", "is not a SQLite database: it has only 16 bytes"),
        ("other", "is not a SQLite database: its first bytes"),
        ("pipe", "is a pipe"),
        (".", "is a directory"),
    ] {
        let databases = [path(name)];
        for error in [
            identify(&databases[0]).unwrap_err(),
            snapshot_hot(&place.request(&databases)).unwrap_err(),
            snapshot_fenced(&place.request(&databases)).unwrap_err(),
        ] {
            assert!(error.to_string().contains(wanted), "{name}: {error}");
            assert!(error.to_string().contains(databases[0].to_str().unwrap()), "{name}: {error}");
        }
    }
    assert_eq!(place.names(), before);
    assert_eq!(std::fs::read_dir(&place.copies).unwrap().count(), 0);
}

#[test]
fn any_path_will_do() {
    for name in [&b"new\nline.db"[..], b"not\xffutf-8.db", b"per%20cent?x=1#y.db", b"quote'\".db", b" .db"] {
        let place = Place::new();
        let databases = [place.service.join(std::ffi::OsStr::from_bytes(name))];
        let writer = Writer::start(&[&databases[0]], "PRAGMA journal_mode=WAL", Task::Idle(20));
        let taken = snapshot_hot(&place.request(&databases)).unwrap();
        assert_eq!(rows_of(&taken[0]), 20);
        writer.finish();
        // The copy itself may lie under such a name, too.
        let copy = place.copies.join(std::ffi::OsStr::from_bytes(name));
        std::fs::rename(&taken[0].file, &copy).unwrap();
        validate(&copy, &place.cancel, &Silent).unwrap();
    }
}

#[test]
fn a_symbolic_link_means_its_database_and_one_database_may_not_be_named_twice() {
    let place = Place::new();
    let (real, link) = (place.service.join("real.db"), place.service.join("link.db"));
    let writer = Writer::start(&[&real], "PRAGMA journal_mode=WAL", Task::Idle(20));
    std::os::unix::fs::symlink("real.db", &link).unwrap();
    let taken = snapshot_hot(&place.request(std::slice::from_ref(&link))).unwrap();
    assert_eq!(rows_of(&taken[0]), 20);
    let error = snapshot_hot(&place.request(&[real, link])).unwrap_err();
    assert!(matches!(error, SqliteError::Twice { .. }));
    writer.finish();
}

#[test]
fn the_copy_keeps_what_the_header_says() {
    for (mode, wanted) in [("WAL", JournalMode::Wal), ("DELETE", JournalMode::Rollback)] {
        let place = Place::new();
        let databases = [place.service.join("a.db")];
        let setup = format!(
            "PRAGMA page_size=1024; PRAGMA journal_mode={mode}; PRAGMA user_version=77; PRAGMA application_id=99"
        );
        let writer = Writer::start(&[&databases[0]], &setup, Task::Idle(20));
        let taken = snapshot_hot(&place.request(&databases)).unwrap();
        let identity = identify(&taken[0].file).unwrap();
        assert_eq!((identity.page_size, identity.user_version, identity.application_id), (1024, 77, 99));
        assert_eq!((identity.journal_mode, taken[0].journal_mode), (wanted, wanted));
        writer.finish();
    }
}

#[test]
fn a_cancelled_copy_says_so() {
    let place = Place::new();
    let databases = [place.service.join("a.db")];
    Writer::start(&[&databases[0]], "", Task::Idle(20)).finish();
    place.cancel.request();
    assert!(matches!(snapshot_hot(&place.request(&databases)), Err(SqliteError::Cancelled { .. })));
}

#[test]
fn damage_is_found_and_named() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    Writer::start(&[&path], "", Task::Idle(2000)).finish();
    let good = std::fs::read(&path).unwrap();
    validate(&path, &place.cancel, &Silent).unwrap();
    let mut zeroed = good.clone();
    zeroed[4096 * 20..4096 * 21].fill(0);
    let mut flipped = good.clone();
    // A byte of a row's value, in the table: only the index knows better.
    let row = (4096 * 2..good.len()).step_by(4096).find(|at| good[*at] == 13).unwrap();
    flipped[row + 4090] ^= 0xff;
    let mut magic = good.clone();
    magic[0] = b'x';
    let truncated = good[..good.len() / 2].to_vec();
    for (what, bytes) in [("zeroed", zeroed), ("flipped", flipped), ("magic", magic), ("truncated", truncated)] {
        std::fs::write(&path, bytes).unwrap();
        let error = validate(&path, &place.cancel, &Silent).unwrap_err();
        assert!(matches!(&error, SqliteError::Corrupt { findings, .. } if !findings.is_empty()), "{what}: {error}");
    }
    std::fs::write(&path, good).unwrap();
    std::fs::write(place.copies.join("a.db-wal"), b"left").unwrap();
    assert!(matches!(validate(&path, &place.cancel, &Silent), Err(SqliteError::Corrupt { .. })));
}

#[test]
fn what_only_sqlite_can_judge_is_still_judged() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    let make = |sql: &str| {
        drop(std::fs::remove_file(&path));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
    };
    for (what, sql) in [
        // The pages of a full-text index are whole, and it has other words than its table.
        (
            "f5",
            "CREATE VIRTUAL TABLE f5 USING fts5(a); INSERT INTO f5 VALUES('one'), ('two');
             UPDATE f5_content SET c0 = 'three' WHERE id = 1;",
        ),
        (
            "places",
            "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1); INSERT INTO places VALUES(1, 1, 2);
             DELETE FROM places_rowid;",
        ),
    ] {
        make(sql);
        let error = validate(&path, &place.cancel, &Silent).unwrap_err();
        assert!(matches!(error, SqliteError::Corrupt { .. }) && error.to_string().contains(what), "{what}: {error}");
    }
}

#[test]
fn what_costs_nothing_and_is_none_to_sqlite_is_remarked_and_no_damage() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE u(v); INSERT INTO t(v) VALUES(1), (2);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
             INSERT INTO u SELECT randomblob(500) FROM n; DROP TABLE u;",
        )
        .unwrap();
    connection.close().unwrap();
    // Its last page is free, and the file ends within it.
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 1000).unwrap();
    let proved = validate(&path, &place.cancel, &Silent);
    let (rows, _) = ask(&path);
    assert_eq!(rows, 2);
    let proved = proved.unwrap();
    assert_eq!(proved.rungs, ["header", "pages", "structure", "integrity", "foreign-keys", "counts"]);
    assert_eq!(proved.facts.remarks.len(), 1, "{:?}", proved.facts.remarks);
}

#[test]
fn a_row_that_breaks_a_check_is_the_services_matter() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE narrow(n CHECK (n < 5)); PRAGMA ignore_check_constraints=ON; INSERT INTO narrow VALUES(9);",
        )
        .unwrap();
    connection.close().unwrap();
    validate(&path, &place.cancel, &Silent).unwrap();
}
