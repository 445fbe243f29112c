//! What is asked of a snapshot, and what comes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SqliteError;
use super::header::JournalMode;
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, FileId};

/// What is to be copied.
#[derive(Clone, Copy)]
pub struct SnapshotRequest<'a> {
    /// The databases of one set: all are copied as of one instant.
    pub databases: &'a [PathBuf],
    /// A directory of our own that receives the copies.
    pub into: &'a Path,
    /// How long writers may be kept waiting, in all.
    pub fence_hold_max: Duration,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Hears of the progress.
    pub observer: &'a dyn Observer,
}

/// The copy of one database: complete in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The database that was copied, as it was named.
    pub source: PathBuf,
    /// The copy.
    pub file: PathBuf,
    /// The length of the copy, in bytes.
    pub bytes: u64,
    /// The kind of its journal; the copy keeps it.
    pub journal_mode: JournalMode,
    /// How long writers of this database were kept from writing; zero where they never were.
    pub stall: Duration,
}

/// The databases in the order in which they are locked, each with its place in the request.
pub(super) fn in_order(databases: &[PathBuf]) -> Result<Vec<(usize, &Path)>, SqliteError> {
    let mut sorted = Vec::new();
    for (index, path) in databases.iter().enumerate() {
        let real = match std::fs::canonicalize(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(super::header::missing(path)?);
            }
            other => other.at("look up", path)?,
        };
        // Two names of one file (hard links) have the same one.
        let file = FileId::of(&real)?;
        if let Some((_, _, _, first)) = sorted.iter().find(|(_, other, _, _)| *other == file) {
            return Err(SqliteError::Twice { first: PathBuf::from(first), second: path.clone() });
        }
        sorted.push((real, file, index, path.as_path()));
    }
    sorted.sort();
    Ok(sorted.into_iter().map(|(_, _, index, path)| (index, path)).collect())
}

/// The name of the copy of database number `index`. Not the source's name: two may have the same one.
pub(super) fn copy_path(into: &Path, index: usize) -> PathBuf {
    into.join(format!("database-{index}.sqlite"))
}
