//! Databases in WAL mode that are opened and closed for each request: `-wal` and `-shm` come and go with each.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::database::sqlite::live::{Member, Usage};
use crate::database::sqlite::{snapshot_fenced, snapshot_hot};
use crate::sqlite_locks::side_file;
use crate::sqlite_locks::testing::{Task, Writer};

const WAL: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF";
type Take = fn(&SnapshotRequest<'_>) -> Result<Vec<Snapshot>, SqliteError>;
const MODES: [(&str, Take); 2] = [("hot", snapshot_hot), ("fenced", snapshot_fenced)];

#[test]
fn every_copy_succeeds_and_has_every_acknowledged_row() {
    for (mode, take) in MODES {
        let place = Place::new();
        let databases = [place.service.join("library.db")];
        let mut writer = Writer::start(&[&databases[0]], WAL, Task::EachAnew);
        for round in 1..=30 {
            writer.wait_row(round * 20);
            let acknowledged = writer.acknowledged();
            let taken = take(&place.request(&databases)).unwrap_or_else(|e| panic!("{mode}, round {round}: {e}"));
            let rows = rows_of(&taken[0]);
            assert!(rows >= acknowledged, "{mode}, round {round}: {rows} rows of {acknowledged} acknowledged");
            empty(&place.copies);
        }
        writer.finish();
        assert_eq!(place.names(), ["library.db"], "{mode}: something of ours, or of no use, lies beside it");
    }
}

#[test]
fn two_that_change_together_are_copied_as_of_one_instant() {
    for (mode, take) in MODES {
        let place = Place::new();
        let databases = [place.service.join("library.db"), place.service.join("blobs.db")];
        let mut writer = Writer::start(&[&databases[0], &databases[1]], WAL, Task::EachAnew);
        for round in 1..=20 {
            writer.wait_row(round * 20);
            let taken = take(&place.request(&databases)).unwrap_or_else(|e| panic!("{mode}, round {round}: {e}"));
            assert_eq!(rows_of(&taken[0]), rows_of(&taken[1]), "{mode}: round {round}");
            empty(&place.copies);
        }
        writer.finish();
    }
}

#[test]
fn locks_on_a_wal_index_that_has_lost_its_name_are_worth_nothing() {
    let place = Place::new();
    let database = place.service.join("a.db");
    let writer = Writer::start(&[&database], WAL, Task::Idle(5));
    let member = Member::open(0, &database, &place.cancel).unwrap();
    let Usage::Wal(shm) = &member.usage else {
        panic!("{:?}", member.usage);
    };
    let named = side_file(&database, "-shm");
    let away = place.copies.join("away");
    let until = std::time::Instant::now() + Duration::from_secs(10);
    let disturbed = || matches!(member.pin(shm, until, &place.cancel), Err(SqliteError::Disturbed { .. }));
    assert!(!disturbed());
    std::fs::rename(&named, &away).unwrap();
    assert!(disturbed(), "there is none of that name");
    std::fs::copy(&away, &named).unwrap();
    assert!(disturbed(), "it is another one");
    std::fs::rename(&away, &named).unwrap();
    assert!(!disturbed());
    writer.finish();
}

/// Takes the log's name away when the first copy is begun, and gives it back when the second is.
struct Unnamed {
    wal: PathBuf,
    away: PathBuf,
    copies: AtomicUsize,
}

impl crate::progress::Observer for Unnamed {
    fn step(&self, what: &str) {
        if what.starts_with("copying") {
            match self.copies.fetch_add(1, Ordering::SeqCst) {
                0 => std::fs::rename(&self.wal, &self.away).unwrap(),
                1 => std::fs::rename(&self.away, &self.wal).unwrap(),
                _ => {}
            }
        }
    }
}

#[test]
fn a_log_that_vanishes_is_looked_for_anew() {
    for (mode, take) in MODES {
        let place = Place::new();
        let databases = [place.service.join("a.db")];
        let writer = Writer::start(&[&databases[0]], WAL, Task::Idle(5));
        let (wal, away) = (side_file(&databases[0], "-wal"), place.service.join("away"));
        let observer = Unnamed { wal, away, copies: AtomicUsize::new(0) };
        let taken = take(&SnapshotRequest { observer: &observer, ..place.request(&databases) }).unwrap();
        assert_eq!((rows_of(&taken[0]), observer.copies.into_inner()), (5, 2), "{mode}");
        writer.finish();
    }
}

#[test]
fn what_never_comes_back_is_refused_in_the_end() {
    for (mode, take) in MODES {
        let place = Place::new();
        let databases = [place.service.join("a.db")];
        let writer = Writer::start(&[&databases[0]], WAL, Task::Idle(5));
        std::fs::rename(side_file(&databases[0], "-shm"), place.service.join("away")).unwrap();
        let error = take(&place.request(&databases)).unwrap_err();
        assert!(in_flight(&error), "{mode}: {error}");
        writer.finish();
    }
}

#[test]
fn one_file_by_two_names_is_told() {
    let place = Place::new();
    let databases = [place.service.join("a.db"), place.service.join("b.db")];
    Writer::start(&[&databases[0]], "", Task::Idle(5)).finish();
    std::fs::hard_link(&databases[0], &databases[1]).unwrap();
    for (mode, take) in MODES {
        let error = take(&place.request(&databases)).unwrap_err();
        assert!(matches!(error, SqliteError::Twice { .. }), "{mode}: {error}");
    }
}
