//! Scratch space in a store for readers that hold no target's lock: `STORE/.scratch-verify-RANDOM`.
//!
//! Its owner holds a kernel lock on the directory itself, so that what a killed verification left is told apart from
//! what a living one uses, and is swept by the next one.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::names::is_backup_id;
use super::{ArchiveError, Store, draft, files};
use crate::world::disk::{AtPath, FileId};

const PREFIX: &str = ".scratch-verify-";
/// A sweeper may take a directory in the moment between its creation and its lock; so often in a row it does not.
const ATTEMPTS_MAX: usize = 10;

/// A private directory in the store, removed when it is dropped.
#[derive(Debug)]
#[must_use = "the directory is removed when this is dropped"]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _swept_later = std::fs::remove_dir_all(&self.path);
    }
}

impl Store {
    /// Scratch space for [`super::Backup::verify`], after removing what dead owners left of theirs.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn scratch(&self) -> Result<Scratch, ArchiveError> {
        self.sweep_scratch()?;
        for _ in 0..ATTEMPTS_MAX {
            let path = self.root().join(format!("{PREFIX}{}", draft::new_id()?));
            files::create_dir(&path)?;
            if let Some(lock) = own(&path)? {
                return Ok(Scratch { path, _lock: lock });
            }
        }
        let source = std::io::Error::other("others keep removing it");
        Err(source).at("make scratch space in", self.root()).map_err(ArchiveError::from)
    }

    fn sweep_scratch(&self) -> Result<(), ArchiveError> {
        for entry in std::fs::read_dir(self.root()).at("list", self.root())? {
            let path = entry.at("list", self.root())?.path();
            let name = path.file_name().unwrap_or_default();
            if !name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(is_backup_id) {
                continue;
            }
            if let Some(_dead_owner) = own(&path)? {
                std::fs::remove_dir_all(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}

/// The lock on a directory that is still there; `None` where somebody lives in it, or it went.
fn own(path: &Path) -> Result<Option<File>, ArchiveError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.at("open", path)?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other.at("lock", path)?,
    }
    let is_there = FileId::of(path).ok().is_some_and(|id| FileId::of_open(&file).is_ok_and(|open| open == id));
    Ok(is_there.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bed;

    #[test]
    fn a_dead_owner_s_scratch_is_swept_and_a_living_one_s_is_not() {
        let bed = Bed::new();
        let dead = bed.store.root().join(".scratch-verify-20261121T040719Z-aaaaaa");
        let theirs = bed.store.root().join(".scratch-verify-mine");
        std::fs::create_dir(&dead).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(dead.join("verify"), b"copy").unwrap();
        let living = bed.store.scratch().unwrap();
        assert!(!dead.exists());
        std::fs::write(living.path().join("verify"), b"copy").unwrap();
        let other = bed.store.scratch().unwrap();
        assert!(living.path().join("verify").exists());
        assert!(bed.store.targets().unwrap().is_empty(), "it is no target");
        drop((living, other));
        std::fs::remove_dir(theirs).unwrap();
        assert_eq!(std::fs::read_dir(bed.store.root()).unwrap().count(), 0);
    }
}
