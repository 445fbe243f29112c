//! One database of a hot snapshot: how it is used now, and the locks of a reader on it.
//!
//! In WAL mode we are a reader without a SQLite connection. What each lock gives:
//! - SHARED on the database: nobody who leaves can take it alone, so nobody checkpoints or removes the log at its end;
//! - DMS for reading: a process that comes finds the wal-index in use and does not truncate it;
//! - CKPT: nobody checkpoints, so the database file itself stands still; SQLite answers a checkpoint with 'busy';
//! - READ 1 for reading: no writer can begin the log anew, which needs all read marks.
//!
//! SHARED comes first, before it is looked whether there is a `-shm` and whose: under it nobody removes the `-shm` or the
//! `-wal` that lie there, so what is found then is what is locked and read. All the same it is compared with the names at
//! the end; where it is not the same any more, it is begun anew ([`SqliteError::Disturbed`]).
//!
//! None of the four makes a writer wait. WRITE does; it is held on all databases of a set for the one instant in which
//! the ends of their logs are read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
/// How long one who has the database alone is waited for.
const SHARED_WAIT: Duration = Duration::from_secs(2);
const NO_SHARED: &str =
    "its writer keeps it locked as a whole (locking_mode=EXCLUSIVE, the VFS unix-excl, or a checkpoint that lasts)";
const NO_MARK: &str = "its wal-index must be recovered by the service first";
const NO_INDEX: &str =
    "its writer keeps the index of the log to itself (locking_mode=EXCLUSIVE, or a VFS without shared memory)";

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
    /// Opens it and finds out how it is used. In WAL mode it has SHARED then; in another no lock.
    pub(super) fn open(index: usize, path: &Path, cancel: &Cancel) -> Result<Self, SqliteError> {
        super::header::identify(path)?;
        let db = LockFile::open(path, Access::Read)?;
        let identity = identify_open(&db)?;
        let usage = usage_of(path, &db, identity.journal_mode, cancel)?;
        Ok(Self { index, path: path.to_owned(), db, identity, usage })
    }

    /// SHARED, in the order of SQLite's own protocol (lockingv3.html, 5).
    pub(super) fn shared(&self) -> Wanted<'_> {
        shared(&self.db)
    }

    /// The four locks of a reader in WAL mode, and the proof that they lie on the files that the names mean now.
    pub(super) fn pin(&self, shm: &LockFile, until: Instant, cancel: &Cancel) -> Result<(), SqliteError> {
        lock_together(&[self.shared()], until, cancel)?;
        shm.lock(LockMode::Read, SHM_DMS, "the lock DMS", until, cancel)?;
        shm.lock(LockMode::Read, SHM_READ_1, "a read mark", until, cancel)?;
        shm.lock(LockMode::Write, SHM_CKPT, "the lock CKPT", until, cancel)?;
        self.stands(shm)
    }

    /// Whether the names still mean the files that were opened. Else what was read of them says nothing.
    pub(super) fn stands(&self, shm: &LockFile) -> Result<(), SqliteError> {
        match self.is_named(&self.db)? && self.is_named(shm)? {
            true => Ok(()),
            false => Err(self.disturbed("it was replaced while it was looked at")),
        }
    }

    fn is_named(&self, file: &LockFile) -> Result<bool, SqliteError> {
        let named = Stamp::at(file.path())?;
        Ok(named.is_some_and(|named| named.is_of(file.id())))
    }

    /// What was found wrong with the log; or that it is not the log of this index any more, which is no fault of either.
    pub(super) fn judged(&self, shm: &LockFile, wal: &LockFile, found: SqliteError) -> SqliteError {
        let stands = || Ok::<_, SqliteError>(self.stands(shm).is_ok() && self.is_named(wal)?);
        match (&found, stands()) {
            (SqliteError::Corrupt { .. } | SqliteError::Disk(_), Ok(false)) => {
                self.disturbed("its -wal was replaced while it was read")
            }
            _ => found,
        }
    }

    /// The end of the log, at this moment. A writer that is at work on the index is waited for.
    pub(super) fn mark(&self, shm: &LockFile, until: Instant, cancel: &Cancel) -> Result<WalMark, SqliteError> {
        let mut mark = read_mark(shm)?;
        if mark.is_none() {
            shm.lock(LockMode::Write, SHM_WRITE, "the lock WRITE", until, cancel)?;
            mark = read_mark(shm)?;
            shm.unlock(SHM_WRITE)?;
        }
        mark.ok_or_else(|| self.disturbed(NO_MARK))
    }

    /// The same where WRITE is ours.
    pub(super) fn mark_under_write(&self, shm: &LockFile) -> Result<WalMark, SqliteError> {
        self.stands(shm)?;
        read_mark(shm)?.ok_or_else(|| self.disturbed(NO_MARK))
    }

    /// Its header as it is now, in which the kind of the journal must be that of before.
    pub(super) fn keeps_mode(&self) -> Result<Identity, SqliteError> {
        let now = identify_open(&self.db)?;
        match now.journal_mode == self.identity.journal_mode {
            true => Ok(now),
            false => Err(self.disturbed("its journal mode was changed")),
        }
    }

    /// Whether somebody came to one in WAL mode that nobody had open. It costs little.
    pub(super) fn was_opened(&self) -> Result<bool, SqliteError> {
        let is_one = matches!(self.usage, Usage::Quiet) && self.identity.journal_mode == JournalMode::Wal;
        Ok(is_one && has_wal_user(&self.path)?)
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

    pub(super) fn disturbed(&self, reason: &str) -> SqliteError {
        SqliteError::Disturbed { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// The lock SHARED, through the gate that writers who wait for it close.
fn shared(db: &LockFile) -> Wanted<'_> {
    Wanted { file: db, mode: LockMode::Read, range: DB_SHARED, through: Some(DB_PENDING), what: "the lock SHARED" }
}

/// Whether somebody is in the log, or about to be.
fn has_wal_user(path: &Path) -> Result<bool, SqliteError> {
    match open_if_there(&side_file(path, "-shm"), Access::Read)? {
        Some(shm) => Ok(shm.foreign(LockMode::Write, SHM_DMS)?.is_some()),
        None => Ok(false),
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

/// How a database is used. One in WAL mode has SHARED then, with which the answer stays true.
pub(super) fn usage_of(path: &Path, db: &LockFile, mode: JournalMode, cancel: &Cancel) -> Result<Usage, SqliteError> {
    let refuse = |reason: String| SqliteError::InFlight { path: path.to_owned(), reason };
    if let Err(reason) = locks_are_local(path)? {
        return Err(refuse(reason));
    }
    if std::fs::symlink_metadata(side_file(path, ".lock")).is_ok() {
        return Err(refuse("a .lock beside it says that dot-file locks are in use".to_owned()));
    }
    if mode == JournalMode::Rollback {
        return Ok(if in_use(path, db)? { Usage::Rollback } else { Usage::Quiet });
    }
    // Nobody who writes is kept waiting by it.
    match lock_together(&[shared(db)], Instant::now() + SHARED_WAIT, cancel) {
        // The last one who leaves has it alone too, while it brings the log into the database.
        Err(LocksError::Busy { .. }) => return Err(refuse(NO_SHARED.to_owned())),
        other => other?,
    };
    if has_wal_user(path)?
        && let Some(shm) = open_if_there(&side_file(path, "-shm"), Access::Lock)?
    {
        return Ok(Usage::Wal(shm));
    }
    if !in_use(path, db)? {
        return Ok(Usage::Quiet);
    }
    let wal = side_file(path, "-wal");
    let wal_id = Stamp::at(&wal)?.and(crate::world::disk::FileId::of(&wal).ok());
    let uses_wal = openers(path).at("look for users of", path)?.iter().any(|opener| Some(opener.id) == wal_id);
    // Who has just come or is about to go looks the same for a moment.
    if uses_wal || has_wal_user(path)? || db.foreign(LockMode::Read, DB_ALL)?.is_some() {
        return Err(SqliteError::Disturbed { path: path.to_owned(), reason: NO_INDEX.to_owned() });
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
