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
use crate::world::process::is_gone;

fn failed(action: &'static str, service: &str, error: impl std::fmt::Display) -> ControllerError {
    ControllerError::Failed { action, service: service.to_owned(), reason: error.to_string() }
}

fn io_failed(action: &'static str, service: &str, error: &std::io::Error) -> ControllerError {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return ControllerError::Permission { action, service: service.to_owned(), reason: error.to_string() };
    }
    failed(action, service, error)
}

/// The process while it lives.
fn alive(process: Option<ProcessId>, label: &str) -> Result<Option<ProcessId>, ControllerError> {
    let alive = process.map_or(Ok(None), ProcessId::if_alive);
    alive.map_err(|error| io_failed("look at the process of", label, &error))
}

/// A process in a systemd service of its own is that unit's: systemd would restart it, or kill what it leaves.
fn manager_of(main: Option<&ProcessId>, label: &str) -> Result<Vec<KillSource>, ControllerError> {
    let Some(unit) = foreign_unit(main, label)? else { return Ok(Vec::new()) };
    Ok(vec![KillSource { id: "service-manager".to_owned(), what: of_unit(unit), neutralised_by: None }])
}

fn of_unit(unit: String) -> String {
    format!("the process belongs to the unit {unit}, and systemd may restart or kill it: use --unit {unit}")
}

/// The unit of systemd that the process belongs to, unless we live in the same one.
fn foreign_unit(main: Option<&ProcessId>, label: &str) -> Result<Option<String>, ControllerError> {
    let unit = |process: &str| match std::fs::read_to_string(format!("/proc/{process}/cgroup")) {
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(io_failed("look at the control group of", label, &error)),
        Ok(text) => Ok(service_unit(&text)),
    };
    let Some(main) = main else { return Ok(None) };
    let theirs = unit(&main.pid.to_string())?;
    Ok(if theirs.is_some() && theirs != unit("self")? { theirs } else { None })
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
