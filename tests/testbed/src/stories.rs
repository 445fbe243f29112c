//! How a binary of stories runs: inside a test machine only.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// Set inside a test machine by `nspawn-run`.
pub const INSIDE: &str = "SVCKIT_TESTBED";
/// `elsewhere`: tests/run runs the stories by itself later, so that `cargo test` has none.
pub const STORIES: &str = "SVCKIT_STORIES";

/// A story: a name that is a sentence, and a function that panics where the story does not hold.
pub type Story = (&'static str, fn());

/// Runs the stories, or says that they were not run.
#[must_use]
pub fn run(stories: &[Story]) -> ExitCode {
    let arguments = Arguments::from_args();
    let inside = std::env::var_os(INSIDE).is_some();
    let elsewhere = std::env::var(STORIES).is_ok_and(|value| value == "elsewhere");
    let trials: Vec<Trial> =
        if elsewhere && !inside { Vec::new() } else { stories.iter().map(|story| trial(*story, inside)).collect() };
    if !inside && !elsewhere {
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            b"these stories need a machine with its own systemd: tests/run starts one\n",
        ));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A story as a test that can be run or counts as not run.
#[must_use]
pub fn trial((name, story): Story, can_run: bool) -> Trial {
    let body = move || {
        std::panic::catch_unwind(story).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Failed::from(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default())
        })
    };
    Trial::test(name.replace(' ', "_"), body).with_ignored_flag(!can_run)
}

/// Runs stories of one program: those that need nothing else, and those that need root and servers, where `tests/run` asks
/// for them by `SVCKIT_SERVERS=run`.
#[must_use]
pub fn run_with_servers(program: &str, plain: &[Story], servers: &[Story]) -> ExitCode {
    let arguments = Arguments::from_args();
    let elsewhere = std::env::var(STORIES).is_ok_and(|value| value == "elsewhere");
    let is_asked = std::env::var("SVCKIT_SERVERS").is_ok_and(|value| value == "run");
    let can_serve = is_asked && rustix::process::geteuid().is_root();
    let mut trials: Vec<Trial> = Vec::new();
    if !elsewhere {
        let built = crate::command::is_built(program);
        trials.extend(plain.iter().map(|story| trial(*story, built)));
        trials.extend(servers.iter().map(|story| trial(*story, built && can_serve)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
