//! Beside SQLite's own recovery, case by case: a repair never gives fewer rows back exactly as they were.
//!
//! `.recover` of the machine's sqlite3, on a library with what it needs: built here from the SQLite that svckit links.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod cases;
mod patient;
mod theirs;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::trial;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let can_run = theirs::can_run();
    let trials: Vec<Trial> = cases::STORIES.iter().map(|story| trial(*story, can_run)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
