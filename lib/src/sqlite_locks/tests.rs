//! Probe, openers, fence and evidence against real SQLite processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::testing::{Task, Writer};
use super::*;
use crate::progress::Cancel;
use crate::world::ProcessId;

const WAL: &str = "PRAGMA journal_mode=WAL";
const MODES: [&str; 6] = ["WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"];

fn process(writer: &Writer) -> Vec<ProcessId> {
    vec![ProcessId::of(writer.pid()).unwrap().unwrap()]
}

fn fence(path: &Path, wait: u64) -> Result<Fence, LocksError> {
    Fence::acquire(&[path.to_owned()], Duration::from_millis(wait), &Cancel::new().unwrap())
}

#[test]
fn a_transaction_is_seen_in_every_mode_and_names_its_process() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        assert_eq!(probe(&path).unwrap(), WriteState::Idle, "no file, no writer");
        let setup = format!("PRAGMA journal_mode={mode}");
        let writer = Writer::start(&[&path], &setup, Task::InTransaction);
        assert_eq!(probe(&path).unwrap(), WriteState::Writing { pid: Some(writer.pid()), whole: false }, "{mode}");
        writer.finish();
        let writer = Writer::start(&[&path], &setup, Task::Idle(1));
        assert_eq!(probe(&path).unwrap(), WriteState::Idle, "{mode}");
        writer.finish();
    }
}

#[test]
fn what_a_process_has_open_is_found_by_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new\nline.db");
    let writer = Writer::start(&[&path], WAL, Task::Idle(1));
    let found = databases_open_in(&process(&writer)).unwrap();
    let id = crate::world::disk::FileId::of(&path).unwrap();
    assert_eq!(found, [OpenDatabase { path: path.clone(), id }]);
    let users = openers(&path).unwrap();
    assert!(users.iter().all(|user| user.process.pid == writer.pid()));
    let mut names: Vec<PathBuf> = users.into_iter().map(|user| user.path).collect();
    names.sort();
    assert_eq!(names, [path.clone(), side_file(&path, "-shm"), side_file(&path, "-wal")]);
    writer.finish();
    assert!(openers(&path).unwrap().is_empty());
}

#[test]
fn a_database_that_our_own_process_has_open_is_not_opened_again() {
    // Story: one open and close of the file in the same process dropped every lock of SQLite's connection, and another
    // process took the write lock in the midst of a transaction.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    Writer::start(&[&path], "", Task::Idle(1)).finish();
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch("BEGIN IMMEDIATE; INSERT INTO t(v) VALUES(1)").unwrap();
    assert!(matches!(LockFile::open(&path, Access::Read), Err(LocksError::OwnProcess { .. })));
    assert!(matches!(probe(&path), Err(LocksError::OwnProcess { .. })));
    own.execute_batch("COMMIT").unwrap();
    own.close().unwrap();
    let first = LockFile::open(&path, Access::Read).unwrap();
    // Our own descriptors don't hinder each other.
    drop(LockFile::open(&path, Access::Read).unwrap());
    drop(first);
}

#[test]
fn under_the_fence_a_busy_writer_commits_nothing_and_goes_on_afterwards() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF");
        let mut writer = Writer::start(&[&path], &setup, Task::Busy);
        writer.wait_row(20);
        let watch = Watch::new([path.clone()]);
        let fence = loop {
            watch.observe().unwrap();
            let fence = fence(&path, 10_000).unwrap();
            // A rollback writer is between two transactions now and then: only looking more often helps.
            match fence.evidence(&process(&writer), &watch) {
                Ok(()) => break fence,
                Err(error) => assert!(mode != "WAL", "{error}"),
            }
            drop(fence);
            let next = writer_goes_on(&mut writer);
            writer.wait_row(next);
        };
        let bytes = |suffix| std::fs::read(side_file(&path, suffix)).unwrap_or_default();
        let before = (bytes(""), bytes("-wal"));
        // Long enough for thousands of commits: the writer's own lock is asked for all the while.
        let until = std::time::Instant::now() + Duration::from_millis(200);
        crate::world::wait::readable(&[], until).unwrap();
        assert!((bytes(""), bytes("-wal")) == before, "{mode}: written under the fence");
        assert!(fence.held_for() >= Duration::from_millis(200));
        drop(fence);
        let next = writer_goes_on(&mut writer);
        writer.wait_row(next);
        writer.finish();
    }
}

fn writer_goes_on(writer: &mut Writer) -> u64 {
    writer.acknowledged() + 5
}

#[test]
fn an_open_transaction_keeps_the_fence_out_and_what_was_taken_is_given_back() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (free, taken) = (dir.path().join("a.db"), dir.path().join("b.db"));
        let setup = format!("PRAGMA journal_mode={mode}");
        let idle = Writer::start(&[&free], &setup, Task::Idle(1));
        let writer = Writer::start(&[&taken], &setup, Task::InTransaction);
        let both = [free.clone(), taken.clone()];
        let error = Fence::acquire(&both, Duration::from_millis(50), &Cancel::new().unwrap()).unwrap_err();
        assert!(matches!(&error, LocksError::Busy { pid, .. } if *pid == Some(writer.pid())), "{mode}: {error}");
        // The one that was free is free again, and the writer can commit.
        drop(fence(&free, 0).unwrap());
        writer.finish();
        idle.finish();
    }
}

#[test]
fn a_cancelled_wait_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = Writer::start(&[&path], WAL, Task::InTransaction);
    let cancel = Cancel::new().unwrap();
    cancel.request();
    let began = std::time::Instant::now();
    let error = Fence::acquire(std::slice::from_ref(&path), Duration::from_secs(600), &cancel).unwrap_err();
    assert!(matches!(error, LocksError::Cancelled { .. }));
    assert!(began.elapsed() < Duration::from_secs(60));
    writer.finish();
}

#[test]
fn who_does_not_lock_as_we_do_is_unknown() {
    // Story: with locking_mode=EXCLUSIVE and the VFSs unix-excl, unix-none and unix-dotfile, a service committed 2,000
    // rows and more under a naive fence.
    let cases = [
        ("unix", "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL"),
        ("unix", "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=DELETE"),
        ("unix-excl", "PRAGMA journal_mode=WAL"),
        ("unix-excl", "PRAGMA journal_mode=DELETE"),
        ("unix-none", "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL"),
        ("unix-none", "PRAGMA journal_mode=DELETE"),
        ("unix-dotfile", "PRAGMA journal_mode=DELETE"),
        ("unix-dotfile", "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=DELETE"),
    ];
    for stale_shm in [false, true] {
        for (vfs, setup) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.db");
            let mut writer = Writer::start_with_vfs(&[&path], setup, Task::Busy, vfs);
            writer.wait_row(3);
            if stale_shm {
                std::fs::write(side_file(&path, "-shm"), vec![0; 32768]).unwrap();
            }
            let watch = Watch::new([path.clone()]);
            let mut proved = 0;
            for _ in 0..50 {
                watch.observe().unwrap();
                if let Ok(fence) = fence(&path, 2)
                    && fence.evidence(&process(&writer), &watch).is_ok()
                {
                    proved += 1;
                }
            }
            assert_eq!(proved, 0, "{vfs} {setup} stale -shm: {stale_shm}");
            writer.finish();
        }
    }
}

#[test]
fn under_the_fence_nobody_has_a_wal_database_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let writer = Writer::start(&[&path], WAL, Task::Idle(100));
    let fence = fence(&path, 10_000).unwrap();
    writer.finish();
    // Up to 3.50, SQLite asks for nothing else before the last one who leaves writes the log into the database.
    let leaving = LockFile::open(&path, Access::Lock).unwrap();
    assert!(!leaving.try_lock(LockMode::Write, DB_SHARED).unwrap());
    drop(fence);
    assert!(leaving.try_lock(LockMode::Write, DB_SHARED).unwrap());
}

#[test]
fn an_idle_rollback_service_is_unknown_and_an_idle_wal_service_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollback.db");
    let writer = Writer::start(&[&path], "", Task::Idle(1));
    let watch = Watch::new([path.clone()]);
    watch.observe().unwrap();
    let error = fence(&path, 1000).unwrap().evidence(&process(&writer), &watch).unwrap_err();
    assert!(matches!(error, LocksError::Unknown { .. }));
    writer.finish();

    let path = dir.path().join("wal.db");
    let writer = Writer::start(&[&path], WAL, Task::Idle(1));
    let held = fence(&path, 1000).unwrap();
    held.evidence(&process(&writer), &Watch::new([])).unwrap();
    // Somebody else's processes prove nothing.
    assert!(held.evidence(&[ProcessId::own().unwrap()], &Watch::new([])).is_err());
    drop(held);
    writer.finish();
}

#[test]
fn a_hot_journal_is_left_to_the_next_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let setup = "PRAGMA journal_mode=DELETE; PRAGMA cache_size=1; PRAGMA cache_spill=1";
    Writer::start(&[&path], setup, Task::Idle(300)).finish();
    Writer::start(&[&path], setup, Task::InTransaction).crash();
    if !has_content(&side_file(&path, "-journal")).unwrap() {
        // The transaction had not spilled: make the journal that a crash in the commit leaves.
        std::fs::write(side_file(&path, "-journal"), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7").unwrap();
    }
    assert!(matches!(fence(&path, 100), Err(LocksError::HotJournal { .. })));
}
