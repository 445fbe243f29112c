//! Services that are plain processes: by the pid file that they write, or by a command that svckit starts itself.
//!
//! A process is known by pid, start time and boot, and signalled through a pidfd, so a pid that was given away again
//! is never taken for the service. The service is its main process, all that descends from it, what was seen to
//! descend from it earlier, and the rest of its session where that is its own.
//!
//! Not promised:
//! - A process that leaves both the tree and the session (double fork and setsid) between two looks is not found. A
//!   unit's cgroup can't be left that way: a service that matters is better a unit.
//! - There is no hold: nothing but its own scripts starts such a service again, and they don't ask us.
//! - How a process ended that another program started is not known: [`ServiceState::exit`](super::ServiceState::exit)
//!   stays `None`.
//! - Two pid files that name one process are two services to the lock. Their databases are locked all the same.

mod capture;
mod command;
mod family;
mod launch;
mod named;
mod pid_file;
mod running;
mod shown;
mod watch;

#[cfg(test)]
mod tests;

pub use command::CommandService;
pub use pid_file::PidFileService;

use super::{ControllerError, KillSource};
use crate::world::ProcessId;

fn failed(action: &'static str, service: &str, error: impl std::fmt::Display) -> ControllerError {
    ControllerError::Failed { action, service: service.to_owned(), reason: error.to_string() }
}

fn io_failed(action: &'static str, service: &str, error: &std::io::Error) -> ControllerError {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return ControllerError::Permission { action, service: service.to_owned(), reason: error.to_string() };
    }
    failed(action, service, error)
}

/// A process in a systemd service of its own is that unit's: systemd would restart it, or kill what it leaves.
fn manager_of(main: Option<&ProcessId>) -> Vec<KillSource> {
    let Some(unit) = main.and_then(foreign_unit) else { return Vec::new() };
    vec![KillSource { id: "service-manager".to_owned(), what: of_unit(unit), neutralised_by: None }]
}

fn of_unit(unit: String) -> String {
    format!("the process belongs to the unit {unit}, and systemd may restart or kill it: use --unit {unit}")
}

/// The unit of systemd that the process belongs to, unless we live in the same one.
fn foreign_unit(main: &ProcessId) -> Option<String> {
    let unit = |process: &str| service_unit(&std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?);
    unit(&main.pid.to_string()).filter(|theirs| unit("self").as_ref() != Some(theirs))
}

/// The innermost service of a group's path, from the text of /proc/PID/cgroup. A service may have groups of its own
/// below it.
fn service_unit(text: &str) -> Option<String> {
    let path = |line: &'_ str| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path)).map(str::to_owned)
    };
    let unit = |path: String| path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned);
    // A user manager is a service itself, and everything that a person starts lives in it.
    text.lines().filter_map(path).find_map(unit).filter(|unit| !unit.starts_with("user@"))
}
