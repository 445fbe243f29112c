//! The fence: while it stands, no lock-abiding writer can begin a transaction on any of the databases.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bytes::{DB_ALL, DB_PENDING, DB_RESERVED, DB_SHARED, LockRange, SHM_DMS, SHM_WRITE};
use super::descriptor::{Access, LockFile, LockMode};
use super::error::LocksError;
use super::filesystem::side_file;
use super::held::posix_locks_of;
use super::journal_file::has_content;
use super::probe::{exclusive, is_wal};
use super::together::{Wanted, lock_together};
use super::watch::Watch;
use crate::progress::Cancel;
use crate::world::ProcessId;
use crate::world::disk::FileId;
use crate::world::filesystem::locks_are_local;

/// WRITE and CKPT: neither the log nor the database can be written then.
const SHM_WRITE_AND_CKPT: LockRange = LockRange { start: SHM_WRITE.start, len: 2 };
/// And RECOVER: who writes anything that counts has one of them.
const SHM_WRITE_CKPT_RECOVER: LockRange = LockRange { start: SHM_WRITE.start, len: 3 };

/// Write locks of our own on every one of some databases, dropped with it.
///
/// It keeps out those who ask for locks where we hold ours. Whether the service is one of them says
/// [`Fence::evidence`].
#[derive(Debug)]
pub struct Fence {
    fenced: Vec<Fenced>,
    since: Instant,
}

#[derive(Debug)]
struct Fenced {
    path: PathBuf,
    db: LockFile,
    // In WAL mode.
    shm: Option<LockFile>,
}

impl Fence {
    /// Waits until no transaction is open on any of the databases, and keeps new ones from beginning.
    ///
    /// # Errors
    /// [`LocksError::Busy`] when that was not so within `wait_max`; [`LocksError::HotJournal`] where a crashed
    /// transaction waits for its rollback (under our lock others would take it for a living one); what can't be known.
    pub fn acquire(databases: &[PathBuf], wait_max: Duration, cancel: &Cancel) -> Result<Self, LocksError> {
        let until = Instant::now() + wait_max;
        let fenced: Vec<Fenced> =
            databases.iter().map(|path| Fenced::open(path, until, cancel)).collect::<Result<_, _>>()?;
        for shm in fenced.iter().filter_map(|one| one.shm.as_ref()) {
            // As every connection: nobody who comes may take the wal-index for an abandoned one.
            shm.lock(LockMode::Read, SHM_DMS, "the lock DMS", until, cancel)?;
        }
        let wanted: Vec<Wanted<'_>> = fenced.iter().map(Fenced::wanted).collect();
        let since = lock_together(&wanted, until, cancel)?;
        drop(wanted);
        let fence = Self { fenced, since };
        for one in &fence.fenced {
            one.stands()?;
        }
        Ok(fence)
    }

    /// The databases behind it.
    pub fn databases(&self) -> impl Iterator<Item = &Path> {
        self.fenced.iter().map(|one| one.path.as_path())
    }

    /// For how long it has stood.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it is proved that these processes are kept from writing by this fence: every database is open in at
    /// least one of them, each of them that has it open was seen to lock it as we do, and no write lock of anybody is
    /// left on it.
    ///
    /// - WAL: the process holds DMS on this very `-shm`;
    /// - rollback: a lock of the process on this very file is held now, or was seen by `watch`.
    ///
    /// # Errors
    /// [`LocksError::Unknown`] with what is not proved: the processes must not be killed then.
    pub fn evidence(&self, processes: &[ProcessId], watch: &Watch) -> Result<(), LocksError> {
        for one in &self.fenced {
            one.stands()?;
            one.no_writer_left()?;
            one.seen_to_lock(processes, watch)?;
        }
        Ok(())
    }
}

impl Fenced {
    fn open(path: &Path, until: Instant, cancel: &Cancel) -> Result<Self, LocksError> {
        let unknown = |reason: String| LocksError::Unknown { path: path.to_owned(), reason };
        if let Err(reason) = locks_are_local(path)? {
            return Err(unknown(reason));
        }
        if side_file(path, ".lock").symlink_metadata().is_ok() {
            return Err(unknown("a .lock beside it says that dot-file locks are in use".to_owned()));
        }
        let db = LockFile::open(path, Access::Lock)?;
        let wal = is_wal(&db);
        if wal {
            // The last one who leaves writes the log into the database under no lock of -shm, and removes both. It needs
            // the database alone for it, which it can't have beside a reader.
            let (mode, through) = (LockMode::Read, Some(DB_PENDING));
            let shared = Wanted { file: &db, mode, range: DB_SHARED, through, what: "the lock SHARED" };
            lock_together(&[shared], until, cancel)?;
        }
        let shm = match wal {
            false => None,
            true => match LockFile::open(&side_file(path, "-shm"), Access::Lock) {
                Ok(shm) => Some(shm),
                Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(unknown("it is in WAL mode, and no -shm lies beside it to be locked".to_owned()));
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Self { path: path.to_owned(), db, shm })
    }

    fn wanted(&self) -> Wanted<'_> {
        match &self.shm {
            Some(shm) => Wanted {
                file: shm,
                mode: LockMode::Write,
                range: SHM_WRITE_AND_CKPT,
                through: None,
                what: "the locks WRITE and CKPT",
            },
            None => Wanted {
                file: &self.db,
                mode: LockMode::Write,
                range: DB_RESERVED,
                through: None,
                what: "the lock RESERVED",
            },
        }
    }

    fn unknown(&self, reason: impl Into<String>) -> LocksError {
        LocksError::Unknown { path: self.path.clone(), reason: reason.into() }
    }

    /// The locks lie where the next writer would look for them.
    fn stands(&self) -> Result<(), LocksError> {
        if FileId::of(&self.path)? != self.db.id() || is_wal(&self.db) != self.shm.is_some() {
            return Err(self.unknown("it was replaced, or changed its journal mode, while we locked it"));
        }
        match &self.shm {
            Some(shm) if FileId::of(shm.path()).ok() != Some(shm.id()) => {
                Err(self.unknown("its -shm was replaced while we locked it"))
            }
            // Nobody else can have RESERVED now, so the journal of a living writer it is not.
            None if has_content(&side_file(&self.path, "-journal"))? => {
                Err(LocksError::HotJournal { path: self.path.clone() })
            }
            _ => Ok(()),
        }
    }

    fn no_writer_left(&self) -> Result<(), LocksError> {
        // Asking as a reader finds writers; our own locks are on the same descriptors and don't count.
        if let Some(writer) = self.db.foreign(LockMode::Read, DB_ALL)? {
            return Err(self.unknown(exclusive(writer.pid)));
        }
        // Not the read marks: who begins to read write-locks one for a moment to move it (walTryBeginRead), and who would
        // write with one write-locked has WRITE or CKPT too.
        let Some(shm) = &self.shm else { return Ok(()) };
        for range in [SHM_WRITE_CKPT_RECOVER, SHM_DMS] {
            if shm.foreign(LockMode::Read, range)?.is_some() {
                return Err(self.unknown("a write lock of somebody else is left on its -shm"));
            }
        }
        Ok(())
    }

    fn seen_to_lock(&self, processes: &[ProcessId], watch: &Watch) -> Result<(), LocksError> {
        let wal = FileId::of(&side_file(&self.path, "-wal")).ok();
        let mut users = 0;
        for process in processes {
            let (opened, locks) = posix_locks_of(process)
                .map_err(|error| self.unknown(format!("can't see what process {} has open: {error}", process.pid)))?;
            if !opened.contains(&self.db.id()) && wal.is_none_or(|wal| !opened.contains(&wal)) {
                continue;
            }
            users += 1;
            let locks_as_we_do = match &self.shm {
                Some(shm) => locks.iter().any(|lock| lock.file == shm.id() && lock.covers(SHM_DMS)),
                None => {
                    locks.iter().any(|lock| lock.file == self.db.id() && lock.touches(DB_ALL))
                        || watch.has_seen(self.db.id(), process)
                }
            };
            if !locks_as_we_do {
                return Err(self.unknown(format!(
                    "process {} has it open and was never seen to lock it as SQLite's default VFS does",
                    process.pid
                )));
            }
        }
        match users {
            0 => Err(self.unknown("none of the service's processes has it open")),
            _ => Ok(()),
        }
    }
}
