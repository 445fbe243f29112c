//! SQLite connections on our own copies; nowhere else is one opened.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::error::SqliteError;
use crate::world::disk::AtPath;

/// Adds what was attempted to SQLite's answer.
pub(super) trait Asked<T> {
    fn asked(self, action: &'static str, path: &Path) -> Result<T, SqliteError>;
}

impl<T> Asked<T> for rusqlite::Result<T> {
    fn asked(self, action: &'static str, path: &Path) -> Result<T, SqliteError> {
        self.map_err(|source| SqliteError::Sqlite { action, path: path.to_owned(), source })
    }
}

/// The cache of one connection, in KiB: all memory of a validation is a small multiple of it.
const CACHE_KIB: i64 = 12_288;

/// A read-only connection that takes no lock and makes no file beside the copy: the copy is complete in one file and
/// nobody changes it.
pub(super) fn open_still(copy: &Path) -> Result<Connection, SqliteError> {
    let mut uri = "file:".to_owned();
    let absolute = std::path::absolute(copy).at("look up", copy)?;
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            // Writing to a String can't fail.
            other => drop(write!(uri, "%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1&mode=ro");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&uri, flags).asked("open", copy)?;
    let settings = format!("PRAGMA cache_size=-{CACHE_KIB}; PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF;");
    connection.execute_batch(&settings).asked("set up a connection to", copy)?;
    Ok(connection)
}

/// Brings what `-wal` or `-journal` of a copy hold into the copy, by SQLite, and removes them.
pub(super) fn recover(copy: &Path) -> Result<(), SqliteError> {
    let side = ["-wal", "-journal"].map(|suffix| beside(copy, suffix));
    let mut any = false;
    for path in &side {
        any |= std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
    }
    if any {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(copy, flags).asked("open for its recovery", copy)?;
        // Durability is the archive's business: this copy is scratch.
        let recover = "PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA schema_version;";
        let recovered = run(&connection, recover).and_then(|()| run(&connection, "PRAGMA wal_checkpoint(TRUNCATE);"));
        recovered.asked("recover", copy)?;
        connection.close().map_err(|(_, source)| source).asked("close", copy)?;
    }
    for path in side.iter().chain([&beside(copy, "-shm")]) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.at("remove", path)?,
        }
    }
    Ok(())
}

/// Runs statements whose rows don't matter.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    for statement in sql.split_inclusive(';') {
        let mut statement = connection.prepare(statement)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// The name of a side file of a copy of ours.
pub(super) fn beside(copy: &Path, suffix: &str) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
