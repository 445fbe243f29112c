//! Databases in rollback modes whose service writes: what is seen is of one instant, and nobody is kept waiting for long.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;
use crate::database::sqlite::SqliteError;
use crate::database::sqlite::pages::Consistency;
use crate::sqlite_locks::testing::{self, Task, Writer};

#[test]
fn a_busy_writer_is_never_called_damaged() {
    for mode in ["WAL", "DELETE", "TRUNCATE"] {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF");
        let mut writer = Writer::start(&[&place.db], &setup, Task::Busy);
        for round in 1..=10 {
            writer.wait_row(round * 50);
            let acknowledged = writer.acknowledged();
            let report = place.check();
            assert_eq!(report.findings, [], "{mode}");
            assert!(report.trees[1].entries >= acknowledged, "{mode}");
            assert_eq!(report.indices_compared, 1, "{mode}");
        }
        writer.finish();
    }
}

#[test]
fn one_that_is_opened_and_closed_for_each_row_is_never_called_damaged_or_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
    let setup = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF";
    let mut writer = Writer::start(&[&place.db], setup, Task::EachAnew);
    for round in 1..=40 {
        writer.wait_row(round * 20);
        let acknowledged = writer.acknowledged();
        let report = place.check();
        assert_eq!(report.findings, [], "round {round}");
        assert!(report.trees[1].entries >= acknowledged, "round {round}");
    }
    writer.finish();
}

/// While the writer is listened to: it goes no further than that.
fn check_beside(writer: &mut Writer, place: &Place, hold_max: Duration) -> Result<Report, SqliteError> {
    std::thread::scope(|scope| {
        let options = CheckOptions { hold_max, ..CheckOptions::default() };
        let checked = scope.spawn(move || check(&place.db, &options, &place.cancel, &Silent));
        while !checked.is_finished() {
            writer.acknowledged();
            std::thread::yield_now();
        }
        checked.join().unwrap()
    })
}

#[test]
fn writers_wait_for_no_longer_than_they_may() {
    let place = Place::new(
        "CREATE TABLE more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT i, randomblob(400) AS v FROM n",
    );
    let setup = "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=OFF";
    let mut writer = Writer::start(&[&place.db], setup, Task::Busy);
    writer.wait_row(50);
    match check_beside(&mut writer, &place, Duration::ZERO).unwrap_err() {
        SqliteError::HoldTooLong { estimate, hold_max, .. } => assert!(estimate > hold_max),
        other => panic!("{other}"),
    }
    let report = check_beside(&mut writer, &place, PATIENCE).unwrap();
    assert_eq!((report.consistency, &report.findings[..]), (Consistency::ReadLock, &[][..]));
    let row = writer.acknowledged();
    writer.wait_row(row + 500);
}

#[test]
fn a_view_lapses_where_somebody_wrote_or_waits_for_too_long() {
    let place = Place::new("PRAGMA journal_mode=DELETE");
    let mut writer = Writer::start(&[&place.db], "", Task::Idle(300));
    let open = |hold| View::open(&place.db, hold, PATIENCE, &place.cancel).unwrap();
    assert!(open(Some(Duration::ZERO)).has_lapsed());
    let held = open(Some(PATIENCE));
    assert_eq!((held.consistency(), held.has_lapsed()), (Consistency::ReadLock, false));
    drop(held);
    let view = open(None);
    assert_eq!((view.consistency(), view.has_lapsed()), (Consistency::Compared, false));
    let connection = Connection::open(&place.db).unwrap();
    batch(&connection, "INSERT INTO t(v) VALUES(1)");
    connection.close().unwrap();
    let until = Instant::now() + testing::PATIENCE;
    while !view.has_lapsed() {
        assert!(Instant::now() < until, "nobody notices");
        std::thread::yield_now();
    }
    assert!(!view.still_holds(PATIENCE, &place.cancel).unwrap());
    assert_eq!(writer.acknowledged(), 300);
}

#[test]
fn a_hot_journal_is_read_and_whoever_wants_to_roll_it_back_does() {
    let place = Place::new("PRAGMA journal_mode=DELETE; CREATE TABLE t(a); INSERT INTO t VALUES(randomblob(90000))");
    let before = std::fs::read(&place.db).unwrap();
    let dead = place.died_in("UPDATE t SET a = randomblob(90000);");
    let db = &dead.db;
    assert_ne!(std::fs::read(db).unwrap(), before);
    // A process that has it open, and has not looked at its journal yet.
    let mut service = Command::new("cat").stdin(Stdio::piped()).stdout(File::open(db).unwrap()).spawn().unwrap();
    let view = dead.view();
    assert_eq!((view.consistency(), view.logs.hot), (Consistency::Compared, true));
    let copy = dead.dir.path().join("copy.db");
    view.write_copy(&copy, &place.cancel, &Silent).unwrap();
    assert!(view.still_holds(PATIENCE, &place.cancel).unwrap());
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    // A journal that changes while the database does not is a living writer's: what was read of it means nothing.
    let journal = side(db, "-journal");
    std::fs::write(&journal, std::fs::read(&journal).unwrap()).unwrap();
    assert!(!view.still_holds(PATIENCE, &place.cancel).unwrap());
    let connection = Connection::open(db).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    batch(&connection, "BEGIN IMMEDIATE; COMMIT");
    connection.close().unwrap();
    assert_eq!(std::fs::read(db).unwrap(), before);
    assert!(!view.still_holds(PATIENCE, &place.cancel).unwrap());
    drop(service.stdin.take());
    service.wait().unwrap();
}

#[test]
fn a_time_in_the_future_is_not_the_time_of_a_change_that_is_to_come() {
    let place = Place::new("PRAGMA journal_mode=DELETE; CREATE TABLE t(v)");
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(&place.db).unwrap().set_modified(later).unwrap();
    assert_eq!(place.check().consistency, Consistency::Quiet);
    let view = place.view();
    assert!(view.still_holds(PATIENCE, &place.cancel).unwrap());
    place.run("INSERT INTO t VALUES(1)");
    assert!(!view.still_holds(PATIENCE, &place.cancel).unwrap());
}
