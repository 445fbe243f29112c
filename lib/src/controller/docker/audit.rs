//! Who could SIGKILL what runs in a container while it stops.

use super::inspected::Inspected;
use crate::controller::KillSource;
use crate::world::ProcessId;

/// Docker's own, where neither the container nor the request says another (docs.docker.com, `docker stop`).
const STOP_TIMEOUT_DEFAULT: i64 = 10;
/// Set by Swarm on each container of its own.
const SWARM_TASK: &str = "com.docker.swarm.task.id";
/// What s6-overlay runs as the first process.
const SUPERVISOR: &str = "s6-svscan";

/// The sources; what has no neutralisation refuses a stop.
pub(super) fn kill_sources(found: &Inspected, processes: &[ProcessId]) -> Vec<KillSource> {
    let timeout = found.stop_timeout.unwrap_or(STOP_TIMEOUT_DEFAULT);
    let mut sources = Vec::new();
    let mut add = |id: &str, what: String, neutralised_by: Option<&str>| {
        sources.push(KillSource { id: id.to_owned(), what, neutralised_by: neutralised_by.map(str::to_owned) });
    };
    add(
        "stop-timeout",
        format!("Docker's stop time of {timeout} s, then SIGKILL"),
        Some("a stop without a time limit (t=-1)"),
    );
    if found.stop_signal.as_deref().is_some_and(|signal| matches!(signal, "SIGKILL" | "KILL" | "9")) {
        add("stop-signal", "its stop signal is SIGKILL (STOPSIGNAL of its image, or --stop-signal)".to_owned(), None);
    }
    if found.removes_itself {
        let what = "it was started with --rm: a stop deletes it, with every file that is in no volume".to_owned();
        add("auto-remove", what, None);
    }
    if found.labels.contains_key(SWARM_TASK) {
        let what =
            "Swarm runs it, and replaces a container that was stopped: scale its service to 0 instead".to_owned();
        add("swarm", what, None);
    }
    if let Some(what) = inner_supervisor(found, processes) {
        add("inner-supervisor", what, None);
    }
    sources
}

/// A supervisor in the container has a time limit of its own, which no setting of Docker's reaches.
fn inner_supervisor(found: &Inspected, processes: &[ProcessId]) -> Option<String> {
    let is_named =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == SUPERVISOR);
    let runs = found.pid.is_some_and(is_named) || processes.iter().any(|process| is_named(process.pid));
    let configured = found.command.first().is_some_and(|program| program == "/init")
        && found.variables.iter().any(|name| name.starts_with("S6_"));
    if !runs && !configured {
        return None;
    }
    if found.image.contains("plexinc/pms-docker") {
        return Some("s6-overlay in it, and the Plex image's finish script kills Plex 5 s after SIGTERM".to_owned());
    }
    Some(
        "s6-overlay in it kills what is left S6_KILL_GRACETIME (3 s) after a stop begins, whatever Docker waits for"
            .to_owned(),
    )
}
