//! Why locks can't be taken or judged.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Failure, FailureKind, hint_of_io, kind_of_io};
use crate::world::disk::DiskError;

/// Why a lock can't be taken, or what can't be known about one.
#[derive(Debug, thiserror::Error)]
pub enum LocksError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another connection kept its lock for longer than the deadline.
    #[error("can't take {} of {} within {waited:.1?}: {} holds it", what, path.display(), holder(*.pid))]
    Busy {
        /// The file.
        path: PathBuf,
        /// Which lock.
        what: &'static str,
        /// The deadline that passed.
        waited: Duration,
        /// Who holds it, where the kernel says.
        pid: Option<i32>,
    },
    /// Our own process has the file open by other means; opening it here would drop that connection's locks.
    #[error(
        "refused to open {}: this process itself has it open, and closing a second descriptor would drop its locks",
        path.display()
    )]
    OwnProcess {
        /// The file.
        path: PathBuf,
    },
    /// A crashed writer left a rollback journal that the next connection must roll back first.
    #[error("{} has a hot journal: a writer died in a transaction and nobody has rolled it back yet", path.display())]
    HotJournal {
        /// The database.
        path: PathBuf,
    },
    /// It can't be known whether the fence keeps this service from writing.
    #[error("it can't be known whether {} is being written: {reason}", path.display())]
    Unknown {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The wait was cancelled.
    #[error("cancelled while waiting for a lock of {}", path.display())]
    Cancelled {
        /// The file.
        path: PathBuf,
    },
}

fn holder(pid: Option<i32>) -> String {
    pid.map_or_else(|| "a process that is not visible here".to_owned(), |pid| format!("process {pid}"))
}

impl Failure for LocksError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => kind_of_io(&error.source),
            Self::Busy { .. } | Self::HotJournal { .. } | Self::Unknown { .. } => FailureKind::WriteInFlight,
            Self::OwnProcess { .. } => FailureKind::Unsafe,
            Self::Cancelled { .. } => FailureKind::Failed,
        }
    }
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Disk(error) => return hint_of_io(&error.source),
            Self::Busy { .. } => {
                "try again when the service writes less, or use --mode cold, which stops the service first"
            }
            Self::OwnProcess { .. } => "close this program's own connection to the database first",
            Self::HotJournal { .. } => "let the service open the database once, or use --mode cold",
            Self::Unknown { .. } => "use --mode cold, or stop the service without a last resort",
            Self::Cancelled { .. } => return None,
        };
        Some(text.to_owned())
    }
}
