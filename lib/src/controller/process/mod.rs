//! Services that are plain processes: by the pid file that they write, or by a command that svckit starts itself.
//!
//! A process is known by pid, start time and boot, and signalled through a pidfd, so a pid that was given away again
//! is never taken for the service. The service is its main process, all that descends from it, what was seen to
//! descend from it earlier, and the rest of its session where that is its own.
//!
//! Not promised: a process that leaves the tree (double fork) between two looks and whose parent was never seen is
//! not found; a unit's cgroup can't be left that way, so a service that matters is better a unit.

mod capture;
mod command;
mod family;
mod launch;
mod pid_file;
mod running;

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
    let Some(unit) = main.and_then(|main| service_unit(&main.pid.to_string())) else { return Vec::new() };
    if service_unit("self").as_ref() == Some(&unit) {
        return Vec::new();
    }
    vec![KillSource {
        id: "service-manager".to_owned(),
        what: format!("the process belongs to the unit {unit}, and systemd may restart or kill it: use --unit {unit}"),
        neutralised_by: None,
    }]
}

fn service_unit(process: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path =
        text.lines().find_map(|line| line.strip_prefix("0::").or_else(|| line.split(":name=systemd:").nth(1)))?;
    let unit = path.rsplit('/').next()?;
    // A user manager is a service itself, and everything that a person starts lives in it.
    (unit.ends_with(".service") && !unit.starts_with("user@")).then(|| unit.to_owned())
}
