//! Backups of real services under a real systemd, and what becomes of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod archive;
mod bad_input;
mod mailbox;
mod restore;

fn main() -> std::process::ExitCode {
    svckit_testbed::stories::run(&[mailbox::STORIES, archive::STORIES, bad_input::STORIES, restore::STORIES].concat())
}
