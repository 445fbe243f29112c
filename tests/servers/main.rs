//! Database servers of this host, reached by a socket or by TCP: dumped, proved by a private server, restored, killed and
//! cut, and what becomes of their passwords.
//!
//! They start servers of Debian's packages as processes of their own: where `tests/run` asks for it by
//! `SVCKIT_SERVERS=run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a story that can't go on has failed: the panic is its report"
)]

mod bed;
mod cut;
mod input;
mod secrets;
mod whole;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use svckit_testbed::stories::{STORIES, Story, trial};

const ALL: &[&[Story]] = &[whole::STORIES, cut::STORIES, secrets::STORIES, input::STORIES];
/// They need root.
const AS_ROOT: &[&[Story]] = &[whole::AS_ROOT, input::AS_ROOT];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let elsewhere = std::env::var(STORIES).is_ok_and(|value| value == "elsewhere");
    let is_asked = std::env::var("SVCKIT_SERVERS").is_ok_and(|value| value == "run");
    let mut trials: Vec<Trial> = Vec::new();
    if !elsewhere {
        let missing = bed::missing();
        if let Some(package) = missing.filter(|_| is_asked) {
            let text = format!("these stories need servers of this host: apt-get install {package}\n");
            drop(std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()));
        }
        let can = is_asked && missing.is_none() && svckit_testbed::command::is_built("svc-backup");
        trials.extend(ALL.iter().copied().flatten().map(|story| trial(*story, can)));
        trials.extend(AS_ROOT.iter().copied().flatten().map(|story| trial(*story, can && bed::is_root())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
