//! A reader's hold on a backup: a shared lock on its directory, which expiry would have to have alone.
//!
//! Where the file system has no locks on directories, a reader is not protected; that what it read is gone it learns
//! all the same.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::ArchiveError;
use crate::world::disk::{AtPath, FileId};

/// Held while it lives.
#[derive(Debug)]
pub(super) struct Hold {
    directory: File,
}

impl Drop for Hold {
    /// A child that another thread forks at this moment has a copy of the descriptor until it executes its program.
    fn drop(&mut self) {
        let _closed_next = flock(&self.directory, FlockOperation::Unlock);
    }
}

impl Hold {
    /// Together with other readers.
    ///
    /// # Errors
    /// [`ArchiveError::Expired`] where it is gone or going.
    pub(super) fn take(backup: &Path) -> Result<Self, ArchiveError> {
        let expired = || ArchiveError::Expired { path: backup.to_owned() };
        let directory = match open(backup) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(expired()),
            other => other.at("open", backup)?,
        };
        match flock(&directory, FlockOperation::NonBlockingLockShared) {
            // Nobody but expiry has it alone.
            Err(Errno::WOULDBLOCK) => return Err(expired()),
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, path = %backup.display(), "no lock keeps it from being expired"),
        }
        // Between the opening and the lock its name may have gone.
        let open = FileId::of_open(&directory).at("look at", backup)?;
        match FileId::of(backup) {
            Ok(named) if named == open => Ok(Self { directory }),
            Err(error) if error.source.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Err(expired()),
        }
    }

    /// For the one who removes it; `None` where somebody reads it.
    ///
    /// # Errors
    /// When it can't be opened.
    pub(super) fn alone(backup: &Path) -> Result<Option<Self>, ArchiveError> {
        let directory = open(backup).at("open", backup)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            _ => Ok(Some(Self { directory })),
        }
    }
}

fn open(backup: &Path) -> std::io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(backup)
}
