//! The processes of a service: tree, memory and session.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::failed;
use crate::controller::ControllerError;
use crate::progress::Cancel;
use crate::world::process::tree_of;
use crate::world::{Pidfd, ProcessId, StopSignal, clock, wait};

/// Remembers every process that was seen to belong to the service until it is dead.
#[derive(Debug, Default)]
pub(super) struct Family {
    known: RefCell<BTreeSet<ProcessId>>,
    /// One of them ended since the last wait: the next wait returns at once.
    ended: Cell<bool>,
}

impl Family {
    /// All that are alive, `main` and its descendants included.
    pub(super) fn alive(&self, main: Option<&ProcessId>, service: &str) -> Result<Vec<ProcessId>, ControllerError> {
        let look = |e: std::io::Error| failed("list the processes of", service, e);
        let mut known = self.known.borrow_mut();
        known.extend(main.filter(|main| main.is_alive()).cloned());
        let before = known.len();
        known.retain(ProcessId::is_alive);
        self.ended.set(self.ended.get() || known.len() < before);
        let mut found = BTreeSet::new();
        for process in known.iter() {
            // Its identity was checked; a pid that was given away since then shows another start time.
            let tree = tree_of(process.pid).map_err(look)?;
            if tree.first() == Some(process) {
                found.extend(tree);
            }
        }
        found.extend(session_of(&found).map_err(look)?);
        known.extend(found);
        Ok(known.iter().cloned().collect())
    }

    /// Waits for the end of any of them, for `also`, the cancellation, or `until`.
    pub(super) fn wait(
        &self,
        also: &[BorrowedFd<'_>],
        until: Instant,
        cancel: &Cancel,
        service: &str,
    ) -> Result<(), ControllerError> {
        let look = |e: std::io::Error| failed("watch", service, e);
        let mut pidfds = Vec::new();
        for process in self.known.borrow().iter() {
            match Pidfd::open(process).map_err(look)? {
                Some(pidfd) => pidfds.push(pidfd),
                None => self.ended.set(true),
            }
        }
        // An end between the caller's look and this wait would have no event any more.
        if self.ended.take() {
            return Ok(());
        }
        let mut fds: Vec<BorrowedFd<'_>> = pidfds.iter().map(AsFd::as_fd).collect();
        fds.push(cancel.as_fd());
        fds.extend_from_slice(also);
        wait::readable(&fds, until).map(|_ready| ()).map_err(look)
    }
}

/// The other members of a session whose leader is one of us. One with another leader, or with a dead one, may have
/// strangers in it: the shell that started us, the daemons that one boot script left.
fn session_of(family: &BTreeSet<ProcessId>) -> std::io::Result<BTreeSet<ProcessId>> {
    let mut found = BTreeSet::new();
    if family.is_empty() {
        return Ok(found);
    }
    let boot_id = clock::boot_id()?;
    let mut stats = Vec::new();
    for process in procfs::process::all_processes().map_err(std::io::Error::other)? {
        if let Ok(stat) = process.and_then(|process| process.stat()) {
            stats.push(stat);
        }
    }
    let pids: BTreeSet<i32> = family.iter().map(|process| process.pid).collect();
    let sessions: BTreeSet<i32> = stats.iter().filter(|s| pids.contains(&s.pid)).map(|s| s.session).collect();
    let sessions: BTreeSet<i32> = sessions.into_iter().filter(|session| pids.contains(session)).collect();
    for stat in stats.iter().filter(|stat| sessions.contains(&stat.session) && !matches!(stat.state, 'Z' | 'X')) {
        found.insert(ProcessId { pid: stat.pid, start_ticks: stat.starttime, boot_id: boot_id.clone() });
    }
    Ok(found)
}

/// Sends a signal to one process. One that is gone is no error.
pub(super) fn send(process: &ProcessId, signal: StopSignal, service: &str) -> Result<(), ControllerError> {
    let sent = Pidfd::open(process).and_then(|pidfd| pidfd.map_or(Ok(false), |pidfd| pidfd.signal(signal)));
    sent.map(|_alive| ()).map_err(|e| super::io_failed("signal", service, &e))
}
