//! What the current run of a unit wrote to the journal. journalctl reads it: the journal's file format has no
//! maintained reader without libsystemd, and journalctl knows which files this user may see.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::SystemdUnit;
use crate::controller::{ControllerError, Scope};
use crate::world::{Pidfd, ProcessId, StopSignal, wait};

const READ_MAX: Duration = Duration::from_secs(10);
/// To end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(2);
const BYTES_MAX: usize = 16 * 1024 * 1024;

impl SystemdUnit {
    pub(super) fn journal_of_run(&self, lines_max: usize) -> Result<Vec<String>, ControllerError> {
        const ACTION: &str = "read the log of";
        let unit = self.unit(ACTION)?;
        let Some(run) = unit.hex("InvocationID") else {
            return Ok(Vec::new());
        };
        let mut command = Command::new("journalctl");
        command.args(["--quiet", "--no-pager", "--output=cat", "--boot", "--lines"]).arg(lines_max.to_string());
        match self.bus.scope() {
            Scope::System => {
                command.arg(format!("_SYSTEMD_INVOCATION_ID={run}"));
            }
            Scope::User => {
                // What a user's unit writes carries the invocation of the user's manager: name and time tell its run.
                let since = unit.number("InactiveExitTimestamp").unwrap_or_default();
                command.arg(format!("--since=@{}.{:06}", since / 1_000_000, since % 1_000_000));
                command.arg(format!("_UID={}", rustix::process::geteuid().as_raw()));
                command.arg(format!("_SYSTEMD_USER_UNIT={}", self.id));
            }
        }
        let text = output_of(command).map_err(|error| self.failed_io(ACTION, &error))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The standard output of a command that ends within [`READ_MAX`].
fn output_of(mut command: Command) -> std::io::Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let mut child = command.spawn()?;
    let read = read_until(&mut child, Instant::now() + READ_MAX);
    if read.is_err() {
        ask_to_end(&child);
    }
    // A child that ignores SIGTERM is left to init rather than waited for without a bound.
    let status = if has_ended(&child)? { Some(child.wait()?) } else { None };
    let text = read?;
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => Err(std::io::Error::other(format!("journalctl ended with {status}"))),
        None => Err(std::io::Error::other("journalctl does not end")),
    }
}

fn read_until(child: &mut Child, until: Instant) -> std::io::Result<String> {
    let Some(mut output) = child.stdout.take() else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let mut block = [0_u8; 64 * 1024];
    loop {
        if wait::readable(&[output.as_fd()], until)?.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("journalctl took more than {} s", READ_MAX.as_secs()),
            ));
        }
        let count = output.read(&mut block)?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(&block[..count]);
        if bytes.len() > BYTES_MAX {
            return Err(std::io::Error::other(format!("more than {BYTES_MAX} bytes of log")));
        }
    }
}

fn pidfd_of(child: &Child) -> std::io::Result<Option<Pidfd>> {
    let Some(id) = ProcessId::of(i32::try_from(child.id()).unwrap_or_default())? else {
        return Ok(None);
    };
    Pidfd::open(&id)
}

fn ask_to_end(child: &Child) {
    if let Ok(Some(pidfd)) = pidfd_of(child) {
        // Its end is looked at next; a failed signal shows there.
        drop(pidfd.signal(StopSignal::Term));
    }
}

fn has_ended(child: &Child) -> std::io::Result<bool> {
    match pidfd_of(child)? {
        None => Ok(true),
        Some(pidfd) => Ok(!wait::readable(&[pidfd.as_fd()], Instant::now() + END_MAX)?.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_does_not_exist_is_an_error() {
        assert!(output_of(Command::new("false")).is_err());
        assert!(output_of(Command::new("/nonexistent/journalctl")).is_err());
        let mut echo = Command::new("echo");
        echo.arg("a line");
        assert_eq!(output_of(echo).unwrap(), "a line\n");
    }
}
