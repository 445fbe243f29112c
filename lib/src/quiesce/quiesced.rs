//! The token of a stopped and held service.

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::member::Member;
use super::start::{Patience, Return, START_WAIT_MAX, bring_back};
use super::{AtRest, Context, NotBack, StopOutcome};
use crate::controller::ServiceState;
use crate::journal::{Entry, JournalError, OpenEntry, Replacement, ServiceStage};
use crate::lock::OperationLock;

/// A service that is stopped and held, with the services that need it. It ends by [`Self::resume`] or
/// [`Self::leave_stopped`].
///
/// Its `Drop` brings the service back as well as it can, for a panic; the promise rests on the journal and the
/// guard, which also survive a SIGKILL.
#[must_use = "a service is stopped: resume it or leave it stopped on purpose"]
pub struct Quiesced<'a> {
    /// Borrowed for as long as the service is stopped: the lock can't be released before.
    _lock: &'a OperationLock,
    context: Context,
    pub(super) members: Vec<Member<'a>>,
    pub(super) entry: Option<OpenEntry>,
    guard: Option<Guard>,
    pub(super) databases: Vec<PathBuf>,
    pub(super) outcome: StopOutcome,
    pub(super) since: Instant,
    pub(super) stopped_after: Option<Duration>,
}

impl std::fmt::Debug for Quiesced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quiesced")
            .field("databases", &self.databases)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl<'a> Quiesced<'a> {
    pub(super) fn new(
        lock: &'a OperationLock,
        context: &Context,
        members: Vec<Member<'a>>,
        entry: OpenEntry,
        guard: Guard,
        databases: Vec<PathBuf>,
        since: Instant,
    ) -> Self {
        Self {
            _lock: lock,
            context: context.clone(),
            members,
            entry: Some(entry),
            guard: Some(guard),
            databases,
            outcome: StopOutcome::Clean,
            since,
            stopped_after: None,
        }
    }

    /// The proof that its databases are at rest, for as long as it is borrowed.
    #[must_use]
    pub fn at_rest(&self) -> AtRest<'_> {
        AtRest { databases: &self.databases }
    }

    /// How the stop ended, the worst of all members.
    #[must_use]
    pub fn outcome(&self) -> StopOutcome {
        self.outcome
    }

    /// What the service's manager said of it when the stop was proved; none of a service that did not run.
    #[must_use]
    pub fn stopped_as(&self) -> Option<&ServiceState> {
        self.members.last().and_then(|member| member.after.as_ref())
    }

    /// From the request to the proof.
    #[must_use]
    pub fn stopped_after(&self) -> Option<Duration> {
        self.stopped_after
    }

    /// When the stop was requested.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether the service itself was running before.
    #[must_use]
    pub fn was_up(&self) -> bool {
        self.members.last().is_some_and(|member| member.before.activity.is_up())
    }

    /// Records replacements of databases before they begin; an empty list records that they are done.
    ///
    /// # Errors
    /// When the journal can't be written: then nothing may be replaced.
    pub fn record_replacements(&mut self, replacements: Vec<Replacement>) -> Result<(), JournalError> {
        self.entry_mut(|entry| entry.replacements = replacements)
    }

    /// Brings everything back, the service first and its dependants after it, waits for readiness, and removes what
    /// we put on it. A service that had not been running is not started.
    ///
    /// # Errors
    /// [`NotBack`]: the entry stays in the journal where a later `resume` can help.
    pub fn resume(mut self) -> Result<Return, NotBack> {
        self.bring_all_back()
    }

    fn bring_all_back(&mut self) -> Result<Return, NotBack> {
        let Some(mut entry) = self.entry.take() else { return Ok(Return::WasNotRunning) };
        let patience = Patience { stop: START_WAIT_MAX, start: START_WAIT_MAX, queue_only: false };
        let mut failed = None;
        let mut result = Return::WasNotRunning;
        for index in (0..self.members.len()).rev() {
            let member = &self.members[index];
            self.context.observer.step(&format!("bringing {} back", member.handle.label()));
            // Recorded for people who look at the journal; a journal that can't be written must not keep a service down.
            if let Err(error) = entry.update(|e| e.services[index].stage = ServiceStage::Starting) {
                tracing::warn!(%error, "the journal could not be written");
            }
            match bring_back(&*member.handle, &entry.entry().services[index], patience) {
                Ok(returned) if index + 1 == self.members.len() => result = returned,
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(failed) = failed {
            let up = |member: &Member<'_>| member.handle.state().is_ok_and(|state| state.activity.is_up());
            let free = |member: &Member<'_>| member.handle.release().and_then(|()| member.handle.unshield()).is_ok();
            // All run, if not ready, and nothing of ours is on them: resume could do no more for them.
            if self.members.iter().all(|member| (!member.before.activity.is_up() || up(member)) && free(member)) {
                forget(entry);
                self.end_guard();
            }
            return Err(failed);
        }
        forget(entry);
        self.end_guard();
        Ok(result)
    }

    /// Leaves the service stopped because a person asked for that: hold and shield come off, and the journal keeps
    /// what a later start must bring back beside it.
    ///
    /// # Errors
    /// When the hold or the journal can't be changed; the service is stopped all the same.
    pub fn leave_stopped(mut self) -> Result<(), NotBack> {
        let Some(mut entry) = self.entry.take() else { return Ok(()) };
        let label = self.members.last().map(|member| member.handle.label()).unwrap_or_default();
        let failed = |reason: String| NotBack { service: label.clone(), reason };
        let worth_keeping =
            self.members.iter().any(|m| m.before.activity.is_up() || m.triggers.iter().any(|t| t.was_active));
        for member in &self.members {
            member.handle.leave_stopped().map_err(|e| failed(e.to_string()))?;
        }
        let kept = if worth_keeping {
            entry.update(|entry| entry.services.iter_mut().for_each(|s| s.stage = ServiceStage::LeftStopped))
        } else {
            entry.remove()
        };
        kept.map_err(|e| failed(e.to_string()))?;
        self.end_guard();
        Ok(())
    }

    /// Whether the journal names a replacement that has not come to its end.
    #[must_use]
    pub fn has_replacements(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| !entry.entry().replacements.is_empty())
    }

    /// Leaves everything as it is: entry, hold and guard stay, and do the rest when we are gone. For a stop that was
    /// given up and a replacement that can't go on.
    pub fn leave_to_guard(mut self) {
        drop(self.entry.take());
        drop(self.guard.take());
    }

    pub(super) fn entry_mut(&mut self, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        match &mut self.entry {
            Some(entry) => entry.update(change),
            None => Ok(()),
        }
    }

    pub(super) fn set_stages(&mut self, which: Range<usize>, stage: ServiceStage) -> Result<(), JournalError> {
        self.entry_mut(|entry| entry.services[which].iter_mut().for_each(|record| record.stage = stage))
    }

    fn end_guard(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

fn forget(entry: OpenEntry) {
    // An entry that stays makes a later resume look once more, and find the service up.
    if let Err(error) = entry.remove() {
        tracing::warn!(%error, "the journal entry could not be removed");
    }
}

impl Drop for Quiesced<'_> {
    fn drop(&mut self) {
        if self.entry.is_some()
            && let Err(error) = self.bring_all_back()
        {
            tracing::error!(%error, "a service that was stopped is not back");
        }
    }
}
