//! Who writes a SQLite file now, and the fence that keeps everybody from writing it.
//!
//! Everything here works by open-file-description locks (F_OFD_*, fcntl(2)) on SQLite's own lock bytes, and by what
//! the kernel says of other processes; no SQLite connection is ever opened on a service's database.
//!
//! Invariants:
//! - close(2) of any descriptor of a file drops every classic POSIX lock that the *process* has on it, and SQLite's
//!   locks are of that kind (howtocorrupt.html, 2.2). So a file that somebody else in our own process has open is
//!   refused ([`LocksError::OwnProcess`]), not opened: see [`LockFile`].
//! - A lock that was waited for in vain is given back the moment it is granted, and the last thing that a dropped
//!   [`LockFile`] does is to unlock explicitly: a child between fork and exec shares our descriptors.
//! - Several databases are locked together or not at all: while we wait for one, we hold none ([`lock_together`]).
//! - What can't be known is said as *unknown*; only positive evidence counts ([`Fence::evidence`]).

mod bytes;
mod descriptor;
mod error;
mod fence;
mod filesystem;
mod held;
mod journal_file;
mod opened;
mod probe;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod together;
mod watch;

pub use bytes::{DB_ALL, DB_PENDING, DB_RESERVED, DB_SHARED, SHM_ALL};
pub use bytes::{LockRange, SHM_CKPT, SHM_DMS, SHM_READ, SHM_RECOVER, SHM_WRITE};
pub use descriptor::{Access, Foreign, LockFile, LockMode};
pub use error::LocksError;
pub use fence::Fence;
pub use filesystem::side_file;
pub use journal_file::has_content;
pub use opened::{OpenDatabase, Opener, databases_open_in, openers, openers_of};
pub use probe::{WriteState, locked_by, probe};
pub use together::{Wanted, lock_together};
pub use watch::Watch;
