//! A replacement that is cut at every step, and then taken up again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::database::sqlite::replace::{prepare, roll_back, roll_forward, roll_forward_with};
use crate::journal::Replacement;
use crate::sqlite_locks::side_file;
use crate::sqlite_locks::testing::{Task, Writer};

const OLD_ROWS: u64 = 120;
const NEW_ROWS: u64 = 7;

/// An old database whose rows are still in its log, as a crashed service leaves it, and a new one beside it.
fn stage(place: &Place, setup: &str) -> Replacement {
    let (target, staged) = (place.service.join("library.db"), place.service.join("staged"));
    Writer::start(&[&target], setup, Task::Idle(OLD_ROWS)).crash();
    Writer::start(&[&staged], "", Task::Idle(NEW_ROWS)).finish();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    prepare(&target, &staged, &place.copies.join("kept")).unwrap()
}

fn new_is_in_place(replacement: &Replacement) {
    assert_eq!(ask(&replacement.target.0), (NEW_ROWS, NEW_ROWS));
    assert_eq!(std::fs::metadata(&replacement.target.0).unwrap().mode() & 0o7777, 0o640);
    let kept = replacement.kept.0.join("library.db");
    assert_eq!(ask(&kept), (OLD_ROWS, OLD_ROWS), "what was replaced is complete");
}

const SETUPS: [&str; 2] = ["PRAGMA journal_mode=WAL", "PRAGMA journal_mode=DELETE"];

#[test]
fn cut_before_any_step_it_is_completed_by_another_call() {
    for setup in SETUPS {
        for cut in 0.. {
            let place = Place::new();
            let replacement = stage(&place, setup);
            let mut step = 0;
            let cut_short = roll_forward_with(&replacement, &mut |_| {
                step += 1;
                if step > cut { Err(SqliteError::Empty { path: PathBuf::new() }) } else { Ok(()) }
            });
            roll_forward(&replacement).unwrap();
            roll_forward(&replacement).unwrap();
            new_is_in_place(&replacement);
            if cut_short.is_ok() {
                assert!(cut >= 4, "only {cut} steps");
                break;
            }
        }
    }
}

#[test]
fn cut_anywhere_it_can_be_taken_back_and_begun_again() {
    for setup in SETUPS {
        let mut taken_back = 0;
        for cut in 0.. {
            let place = Place::new();
            let replacement = stage(&place, setup);
            let mut step = 0;
            let cut_short = roll_forward_with(&replacement, &mut |_| {
                step += 1;
                if step > cut { Err(SqliteError::Empty { path: PathBuf::new() }) } else { Ok(()) }
            });
            if !replacement.staged.0.exists() {
                // The first moment of taking a complete one back: nothing stands there.
                std::fs::rename(&replacement.target.0, &replacement.staged.0).unwrap();
                roll_forward(&replacement).unwrap();
            }
            roll_back(&replacement).unwrap();
            roll_back(&replacement).unwrap();
            assert_eq!(ask_rows(&place, &replacement), OLD_ROWS);
            taken_back += 1;
            if cut_short.is_ok() {
                let kept = std::fs::read_dir(&replacement.kept.0).unwrap().count();
                assert_eq!(kept, 0);
                roll_forward(&replacement).unwrap();
                // Side files mean that somebody was there.
                std::fs::write(side_file(&replacement.target.0, "-wal"), b"somebody's").unwrap();
                assert!(matches!(roll_back(&replacement), Err(SqliteError::Replace { .. })));
                assert_eq!(std::fs::read(side_file(&replacement.target.0, "-wal")).unwrap(), b"somebody's");
            }
            if cut_short.is_ok() {
                break;
            }
        }
        assert!(taken_back >= 3);
    }
}

#[test]
fn the_naive_orders_lose_rows_or_leave_a_malformed_database() {
    // The control: what `rm -f db-wal; mv new db` and `mv new db; rm -f db-wal` leave when they are cut in the middle.
    let place = Place::new();
    let replacement = stage(&place, SETUPS[0]);
    std::fs::remove_file(side_file(&replacement.target.0, "-wal")).unwrap();
    std::fs::remove_file(side_file(&replacement.target.0, "-shm")).unwrap();
    let connection = Connection::open(&replacement.target.0).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let rows = connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    assert!(rows < i64::try_from(OLD_ROWS).unwrap(), "the log had nothing to lose");

    let place = Place::new();
    let replacement = stage(&place, SETUPS[0]);
    std::fs::rename(&replacement.staged.0, &replacement.target.0).unwrap();
    let connection = Connection::open(&replacement.target.0).unwrap();
    let rows = connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert!(rows.is_err() || rows.unwrap() != i64::try_from(NEW_ROWS).unwrap(), "the old log did no harm");
}

#[test]
fn a_file_that_was_not_recorded_is_not_touched() {
    let place = Place::new();
    let replacement = stage(&place, SETUPS[1]);
    let wal = side_file(&replacement.target.0, "-wal");
    std::fs::write(&wal, b"somebody's").unwrap();
    assert!(matches!(roll_forward(&replacement), Err(SqliteError::Replace { .. })));
    assert_eq!(std::fs::read(&wal).unwrap(), b"somebody's");
    assert_eq!(ask_rows(&place, &replacement), OLD_ROWS);

    let place = Place::new();
    let replacement = stage(&place, SETUPS[1]);
    // Moved, not removed: the file system would give the inode's number to the next file.
    std::fs::rename(&replacement.target.0, place.copies.join("elsewhere")).unwrap();
    std::fs::write(&replacement.target.0, b"another").unwrap();
    assert!(matches!(roll_forward(&replacement), Err(SqliteError::Replace { .. })));
    assert_eq!(std::fs::read(&replacement.target.0).unwrap(), b"another");
}

fn ask_rows(place: &Place, replacement: &Replacement) -> u64 {
    // A look at the database itself would take its log away.
    let copy = place.copies.join("look.db");
    for suffix in ["", "-wal"] {
        drop(std::fs::copy(side_file(&replacement.target.0, suffix), side_file(&copy, suffix)));
    }
    ask(&copy).0
}

#[test]
fn where_nothing_stood_the_new_database_is_put_and_nothing_is_overwritten() {
    let place = Place::new();
    let (target, staged) = (place.service.join("new.db"), place.service.join("staged"));
    Writer::start(&[&staged], "", Task::Idle(NEW_ROWS)).finish();
    let replacement = prepare(&target, &staged, &place.copies.join("kept")).unwrap();
    assert!(replacement.old.is_empty());
    std::fs::write(&target, b"somebody's").unwrap();
    assert!(matches!(roll_forward(&replacement), Err(SqliteError::Replace { .. })));
    std::fs::remove_file(&target).unwrap();
    roll_forward(&replacement).unwrap();
    assert_eq!(ask(&target).0, NEW_ROWS);
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let place = Place::new();
    let (target, staged) = (place.service.join("pipe"), place.service.join("staged"));
    Writer::start(&[&staged], "", Task::Idle(NEW_ROWS)).finish();
    rustix::fs::mkfifoat(rustix::fs::CWD, &target, rustix::fs::Mode::RUSR).unwrap();
    for target in [&target, &place.service] {
        assert!(matches!(prepare(target, &staged, &place.copies.join("kept")), Err(SqliteError::Replace { .. })));
    }
    assert!(!place.copies.join("kept").exists());
}
