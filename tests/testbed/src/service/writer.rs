//! The databases of the service.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Error, Options};

/// One connection to each database, and one transaction over all of them at a time.
pub(super) struct Writer {
    connections: Vec<Connection>,
    rows: u64,
}

impl Writer {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let connections =
            options.databases.iter().map(|path| connect(path, options)).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { connections, rows: 0 })
    }

    /// Rows committed by this process.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The last number that a process of our pid has written: pids are given away again, and in a container each
    /// service has the first.
    pub(super) fn last_number(&self) -> Result<i64, Error> {
        let mut last = 0;
        for connection in &self.connections {
            let max = "SELECT coalesce(max(number), 0) FROM rows WHERE pid = ?1";
            last = connection.query_row(max, [std::process::id()], |row| row.get::<_, i64>(0))?.max(last);
        }
        Ok(last)
    }

    /// Takes the write lock of every database. `false`: somebody else held one for the whole of the busy timeout.
    pub(super) fn begin(&self) -> Result<bool, Error> {
        for (index, connection) in self.connections.iter().enumerate() {
            match connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => {}
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    for begun in &self.connections[..index] {
                        begun.execute_batch("ROLLBACK")?;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    pub(super) fn insert(&self, number: i64, payload: usize) -> Result<(), Error> {
        let payload = "x".repeat(payload);
        for connection in &self.connections {
            connection.prepare("INSERT INTO rows (pid, number, payload) VALUES (?1, ?2, ?3)")?.execute((
                std::process::id(),
                number,
                &payload,
            ))?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self) -> Result<(), Error> {
        for connection in &self.connections {
            connection.execute_batch("COMMIT")?;
        }
        self.rows += 1;
        Ok(())
    }
}

fn connect(path: &Path, options: &Options) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match &options.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str())?,
        None => Connection::open_with_flags(path, flags)?,
    };
    connection.busy_timeout(Duration::from_millis(options.busy_timeout))?;
    // Before the journal mode: a WAL database that is first opened in EXCLUSIVE mode never has a -shm.
    if options.exclusive {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", &options.journal_mode, |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case(&options.journal_mode) {
        return Err(format!("asked for journal_mode {}, got {mode}", options.journal_mode).into());
    }
    // The default of most programs in WAL mode; one fsync a commit would only make the tests slower.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, pid INTEGER, number INTEGER, payload TEXT);
         CREATE UNIQUE INDEX IF NOT EXISTS rows_by_origin ON rows (pid, number);",
    )?;
    Ok(connection)
}
