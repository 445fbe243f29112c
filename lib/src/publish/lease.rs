//! A reader's hold on one generation.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::{Generation, PublishError, Tree};
use crate::world::disk::{AtPath, FileId};

/// A reader that meets so many switches in a row is not reading.
const TRIES_MAX: usize = 1000;

/// One generation, whole and there for as long as this descriptor, or an inherited duplicate, is open.
#[derive(Debug)]
#[must_use = "the lease ends when this is dropped"]
pub struct Lease {
    generation: Generation,
    path: PathBuf,
    directory: File,
}

impl Lease {
    /// Takes a lease on the current generation. Whoever may read the tree may do so; nothing is written.
    ///
    /// # Errors
    /// [`PublishError::Missing`] before the first generation, [`PublishError::Locked`] when somebody who is none of us
    /// holds the generation's directory for himself.
    pub fn take(tree: &Tree) -> Result<Self, PublishError> {
        for _ in 0..TRIES_MAX {
            let Some(generation) = tree.current()? else {
                let what = "no generation yet".to_owned();
                return Err(PublishError::Missing { tree: tree.root().to_owned(), what });
            };
            let path = tree.directory(generation);
            let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
            let directory = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
                // Removed since the link was read: the link leads elsewhere now.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && tree.current()? != Some(generation) => {
                    continue;
                }
                other => other.at("open", &path)?,
            };
            match flock(&directory, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                // Only a removal holds it exclusively, and never while it is the current one.
                Err(Errno::WOULDBLOCK) if tree.current()? != Some(generation) => continue,
                Err(Errno::WOULDBLOCK) => {
                    return Err(PublishError::Locked { tree: path, holder: None });
                }
                Err(error) => Err(error).at("lock", &path)?,
            }
            // Between the opening and the lock it may have been removed: then its name is gone, or another's.
            if FileId::of(&path).ok() == FileId::of_open(&directory).ok() {
                return Ok(Self { generation, path, directory });
            }
        }
        let what = format!("been switched {TRIES_MAX} times while its current generation was opened");
        Err(PublishError::Missing { tree: tree.root().to_owned(), what })
    }

    /// Which one it is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Its directory; only this name is meant, `current` may lead elsewhere by now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A duplicate that a program which is executed inherits, and with it the lease.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn hand_on(&self) -> std::io::Result<File> {
        Ok(File::from(rustix::io::dup(&self.directory)?))
    }
}

impl AsFd for Lease {
    /// The generation's directory, for openat(2) and fchdir(2).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// How many shared locks there are on each inode, for `status`. /proc/locks has the device of the superblock, which is
/// not st_dev everywhere: the inode alone counts, so that a number may be too high, and nothing is decided by it.
pub(super) struct Leases(HashMap<u64, usize>);

/// So often the table is read: what one reading misses another has.
const READS: usize = 3;

impl Leases {
    pub(super) fn now() -> Self {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        // The kernel gives the table a page at a time: a lock that ends between two pages hides another one.
        for _ in 0..READS {
            let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
            let mut once: HashMap<u64, usize> = HashMap::new();
            for inode in text.lines().filter_map(shared_on) {
                *once.entry(inode).or_default() += 1;
            }
            for (inode, count) in once {
                let most = counts.entry(inode).or_default();
                *most = count.max(*most);
            }
        }
        Self(counts)
    }

    pub(super) fn on(&self, directory: &Path) -> usize {
        let inode = std::fs::metadata(directory).map(|metadata| metadata.ino());
        inode.ok().and_then(|inode| self.0.get(&inode).copied()).unwrap_or(0)
    }
}

/// Of a line of proc_locks(5): `1: FLOCK  ADVISORY  READ 1234 08:01:5678 0 EOF`.
fn shared_on(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "READ", _, file, ..] = words[..] else { return None };
    file.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_counted_from_the_kernels_table() {
        assert_eq!(shared_on("1: FLOCK  ADVISORY  READ 1234 08:01:5678 0 EOF"), Some(5678));
        assert_eq!(shared_on("1: -> FLOCK  ADVISORY  READ 1234 08:01:5678 0 EOF"), None);
        assert_eq!(shared_on("1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"), None);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Leases::now().on(directory.path()), 0);
        let held = File::open(directory.path()).unwrap();
        flock(&held, FlockOperation::NonBlockingLockShared).unwrap();
        assert_eq!(Leases::now().on(directory.path()), 1);
    }
}
