//! Handing a lock on to a child, which then proves that it holds it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::LockKey;
use super::table::Table;
use crate::failure::{Failure, FailureKind};
use crate::world::disk::FileId;

/// The environment variable in which a program hands tokens on, with spaces between them. The library itself never
/// reads it.
pub const TOKEN_VARIABLE: &str = "SVCKIT_LOCK";

/// What a child needs to find an inherited lock: the descriptor and the identity of the lock file.
///
/// The token is a claim, not a proof: [`prove`] checks it against the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) fd: i32,
    pub(super) file: FileId,
}

impl Token {
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        Ok(Self { fd: file.as_raw_fd(), file: FileId::of_open(file)? })
    }

    /// Reads what [`TOKEN_VARIABLE`] holds. What is no token is left out: it proves nothing.
    ///
    /// ```
    /// assert_eq!(svckit::lock::Token::list("3:flock:8:15 rubbish").len(), 1);
    /// ```
    #[must_use]
    pub fn list(text: &str) -> Vec<Self> {
        text.split_whitespace().filter_map(|one| one.parse().ok()).collect()
    }

    /// A descriptor of our own for the same open file description. It closes on exec; the inherited one stays as it is.
    pub(super) fn duplicate(&self) -> std::io::Result<File> {
        // dup(2) of a number that nobody owns in this program would be unsafe; the kernel hands it out by pidfd_getfd(2).
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        Ok(File::from(rustix::process::pidfd_getfd(own, self.fd, PidfdGetfdFlags::empty())?))
    }

    /// Whether the descriptor is open on that file and the kernel lists an exclusive flock(2) on this very open file
    /// description (the `lock:` line of /proc/self/fdinfo/N, proc(5)). It has no side effect.
    fn check(&self) -> Result<(), NotHeld> {
        let fd = self.fd;
        let open = FileId::of(Path::new(&format!("/proc/self/fd/{fd}"))).map_err(|_| NotHeld::Closed { fd })?;
        if open != self.file {
            return Err(NotHeld::OtherFile { fd });
        }
        if super::table::is_locked_by(rustix::process::getpid(), fd) { Ok(()) } else { Err(NotHeld::Unlocked { fd }) }
    }

    fn path(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd)).ok()
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:flock:{}:{}", self.fd, self.file.device, self.file.inode)
    }
}

impl FromStr for Token {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is no lock token");
        let parts: Vec<&str> = text.split(':').collect();
        let [fd, "flock", device, inode] = parts[..] else {
            return Err(malformed());
        };
        Ok(Self {
            fd: fd.parse().ok().filter(|fd| *fd >= 0).ok_or_else(malformed)?,
            file: FileId {
                device: device.parse().map_err(|_| malformed())?,
                inode: inode.parse().map_err(|_| malformed())?,
            },
        })
    }
}

/// Why a process does not hold a lock that it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// It was handed nothing.
    #[error("this process was handed no lock")]
    NoToken,
    /// It was handed other locks.
    #[error("this process was handed other locks than that of {label}")]
    Another {
        /// What was asked for.
        label: String,
    },
    /// The descriptor is closed: something on the way closed it.
    #[error("descriptor {fd}, by which the lock was handed on, is closed")]
    Closed {
        /// Its number.
        fd: i32,
    },
    /// The descriptor has been used for another file since.
    #[error("descriptor {fd}, by which the lock was handed on, is another file now")]
    OtherFile {
        /// Its number.
        fd: i32,
    },
    /// It is the file, and it is not locked by it.
    #[error("descriptor {fd}, by which the lock was handed on, does not hold it any more")]
    Unlocked {
        /// Its number.
        fd: i32,
    },
    /// It is the file, not locked by it, but by another.
    #[error("descriptor {fd}, by which the lock was handed on, does not hold it any more: process {holder} does")]
    HeldByAnother {
        /// Its number.
        fd: i32,
        /// A process that holds it.
        holder: i32,
    },
    /// Another file stands at the lock file's path, or none: this lock excludes nobody any more.
    #[error("the lock file of {label} was removed or replaced: whoever comes now locks another one")]
    Replaced {
        /// What was asked for.
        label: String,
    },
}

impl Failure for NotHeld {
    fn kind(&self) -> FailureKind {
        FailureKind::No
    }
    fn hint(&self) -> Option<String> {
        Some("run it under `svc-lock run`, and through nothing that closes descriptors (sudo does)".to_owned())
    }
}

/// Proves that this process holds the lock of `key` in `directory` by a descriptor that it was handed: the descriptor
/// is open, is the file that stands at the lock's path, and the kernel lists the lock on this very descriptor.
///
/// Nothing is locked, unlocked or written to find out.
///
/// ```
/// use svckit::lock::{LockKey, NotHeld, prove};
/// let nowhere = std::path::Path::new("/run/svckit/lock");
/// assert_eq!(prove(nowhere, &LockKey::named("mirror"), &[]), Err(NotHeld::NoToken));
/// ```
///
/// # Errors
/// Why it does not.
pub fn prove(directory: &Path, key: &LockKey, tokens: &[Token]) -> Result<(), NotHeld> {
    proved(directory, key, tokens).map(|_| ())
}

/// The token that proves it.
pub(super) fn proved<'a>(directory: &Path, key: &LockKey, tokens: &'a [Token]) -> Result<&'a Token, NotHeld> {
    let label = || key.label().to_owned();
    if tokens.is_empty() {
        return Err(NotHeld::NoToken);
    }
    let path = directory.join(key.file_name());
    let at_path = FileId::of(&path).ok();
    if let Some(token) = tokens.iter().find(|token| Some(token.file) == at_path) {
        return match token.check() {
            Ok(()) => Ok(token),
            Err(NotHeld::Unlocked { fd }) => Err(match Table::read().holders_of(token.file).first() {
                Some(holder) => NotHeld::HeldByAnother { fd, holder: holder.process.pid },
                None => NotHeld::Unlocked { fd },
            }),
            Err(other) => Err(other),
        };
    }
    let real = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned()).join(key.file_name());
    let removed = PathBuf::from(format!("{} (deleted)", real.display()));
    let was_it = |token: &&Token| token.path().is_some_and(|path| path == removed || path == real);
    Err(match tokens.iter().find(was_it) {
        Some(_) => NotHeld::Replaced { label: label() },
        None => NotHeld::Another { label: label() },
    })
}
