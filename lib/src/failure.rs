//! The kinds of failure that a program tells its caller apart by.
//!
//! Each module has a small error type of its own; all of them answer [`Failure::kind`], and the programs turn the
//! kind into an exit code in one exhaustive match. A new kind does not compile until it has a code.

use rustix::io::Errno;

/// What a failure means to the person or the script that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The request itself is wrong: an operand that can't mean anything.
    Usage,
    /// A configuration file, a profile or a label is invalid.
    Config,
    /// The answer is no: not running, not ready, nothing found.
    No,
    /// A database is corrupt.
    Corrupt,
    /// A backup does not verify.
    Unverified,
    /// A database was repaired in part, or can only be: the losses are told.
    Partial,
    /// Another operation holds the lock.
    LockHeld,
    /// A database write is in flight, or it can't be known that none is.
    WriteInFlight,
    /// Doing it would be unsafe, for a reason that the message gives.
    Unsafe,
    /// Permission is missing, or a file's rights are too open to be trusted.
    Permission,
    /// It failed, and the service is as it was.
    Failed,
    /// The stop timed out; the service still runs its stop, unharmed, and will be started after it.
    StopTimedOut,
    /// Some targets failed, others succeeded.
    SomeFailed,
    /// The service is not back. Outranks every other kind.
    NotBack,
}

/// A message, followed by those of its causes that it does not have already.
///
/// ```
/// let error = std::io::Error::other("no route");
/// assert_eq!(svckit::failure::with_causes("can't connect".to_owned(), Some(&error)), "can't connect: no route");
/// ```
#[must_use]
pub fn with_causes(mut message: String, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

/// An error that knows what it means to the caller.
pub trait Failure: std::error::Error {
    /// The kind, for the exit code.
    fn kind(&self) -> FailureKind;

    /// Whether it may pass by itself, so that another attempt is worth its time: an engine that is restarted, a network
    /// that is away. Never for what a person must change first, a wrong password above all.
    fn is_transient(&self) -> bool {
        false
    }

    /// What the person can do about it, one sentence, where there is something.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The kind that an I/O error has where nothing more is known of it.
#[must_use]
pub fn kind_of_io(error: &std::io::Error) -> FailureKind {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => FailureKind::Permission,
        _ => FailureKind::Failed,
    }
}

/// What a person can do about an I/O error, where it is one of those that have an answer.
#[must_use]
pub fn hint_of_io(error: &std::io::Error) -> Option<String> {
    let text = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run it as root, or as the user who owns the path",
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is mounted read-only: remount it, or choose another place"
        }
        std::io::ErrorKind::StorageFull => {
            "free some space (df -h) or files (df -i), expire old backups, or choose a place on another file system"
        }
        std::io::ErrorKind::QuotaExceeded => "raise the quota, or choose a place on another file system",
        _ => match Errno::from_io_error(error)? {
            Errno::IO => "the disk or its connection fails: look at the kernel's log (dmesg), or choose another place",
            Errno::FBIG => "a limit on the size of a file is in the way (ulimit -f, or the file system's own)",
            Errno::NOLCK => "the file system has no locks: start its lock service, or choose a place on another one",
            Errno::STALE | Errno::NOTCONN => "the network file system is gone: mount it again",
            _ => return None,
        },
    };
    Some(text.to_owned())
}
