//! One writer per target of a store: a kernel lock on `STORE/TARGET/.lock`.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::ArchiveError;
use crate::lock::{Holder, lock_beside};
use crate::name::TargetName;

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
        match lock_beside(&path, holder)? {
            Ok(file) => Ok(Self { file }),
            Err(holder) => Err(ArchiveError::Locked { target: target.clone(), store: store.to_owned(), holder }),
        }
    }
}
