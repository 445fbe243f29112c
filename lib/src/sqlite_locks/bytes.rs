//! The bytes on which SQLite locks, as os_unix.c and wal.c of SQLite define them.

/// A range of bytes of a database or of its `-shm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRange {
    /// The first byte.
    pub start: i64,
    /// How many.
    pub len: i64,
}

const fn range(start: i64, len: i64) -> LockRange {
    LockRange { start, len }
}

/// Database: held for writing while a writer waits for the readers to leave.
pub const DB_PENDING: LockRange = range(0x4000_0000, 1);
/// Database: held for writing by the one connection that prepares a write.
pub const DB_RESERVED: LockRange = range(0x4000_0001, 1);
/// Database: held for reading by readers, for writing by the connection that writes the file.
pub const DB_SHARED: LockRange = range(0x4000_0002, 510);
/// Database: all of the above.
pub const DB_ALL: LockRange = range(0x4000_0000, 512);

/// `-shm`: the one writer of the WAL.
pub const SHM_WRITE: LockRange = range(120, 1);
/// `-shm`: the one checkpointer.
pub const SHM_CKPT: LockRange = range(121, 1);
/// `-shm`: recovery of the WAL.
pub const SHM_RECOVER: LockRange = range(122, 1);
/// `-shm`: the five read marks; 123 is that of readers which need no WAL.
pub const SHM_READ: LockRange = range(123, 5);
/// `-shm`: the dead man's switch, held for reading by every connection in WAL mode, also by an idle one.
pub const SHM_DMS: LockRange = range(128, 1);
/// `-shm`: all of the above.
pub const SHM_ALL: LockRange = range(120, 9);
