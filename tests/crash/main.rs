//! Programs killed, and failed, at each of their steps, and what is left then.
//!
//! The proof of the sweep itself runs with `cargo test`. The sweeps of our programs are started by `tests/run`, which
//! builds them before and sets `SVCKIT_SWEEPS=run`; elsewhere they count as not run. `SVCKIT_THOROUGH=1` sweeps every
//! call, `SVCKIT_THOROUGH=changes` all but those that only read, `SVCKIT_SEED=N` repeats a sample.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod actors;
mod containers;
mod engine;
mod exclusion;
mod plain;
mod power;
mod proof;
mod publish;
mod units;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use engine::{points, trace};
use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{INSIDE, STORIES, Story, trial};

/// Set in a mount namespace of our own.
const OWN_MOUNTS: &str = "SVCKIT_CRASH_OWN_MOUNTS";

/// They need nothing but strace.
const PROOF: &[Story] = &[
    (
        "calls are counted by thread and name, and classed without what changes",
        trace::tests::calls_are_counted_by_thread_and_name_and_classed_without_what_changes,
    ),
    (
        "a sample has every place and every stage, and a seed repeats it",
        points::tests::a_sample_has_every_place_and_every_stage_and_a_seed_repeats_it,
    ),
    (
        "an error is injected only where the program changes its own files",
        points::tests::an_error_is_injected_only_where_the_program_changes_its_own_files,
    ),
    ("a durable write survives every fault", proof::a_durable_write_survives),
    ("control: a naive write does not", proof::a_naive_write_is_caught),
];

/// They need root, strace and the programs.
const PLAIN: &[Story] = &[
    ("a hot backup leaves a whole store and the service as it was", plain::hot_backup),
    ("a fenced backup leaves a whole store and the service as it was", plain::fenced_backup),
    ("a cold backup leaves a whole store and brings the service back", plain::cold_backup),
    ("a look at a process that fails is no proof of its end", plain::looks::failing_looks),
    ("a restore leaves one whole database and brings the service back", plain::restore),
    ("a restore over a database with its log leaves one whole database", plain::restore_over_a_log),
    ("an expiry harms no backup that it keeps", plain::expire),
    ("a repair leaves the original or the repaired database and brings the service back", plain::repair),
    ("an undo leaves the original or the repaired database and brings the service back", plain::undo),
    ("control: a naive backup leaves the service down and half a backup", plain::naive_backup),
    ("control: a naive restore leaves the service down", plain::naive_restore),
    ("control: a naive repair leaves the service down", plain::naive_repair),
    ("control: a naive expiry leaves half a backup", plain::naive_expire),
    ("an update of a tree leaves one whole state served", publish::update),
    ("an update of a tree by a command leaves one whole state served", publish::update_by_a_command),
    ("a switch of a tree leaves one whole state served", publish::switch),
    ("a clean-up of a tree harms nothing that is served", publish::collect),
    ("control: naive publishing leaves nothing served", publish::naive),
    ("sixteen processes and one service: never two at once", exclusion::never_two_at_once),
    ("control: sixteen without a common lock overlap", exclusion::without_a_common_lock),
];

/// They need loop devices beside.
const POWER: &[Story] = &[
    ("a restore survives a power cut at each step", power::restore),
    ("a repair survives a power cut at each step", power::repair),
    ("an undo survives a power cut at each step", power::undo),
    ("a tree is one whole state after a power cut at each step", publish::power),
    ("control: without syncs a power cut leaves half a state", publish::power_without_syncs),
    ("control: a naive restore does not survive power cuts", power::naive_restore),
];

/// They need an engine beside.
const CONTAINERS: &[Story] = &[
    ("a cold backup of a container brings it back with its policy", containers::cold_backup),
    ("a restore of a container leaves one whole database and brings it back", containers::restore),
    ("a dump of Redis leaves a whole store and nothing in the container", containers::redis_dump),
    ("a dump of PostgreSQL leaves a whole store and nothing in the container", containers::postgres_dump),
    ("control: a naive backup leaves the container down", containers::naive_backup),
    ("control: a naive dump leaves half a backup and its secret", containers::naive_dump),
];

/// They need a test machine.
const UNITS: &[Story] = &[
    ("a cold backup of a unit brings it back without a trace", units::cold_backup),
    ("a restore of a unit leaves one whole database and brings it back", units::restore),
    ("a unit comes back from failing disks without a trace", units::failing_disks),
    ("control: a naive backup leaves the unit down", units::naive_backup),
];

fn main() -> ExitCode {
    if let Some(code) = actors::act() {
        return code;
    }
    let arguments = Arguments::from_args();
    let elsewhere = std::env::var(STORIES).is_ok_and(|value| value == "elsewhere");
    let inside = std::env::var_os(INSIDE).is_some();
    let is_asked = std::env::var("SVCKIT_SWEEPS").is_ok_and(|value| value == "run");
    let is_root = rustix::process::geteuid().is_root();
    if is_asked && is_root && !inside && std::env::var_os(OWN_MOUNTS).is_none() {
        // Whoever starts a container in the meantime would keep our disks mounted. Where this is not possible we go on.
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        let _not_possible = again.args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1").exec();
    }
    let mut trials: Vec<Trial> = Vec::new();
    if inside {
        trials.extend(UNITS.iter().map(|story| trial(*story, true)));
    } else if !elsewhere {
        let can_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        let can_trace = can_trace.is_ok_and(|status| status.success());
        let can_sweep = can_trace && is_asked && is_root;
        let can_cut = can_sweep && !arguments.list && power::can_cut();
        let has = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
        let can_contain = can_sweep && has("dockerd") && has("docker");
        let with = |stories: &'static [Story], can: bool| stories.iter().map(move |story| trial(*story, can));
        trials.extend(with(PROOF, can_trace).chain(with(PLAIN, can_sweep)).chain(with(POWER, can_cut)));
        trials.extend(with(CONTAINERS, can_contain));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
