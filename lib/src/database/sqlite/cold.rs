//! Cold: the databases are at rest, with their side files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::copy::{Progress, copy_bytes, create};
use super::error::SqliteError;
use super::header::{JournalMode, identify};
use super::live::open_if_there;
use super::own::{beside, recover};
use super::snapshot::{Snapshot, SnapshotRequest, copy_path, in_order};
use super::together::part_for_a_copy;
use crate::quiesce::AtRest;
use crate::sqlite_locks::{Access, LockFile, side_file};
use crate::world::disk::AtPath;

/// Copies of databases and of their side files, as they lay; [`finish_cold`] makes snapshots of them.
#[derive(Debug)]
#[must_use = "what the side files hold is not in the copies yet"]
pub struct RawSet {
    members: Vec<RawCopy>,
}

#[derive(Debug)]
struct RawCopy {
    source: PathBuf,
    file: PathBuf,
    journal_mode: JournalMode,
}

/// Copies what is at rest: all that the service has to stay stopped for.
///
/// # Errors
/// When one of the databases is not at rest or can't be copied.
pub fn take_cold(request: &SnapshotRequest<'_>, at_rest: &AtRest<'_>) -> Result<RawSet, SqliteError> {
    match request.databases.iter().find(|path| at_rest.path(path).is_none()) {
        Some(path) => Err(SqliteError::NotAtRest { path: path.clone() }),
        None => take_raw(request),
    }
}

pub(super) fn take_raw(request: &SnapshotRequest<'_>) -> Result<RawSet, SqliteError> {
    let mut total = 0;
    let mut work = Vec::new();
    let all: Vec<&Path> = request.databases.iter().map(PathBuf::as_path).collect();
    for (index, path) in in_order(request.databases)? {
        let identity = identify(path)?;
        let copy = copy_path(request.into, index);
        work.push((LockFile::open(path, Access::Read)?, copy.clone(), identity.bytes));
        if let Some(log) = open_if_there(&side_file(path, "-wal"), Access::Read)? {
            let len = log.file().metadata().at("look at", log.path())?.len();
            work.push((log, beside(&copy, "-wal"), len));
        }
        // Now: when the service runs again, it settles what the journal is worth.
        if let Some(journal) = open_if_there(&side_file(path, "-journal"), Access::Read)?
            && let Some(len) = part_for_a_copy(path, &journal, &all)?
        {
            work.push((journal, beside(&copy, "-journal"), len));
        }
        total += identity.bytes;
    }
    let mut done_before = 0;
    for (from, target, len) in work {
        let progress =
            Progress { observer: request.observer, cancel: request.cancel, done_before, total, deadline: None };
        request.observer.step(&format!("copying {}", from.path().display()));
        copy_bytes(from.file(), from.path(), &create(&target)?, &target, len, progress)?;
        done_before += len;
    }
    let members = request.databases.iter().enumerate().map(|(index, source)| {
        let journal_mode = identify(source)?.journal_mode;
        Ok(RawCopy { source: source.clone(), file: copy_path(request.into, index), journal_mode })
    });
    Ok(RawSet { members: members.collect::<Result<_, SqliteError>>()? })
}

/// Brings what the side files hold into the copies. The service may run again meanwhile.
///
/// # Errors
/// When SQLite can't recover a copy.
pub fn finish_cold(raw: RawSet) -> Result<Vec<Snapshot>, SqliteError> {
    let snapshots = raw.members.into_iter().map(|RawCopy { source, file, journal_mode }| {
        recover(&file)?;
        let bytes = std::fs::metadata(&file).at("look at", &file)?.len();
        Ok(Snapshot { source, file, bytes, journal_mode, stall: Duration::ZERO })
    });
    snapshots.collect()
}

/// [`take_cold`] and [`finish_cold`] in one.
///
/// # Errors
/// Those of both.
pub fn snapshot_cold(request: &SnapshotRequest<'_>, at_rest: &AtRest<'_>) -> Result<Vec<Snapshot>, SqliteError> {
    finish_cold(take_cold(request, at_rest)?)
}
