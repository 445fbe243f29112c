//! Why a database can't be identified, copied, proved or replaced.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::sqlite_locks::LocksError;
use crate::world::disk::DiskError;

/// Why something could not be done with a SQLite database.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A lock could not be taken or judged.
    #[error(transparent)]
    Locks(LocksError),
    /// There is no such file.
    #[error("there is no database {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// It is a directory, a device or a socket.
    #[error("{} is {what}, not a database file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It has no bytes.
    #[error("{} is empty: it has no database in it yet", path.display())]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// It is gone or has no bytes, and its log or its journal is still there.
    #[error(
        "{} {}, and {} is still there: SQLite deletes that when anybody opens the database",
        path.display(), if *gone { "is gone" } else { "is empty" }, log.display()
    )]
    LogOnly {
        /// The database.
        path: PathBuf,
        /// What is left of it.
        log: PathBuf,
        /// There is no file of that name.
        gone: bool,
    },
    /// It is some other file.
    #[error("{} is not a SQLite database: {reason}", path.display())]
    NotSqlite {
        /// The path.
        path: PathBuf,
        /// What its beginning says.
        reason: String,
    },
    /// The same file was named twice.
    #[error("{} and {} are the same file", first.display(), second.display())]
    Twice {
        /// One name.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A writer is at work in a way that we can't exclude, or that can't be known.
    #[error("can't copy {} while the service runs: {reason}", path.display())]
    InFlight {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was opened, closed, written or replaced while it was looked at: another look may find it at rest, or in use.
    /// It comes out only where that was so at each of many looks.
    #[error("can't copy {} while the service runs: {reason}", path.display())]
    Disturbed {
        /// The database.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// Writers would have to wait for too long.
    #[error(
        "can't copy {}: its writers would have to wait for about {estimate:.1?}, and at most {hold_max:?} is allowed",
        path.display()
    )]
    HoldTooLong {
        /// The database, or the first of the set.
        path: PathBuf,
        /// How long the copy is expected to take.
        estimate: Duration,
        /// What is allowed.
        hold_max: Duration,
    },
    /// It is not at rest.
    #[error("refused to copy {} cold: it is not among the databases that are at rest", path.display())]
    NotAtRest {
        /// The database.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("{} is damaged: {}", path.display(), findings.join("; "))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first findings.
        findings: Vec<String>,
    },
    /// SQLite refused.
    #[error("can't {action} {}: {source}", path.display())]
    Sqlite {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A preserved original has changed since, or is gone in part.
    #[error("what is preserved does not verify: {}: {reason}", path.display())]
    NotPreserved {
        /// The file of the set.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A replacement found something that it must not touch.
    #[error("can't replace {}: {reason}", path.display())]
    Replace {
        /// The target.
        path: PathBuf,
        /// What stands in the way.
        reason: String,
    },
    /// No step of a repair gives a whole database.
    #[error("can't repair {}: {}", path.display(), reasons.join("; "))]
    Unrepaired {
        /// The copy.
        path: PathBuf,
        /// Why, step by step.
        reasons: Vec<String>,
        /// Where rows are that can be read and belong to no table that is known.
        stray: Option<PathBuf>,
    },
    /// The facts can't be written as JSON.
    #[error("can't write down the facts of the database: {source}")]
    Facts {
        /// Why.
        source: serde_json::Error,
    },
    /// The caller ended it.
    #[error("cancelled while {what} {}", path.display())]
    Cancelled {
        /// What was done.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl From<LocksError> for SqliteError {
    fn from(error: LocksError) -> Self {
        match error {
            LocksError::Disk(error) => Self::Disk(error),
            other => Self::Locks(other),
        }
    }
}

impl From<SqliteError> for crate::database::EngineError {
    fn from(error: SqliteError) -> Self {
        Box::new(error)
    }
}

impl Failure for SqliteError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::Locks(error) => error.kind(),
            Self::Missing { .. }
            | Self::NotAFile { .. }
            | Self::Empty { .. }
            | Self::NotSqlite { .. }
            | Self::Twice { .. } => FailureKind::Usage,
            Self::InFlight { .. } | Self::Disturbed { .. } | Self::HoldTooLong { .. } => FailureKind::WriteInFlight,
            Self::NotAtRest { .. } | Self::Replace { .. } => FailureKind::Unsafe,
            Self::Corrupt { .. } | Self::Unrepaired { .. } | Self::LogOnly { .. } => FailureKind::Corrupt,
            Self::NotPreserved { .. } => FailureKind::Unverified,
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => FailureKind::Corrupt,
                Some(rusqlite::ErrorCode::PermissionDenied | rusqlite::ErrorCode::ReadOnly) => FailureKind::Permission,
                _ => FailureKind::Failed,
            },
            Self::Facts { .. } | Self::Cancelled { .. } => FailureKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Disk(error) => return error.hint(),
            Self::Locks(error) => return error.hint(),
            Self::Missing { .. } => "check the path; the service may keep its data elsewhere",
            Self::NotAFile { .. } => "name the database file itself",
            Self::Empty { .. } => "start the service once, so that it creates its tables",
            Self::LogOnly { path, log, gone } => {
                let create =
                    if *gone { format!("create an empty {}, and then ", path.display()) } else { String::new() };
                return Some(format!(
                    "don't start the service; keep a copy of {}; {create}run `svc-repair repair {}`, which takes what it has",
                    log.display(),
                    path.display()
                ));
            }
            Self::NotSqlite { .. } => "name a SQLite database; an encrypted one can't be read without its key",
            Self::Twice { .. } => "name every database once",
            Self::InFlight { .. } | Self::Disturbed { .. } => "use --mode cold, which stops the service for the copy",
            Self::HoldTooLong { .. } => "use --mode cold, or allow a longer hold (fence_hold_max)",
            Self::NotAtRest { .. } => "stop the service with this database declared",
            Self::Corrupt { path, .. } => {
                return Some(format!("run `svc-repair check {}` for the whole list of findings", path.display()));
            }
            Self::Unrepaired { .. } => {
                "name a store with backups of it (--from STORE), or put the latest back: svc-backup restore"
            }
            Self::NotPreserved { .. } => "choose another preserved original (svc-repair list), or a backup",
            Self::Replace { .. } => "look at the files named, then run `svc-ctl resume`",
            Self::Sqlite { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                "free some space (df -h), or choose a place on another file system"
            }
            Self::Sqlite { .. } | Self::Facts { .. } | Self::Cancelled { .. } => return None,
        };
        Some(text.to_owned())
    }
}
