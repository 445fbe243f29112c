//! The staging of a restore: a copy of each database in a directory beside its target.
//!
//! It is announced in the journal by an entry of its own before it is made, so that a copy which a dead restore left is
//! found by `resume`, and by the next operation on that service or database, wherever it lies. The entry's locks say
//! whether the restore still runs.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::common::refused;
use super::error::{During, OperationError};
use crate::failure::FailureKind;
use crate::journal::{Entry, JOURNAL_VERSION, Journal, JournalError, OpenEntry};
use crate::lock::OperationLock;
use crate::name::BackupId;
use crate::quiesce::Context;
use crate::world::disk::parent_of;
use crate::world::raw_path::RawPath;
use crate::world::{ProcessId, clock};

const SUFFIX: &[u8] = b".svckit-restore";

/// On the file system of the target, so that a rename can put the database in place.
pub(super) fn directory_for(target: &Path, id: &BackupId) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{id}"));
    name.push(std::ffi::OsStr::from_bytes(SUFFIX));
    parent_of(target).join(name)
}

/// What is announced, and not made yet.
pub(super) fn announce(
    context: &Context,
    lock: &OperationLock,
    directories: &[PathBuf],
    what: &str,
) -> Result<OpenEntry, OperationError> {
    announce_for("restore", context, lock, directories, what)
}

/// As [`announce`], for another operation.
pub(super) fn announce_for(
    operation: &str,
    context: &Context,
    lock: &OperationLock,
    directories: &[PathBuf],
    what: &str,
) -> Result<OpenEntry, OperationError> {
    let owner = ProcessId::own().map_err(|e| refused(what, e.to_string(), FailureKind::Failed))?;
    let entry = Entry {
        version: JOURNAL_VERSION,
        id: BackupId::fresh(),
        operation: operation.to_owned(),
        owner,
        created: clock::now_rfc3339(),
        lock_keys: lock.keys().cloned().collect(),
        services: Vec::new(),
        replacements: Vec::new(),
        staging: directories.iter().cloned().map(RawPath).collect(),
    };
    Journal::at(context.dirs.journal()).create(entry).during(what)
}

pub(super) fn is_staging(entry: &OpenEntry) -> bool {
    !entry.entry().staging.is_empty()
}

/// The others first: an interrupted replacement still needs its staged file.
pub(super) fn last<T>(entries: &mut [Result<OpenEntry, T>]) {
    entries.sort_by_key(|entry| entry.as_ref().is_ok_and(is_staging));
}

/// Removes the directories, and the entry after them. Where another entry still needs a staged file, both stay.
///
/// # Errors
/// When the journal can't be read or written. A directory that can't be removed is told, and its entry stays.
pub(super) fn clear(entry: OpenEntry) -> Result<(), JournalError> {
    let mut is_clear = true;
    let journal = Journal::at(parent_of(entry.path()));
    for directory in entry.entry().staging.iter().map(|directory| &directory.0) {
        // Whatever the entry says: nothing else is ever removed.
        let is_ours = directory.file_name().is_some_and(|name| name.as_bytes().ends_with(SUFFIX));
        if !is_ours || is_needed(&journal, &entry, directory)? {
            is_clear = false;
        } else if let Err(error) = std::fs::remove_dir_all(directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %directory.display(), "a staging directory could not be removed");
            is_clear = false;
        }
    }
    if is_clear { entry.remove() } else { Ok(()) }
}

/// An entry that can't be read may be the one that needs it.
fn is_needed(journal: &Journal, own: &OpenEntry, directory: &Path) -> Result<bool, JournalError> {
    let needs = |other: &OpenEntry| other.entry().replacements.iter().any(|r| r.staged.0.starts_with(directory));
    let entries = journal.entries()?;
    Ok(entries.iter().any(|other| other.as_ref().map_or(true, |other| other.path() != own.path() && needs(other))))
}

/// Removes what restores left that announced nothing. The lock of the database is held: none is in use.
pub(super) fn sweep(target: &Path) {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".");
    let Ok(listing) = std::fs::read_dir(parent_of(target)) else { return };
    for path in listing.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let ours = name.starts_with(prefix.as_bytes()) && name.ends_with(SUFFIX);
        if ours && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "a staging directory could not be removed");
        }
    }
}
