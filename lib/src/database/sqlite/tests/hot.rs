//! Copies of a database in use.

use std::time::Duration;

use super::*;
use crate::database::sqlite::snapshot_hot;
use crate::sqlite_locks::side_file;
use crate::sqlite_locks::testing::{Task, Writer};

const WAL: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL";

#[test]
fn a_busy_wal_writer_loses_no_acknowledged_row_and_keeps_its_log() {
    let place = Place::new();
    let databases = [place.service.join("library.db")];
    let mut writer = Writer::start(&[&databases[0]], &format!("{WAL}; PRAGMA wal_autocheckpoint=0"), Task::Busy);
    for round in 1..=20 {
        writer.wait_row(round * 50);
        let wal_before = std::fs::metadata(side_file(&databases[0], "-wal")).unwrap().len();
        let acknowledged = writer.acknowledged();
        let taken = snapshot_hot(&place.request(&databases)).unwrap();
        let rows = rows_of(&taken[0]);
        assert!(rows >= acknowledged, "round {round}: {rows} rows of {acknowledged} acknowledged");
        assert_eq!(taken[0].stall, Duration::ZERO);
        let wal_after = std::fs::metadata(side_file(&databases[0], "-wal")).unwrap().len();
        assert!(wal_after >= wal_before, "the log was checkpointed");
        empty(&place.copies);
    }
    assert_eq!(place.names(), ["library.db", "library.db-shm", "library.db-wal"]);
    writer.finish();
}

#[test]
fn every_rollback_mode_gives_every_acknowledged_row() {
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        let place = Place::new();
        let databases = [place.service.join("library.db")];
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF");
        let mut writer = Writer::start(&[&databases[0]], &setup, Task::Busy);
        for round in 1..=10 {
            writer.wait_row(round * 20);
            let acknowledged = writer.acknowledged();
            let taken = snapshot_hot(&place.request(&databases)).unwrap();
            let rows = rows_of(&taken[0]);
            assert!(rows >= acknowledged, "{mode}: {rows} rows of {acknowledged} acknowledged");
            empty(&place.copies);
        }
        writer.finish();
    }
}

#[test]
fn two_databases_that_change_together_are_copied_as_of_one_instant() {
    for setup in [WAL, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF"] {
        copied_as_of_one_instant(setup);
    }
}

fn copied_as_of_one_instant(setup: &str) {
    let place = Place::new();
    let databases = [place.service.join("library.db"), place.service.join("blobs.db")];
    let mut writer = Writer::start(&[&databases[0], &databases[1]], setup, Task::Busy);
    for round in 1..=20 {
        writer.wait_row(round * 20);
        let taken = snapshot_hot(&place.request(&databases)).unwrap();
        assert_eq!(taken[0].source, databases[0]);
        assert_eq!(rows_of(&taken[0]), rows_of(&taken[1]), "{setup}: round {round}");
        assert!(taken[0].stall > Duration::ZERO);
        empty(&place.copies);
    }
    // Control: one after the other they do not agree, at least once in many.
    let apart = (0..50).any(|_| {
        let rows = databases.each_ref().map(|path| {
            writer.acknowledged();
            let taken = snapshot_hot(&place.request(std::slice::from_ref(path))).unwrap();
            let (rows, _) = ask(&taken[0].file);
            empty(&place.copies);
            rows
        });
        rows[0] != rows[1]
    });
    assert!(apart, "the control never saw a difference: this test proves nothing");
    writer.finish();
}

#[test]
fn a_set_is_not_copied_between_the_commits_of_one_change() {
    let place = Place::new();
    let databases = [place.service.join("library.db"), place.service.join("blobs.db")];
    let setup = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF";
    let idle = Writer::start(&[&databases[0]], setup, Task::Idle(20));
    let half_done = Writer::start(&[&databases[1]], setup, Task::InTransaction);
    let request = SnapshotRequest { fence_hold_max: Duration::from_millis(200), ..place.request(&databases) };
    let error = snapshot_hot(&request).unwrap_err();
    assert!(in_flight(&error), "{error}");
    assert!(error.to_string().contains("blobs.db"), "{error}");
    // One alone is of one instant, whatever is open on it.
    assert_eq!(rows_of(&snapshot_hot(&place.request(&databases[1..])).unwrap()[0]), 0);
    half_done.finish();
    let taken = snapshot_hot(&request).unwrap();
    assert_eq!([rows_of(&taken[0]), rows_of(&taken[1])], [20, 1]);
    idle.finish();
}

#[test]
fn an_exclusive_service_is_refused() {
    for mode in ["WAL", "DELETE"] {
        let place = Place::new();
        let databases = [place.service.join("library.db")];
        let setup = format!("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode={mode}");
        let writer = Writer::start(&[&databases[0]], &setup, Task::Idle(3));
        let request = SnapshotRequest { fence_hold_max: Duration::from_millis(200), ..place.request(&databases) };
        let error = snapshot_hot(&request).unwrap_err();
        assert!(in_flight(&error), "{mode}: {error}");
        writer.finish();
    }
}

#[test]
fn a_service_that_ends_while_we_read_is_not_checkpointed_by_us() {
    let place = Place::new();
    let databases = [place.service.join("library.db")];
    let writer = Writer::start(&[&databases[0]], WAL, Task::Idle(200));
    let before = std::fs::read(&databases[0]).unwrap();
    let wal = std::fs::read(side_file(&databases[0], "-wal")).unwrap();
    writer.crash();
    let taken = snapshot_hot(&place.request(&databases)).unwrap();
    assert_eq!(rows_of(&taken[0]), 200);
    assert_eq!(std::fs::read(&databases[0]).unwrap(), before);
    assert_eq!(std::fs::read(side_file(&databases[0], "-wal")).unwrap(), wal);
}
