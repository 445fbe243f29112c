//! One run of a program under strace: recorded, or with a fault at one point.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use svckit_testbed::command::{Outcome, start};

use super::points::{Fault, Point, traced};
use super::trace::{Call, parse};

/// So many calls of a run that hangs are shown.
const CALLS_SHOWN: usize = 60;

/// A program with its arguments and environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    /// The words of its command line.
    pub(crate) argv: Vec<OsString>,
    /// What its environment has beside ours.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program and its arguments.
    pub(crate) fn new<S: Into<OsString>>(program: &Path, args: impl IntoIterator<Item = S>) -> Self {
        let argv = std::iter::once(program.into()).chain(args.into_iter().map(Into::into)).collect();
        Self { argv, environment: Vec::new() }
    }

    /// With a variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn under_strace(&self, log: &Path, options: &[String]) -> Command {
        let mut command = Command::new("strace");
        // Only the program itself: what it starts (the guard, the service) is let go at its execve.
        command.args(["-f", "-b", "execve", "-qq", "-y", "-s", "0", "-o"]).arg(log).args(options).arg("--");
        command.args(&self.argv).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// How an interrupted run ended.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// The program's end.
    pub(crate) outcome: Outcome,
    /// Whether the run came to the point at all.
    pub(crate) fired: bool,
}

/// A run whose calls are recorded.
pub(crate) fn record(program: &Program, scratch: &Path, root: &str, wait_max: Duration) -> (Outcome, Vec<Call>) {
    let log = log_file(scratch);
    let options = ["-e".into(), format!("trace={}", traced())];
    let outcome = run_bounded(program.under_strace(&log, &options), &log, wait_max);
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    (outcome, parse(&text, root))
}

/// A run with a fault at one point. No seccomp filter: with one, strace does not inject signals.
pub(crate) fn interrupt(
    program: &Program,
    point: &Point,
    fault: Fault,
    scratch: &Path,
    wait_max: Duration,
) -> Interrupted {
    interrupt_on(None, program, point, fault, scratch, wait_max)
}

/// The same; where a file is named, the calls on it alone are counted.
pub(crate) fn interrupt_on(
    file: Option<&str>,
    program: &Program,
    point: &Point,
    fault: Fault,
    scratch: &Path,
    wait_max: Duration,
) -> Interrupted {
    let log = log_file(scratch);
    let mut options = vec!["-e".to_owned(), format!("trace={}", point.name), "-e".to_owned(), fault.injection(point)];
    options.extend(file.into_iter().flat_map(|file| ["-P".to_owned(), file.to_owned()]));
    let outcome = run_bounded(program.under_strace(&log, &options), &log, wait_max);
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let fired = match fault {
        Fault::Kill => text.contains("+++ killed by SIGKILL +++"),
        Fault::Error(_) | Fault::ErrorsFromHere(_) => text.contains("(INJECTED)"),
    };
    Interrupted { outcome, fired }
}

fn run_bounded(command: Command, log: &Path, wait_max: Duration) -> Outcome {
    start(command).finish_or_show(wait_max, || {
        let calls = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
        let skipped = calls.lines().count().saturating_sub(CALLS_SHOWN);
        let last: Vec<&str> = calls.lines().skip(skipped).collect();
        format!("--- the last calls\n{}\n", last.join("\n"))
    })
}

fn log_file(scratch: &Path) -> PathBuf {
    scratch.join("strace")
}
