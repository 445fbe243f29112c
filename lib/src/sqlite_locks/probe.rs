//! Whether somebody writes a database at this moment.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::bytes::{DB_ALL, DB_SHARED, LockRange, SHM_ALL, SHM_WRITE};
use super::descriptor::{Access, Foreign, LockFile, LockMode};
use super::error::LocksError;
use super::filesystem::side_file;
use crate::world::filesystem::locks_are_local;

/// What the locks of a database say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteState {
    /// No write lock is held.
    Idle,
    /// A write transaction, a checkpoint or a recovery runs.
    Writing {
        /// Whose it is, where the kernel says.
        pid: Option<i32>,
        /// Whether readers are kept out too: at the end of a transaction, or always (locking_mode=EXCLUSIVE).
        whole: bool,
    },
    /// It can't be known.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Looks at the locks of a database and of its `-shm`. A point in time; cheap enough to be asked often (some ten
/// microseconds).
///
/// Not promised: a writer without locks (the VFSs unix-none and unix-dotfile) is seen only by its `.lock` file.
///
/// # Errors
/// When the database can't be opened or asked. One that does not exist is idle.
pub fn probe(database: &Path) -> Result<WriteState, LocksError> {
    let file = match LockFile::open(database, Access::Read) {
        Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(WriteState::Idle);
        }
        other => other?,
    };
    if let Err(reason) = locks_are_local(database)? {
        return Ok(WriteState::Unknown { reason });
    }
    let wal = is_wal(&file);
    // A conflict with a read lock is a write lock: those of readers don't matter here.
    if let Some(writer) = file.foreign(LockMode::Read, DB_ALL)? {
        // In WAL mode nobody writes under a lock of the database itself, but locking_mode=EXCLUSIVE keeps one always.
        return Ok(match wal {
            true => WriteState::Unknown { reason: exclusive(writer.pid) },
            false => {
                let whole = file.foreign(LockMode::Read, DB_SHARED)?.is_some();
                WriteState::Writing { pid: writer.pid, whole }
            }
        });
    }
    // The -shm is looked at in any mode: the header may be older than the mode.
    match LockFile::open(&side_file(database, "-shm"), Access::Read) {
        Ok(shm) => {
            let write_ckpt_recover = LockRange { start: SHM_WRITE.start, len: 3 };
            if let Some(writer) = shm.foreign(LockMode::Read, write_ckpt_recover)? {
                return Ok(WriteState::Writing { pid: writer.pid, whole: false });
            }
        }
        Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if side_file(database, ".lock").symlink_metadata().is_ok() {
        return Ok(WriteState::Unknown { reason: "a .lock beside it says that dot-file locks are in use".to_owned() });
    }
    Ok(WriteState::Idle)
}

/// A lock of anybody else on a database or its `-shm`, for reading or writing: whoever has a connection in WAL mode has
/// one, also while it is idle. The kernel tells of locks also where it does not let us look into the process.
///
/// # Errors
/// When the files can't be opened or asked. What does not exist is not locked.
pub fn locked_by(database: &Path) -> Result<Option<Foreign>, LocksError> {
    for (path, range) in [(database.to_owned(), DB_ALL), (side_file(database, "-shm"), SHM_ALL)] {
        match LockFile::open(&path, Access::Read) {
            Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(file) => match file.foreign(LockMode::Write, range)? {
                None => {}
                found => return Ok(found),
            },
        }
    }
    Ok(None)
}

pub(super) fn exclusive(pid: Option<i32>) -> String {
    let who = pid.map_or_else(|| "somebody".to_owned(), |pid| format!("process {pid}"));
    format!("{who} keeps it locked as a whole (locking_mode=EXCLUSIVE or the VFS unix-excl)")
}

/// Whether the header says that the journal is a WAL (bytes 18 and 19, fileformat2.html 1.3.3).
pub(super) fn is_wal(file: &LockFile) -> bool {
    let mut versions = [0; 2];
    file.file().read_exact_at(&mut versions, 18).is_ok() && versions == [2, 2]
}
