//! What every operation begins with: its locks, and the end of whatever was interrupted before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{During, OperationError};
use super::resume::replay_entry;
use super::staging;
use crate::controller::ServiceController;
use crate::failure::FailureKind;
use crate::journal::Journal;
use crate::lock::{Holder, LockKey, OperationLock, Wait};
use crate::quiesce::{Context, ResumeMode, Return, is_left_stopped};

/// The canonical identities of a service and of databases.
pub(super) fn lock_keys(
    service: Option<&dyn ServiceController>,
    databases: &[PathBuf],
) -> Result<Vec<LockKey>, OperationError> {
    let mut keys = match service {
        Some(service) => service.lock_keys().during(format!("look at {}", service.label()))?,
        None => Vec::new(),
    };
    for database in databases {
        keys.push(LockKey::database(database).during(format!("lock {}", database.display()))?);
    }
    Ok(keys)
}

/// Takes the locks, and brings an interrupted earlier operation on any of them to its end.
pub(super) fn begin(
    context: &Context,
    operation: &str,
    target: &str,
    keys: &[LockKey],
    wait: Wait,
) -> Result<OperationLock, OperationError> {
    let what = || format!("{operation} {target}");
    let holder = Holder::own(operation, target).map_err(|e| refused(&what(), e.to_string(), FailureKind::Failed))?;
    let lock = OperationLock::acquire(&context.dirs.lock, &context.locks, keys, &holder, wait, &context.cancel)
        .during(what())?;
    recover(context, &lock, &what())?;
    Ok(lock)
}

fn recover(context: &Context, lock: &OperationLock, what: &str) -> Result<(), OperationError> {
    let journal = Journal::at(context.dirs.journal());
    journal.sweep();
    let mut entries = journal.entries().during(what)?;
    staging::last(&mut entries);
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // It may name this very service: going on could stop what that entry would have to start.
            Err(error) => return Err(error).during(what),
        };
        let ours: Vec<&LockKey> = lock.keys().collect();
        if is_left_stopped(&entry) || !entry.entry().lock_keys.iter().any(|key| ours.contains(&key)) {
            continue;
        }
        // What it locked beside our own: free, since its owner is dead, or in use by somebody who must not be disturbed.
        let others: Vec<LockKey> = entry.entry().lock_keys.iter().filter(|key| !ours.contains(key)).cloned().collect();
        let holder = Holder::own("resume", what).map_err(|e| refused(what, e.to_string(), FailureKind::Failed))?;
        let _beside =
            OperationLock::acquire(&context.dirs.lock, &context.locks, &others, &holder, Wait::No, &context.cancel)
                .during(what)?;
        let returned = replay_entry(entry, ResumeMode::Now)?;
        if let Some((service, _)) = returned.services.iter().find(|(_, r)| *r == Return::AfterItsStop) {
            return Err(refused(
                what,
                format!("{service} still runs a stop that was given up earlier; it is started when that has ended"),
                FailureKind::StopTimedOut,
            ));
        }
    }
    Ok(())
}

pub(super) fn refused(what: &str, reason: impl Into<String>, kind: FailureKind) -> OperationError {
    OperationError::Refused { what: what.to_owned(), reason: reason.into(), kind, hint: None }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// At most so many notes of a manifest are told at once.
const NOTES_TOLD_MAX: usize = 50;

/// Tells what a manifest notes and nobody has told yet: what was left out of the backup, or changed while it was read.
pub(super) fn tell(notices: &mut Vec<String>, notes: &[String]) {
    let new: Vec<&String> = notes.iter().filter(|note| !notices.contains(note)).collect();
    notices.extend(new.iter().take(NOTES_TOLD_MAX).map(|note| (*note).clone()));
    if new.len() > NOTES_TOLD_MAX {
        notices.push(format!("and {} more: the backup's manifest has them as notes", new.len() - NOTES_TOLD_MAX));
    }
}

/// An absolute path without symbolic links where the file exists; else the real directory and the name.
pub(super) fn real_path(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| {
        let parent = crate::world::disk::parent_of(path);
        let parent = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        path.file_name().map_or_else(|| path.to_owned(), |name| parent.join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told_once_and_in_bounds() {
        let mut notices = vec!["shop: a note".to_owned()];
        let mut notes: Vec<String> = (0..NOTES_TOLD_MAX).map(|n| n.to_string()).collect();
        notes.push("shop: a note".to_owned());
        tell(&mut notices, &notes);
        assert_eq!(notices.len(), 1 + NOTES_TOLD_MAX);
        notes.push("one more".to_owned());
        let mut notices = Vec::new();
        tell(&mut notices, &notes);
        assert_eq!(notices.len(), NOTES_TOLD_MAX + 1);
        assert!(notices[NOTES_TOLD_MAX].contains("and 2 more"), "{notices:?}");
    }
}
