//! Thousands of seeded random damages, each repaired: never a panic or a hang, never a result that SQLite does not call
//! whole, and nothing called complete that differs from what was.
//!
//! `cargo test` does a few. `SVCKIT_THOROUGH=1` does ten thousand, `SVCKIT_DAMAGES=N` so many, `SVCKIT_SEED=N`
//! others, and `SVCKIT_DAMAGES_FROM=N` begins with the N-th: with the seed and a count of 1, a failure comes
//! back alone. `SVCKIT_HEADERS=N` changes so many single bytes of page headers. Optimised
//! (`cargo test --release`), it takes a tenth of the time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod campaign;
mod patient;
mod round;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{Story, trial};

const ALL: &[Story] = &[
    ("random damage never gives a repair that is called complete and is not", campaign::random_damage),
    ("no byte of a page's header makes a repair complete that is not", campaign::headers),
    ("what was judged wrong once is judged right", campaign::once_wrong),
    ("control: a repair that keeps what it finds first is caught", campaign::a_careless_repair_is_caught),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = ALL.iter().map(|story| trial(*story, true)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
