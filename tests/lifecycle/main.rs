//! Stopping and starting real services under a real systemd: one story for each way in which a service misbehaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod controller_systemd;
mod controller_systemd_refusals;
mod controller_systemd_shield;
mod fence;
mod harness;
mod process;
mod process_pid_file;
mod process_start;
mod process_stop;
mod recovery;
mod start;
mod stop;
mod triggers;

fn main() -> std::process::ExitCode {
    let stories = [
        harness::STORIES,
        controller_systemd::STORIES,
        controller_systemd_refusals::STORIES,
        controller_systemd_shield::STORIES,
        stop::STORIES,
        start::STORIES,
        triggers::STORIES,
        fence::STORIES,
        recovery::STORIES,
        process::STORIES,
        process_stop::STORIES,
        process_start::STORIES,
        process_pid_file::STORIES,
    ];
    svckit_testbed::stories::run(&stories.concat())
}
