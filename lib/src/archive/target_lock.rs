//! One writer per target of a store: a kernel lock on `STORE/TARGET/.lock`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::ArchiveError;
use crate::lock::Holder;
use crate::name::TargetName;
use crate::world::disk::AtPath;

pub(super) const LOCK: &str = ".lock";

/// Held while it lives. The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(super) struct TargetLock {
    file: File,
}

impl Drop for TargetLock {
    /// Closing alone is not enough: a child that another thread forks at this moment has a copy of the descriptor until
    /// it executes its program, and the next operation would be refused. Nobody else is ever to have this lock, so
    /// that, other than an operation's, it may be unlocked.
    fn drop(&mut self) {
        let _closed_next = flock(&self.file, FlockOperation::Unlock);
    }
}

impl TargetLock {
    /// Takes the lock or refuses at once: whoever waits, waits for the operation's own lock.
    pub(super) fn take(store: &Path, target: &TargetName, holder: &Holder) -> Result<Self, ArchiveError> {
        let path = store.join(target.as_str()).join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed())
            .open(&path)
            .at("open the lock", &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = Holder::read_from(&mut file).map(Box::new);
                return Err(ArchiveError::Locked { target: target.clone(), store: store.to_owned(), holder });
            }
            Err(error) => Err(error).at("lock", &path)?,
        }
        // The record only informs, and expiring must be possible on a full disk.
        let _unrecorded_on_a_full_disk = holder.write_to(&mut file);
        Ok(Self { file })
    }
}
