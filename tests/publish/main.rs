//! Trees under readers: a published tree is read while it is published, mirrored and cleaned up, and readers count what
//! they see. Naive publishing under the same harness is what they must find.
//!
//! `SVCKIT_THOROUGH=1` reads a million times. What needs servers (sshd, nginx) runs where `tests/run` asks for it by
//! `SVCKIT_SERVERS=run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod apt;
mod mirror;
mod publishers;
mod readers;
mod stress;

use std::process::ExitCode;

use svckit_testbed::stories::{Story, run_with_servers};

/// They need nothing but the programs.
const READERS: &[Story] = &[
    ("readers under a lease never see two states while the publisher is killed", stress::leased),
    ("readers that pin the directory never see two states while old ones are kept", stress::pinned),
    ("control: two look-ups of the path see two states", stress::two_looks),
    ("control: files replaced in place are seen mixed", stress::in_place),
    ("control: two directories in turns behind a link are seen mixed", stress::in_turns),
    ("a mirror of this machine serves what the tree serves, and nothing older", mirror::local),
];

/// They need root, and servers on loopback.
const SERVERS: &[Story] = &[
    ("a mirror behind ssh serves what the tree serves, whatever is interrupted", mirror::remote),
    ("apt never meets a mismatch while a merged repository is published", apt::never_a_mismatch),
    ("control: apt meets a mismatch where a script publishes in place", apt::a_naive_script_shows_one),
];

fn main() -> ExitCode {
    if let Some(code) = readers::act().or_else(publishers::act) {
        return code;
    }
    run_with_servers("svc-publish", READERS, SERVERS)
}
