//! A command that holds the lock, and whose end is ours.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use svckit::lock::{HandedOn, TOKEN_VARIABLE};
use svckit::world::{Pidfd, ProcessId};

use crate::app::callers_umask;
use crate::error::ToolError;
use crate::signals::Relay;

/// How a command ended, or why it did not begin.
#[derive(Debug)]
pub(super) enum Ended {
    /// It ran.
    Ran(ExitStatus),
    /// There is no such program.
    NotFound,
    /// It can't be executed.
    NotExecutable,
}

impl Ended {
    /// As shells have it.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Ran(status) => {
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                u8::try_from(code & 0xff).unwrap_or(u8::MAX)
            }
            Self::NotFound => 127,
            Self::NotExecutable => 126,
        }
    }
}

/// Runs it to its end. It has our streams, working directory and environment, the umask that we were started with, the
/// lock's descriptors and their tokens.
pub(super) fn run(words: &[OsString], lock: &HandedOn, relay: &Relay) -> Result<Ended, ToolError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(ToolError::usage("no command was given", "write it after --: svc-lock run --name N -- CMD"));
    };
    let mut command = Command::new(program);
    command.args(arguments).env(TOKEN_VARIABLE, lock.variable());
    if let Some(umask) = callers_umask() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // The name alone: arguments may hold what is not to be shown.
            eprint_failure(program, &error);
            return Ok(match error.kind() {
                ErrorKind::NotFound => Ended::NotFound,
                _ => Ended::NotExecutable,
            });
        }
    };
    let pid = i32::try_from(child.id()).unwrap_or(0);
    // Until it is waited for, its pid is its own, ended or not.
    let process = ProcessId::of(pid).ok().flatten().and_then(|id| Pidfd::open(&id).ok().flatten());
    relay.to(process);
    let ended = child.wait().map_err(ToolError::io("wait for", program.clone()));
    relay.to(None);
    ended.map(Ended::Ran)
}

fn eprint_failure(program: &std::ffi::OsStr, error: &std::io::Error) {
    use std::io::Write;
    let text = format!("svc-lock: can't run {program:?}: {error}\n");
    let _nobody_to_tell = std::io::stderr().lock().write_all(text.as_bytes());
}
