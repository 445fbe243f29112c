//! The processes of a service: tree, memory and session, each held by a pidfd from the moment it was first seen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::failed;
use crate::controller::ControllerError;
use crate::progress::Cancel;
use crate::world::process::all_alive;
use crate::world::{Pidfd, ProcessId, StopSignal, clock, wait};

/// Remembers every process that was seen to belong to the service until it is dead.
#[derive(Debug, Default)]
pub(super) struct Family {
    known: RefCell<BTreeMap<ProcessId, Pidfd>>,
    /// Sessions that are the service's own, by number. While one has members the kernel gives its number to no new
    /// process; an empty one is forgotten at the next look.
    sessions: RefCell<BTreeSet<i32>>,
}

/// One living process, as one look at /proc shows it.
struct Seen {
    id: ProcessId,
    parent: i32,
    session: i32,
}

impl Family {
    /// Takes over what another program saw.
    pub(super) fn remember(&self, seen: &[ProcessId], service: &str) -> Result<(), ControllerError> {
        for process in seen {
            if let Some(pidfd) = Pidfd::open(process).map_err(|e| failed("watch", service, e))? {
                self.known.borrow_mut().insert(process.clone(), pidfd);
            }
        }
        Ok(())
    }

    /// What the last look saw.
    pub(super) fn seen(&self) -> Vec<ProcessId> {
        self.known.borrow().keys().cloned().collect()
    }

    /// All that are alive: `main`, its descendants, what was seen to descend from it earlier, and the members of
    /// sessions that are the family's own.
    pub(super) fn alive(&self, main: Option<&ProcessId>, service: &str) -> Result<Vec<ProcessId>, ControllerError> {
        let look = |e: std::io::Error| failed("list the processes of", service, e);
        let mut known = self.known.borrow_mut();
        for (process, pidfd) in std::mem::take(&mut *known) {
            if !pidfd.has_ended().map_err(look)? {
                known.insert(process, pidfd);
            }
        }
        let mut found: BTreeSet<ProcessId> = known.keys().chain(main).cloned().collect();
        if found.is_empty() && self.sessions.borrow().is_empty() {
            return Ok(Vec::new());
        }
        close_over(&everything().map_err(look)?, &mut found, &mut self.sessions.borrow_mut());
        for process in found {
            if !known.contains_key(&process)
                && let Some(pidfd) = Pidfd::open(&process).map_err(look)?
            {
                known.insert(process, pidfd);
            }
        }
        Ok(known.keys().cloned().collect())
    }

    /// Waits for the end of any process that was alive at the last look, for `also`, the cancellation, or `until`. What
    /// ended since the look ends the wait at once: its pidfd is readable. `true`: it was `also`, and nothing else.
    pub(super) fn wait(
        &self,
        also: BorrowedFd<'_>,
        until: Instant,
        cancel: &Cancel,
        service: &str,
    ) -> Result<bool, ControllerError> {
        let known = self.known.borrow();
        let mut fds = vec![also, cancel.as_fd()];
        fds.extend(known.values().map(AsFd::as_fd));
        let ready = wait::readable(&fds, until).map_err(|e| failed("watch", service, e))?;
        Ok(ready == [0])
    }
}

/// Every process that is alive now.
fn everything() -> std::io::Result<Vec<Seen>> {
    let boot_id = clock::boot_id()?;
    let of = |stat: procfs::process::Stat| Seen {
        id: ProcessId { pid: stat.pid, start_ticks: stat.starttime, boot_id: boot_id.clone() },
        parent: stat.ppid,
        session: stat.session,
    };
    Ok(all_alive()?.into_iter().map(of).collect())
}

/// Adds descendants and own sessions until nothing is left to add.
///
/// A session is entered by fork only. So one whose leader is of the family, or whose members all are, belongs to the
/// family for good, and what is left in it later descends from the family even if nobody saw it fork. The session of
/// a shell or a boot script that started other things too has strangers in it, and is never taken.
fn close_over(all: &[Seen], family: &mut BTreeSet<ProcessId>, sessions: &mut BTreeSet<i32>) {
    let mut children: BTreeMap<i32, Vec<&Seen>> = BTreeMap::new();
    let mut members: BTreeMap<i32, Vec<&Seen>> = BTreeMap::new();
    for seen in all {
        children.entry(seen.parent).or_default().push(seen);
        members.entry(seen.session).or_default().push(seen);
    }
    sessions.retain(|session| {
        let leader = all.iter().find(|seen| seen.id.pid == *session);
        members.contains_key(session) && leader.is_none_or(|leader| family.contains(&leader.id))
    });
    loop {
        let before = (family.len(), sessions.len());
        let mut todo: Vec<&Seen> = all.iter().filter(|seen| family.contains(&seen.id)).collect();
        while let Some(seen) = todo.pop() {
            for child in children.get(&seen.id.pid).into_iter().flatten() {
                if family.insert(child.id.clone()) {
                    todo.push(child);
                }
            }
        }
        for (session, members) in members.iter().filter(|(session, _)| **session > 0) {
            let is_led = members.iter().any(|seen| seen.id.pid == *session && family.contains(&seen.id));
            if is_led || members.iter().all(|seen| family.contains(&seen.id)) {
                sessions.insert(*session);
            }
            if sessions.contains(session) {
                family.extend(members.iter().map(|seen| seen.id.clone()));
            }
        }
        if before == (family.len(), sessions.len()) {
            return;
        }
    }
}

/// Sends a signal to one process. One that is gone is no error.
pub(super) fn send(process: &ProcessId, signal: StopSignal, service: &str) -> Result<(), ControllerError> {
    let sent = Pidfd::open(process).and_then(|pidfd| pidfd.map_or(Ok(false), |pidfd| pidfd.signal(signal)));
    sent.map(|_alive| ()).map_err(|e| super::io_failed("signal", service, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start_ticks: 1, boot_id: "b".to_owned() }
    }

    fn seen(pid: i32, parent: i32, session: i32) -> Seen {
        Seen { id: id(pid), parent, session }
    }

    fn closed(all: &[Seen], root: i32, sessions: &mut BTreeSet<i32>) -> Vec<i32> {
        let mut family = BTreeSet::from([id(root)]);
        close_over(all, &mut family, sessions);
        family.into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn what_a_boot_script_started_beside_the_service_is_not_the_service() {
        // Session 50's leader, the script, is dead; 60 and 70 are two daemons that it left, 61 a child of the first.
        let all = [seen(60, 1, 50), seen(61, 60, 50), seen(70, 1, 50)];
        assert_eq!(closed(&all, 60, &mut BTreeSet::new()), [60, 61]);
    }

    #[test]
    fn what_an_own_session_keeps_after_its_leader_is_the_service() {
        let mut sessions = BTreeSet::new();
        // A daemon after its double fork, alone in the session of its dead first child.
        assert_eq!(closed(&[seen(60, 1, 59)], 60, &mut sessions), [60]);
        // It forked 61 unseen, and died; 61 forked 62.
        let later = [seen(61, 1, 59), seen(62, 61, 59), seen(80, 1, 80)];
        assert_eq!(closed(&later, 60, &mut sessions), [60, 61, 62]);
        // The number went to somebody else's session.
        let reused = [seen(59, 1, 59), seen(81, 59, 59)];
        assert_eq!(closed(&reused, 60, &mut sessions), [60]);
    }

    #[test]
    fn a_leader_owns_what_left_its_tree() {
        let all = [seen(60, 1, 60), seen(65, 1, 60), seen(66, 65, 66)];
        assert_eq!(closed(&all, 60, &mut BTreeSet::new()), [60, 65, 66]);
    }
}
