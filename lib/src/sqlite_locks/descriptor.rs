//! Descriptors on SQLite's files that can be opened and closed without harm, and the locks on them.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::event::{EventfdFlags, eventfd};

use super::bytes::LockRange;
use super::error::LocksError;
use crate::progress::Cancel;
use crate::world::disk::{AtPath, DiskError, FileId};
use crate::world::wait;

/// The descriptors of this module that are open now. What else of our process is open on a SQLite file belongs to a
/// connection whose locks a close would drop.
static OURS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn ours() -> MutexGuard<'static, BTreeSet<RawFd>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading, and for read locks.
    Read,
    /// For reading and for write locks. Nothing is ever written.
    Lock,
}

/// How a range is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Together with other readers.
    Read,
    /// Alone.
    Write,
}

/// A lock of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// Who has it; `None` for another pid namespace and for open-file-description locks, which have no owner.
    pub pid: Option<i32>,
    /// Its first byte.
    pub start: i64,
}

/// An open file of a service's database, with the locks that we hold on it. They end with it.
#[derive(Debug)]
pub struct LockFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // `None` only while it is dropped.
    file: Option<File>,
    path: PathBuf,
    id: FileId,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Under the registry's lock up to the close: another thread must see the descriptor as ours or not at all.
            let mut ours = ours();
            ours.remove(&file.as_raw_fd());
            drop(file);
        }
    }
}

impl LockFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// When it can't be opened, is no regular file, or our own process has it open by other means. The last is
    /// looked at once, here: a connection that this process opens later is not protected.
    pub fn open(path: &Path, access: Access) -> Result<Self, LocksError> {
        let mut ours = ours();
        let metadata = std::fs::metadata(path).at("look at", path)?;
        if !metadata.is_file() {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(DiskError { action: "open", path: path.to_owned(), source }.into());
        }
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        if open_by_others_of_this_process(id, &ours) {
            return Err(LocksError::OwnProcess { path: path.to_owned() });
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Lock)
            // A FIFO that takes the file's place now must not block us.
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .at(if access == Access::Lock { "open for its locks" } else { "open" }, path)?;
        ours.insert(file.as_raw_fd());
        drop(ours);
        let id = FileId::of_open(&file).at("look at", path)?;
        Ok(Self { inner: Arc::new(Inner { file: Some(file), path: path.to_owned(), id }) })
    }

    /// The open file, for reading.
    ///
    /// # Panics
    /// Never: the file is there until the last owner is dropped.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the option is empty only inside Drop")]
    pub fn file(&self) -> &File {
        self.inner.file.as_ref().expect("open until dropped")
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Which file it is.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.inner.id
    }

    /// A lock of somebody else that conflicts with `mode` on `range`: asking for `Read` finds writers only.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn foreign(&self, mode: LockMode, range: LockRange) -> Result<Option<Foreign>, LocksError> {
        let mut answer = request(kind_of(mode), range);
        fcntl(self.file().as_fd(), FcntlArg::F_OFD_GETLK(&mut answer)).at("ask for the locks of", self.path())?;
        if i32::from(answer.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        Ok(Some(Foreign { pid: Some(answer.l_pid).filter(|pid| *pid > 0), start: answer.l_start }))
    }

    /// Takes a lock if it is free.
    ///
    /// # Errors
    /// Those of fcntl(2) other than a conflict.
    pub fn try_lock(&self, mode: LockMode, range: LockRange) -> Result<bool, LocksError> {
        match fcntl(self.file().as_fd(), FcntlArg::F_OFD_SETLK(&request(kind_of(mode), range))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(error) => Err(error).at("lock", self.path())?,
        }
    }

    /// Takes a lock, queueing in the kernel until `until`. On an error, *every* lock of this file is given up.
    ///
    /// # Errors
    /// [`LocksError::Busy`] after the deadline; a cancellation; those of fcntl(2).
    pub fn lock(
        &self,
        mode: LockMode,
        range: LockRange,
        what: &'static str,
        until: Instant,
        cancel: &Cancel,
    ) -> Result<(), LocksError> {
        let began = Instant::now();
        if self.try_lock(mode, range)? {
            return Ok(());
        }
        // F_OFD_SETLKW has no deadline: a thread blocks in it, and gives back at once what comes too late.
        let waiter = Arc::new(Waiter {
            state: Mutex::new(State::Waiting),
            done: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at("make an eventfd for", self.path())?,
        });
        let (inner, theirs) = (Arc::clone(&self.inner), Arc::clone(&waiter));
        std::thread::Builder::new()
            .name("svckit-lock".to_owned())
            .spawn(move || theirs.run(&inner, mode, range))
            .at("start a thread to lock", self.path())?;
        let ready = wait::readable(&[waiter.done.as_fd(), cancel.as_fd()], until).at("wait for", self.path())?;
        let mut state = waiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Abandoned) {
            State::Granted => return Ok(()),
            State::Failed(error) => Err(error).at("lock", self.path())?,
            State::Waiting | State::Abandoned => {}
        }
        drop(state);
        // The thread keeps the descriptor open for a while yet: what is locked on it must not stay locked as long.
        self.unlock_all();
        if ready.contains(&1) {
            return Err(LocksError::Cancelled { path: self.path().to_owned() });
        }
        let pid = self.foreign(mode, range)?.and_then(|foreign| foreign.pid);
        Err(LocksError::Busy { path: self.path().to_owned(), what, waited: began.elapsed(), pid })
    }

    /// Gives one range up.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn unlock(&self, range: LockRange) -> Result<(), LocksError> {
        fcntl(self.file().as_fd(), FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK, range))).at("unlock", self.path())?;
        Ok(())
    }

    fn unlock_all(&self) {
        // Unlocking can fail only for a range or a descriptor that is none.
        let _ignored = self.unlock(LockRange { start: 0, len: 0 });
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Explicitly: a close does not release while a forked child that has not yet called exec shares the file.
        self.unlock_all();
    }
}

#[derive(Debug)]
enum State {
    Waiting,
    Granted,
    Failed(Errno),
    Abandoned,
}

#[derive(Debug)]
struct Waiter {
    state: Mutex<State>,
    done: OwnedFd,
}

impl Waiter {
    fn run(&self, inner: &Inner, mode: LockMode, range: LockRange) {
        let Some(file) = inner.file.as_ref() else {
            return;
        };
        let answer = loop {
            match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&request(kind_of(mode), range))) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*state, answer) {
            (State::Abandoned, Ok(_)) => {
                let _ignored = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&request(libc::F_UNLCK, range)));
            }
            (_, Ok(_)) => *state = State::Granted,
            (_, Err(error)) => *state = State::Failed(error),
        }
        drop(state);
        let _ignored = rustix::io::write(&self.done, &1u64.to_ne_bytes());
    }
}

fn kind_of(mode: LockMode) -> i32 {
    match mode {
        LockMode::Read => libc::F_RDLCK,
        LockMode::Write => libc::F_WRLCK,
    }
}

fn request(kind: i32, range: LockRange) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: range.start,
        l_len: range.len,
        // Must be 0 for open-file-description locks.
        l_pid: 0,
    }
}

fn open_by_others_of_this_process(id: FileId, ours: &BTreeSet<RawFd>) -> bool {
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return false;
    };
    listing.flatten().any(|item| {
        let number = item.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        number.is_some_and(|number| !ours.contains(&number))
            && std::fs::metadata(item.path()).is_ok_and(|m| m.dev() == id.device && m.ino() == id.inode)
    })
}
