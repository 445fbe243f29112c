//! Copies while writers wait, and of what is at rest.

use super::*;
use crate::database::sqlite::cold::{finish_cold, take_raw};
use crate::database::sqlite::{snapshot_fenced, snapshot_hot};
use crate::sqlite_locks::side_file;
use crate::sqlite_locks::testing::{Task, Writer};

const MODES: [&str; 6] = ["WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"];

#[test]
fn fenced_copies_have_every_acknowledged_row_and_say_how_long_writers_waited() {
    for mode in MODES {
        let place = Place::new();
        let databases = [place.service.join("a.db"), place.service.join("b.db")];
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF");
        let mut writer = Writer::start(&[&databases[0], &databases[1]], &setup, Task::Busy);
        for round in 1..=5 {
            writer.wait_row(round * 10);
            let acknowledged = writer.acknowledged();
            let taken = snapshot_fenced(&place.request(&databases)).unwrap();
            let rows = rows_of(&taken[0]);
            assert!(rows >= acknowledged, "{mode}: {rows} of {acknowledged}");
            if mode == "WAL" {
                // Both marks are read under both fences. In a rollback mode one file is committed before the other.
                assert_eq!(rows, rows_of(&taken[1]));
            }
            assert!(taken[0].stall > Duration::ZERO);
            empty(&place.copies);
        }
        writer.finish();
    }
}

#[test]
fn a_set_of_which_some_are_open_is_taken_at_one_instant() {
    for (mode, idle_mode) in [("WAL", "WAL"), ("WAL", "DELETE"), ("DELETE", "WAL"), ("DELETE", "DELETE")] {
        let place = Place::new();
        let databases = [place.service.join("idle.db"), place.service.join("live.db")];
        // One that a crash left: its rows are in its log, or a transaction is to be rolled back.
        let setup = format!("PRAGMA journal_mode={idle_mode}");
        let mut crashed = Writer::start(&[&databases[0]], &setup, Task::Busy);
        crashed.wait_row(20);
        let idle_rows = crashed.crash();
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF");
        let mut writer = Writer::start(&[&databases[1]], &setup, Task::Busy);
        writer.wait_row(20);
        let acknowledged = writer.acknowledged();
        let before = place.names();
        let taken = snapshot_fenced(&place.request(&databases)).unwrap();
        assert!(rows_of(&taken[0]) >= idle_rows, "{mode} {idle_mode}");
        assert!(rows_of(&taken[1]) >= acknowledged, "{mode} {idle_mode}");
        assert_eq!(taken[0].stall, Duration::ZERO, "nobody waits for an idle one");
        assert!(taken[1].stall > Duration::ZERO);
        let idle = |names: Vec<String>| names.into_iter().filter(|n| n.starts_with("idle")).collect::<Vec<_>>();
        assert_eq!(idle(place.names()), idle(before), "something of ours lies beside it");
        writer.finish();
    }
}

#[test]
fn an_idle_one_that_is_opened_during_the_copy_is_fenced_with_the_others() {
    let place = Place::new();
    let databases = [place.service.join("idle.db"), place.service.join("live.db")];
    Writer::start(&[&databases[0]], "PRAGMA journal_mode=WAL", Task::Idle(20)).finish();
    let writer = Writer::start(&[&databases[1]], "PRAGMA journal_mode=WAL", Task::Idle(20));
    let late = Late { database: &databases[0], writer: std::sync::Mutex::default() };
    let request = SnapshotRequest { observer: &late, ..place.request(&databases) };
    let taken = snapshot_fenced(&request).unwrap();
    assert_eq!(rows_of(&taken[0]), 40, "its rows of before are not of this instant");
    assert!(taken[0].stall > Duration::ZERO);
    writer.finish();
    late.writer.into_inner().unwrap().unwrap().finish();
}

/// Opens a database and writes to it as soon as that one is to be copied.
struct Late<'a> {
    database: &'a Path,
    writer: std::sync::Mutex<Option<Writer>>,
}

impl crate::progress::Observer for Late<'_> {
    fn step(&self, what: &str) {
        let mut writer = self.writer.lock().unwrap();
        if what.starts_with("copying") && what.contains("idle") && writer.is_none() {
            *writer = Some(Writer::start(&[self.database], "PRAGMA journal_mode=WAL", Task::Idle(20)));
        }
    }
}

#[test]
fn a_hold_that_would_be_too_long_is_refused_with_the_estimate() {
    let place = Place::new();
    let databases = [place.service.join("a.db")];
    for mode in ["WAL", "DELETE"] {
        let setup = format!("PRAGMA journal_mode={mode}");
        let writer = Writer::start(&[&databases[0]], &setup, Task::Idle(300));
        let request = SnapshotRequest { fence_hold_max: Duration::from_nanos(1), ..place.request(&databases) };
        let error = snapshot_fenced(&request).unwrap_err();
        assert!(matches!(error, SqliteError::HoldTooLong { .. }), "{error}");
        assert!(in_flight(&error));
        writer.finish();
    }
}

#[test]
fn what_a_crashed_writer_left_is_recovered_in_the_copy_and_stays_as_it_lay() {
    for mode in MODES {
        let place = Place::new();
        let databases = [place.service.join("a.db")];
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=FULL");
        let mut writer = Writer::start(&[&databases[0]], &setup, Task::Busy);
        writer.wait_row(50);
        let acknowledged = writer.crash();
        let contents = || {
            let names = place.names().into_iter();
            names.map(|n| (n.clone(), std::fs::read(place.service.join(n)).unwrap())).collect::<Vec<_>>()
        };
        let before = contents();
        let taken = finish_cold(take_raw(&place.request(&databases)).unwrap()).unwrap();
        // MEMORY and OFF may be torn by a crash: there is no journal to recover from. That it is said is enough.
        if matches!(mode, "MEMORY" | "OFF") {
            drop(validate(&taken[0].file, &place.cancel, &Silent));
        } else {
            let rows = rows_of(&taken[0]);
            assert!(rows >= acknowledged, "{mode}: {rows} of {acknowledged}");
            assert_eq!(std::fs::read_dir(&place.copies).unwrap().count(), 1, "one file");
            empty(&place.copies);
            let hot = snapshot_hot(&place.request(&databases)).unwrap();
            assert_eq!(rows_of(&hot[0]), rows);
        }
        assert!(contents() == before, "{mode}: the service's files were changed");
    }
}

#[test]
fn a_service_that_ends_between_lock_and_copy_leaves_its_log_to_the_next() {
    let place = Place::new();
    let database = place.service.join("a.db");
    let writer = Writer::start(&[&database], "PRAGMA journal_mode=WAL", Task::Idle(100));
    let member = crate::database::sqlite::live::Member::open(0, &database, &place.cancel).unwrap();
    let crate::database::sqlite::live::Usage::Wal(shm) = &member.usage else {
        panic!("{:?}", member.usage);
    };
    let until = std::time::Instant::now() + Duration::from_secs(10);
    member.pin(shm, until, &place.cancel).unwrap();
    let before = (std::fs::read(&database).unwrap(), std::fs::read(side_file(&database, "-wal")).unwrap());
    // The last connection checkpoints and removes the log when it closes; not while somebody reads.
    writer.finish();
    let after = (std::fs::read(&database).unwrap(), std::fs::read(side_file(&database, "-wal")).unwrap());
    assert!(before == after);
    // A new one starts under our pin, reads and writes.
    let writer = Writer::start(&[&database], "PRAGMA journal_mode=WAL", Task::Idle(5));
    drop(member);
    writer.finish();
    assert_eq!(ask(&database).0, 105);
    assert_eq!(place.names(), ["a.db"]);
}
