//! A replacement by a database that has a log: cut at every step, and taken up again or taken back.

use super::*;
use crate::database::sqlite::replace::{prepare_with, roll_back, roll_forward, roll_forward_with};
use crate::journal::Replacement;
use crate::sqlite_locks::side_file;
use crate::sqlite_locks::testing::{Task, Writer};

const OLD_ROWS: u64 = 30;
const NEW_ROWS: u64 = 120;

/// Both as a crashed service leaves them: their rows are in their logs.
fn stage(place: &Place) -> Replacement {
    let (target, new) = (place.service.join("library.db"), place.service.join("new.db"));
    Writer::start(&[&target], "PRAGMA journal_mode=WAL", Task::Idle(OLD_ROWS)).crash();
    Writer::start(&[&new], "PRAGMA journal_mode=WAL", Task::Idle(NEW_ROWS)).crash();
    let staged = place.service.join("staged0");
    std::fs::rename(&new, &staged).unwrap();
    let beside: Vec<(PathBuf, String)> = ["-wal", "-shm"]
        .iter()
        .map(|suffix| {
            let to = place.service.join(format!("staged{suffix}x"));
            std::fs::rename(side_file(&new, suffix), &to).unwrap();
            (to, (*suffix).to_owned())
        })
        .collect();
    prepare_with(&target, &staged, &beside, &place.copies.join("kept")).unwrap()
}

fn cut_at(replacement: &Replacement, cut: usize) -> Result<(), SqliteError> {
    let mut step = 0;
    roll_forward_with(replacement, &mut |_| {
        step += 1;
        if step > cut { Err(SqliteError::Empty { path: PathBuf::new() }) } else { Ok(()) }
    })
}

#[test]
fn cut_before_any_step_a_database_and_its_log_are_completed_together() {
    for cut in 0.. {
        let place = Place::new();
        let replacement = stage(&place);
        let cut_short = cut_at(&replacement, cut);
        roll_forward(&replacement).unwrap();
        roll_forward(&replacement).unwrap();
        assert_eq!(ask(&replacement.target.0), (NEW_ROWS, NEW_ROWS), "cut before step {cut}");
        let kept = replacement.kept.0.join("library.db");
        assert_eq!(ask(&kept), (OLD_ROWS, OLD_ROWS), "cut before step {cut}");
        if cut_short.is_ok() {
            assert!(cut >= 7, "only {cut} steps");
            break;
        }
    }
}

#[test]
fn cut_before_the_database_is_in_place_it_and_its_log_are_taken_back() {
    let mut taken_back = 0;
    for cut in 0.. {
        let place = Place::new();
        let replacement = stage(&place);
        let cut_short = cut_at(&replacement, cut);
        if replacement.staged.0.exists() {
            roll_back(&replacement).unwrap();
            assert_eq!(ask(&replacement.target.0), (OLD_ROWS, OLD_ROWS), "cut before step {cut}");
            assert!(replacement.beside.iter().all(|side| side.staged.0.exists()));
            taken_back += 1;
        } else {
            assert!(matches!(roll_back(&replacement), Err(SqliteError::Replace { .. })));
        }
        if cut_short.is_ok() {
            break;
        }
    }
    assert!(taken_back >= 6, "{taken_back}");
}
