//! A connection to a service's database that leaves it as the service made it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::tend::{Control, TaskError};
use crate::world::disk::FileId;

/// How long we wait for our turn to write. The service's own wait is mostly longer.
const BUSY: Duration = Duration::from_secs(2);
/// As long as whoever looks waits for others: a figure is not worth more.
const BUSY_TO_LOOK: Duration = Duration::from_millis(250);
/// After so many steps of SQLite's machine it is asked whether to go on.
const STEPS: i32 = 1_000;

/// What the interruption of statements goes by; shared with the handler in the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Bound(Arc<Mutex<Option<Control>>>);

impl Bound {
    pub(super) fn set(&self, control: &Control) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
    }

    fn is_overdue(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Control::is_overdue)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Looks only, without a lock of ours: a journal that was left in the middle is not rolled back, it is an error.
    Looking,
    /// Writes, under the locks of a pass.
    Writing,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    path: PathBuf,
    file: FileId,
}

impl Opened {
    /// Opens what is there, to look only; what takes longer than until then is interrupted, and hardly anybody is waited for.
    pub(super) fn open_until(path: &Path, until: Instant) -> Result<Self, TaskError> {
        let mut opened = Self::open(path, For::Looking, None)?;
        let handled = opened.connection.progress_handler(STEPS, Some(move || Instant::now() >= until));
        handled.and_then(|()| opened.connection.busy_timeout(BUSY_TO_LOOK)).map_err(|error| blame(&error, path))?;
        Ok(opened)
    }

    /// Opens what is there; nothing is made. With `bound`, what takes too long is interrupted.
    pub(super) fn open(path: &Path, purpose: For, bound: Option<&Bound>) -> Result<Self, TaskError> {
        let away =
            |error: &dyn std::fmt::Display| TaskError::Unavailable(format!("can't open {}: {error}", path.display()));
        let file = FileId::of(path).map_err(|error| away(&error))?;
        let access = match purpose {
            For::Looking => OpenFlags::SQLITE_OPEN_READ_ONLY,
            For::Writing => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|error| away(&error))?;
        let mut set_up = || -> rusqlite::Result<()> {
            connection.busy_timeout(BUSY)?;
            // Neither our work nor our end checkpoints: that is the service's.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // A column that is misspelt is an error, no text.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            if let Some(bound) = bound.cloned() {
                connection.progress_handler(STEPS, Some(move || bound.is_overdue()))?;
            }
            Ok(())
        };
        set_up().map_err(|error| blame(&error, path))?;
        Ok(Self { connection, path: path.to_owned(), file })
    }

    /// Whether the name means another file now, or none.
    pub(super) fn is_replaced(&self) -> bool {
        FileId::of(&self.path).map_or(true, |now| now != self.file)
    }

    pub(super) fn schema_version(&self) -> Result<i64, TaskError> {
        self.connection
            .pragma_query_value(None, "schema_version", |row| row.get(0))
            .map_err(|error| blame(&error, &self.path))
    }
}

/// Whose fault an error of SQLite is.
pub(super) fn blame(error: &rusqlite::Error, path: &Path) -> TaskError {
    let text = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            TaskError::Unavailable(format!("{}: the service, or somebody else, writes into it", path.display()))
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::SchemaChanged
            | ErrorCode::FileLockingProtocolFailed,
        ) => TaskError::Unavailable(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            TaskError::Broken(format!("{text}; look at it with `svc-repair check {}`", path.display()))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            TaskError::Broken(text)
        }
        Some(ErrorCode::OperationInterrupted) => TaskError::Item("it took too long and was interrupted".to_owned()),
        _ => TaskError::Item(text),
    }
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
