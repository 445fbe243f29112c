//! Commands with a deadline, and the programs under test.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// So much of each command line a picture shows.
const COMMAND_SHOWN_MAX: usize = 160;

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Its exit status; 128 + signal where a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Fails the story unless the command ended with `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "{} ended with {} after {:?}, not with {status}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.status, self.took, self.stdout, self.stderr
        );
        self
    }

    /// The one JSON object, or the first of several, on standard output.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let mut stream = serde_json::Deserializer::from_str(&self.stdout).into_iter();
        match stream.next() {
            Some(Ok(value)) => value,
            other => panic!("{} did not print JSON ({other:?}):\n{}\n{}", self.command, self.stdout, self.stderr),
        }
    }
}

/// A command that runs in the background.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    stdout: std::fs::File,
    stderr: std::fs::File,
    since: Instant,
}

impl Running {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends SIGKILL: what a crash of ours, or an administrator, does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended after `wait_max`; it is ended then.
    #[track_caller]
    pub fn finish(self, wait_max: Duration) -> Outcome {
        self.finish_or_show(wait_max, String::new)
    }

    /// The same; when it has not ended, what `show` has to say is told too.
    ///
    /// # Panics
    /// As [`Self::finish`] does.
    #[track_caller]
    pub fn finish_or_show(mut self, wait_max: Duration, show: impl FnOnce() -> String) -> Outcome {
        let in_time = ended(self.pid(), wait_max);
        let mut seen = String::new();
        if !in_time {
            seen = format!("--- the processes\n{}{}", picture(), show());
            self.kill();
        }
        let status = self.child.wait().unwrap();
        let outcome = Outcome {
            command: self.command,
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
            took: self.since.elapsed(),
        };
        assert!(
            in_time,
            "{} did not end within {wait_max:?}\n--- stdout\n{}\n--- stderr\n{}\n{seen}",
            outcome.command, outcome.stdout, outcome.stderr
        );
        outcome
    }
}

fn text(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until the process has ended (also as a zombie); `false` when it has not within `wait_max`.
#[must_use]
pub fn ended(pid: i32, wait_max: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).expect("a pid is positive"), PidfdFlags::empty()) else {
        return true;
    };
    !svckit::world::wait::readable(&[pidfd.as_fd()], Instant::now() + wait_max).unwrap().is_empty()
}

/// Every process but the kernel's own, with its parent, its state and where it waits in the kernel: what a hang looks
/// like.
#[must_use]
pub fn picture() -> String {
    let mut lines = String::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        let (Ok(stat), Ok(words)) = (process.stat(), process.cmdline()) else { continue };
        let waits = std::fs::read_to_string(format!("/proc/{}/wchan", stat.pid)).unwrap_or_default();
        let command: String = words.join(" ").chars().take(COMMAND_SHOWN_MAX).collect();
        if !words.is_empty() || stat.state == 'Z' {
            lines += &format!("{} {} {} {waits} {} {command}\n", stat.pid, stat.ppid, stat.state, stat.comm);
        }
    }
    lines
}

/// Sends a signal to a process; `false` when it is gone.
pub fn signal(pid: i32, signal: Signal) -> bool {
    pidfd_open(Pid::from_raw(pid).expect("a pid is positive"), PidfdFlags::empty())
        .is_ok_and(|pidfd| pidfd_send_signal(&pidfd, signal).is_ok())
}

/// Starts a command with its output in files: a command that fills a pipe that nobody reads would hang.
#[track_caller]
pub fn start(command: Command) -> Running {
    start_with_input(command, Stdio::null())
}

/// The same, with something to read.
#[track_caller]
pub fn start_with_input(mut command: Command, input: impl Into<Stdio>) -> Running {
    let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(input).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let name = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|error| panic!("can't start {name}: {error}"));
    Running { child, command: name, stdout, stderr, since: Instant::now() }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: Command, wait_max: Duration) -> Outcome {
    start(command).finish(wait_max)
}

/// A command of the machine with its arguments, at most a minute long.
#[track_caller]
pub fn sh<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Outcome {
    let mut command = Command::new(program);
    command.args(args);
    run(command, Duration::from_secs(60))
}

/// The built program of that name: it lies where cargo puts it, beside the directory of this test's own binary.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let directory = own.ancestors().find(|d| d.join(name).is_file());
    directory.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace --bins")).join(name)
}

/// Whether the program of that name is built: `cargo test` of one package builds no other's.
#[must_use]
pub fn is_built(name: &str) -> bool {
    std::env::current_exe().is_ok_and(|own| own.ancestors().any(|d| d.join(name).is_file()))
}

/// One of our programs with its arguments.
#[must_use]
pub fn ours<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program(name));
    command.args(args).env("RUST_BACKTRACE", "1");
    command
}

/// `svc-ctl` with its arguments; two minutes at most.
#[track_caller]
pub fn svc_ctl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    run(ours("svc-ctl", args), Duration::from_secs(120))
}

/// `svc-repair` with its arguments; two minutes at most.
#[track_caller]
pub fn svc_repair<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    run(ours("svc-repair", args), Duration::from_secs(120))
}

/// `svc-backup` with its arguments; two minutes at most.
#[track_caller]
pub fn svc_backup<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    run(ours("svc-backup", args), Duration::from_secs(120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_end_is_ended_and_fails_its_story() {
        let mut command = Command::new("cat");
        command.arg("/dev/ptmx");
        let running = start(command);
        let pid = running.pid();
        assert!(!ended(pid, Duration::from_millis(50)));
        let failed =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.finish(Duration::from_millis(50))));
        assert!(failed.is_err());
        assert!(ended(pid, Duration::from_secs(5)));
    }

    #[test]
    fn an_outcome_has_the_status_and_both_outputs() {
        let outcome = sh("sh", ["-c", "echo '{\"a\": 1}'; echo b >&2; exit 7"]).expect(7);
        assert_eq!(outcome.json()["a"], 1);
        assert_eq!(outcome.stderr, "b\n");
        assert_eq!(sh("sh", ["-c", "kill -TERM $$"]).status, 128 + 15);
    }
}
