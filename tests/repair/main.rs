//! Databases of running units that are damaged, checked, repaired and put back, under a real systemd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod from_backup;
mod patient;
mod running;
mod starters;

fn main() -> std::process::ExitCode {
    let all = [running::STORIES, starters::STORIES, from_backup::STORIES].concat();
    svckit_testbed::stories::run(&all)
}
