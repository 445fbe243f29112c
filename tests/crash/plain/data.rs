//! Whether a database is whole, and holds what it must.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use svckit::world::disk::parent_of;

use svckit_testbed::record::Record;

use super::service::{QUICK, directory};
use super::template::{IN_THE_BACKUPS, ROWS, SINCE};

/// Which database is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPlace {
    Old,
    New,
}

/// The rows of one database, by origin and number.
pub(super) struct Rows(std::collections::HashSet<(i32, i64)>);

/// A connection that waits for the service's commits.
pub(super) fn open(path: &Path) -> Result<Connection, String> {
    let connection = Connection::open(path).map_err(|e| e.to_string())?;
    connection.busy_timeout(QUICK).map_err(|e| e.to_string())?;
    Ok(connection)
}

/// `integrity_check`, of everything or of a table in parentheses.
pub(super) fn verdict(connection: &Connection, of: &str) -> Result<String, String> {
    connection.query_row(&format!("PRAGMA integrity_check{of}"), (), |row| row.get(0)).map_err(|e| e.to_string())
}

impl Rows {
    fn read(path: &Path) -> Result<Self, String> {
        let connection = open(path)?;
        let verdict = verdict(&connection, "")?;
        if verdict != "ok" {
            return Err(format!("{}: integrity_check says {verdict}", path.display()));
        }
        Self::of(&connection)
    }

    pub(super) fn of(connection: &Connection) -> Result<Self, String> {
        let mut statement = connection.prepare("SELECT pid, number FROM rows").map_err(|e| e.to_string())?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).map_err(|e| e.to_string())?;
        rows.collect::<Result<_, _>>().map(Self).map_err(|e| e.to_string())
    }

    pub(super) fn count(&self, origin: i32) -> i64 {
        i64::try_from(self.0.iter().filter(|(pid, _)| *pid == origin).count()).unwrap()
    }

    pub(super) fn require(&self, what: &str, rows: &[(i32, i64)]) -> Result<(), String> {
        let lost = rows.iter().filter(|row| !self.0.contains(row)).count();
        if lost == 0 { Ok(()) } else { Err(format!("{lost} of {} acknowledged rows are lost {what}", rows.len())) }
    }
}

/// The service's database: whole, and with every row that the service was told is committed, unless a restore has
/// replaced it; then with every row of the backup and of the time since.
pub(crate) fn check(database: &Path, record: &Record, first_pid: i32) -> Result<InPlace, String> {
    // In this order: what is acknowledged now is in the database that is read afterwards.
    check_rows(database, first_pid, record.acknowledged())
}

/// The same for rows that are known otherwise.
pub(crate) fn check_rows(database: &Path, first_pid: i32, acknowledged: Vec<(i32, i64)>) -> Result<InPlace, String> {
    let rows = Rows::read(database)?;
    if rows.count(IN_THE_BACKUPS) != ROWS {
        return Err(format!("{} rows of the backups are there, not {ROWS}", rows.count(IN_THE_BACKUPS)));
    }
    match rows.count(SINCE) {
        ROWS => rows.require("from the database", &acknowledged).map(|()| InPlace::Old),
        0 => {
            let (before, after): (Vec<_>, Vec<_>) = acknowledged.into_iter().partition(|(pid, _)| *pid == first_pid);
            if rows.count(first_pid) != 0 {
                return Err(format!("a mixture: {} rows of the old database in the new one", rows.count(first_pid)));
            }
            rows.require("from the new database", &after)?;
            check_kept(database, &before)?;
            Ok(InPlace::New)
        }
        some => Err(format!("a mixture: {some} of {ROWS} rows of the old database")),
    }
}

/// The database is whole, whatever it holds.
pub(crate) fn check_whole(database: &Path) -> Result<(), String> {
    Rows::read(database).map(|_rows| ())
}

/// What was replaced is kept beside it, whole.
fn check_kept(database: &Path, acknowledged: &[(i32, i64)]) -> Result<(), String> {
    let all = entries(parent_of(database)).into_iter();
    let kept: Vec<PathBuf> = all.filter(|path| is_kept(path)).collect();
    let [kept] = &kept[..] else { return Err(format!("{} kept directories", kept.len())) };
    let copy = copy_of(kept)?;
    let rows =
        Rows::read(&copy.path().join(database.file_name().unwrap())).map_err(|e| format!("what is kept: {e}"))?;
    if rows.count(SINCE) != ROWS {
        return Err(format!("what is kept has {} of {ROWS} rows", rows.count(SINCE)));
    }
    rows.require("from what is kept", acknowledged)
}

/// The files of a directory, to be looked at elsewhere: their recovery is not ours to do.
pub(super) fn copy_of(directory: &Path) -> Result<tempfile::TempDir, String> {
    let copy = super::scratch();
    for file in entries(directory).into_iter().filter(|path| path.is_file()) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).map_err(|e| e.to_string())?;
    }
    Ok(copy)
}

fn is_kept(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().contains(".svckit-kept-") || is_preserved(path)
}

/// What a repair, or its undoing, preserves.
pub(super) fn is_preserved(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().contains(".svckit-preserved-")
}

/// What lies beside the database and is neither the service's nor what is kept for good.
pub(crate) fn strangers(root: &Path) -> Vec<String> {
    let known = ["data.db", "data.db-wal", "data.db-shm", "data.db-journal", "pid", super::service::ARGUMENTS];
    let names = entries(&directory(root)).into_iter().filter(|path| !is_kept(path));
    let names = names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    names.filter(|name| !known.contains(&name.as_str())).collect()
}

pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
