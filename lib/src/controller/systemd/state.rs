//! From systemd's properties to the words of the trait.

use super::properties::Properties;
use crate::controller::{Activity, ExitCause, ServiceState};
use crate::world::ProcessId;

/// CLD_EXITED of waitid(2); CLD_KILLED and CLD_DUMPED are 2 and 3.
const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;
const CLD_DUMPED: i32 = 3;

/// The state that `unit` has. A unit without processes of its own (a socket, a target) has no main process and no
/// exit cause.
pub(super) fn state_of(unit: &Properties) -> std::io::Result<ServiceState> {
    let active = unit.text("ActiveState").unwrap_or("unknown");
    let sub = unit.text("SubState").unwrap_or("unknown");
    let main = match unit.small("MainPID") {
        Some(pid) if pid > 0 => ProcessId::of(pid)?,
        _ => None,
    };
    let exit = if main.is_some() { None } else { exit_of(unit) };
    Ok(ServiceState {
        activity: activity_of(active),
        run: unit.hex("InvocationID"),
        main,
        exit,
        result: unit.word("Result").map(str::to_owned),
        start_state: start_state_of(unit),
        detail: format!("{active} ({sub})"),
    })
}

fn activity_of(active: &str) -> Activity {
    match active {
        "active" | "reloading" | "refreshing" => Activity::Up,
        "activating" => Activity::Starting,
        "deactivating" => Activity::Stopping,
        "failed" => Activity::Failed,
        _ => Activity::Down,
    }
}

fn exit_of(unit: &Properties) -> Option<ExitCause> {
    let status = unit.small("ExecMainStatus")?;
    match unit.small("ExecMainCode")? {
        CLD_EXITED => Some(ExitCause::Exited(status)),
        CLD_KILLED | CLD_DUMPED => Some(ExitCause::Signalled(status)),
        _ => None,
    }
}

/// A mask shows in LoadState at once, in UnitFileState for units that have a file.
fn start_state_of(unit: &Properties) -> Option<String> {
    if unit.text("LoadState") == Some("masked") {
        return Some(unit.word("UnitFileState").filter(|s| s.starts_with("masked")).unwrap_or("masked").to_owned());
    }
    unit.word("UnitFileState").map(str::to_owned)
}

/// When the unit last went up or down (µs, CLOCK_MONOTONIC). Not StateChangeTimestamp: a `reset-failed`, which
/// starts and stops nothing, moves that. `None` where systemd has forgotten the unit since.
pub(super) fn changed_at(unit: &Properties) -> Option<u64> {
    ["InactiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic"]
        .into_iter()
        .filter_map(|name| unit.number(name))
        .max()
        .filter(|at| *at > 0)
}
