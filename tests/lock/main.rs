//! The lock of a whole operation: raced for, killed, inherited, proved.
//!
//! `SVCKIT_THOROUGH=1` has every race 2,000 times, by processes too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod command;
mod deaths;
mod handed;
mod place;
mod races;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{Story, trial};

const ALL: &[Story] = &[
    ("two and sixteen contenders: never two winners", races::never_two_winners),
    ("control: a lock by the existence of a file lets two in", races::existence_lets_two_in),
    ("control: a lock by a pid file lets two in", races::a_pid_file_lets_two_in),
    ("whoever waits gets its turn alone", races::turns),
    ("sixteen processes: one after the other or refused", races::processes),
    ("a killed holder leaves the lock to its child, and a refusal names it", deaths::the_holder_is_killed),
    ("a killed child ends the operation", deaths::the_child_is_killed),
    ("both killed: the lock is free at once", deaths::both_are_killed),
    ("a stopped holder holds, and a wait has its bound", deaths::the_holder_is_stopped),
    ("a waiter is let in by the death of the holder", deaths::a_waiter_is_let_in),
    ("a removed or replaced lock file lets nobody in", deaths::the_file_is_removed),
    ("thirty runs in one another hold one lock", handed::deeply_nested),
    ("a daemon that is left behind does not keep the lock", handed::a_daemon_is_left_behind),
    ("what claims the lock keeps it when the operation has ended", handed::a_claim_goes_on),
    ("a lock that was lost on the way is not proved", handed::lost_on_the_way),
    ("a backup goes through below the lock of its database, and nobody else's does", handed::a_backup_below),
    (
        "a service's lock is the one that every program takes, and what fails is told as svc-lock's",
        command::of_a_service,
    ),
    ("the command has its own signals, status and umask", command::as_if_it_ran_alone),
    ("a refusal has its own exit status, and status says who and what", command::who_and_what),
    ("what svc-lock can't do is 125, and a command that can't be run is 126 or 127", command::own_failures),
];

/// They need root.
const AS_ROOT: &[Story] = &[
    ("a reused pid is nobody's lock", deaths::the_pid_is_reused),
    ("another clock changes nothing", deaths::another_clock),
    ("a lock file that can't be written to is told", command::no_permission),
    ("a holder whose descriptors are hidden is named", command::hidden_descriptors),
];

/// They need strace.
const TRACED: &[Story] =
    &[("a signal that comes while the command is being started reaches it", command::a_signal_while_it_starts)];

/// They need a FUSE file system.
const SHARED: &[Story] =
    &[("a lock directory on a shared file system is refused or told", command::a_shared_file_system)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    let works = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let can_share = is_root && works("bindfs", &["--version"]);
    let can_trace = works("strace", &["-o", "/dev/null", "true"]);
    let with = |stories: &'static [Story], can: bool| stories.iter().map(move |story| trial(*story, can));
    let trials: Vec<Trial> = with(ALL, true)
        .chain(with(AS_ROOT, is_root))
        .chain(with(TRACED, can_trace))
        .chain(with(SHARED, can_share))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
