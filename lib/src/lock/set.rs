//! The lock of one operation: a sorted set of kernel locks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{Holder, LockKey, Token};
use crate::failure::{Failure, FailureKind};
use crate::progress::Cancel;
use crate::world::disk::{AtPath, DiskError, FileId, create_private_dir};

/// What to do when somebody else holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Refuse at once.
    No,
    /// Wait, at most so long.
    AtMost(Duration),
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another operation holds one of the keys.
    #[error("{label} is in use: {}", holder_text(.holder.as_deref()))]
    Held {
        /// What is locked.
        label: String,
        /// Who holds it, where it said so.
        holder: Option<Box<Holder>>,
    },
    /// The wait was ended by a cancellation.
    #[error("the wait for the lock of {label} was cancelled")]
    Cancelled {
        /// What is locked.
        label: String,
    },
    /// The lock directory or a lock file can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn holder_text(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "its holder has not said who it is".to_owned(), ToString::to_string)
}

impl Failure for LockError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Held { .. } => FailureKind::LockHeld,
            Self::Cancelled { .. } => FailureKind::Failed,
            Self::Disk(error) => error.kind(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some("wait for it to end; nothing was changed".to_owned()),
            Self::Cancelled { .. } => None,
            Self::Disk(error) => error.hint(),
        }
    }
}

/// The lock of a whole operation. Every mutating call borrows one.
///
/// Dropping it closes the descriptors; the lock is free once every process that inherited it has closed its own.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct OperationLock {
    held: Vec<(LockKey, File)>,
}

impl OperationLock {
    /// Takes the locks of all `keys` (duplicates count once) in `directory`, in a fixed order.
    ///
    /// # Errors
    /// [`LockError::Held`] when another operation holds one and `wait` is over: none is held then.
    pub fn acquire(
        directory: &Path,
        keys: &[LockKey],
        holder: &Holder,
        wait: Wait,
        cancel: &Cancel,
    ) -> Result<Self, LockError> {
        create_private_dir(directory)?;
        let deadline = match wait {
            Wait::No => None,
            Wait::AtMost(bound) => Some(Instant::now() + bound),
        };
        let mut sorted = keys.to_vec();
        sorted.sort();
        sorted.dedup();
        let mut held = Vec::with_capacity(sorted.len());
        for key in sorted {
            let path = directory.join(key.file_name());
            let mut file = lock_file(&path, &key, deadline, cancel)?;
            holder.write_to(&mut file).at("write the holder to", &path)?;
            held.push((key, file));
        }
        Ok(Self { held })
    }

    /// The keys that it holds, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &LockKey> {
        self.held.iter().map(|(key, _)| key)
    }

    /// The token of its first lock, for a child that inherits it; `None` for an empty set.
    ///
    /// The descriptors are close-on-exec: a child that is to hold the lock clears the flag with [`Self::hand_on`].
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn token(&self) -> std::io::Result<Option<Token>> {
        self.held.first().map(|(_, file)| Token::of(file)).transpose()
    }

    /// A duplicate of every descriptor without close-on-exec, so that children started while the result lives
    /// inherit the lock and hold it for as long as they run.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn hand_on(&self) -> std::io::Result<HandedOn> {
        let files =
            self.held.iter().map(|(_, file)| rustix::io::dup(file).map(File::from)).collect::<Result<Vec<_>, _>>()?;
        Ok(HandedOn { files })
    }
}

/// Descriptors that children inherit; see [`OperationLock::hand_on`].
#[derive(Debug)]
pub struct HandedOn {
    files: Vec<File>,
}

impl HandedOn {
    /// The token of the first one.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn token(&self) -> std::io::Result<Option<Token>> {
        self.files.first().map(Token::of).transpose()
    }
}

fn open(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits().cast_signed())
        .open(path)
        .at("open the lock", path)
}

fn lock_file(path: &Path, key: &LockKey, deadline: Option<Instant>, cancel: &Cancel) -> Result<File, LockError> {
    loop {
        let mut file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Somebody may have removed the name between our open and our lock: then the lock is on a file that
                // nobody else will find.
                if FileId::of(path).ok() == FileId::of_open(&file).ok() {
                    return Ok(file);
                }
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => {
                return Err(Err::<(), _>(error)
                    .at("lock", path)
                    .map_or_else(LockError::from, |()| held(key, &mut file)));
            }
        }
        match deadline {
            Some(deadline) if deadline > Instant::now() => wait_for(file, path.to_owned(), key, deadline, cancel)?,
            _ => return Err(held(key, &mut file)),
        }
    }
}

fn held(key: &LockKey, file: &mut File) -> LockError {
    LockError::Held { label: key.label().to_owned(), holder: Holder::read_from(file).map(Box::new) }
}

/// Blocks until the lock was free for a moment. flock(2) has no time-out: a thread blocks in it and lets go at once;
/// past the deadline it is left to do so whenever the holder ends, which harms nobody.
fn wait_for(file: File, path: PathBuf, key: &LockKey, deadline: Instant, cancel: &Cancel) -> Result<(), LockError> {
    let mut reader = file.try_clone().at("duplicate the descriptor of", &path)?;
    let (free, freed) = mpsc::channel();
    let (wake_read, wake_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at("make a pipe for", &path)?;
    std::thread::spawn(move || {
        let outcome = flock(&file, FlockOperation::LockExclusive);
        // Not an unlock: `reader` shares the description, so closing alone would keep the lock.
        let _unlocked = flock(&file, FlockOperation::Unlock);
        let _nobody_waits_any_more = free.send(outcome);
        drop(wake_write);
    });
    use std::os::fd::AsFd;
    let ready = crate::world::wait::readable(&[wake_read.as_fd(), cancel.as_fd()], deadline).at("wait for", &path)?;
    if cancel.is_requested() {
        return Err(LockError::Cancelled { label: key.label().to_owned() });
    }
    if ready.is_empty() {
        return Err(held(key, &mut reader));
    }
    match freed.recv() {
        Ok(Err(error)) => {
            Err(Err::<(), _>(error).at("lock", &path).map_or_else(LockError::from, |()| held(key, &mut reader)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(dir: &Path, keys: &[LockKey], wait: Wait) -> Result<OperationLock, LockError> {
        let holder = Holder::own("backup", "unit test.service").unwrap();
        OperationLock::acquire(dir, keys, &holder, wait, &Cancel::new().unwrap())
    }

    #[test]
    fn the_refused_one_learns_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let both = [LockKey::named("b"), LockKey::named("a"), LockKey::named("a")];
        let lock = acquire(dir.path(), &both, Wait::No).unwrap();
        assert_eq!(lock.keys().count(), 2);
        let error = acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap_err();
        assert_eq!(error.kind(), FailureKind::LockHeld);
        let text = error.to_string();
        assert!(text.contains("backup of unit test.service by process"), "{text}");
        drop(lock);
        drop(acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap());
    }

    #[test]
    fn a_wait_ends_with_the_lock_or_with_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let key = [LockKey::named("a")];
        let lock = acquire(dir.path(), &key, Wait::No).unwrap();
        let error = acquire(dir.path(), &key, Wait::AtMost(Duration::from_millis(30))).unwrap_err();
        assert!(matches!(error, LockError::Held { .. }));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| acquire(dir.path(), &key, Wait::AtMost(Duration::from_secs(20))));
            drop(lock);
            drop(waiter.join().unwrap().unwrap());
        });
    }

    #[test]
    fn a_lingering_file_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LockKey::named("a").file_name()), b"garbage").unwrap();
        drop(acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap());
    }

    #[test]
    fn a_token_proves_only_what_the_kernel_confirms() {
        let dir = tempfile::tempdir().unwrap();
        let lock = acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap();
        let token = lock.token().unwrap().unwrap();
        assert!(super::super::prove(&token));
        assert!(super::super::prove(&token.to_string().parse().unwrap()));
        drop(lock);
        assert!(!super::super::prove(&token));
        for bad in ["", "1:2:3:4", "x:flock:1:1", "-1:flock:1:1", "3:flock:1"] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
