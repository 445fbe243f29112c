//! Whether the journal of a transaction over several databases is to be rolled back (lockingv3.html, 5 and 6; atomiccommit.html,
//! 5): it names a super-journal, and it counts for as long as that is there. Who commits, or rolls back the last of them,
//! deletes it: so it is looked for at the instant of a copy, and the copy of the journal does not name it any more.

use std::path::{Path, PathBuf};

use super::error::SqliteError;
use super::pages::super_journal_of;
use crate::sqlite_locks::LockFile;
use crate::world::disk::{AtPath, parent_of};

/// What a journal is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Worth {
    /// It undoes a transaction; so many bytes of it are a journal of this database alone.
    Undoes(u64),
    /// The transaction was committed, in all databases at once.
    Committed,
    /// The service has its files under other names, and what this one means to it can't be told.
    Unknown(PathBuf),
}

/// `databases`: the others that may be of the same transaction, by their paths here. A super-journal lies beside one of
/// them, also where the service sees that directory elsewhere.
///
/// # Errors
/// When the journal can't be read.
pub(super) fn worth(journal: &LockFile, databases: &[&Path]) -> Result<Worth, SqliteError> {
    let len = journal.file().metadata().at("look at", journal.path())?.len();
    let Some((name, without)) = super_journal_of(journal.file(), len).at("read", journal.path())? else {
        return Ok(Worth::Undoes(len));
    };
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let beside = |database: &&Path| name.file_name().is_some_and(|file| is_there(&parent_of(database).join(file)));
    Ok(match () {
        () if is_there(&name) || databases.iter().any(beside) => Worth::Undoes(without),
        () if parent_of(&name).is_dir() => Worth::Committed,
        () => Worth::Unknown(name),
    })
}

/// How much of the journal belongs beside a copy of `database`; `None` for nothing.
///
/// # Errors
/// [`SqliteError::InFlight`] where that can't be told; when the journal can't be read.
pub(super) fn part_for_a_copy(
    database: &Path,
    journal: &LockFile,
    databases: &[&Path],
) -> Result<Option<u64>, SqliteError> {
    match worth(journal, databases)? {
        Worth::Undoes(len) => Ok(Some(len)),
        Worth::Committed => Ok(None),
        Worth::Unknown(name) => Err(SqliteError::InFlight {
            path: database.to_owned(),
            reason: format!(
                "its journal is of a transaction over several databases, and {} can't be looked for from here; its service \
                 settles that when it opens them",
                name.display()
            ),
        }),
    }
}
