//! Databases of running units that are damaged, checked, repaired and put back, under a real systemd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod patient;
mod running;

fn main() -> std::process::ExitCode {
    svckit_testbed::stories::run(running::STORIES)
}
