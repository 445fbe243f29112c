//! The databases of a real service, pruned while it runs: magic-wormhole's mailbox server from PyPI, whose own loop is
//! stopped by one mailbox. What needs servers runs where `tests/run` asks for it by `SVCKIT_SERVERS=run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod bed;
mod daemon;
mod deaths;
mod ledger;
mod monitoring;
mod random;
mod server;

use std::process::ExitCode;

use svckit_testbed::stories::{Story, run_with_servers};

/// They need nothing but the programs.
const PLAIN: &[Story] = &[
    ("svc-tend runs by its schedule beside a service that writes, and ends in order", daemon::runs),
    ("a pass does not begin while another operation has the lock, and comes again", daemon::excluded),
    ("killed anywhere, a pass leaves whole items and sums each up once", deaths::killed_anywhere),
    ("what is unknown is U and NaN, and nothing is left out", monitoring::unknown),
    ("foreign keys that were violated before are told, and the rule goes on", monitoring::violated),
    ("a full disk and a writer that stands still end no loop", daemon::faults),
];

/// They need the mailbox server, munin-node and promtool.
const SERVERS: &[Story] = &[
    ("what the mailbox server's own loop leaves is pruned, but for the one that nobody can sum up", server::main_job),
    ("the same where svc-tend enforces the foreign keys", server::main_job_with_indices),
    ("random clients lose nothing while passes and the server are killed at random moments", random::random_clients),
    ("munin-node and promtool take the figures as they are", monitoring::taken),
];

fn main() -> ExitCode {
    run_with_servers("svc-tend", PLAIN, SERVERS)
}
