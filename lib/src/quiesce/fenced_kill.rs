//! The only place that can send SIGKILL.
//!
//! Allowed under a fence alone: we hold the write lock of every database that the service has, there is positive
//! evidence that its processes respect those locks, and nothing that looks like a database is open beside them. So
//! no transaction can be open when the signal arrives. Anything unknown is a refusal.

use std::path::{Path, PathBuf};

use rustix::process::{Signal, pidfd_send_signal};

use super::policy::StopPolicy;
use crate::controller::ServiceController;
use crate::progress::Cancel;
use crate::sqlite_locks::{self, Fence, Watch};
use crate::world::Pidfd;

/// Kills every process of the service under the fence; the fence is held until they are gone or the time is over.
/// The error is the reason for which it is not safe; nothing was sent then.
pub(super) fn fenced_kill(
    controller: &(dyn ServiceController + '_),
    databases: &[PathBuf],
    watch: &Watch,
    policy: &StopPolicy,
    cancel: &Cancel,
) -> Result<Fence, String> {
    if databases.is_empty() {
        return Err("no database of it is known, so none can be fenced: name them with --database".to_owned());
    }
    let fence = Fence::acquire(databases, policy.fence_wait_max, cancel).map_err(|e| e.to_string())?;
    let processes = controller.processes().map_err(|e| e.to_string())?;
    fence.evidence(&processes, watch).map_err(|e| e.to_string())?;
    for open in sqlite_locks::databases_open_in(&processes).map_err(|e| e.to_string())? {
        if !is_fenced(&open.path, databases) {
            return Err(format!("{} is open in it and is not fenced", open.path.display()));
        }
    }
    let mut held = Vec::new();
    for process in &processes {
        // Opened after the evidence, and checked after the opening: the signal reaches this process or nobody.
        if let Some(pidfd) = Pidfd::open(process).map_err(|e| e.to_string())? {
            held.push(pidfd);
        }
    }
    use std::os::fd::AsFd;
    for pidfd in &held {
        match pidfd_send_signal(pidfd.as_fd(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(format!("can't signal process {}: {error}", pidfd.id().pid)),
        }
        tracing::warn!(service = controller.label(), pid = pidfd.id().pid, "killed under the fence");
    }
    Ok(fence)
}

fn is_fenced(path: &Path, databases: &[PathBuf]) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    databases.iter().any(|database| real(database) == real(path))
}
