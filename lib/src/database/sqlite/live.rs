//! One database of a hot snapshot: how it is used now, and the locks of a reader on it.
//!
//! In WAL mode we are a reader without a SQLite connection. What each lock gives:
//! - SHARED on the database: nobody who leaves can take it alone, so nobody checkpoints or removes the log at its end;
//! - DMS for reading: a process that comes finds the wal-index in use and does not truncate it;
//! - CKPT: nobody checkpoints, so the database file itself stands still; SQLite answers a checkpoint with 'busy';
//! - READ 1 for reading: no writer can begin the log anew, which needs all read marks.
//!
//! None of the four makes a writer wait. WRITE does; it is held on all databases of a set for the one instant in which
//! the ends of their logs are read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::copy::Stamp;
use super::error::SqliteError;
use super::header::{Identity, JournalMode, identify_open};
use super::wal::{WalMark, read_mark};
use crate::progress::Cancel;
use crate::sqlite_locks::{
    Access, DB_ALL, DB_PENDING, DB_RESERVED, DB_SHARED, LockFile, LockMode, LockRange, LocksError, SHM_ALL, SHM_CKPT,
    SHM_DMS, SHM_READ, SHM_WRITE, Wanted, has_content, lock_together, openers, side_file,
};
use crate::world::disk::AtPath;
use crate::world::filesystem::locks_are_local;

/// The read mark that keeps writers from beginning the log anew: number 1, the first that belongs to the log.
const SHM_READ_1: LockRange = LockRange { start: SHM_READ.start + 1, len: 1 };

/// How a database is used at the moment.
#[derive(Debug)]
pub(super) enum Usage {
    /// Nobody has it open.
    Quiet,
    /// In a rollback mode.
    Rollback,
    /// In WAL mode, with the wal-index.
    Wal(LockFile),
}

/// One database of the set.
#[derive(Debug)]
pub(super) struct Member {
    /// Its place in the request.
    pub(super) index: usize,
    pub(super) path: PathBuf,
    pub(super) db: LockFile,
    pub(super) identity: Identity,
    pub(super) usage: Usage,
}

impl Member {
    /// Opens it and finds out how it is used. Takes no lock.
    pub(super) fn open(index: usize, path: &Path) -> Result<Self, SqliteError> {
        super::header::identify(path)?;
        let db = LockFile::open(path, Access::Read)?;
        let identity = identify_open(&db)?;
        let usage = usage_of(path, &db, identity.journal_mode)?;
        Ok(Self { index, path: path.to_owned(), db, identity, usage })
    }

    /// SHARED, in the order of SQLite's own protocol (lockingv3.html, 5).
    pub(super) fn shared(&self) -> Wanted<'_> {
        Wanted {
            file: &self.db,
            mode: LockMode::Read,
            range: DB_SHARED,
            through: Some(DB_PENDING),
            what: "the lock SHARED",
        }
    }

    /// The four locks of a reader in WAL mode, and the proof that they lie on the files that the names mean now.
    pub(super) fn pin(&self, shm: &LockFile, until: Instant, cancel: &Cancel) -> Result<(), SqliteError> {
        lock_together(&[self.shared()], until, cancel)?;
        shm.lock(LockMode::Read, SHM_DMS, "the lock DMS", until, cancel)?;
        shm.lock(LockMode::Read, SHM_READ_1, "a read mark", until, cancel)?;
        shm.lock(LockMode::Write, SHM_CKPT, "the lock CKPT", until, cancel)?;
        for (file, path) in [(&self.db, self.path.clone()), (shm, side_file(&self.path, "-shm"))] {
            let now = crate::world::disk::FileId::of(&path)?;
            if now != file.id() {
                return Err(self.in_flight("it was replaced while we opened it".to_owned()));
            }
        }
        Ok(())
    }

    /// The end of the log, at this moment. A writer that is at work on the index is waited for.
    pub(super) fn mark(&self, shm: &LockFile, until: Instant, cancel: &Cancel) -> Result<WalMark, SqliteError> {
        let mut mark = read_mark(shm)?;
        if mark.is_none() {
            shm.lock(LockMode::Write, SHM_WRITE, "the lock WRITE", until, cancel)?;
            mark = read_mark(shm)?;
            shm.unlock(SHM_WRITE)?;
        }
        mark.ok_or_else(|| self.in_flight("its wal-index must be recovered by the service first".to_owned()))
    }

    /// Whether a journal must be rolled back before the file can be read. To be asked under SHARED.
    pub(super) fn has_hot_journal(&self) -> Result<bool, SqliteError> {
        let journal = side_file(&self.path, "-journal");
        if !has_content(&journal)? {
            return Ok(false);
        }
        // The journal of a writer that is alive is not hot: the writer has RESERVED.
        Ok(self.db.foreign(LockMode::Read, DB_RESERVED)?.is_none())
    }

    /// The files of this database that a copy needs, as they are now: itself, `-wal`, `-journal`.
    pub(super) fn stamps(&self) -> Result<[Option<Stamp>; 3], SqliteError> {
        let itself = Stamp::of(self.db.file()).at("look at", &self.path)?;
        // By name as well: a database that was replaced is another one.
        let named = Stamp::at(&self.path)?;
        let itself = named.filter(|named| *named == itself);
        Ok([itself, Stamp::at(&side_file(&self.path, "-wal"))?, Stamp::at(&side_file(&self.path, "-journal"))?])
    }

    /// Whether anybody else has it open or locked.
    pub(super) fn is_in_use(&self) -> Result<bool, SqliteError> {
        in_use(&self.path, &self.db)
    }

    pub(super) fn in_flight(&self, reason: String) -> SqliteError {
        SqliteError::InFlight { path: self.path.clone(), reason }
    }
}

fn in_use(path: &Path, db: &LockFile) -> Result<bool, SqliteError> {
    if db.foreign(LockMode::Write, DB_ALL)?.is_some() || !openers(path).at("look for users of", path)?.is_empty() {
        return Ok(true);
    }
    match open_if_there(&side_file(path, "-shm"), Access::Read)? {
        Some(shm) => Ok(shm.foreign(LockMode::Write, SHM_ALL)?.is_some()),
        None => Ok(false),
    }
}

pub(super) fn usage_of(path: &Path, db: &LockFile, mode: JournalMode) -> Result<Usage, SqliteError> {
    let refuse = |reason: String| SqliteError::InFlight { path: path.to_owned(), reason };
    if let Err(reason) = locks_are_local(path)? {
        return Err(refuse(reason));
    }
    if std::fs::symlink_metadata(side_file(path, ".lock")).is_ok() {
        return Err(refuse("a .lock beside it says that dot-file locks are in use".to_owned()));
    }
    if !in_use(path, db)? {
        return Ok(Usage::Quiet);
    }
    if mode == JournalMode::Rollback {
        return Ok(Usage::Rollback);
    }
    let wal = side_file(path, "-wal");
    let wal_id = Stamp::at(&wal)?.and(crate::world::disk::FileId::of(&wal).ok());
    let uses_wal = openers(path).at("look for users of", path)?.iter().any(|opener| Some(opener.id) == wal_id);
    let shm = open_if_there(&side_file(path, "-shm"), Access::Read)?;
    let shared = match &shm {
        Some(shm) => shm.foreign(LockMode::Write, SHM_DMS)?.is_some(),
        None => false,
    };
    if shared {
        drop(shm);
        return Ok(Usage::Wal(LockFile::open(&side_file(path, "-shm"), Access::Lock)?));
    }
    if uses_wal || db.foreign(LockMode::Read, DB_ALL)?.is_some() {
        return Err(refuse(
            "its writer keeps the index of the log to itself (locking_mode=EXCLUSIVE, or a VFS without shared memory)"
                .to_owned(),
        ));
    }
    // Open, but nobody has begun to use it: what changes under us is noticed by comparison.
    Ok(Usage::Quiet)
}

/// Opens a file; `None` where there is none (any more).
pub(super) fn open_if_there(path: &Path, access: Access) -> Result<Option<LockFile>, SqliteError> {
    match LockFile::open(path, access) {
        Ok(file) => Ok(Some(file)),
        Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
