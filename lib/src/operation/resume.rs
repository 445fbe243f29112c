//! Resume: what an interrupted operation left stopped, held or half replaced comes to its end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::common::refused;
use super::error::{During, OperationError};
use super::request::{ResumeReport, Resumed};
use super::staging;
use crate::database::sqlite::replace;
use crate::failure::{Failure, FailureKind};
use crate::journal::{Journal, JournalError, OpenEntry};
use crate::lock::{Holder, LockError, OperationLock, Wait};
use crate::quiesce::{
    self, Context, GuardWake, ResumeMode, Return, guard_wait, is_left_stopped, parse_owner, replay, wait_for_removal,
};
use crate::world::raw_path::RawPath;

/// What became of one entry.
pub(super) struct Replayed {
    pub(super) services: Vec<(String, Return)>,
    pub(super) replaced: Vec<RawPath>,
}

/// How long the guard waits for the locks of its entry: a dead owner's are free at once, unless a new operation took
/// them, and that one replays the entry itself.
const GUARD_LOCK_WAIT_MAX: Duration = Duration::from_secs(3600);
/// The guard's pause after a first attempt that failed: a bus that is restarted is there again.
const GUARD_PAUSE_MIN: Duration = Duration::from_secs(2);
/// Its longest pause; each is twice the one before.
const GUARD_PAUSE_MAX: Duration = Duration::from_secs(60);
/// It goes on trying for so long: a bus that is down, a full disk, a manager that reloads do not last longer.
const GUARD_PERSISTS_MAX: Duration = Duration::from_secs(3600);

/// Replays every entry of the journal whose locks are free. Idempotent; what another operation holds is left alone.
///
/// # Errors
/// The first service that is not back; the others are tried all the same.
pub fn resume(context: &Context, at_boot: bool) -> Result<ResumeReport, OperationError> {
    let mode = if at_boot { ResumeMode::Boot } else { ResumeMode::Now };
    let journal = Journal::at(context.dirs.journal());
    let mut report = ResumeReport { services: Vec::new(), replaced: Vec::new(), left: Vec::new() };
    let mut failed = None;
    let mut unreadable = None;
    journal.sweep();
    let mut entries = journal.entries().during("read the journal")?;
    staging::last(&mut entries);
    for entry in entries {
        let entry = match entry {
            Ok(entry) if is_left_stopped(&entry) => continue,
            Ok(entry) => entry,
            Err(error) => {
                report.left.push(error.to_string());
                unreadable = unreadable.or(Some(error));
                continue;
            }
        };
        let (path, services) = (entry.path().to_owned(), entry.entry().clone());
        match lock_and_replay(context, entry, Wait::No, mode) {
            Ok(replayed) => add(&mut report, replayed),
            Err(error) if error.kind() == FailureKind::LockHeld => report.left.push(error.to_string()),
            Err(error) => {
                // A manager that comes up after us, an engine of containers: the guard goes on trying.
                if at_boot && let Err(reason) = quiesce::leave_to_guard(context, &services, &path) {
                    tracing::warn!(%reason, entry = %path.display(), "no guard goes on with it");
                }
                failed = failed.or(Some(error));
            }
        }
    }
    match (failed, unreadable) {
        (Some(failed), _) => Err(failed),
        (None, Some(error)) => Err(error).during("read the journal"),
        (None, None) => Ok(report),
    }
}

/// The guard's whole life: it waits until the owner is dead or has given up, then replays the owner's entry; where that
/// fails, again and again for an hour, since nobody else is there to do it. `waiting` is called once the wait can't
/// miss the owner's end any more.
///
/// # Errors
/// When the arguments are malformed, or the service is not back after all.
pub fn guard(
    context: &Context,
    owner: &str,
    entry: &Path,
    waiting: impl FnOnce(),
) -> Result<ResumeReport, OperationError> {
    let what = format!("guard {}", entry.display());
    let owner = parse_owner(owner).ok_or_else(|| refused(&what, "the owner is malformed", FailureKind::Usage))?;
    let nothing = ResumeReport { services: Vec::new(), replaced: Vec::new(), left: Vec::new() };
    let unwatched = |e: std::io::Error| refused(&what, e.to_string(), FailureKind::Failed);
    if guard_wait(&owner, entry, waiting).map_err(unwatched)? == GuardWake::NothingLeft {
        return Ok(nothing);
    }
    let began = Instant::now();
    let mut pause = GUARD_PAUSE_MIN;
    loop {
        match take_over(context, entry, &what) {
            Ok(report) => return Ok(report),
            Err(error) if began.elapsed() > GUARD_PERSISTS_MAX => return Err(error),
            Err(error) => tracing::warn!(%error, again_in_s = pause.as_secs(), "the service is not back yet"),
        }
        // Until then somebody else may have brought it back.
        if wait_for_removal(entry, Instant::now() + pause).map_err(unwatched)? {
            return Ok(nothing);
        }
        pause = (pause * 2).min(GUARD_PAUSE_MAX);
    }
}

fn take_over(context: &Context, entry: &Path, what: &str) -> Result<ResumeReport, OperationError> {
    let mut report = ResumeReport { services: Vec::new(), replaced: Vec::new(), left: Vec::new() };
    let journal = Journal::at(crate::world::disk::parent_of(entry));
    let find = || -> Result<Option<OpenEntry>, OperationError> {
        let entries = journal.entries().during(what)?;
        Ok(entries.into_iter().filter_map(Result::ok).find(|open| open.path() == entry))
    };
    let Some(open) = find()? else { return Ok(report) };
    let lock = lock_entry(context, &open, Wait::AtMost(GUARD_LOCK_WAIT_MAX))?;
    // Read again under the lock: whoever had it may have replayed the entry.
    if let Some(open) = find()?
        && !is_left_stopped(&open)
    {
        add(&mut report, replay_entry(open, ResumeMode::Guard)?);
        clear_staging(&journal, &lock).during(what)?;
    }
    Ok(report)
}

/// What a dead restore announced under the locks that are held.
fn clear_staging(journal: &Journal, lock: &OperationLock) -> Result<(), JournalError> {
    let is_ours = |entry: &OpenEntry| entry.entry().lock_keys.iter().all(|key| lock.keys().any(|held| held == key));
    let entries = journal.entries()?.into_iter().filter_map(Result::ok);
    entries.filter(|entry| staging::is_staging(entry) && is_ours(entry)).try_for_each(staging::clear)
}

fn lock_and_replay(
    context: &Context,
    entry: OpenEntry,
    wait: Wait,
    mode: ResumeMode,
) -> Result<Replayed, OperationError> {
    let _lock = lock_entry(context, &entry, wait)?;
    replay_entry(entry, mode)
}

fn lock_entry(context: &Context, entry: &OpenEntry, wait: Wait) -> Result<OperationLock, OperationError> {
    let what = format!("resume {}", entry.path().display());
    let holder = Holder::own("resume", &entry.entry().operation)
        .map_err(|e| refused(&what, e.to_string(), FailureKind::Failed))?;
    let locked: Result<_, LockError> = OperationLock::acquire(
        &context.dirs.lock,
        &context.locks,
        &entry.entry().lock_keys,
        &holder,
        wait,
        &context.cancel,
    );
    locked.during(what)
}

/// Databases first, while nothing can start the service; then the services. The caller holds the entry's locks.
pub(super) fn replay_entry(mut entry: OpenEntry, mode: ResumeMode) -> Result<Replayed, OperationError> {
    let mut replaced = Vec::new();
    if staging::is_staging(&entry) {
        staging::clear(entry).during("clear the staging of a restore")?;
        return Ok(Replayed { services: Vec::new(), replaced });
    }
    for replacement in entry.entry().replacements.clone() {
        let what = format!("finish the replacement of {}", replacement.target.0.display());
        replace::roll_forward(&replacement).during(what)?;
        replaced.push(replacement.target);
    }
    if !replaced.is_empty() {
        entry.update(|entry| entry.replacements.clear()).during("write the journal")?;
    }
    let services = replay(entry, mode).during("bring the service back")?;
    Ok(Replayed { services, replaced })
}

fn add(report: &mut ResumeReport, replayed: Replayed) {
    report.services.extend(replayed.services.into_iter().map(|(service, r)| (service, resumed(r))));
    report.replaced.extend(replayed.replaced);
}

pub(super) fn resumed(returned: Return) -> Resumed {
    match returned {
        Return::Started => Resumed::Started,
        Return::WasNotRunning => Resumed::WasNotRunning,
        Return::StillUp => Resumed::StillUp,
        Return::AfterItsStop | Return::Queued => Resumed::AfterItsStop,
        Return::LeftToItsOwner => Resumed::LeftToItsOwner,
    }
}
