//! What a path says about its neighbours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A file that SQLite keeps beside `database`: its name and `suffix` (`-wal`, `-shm`, `-journal`).
///
/// SQLite follows a symbolic link before it names them, and so does this.
#[must_use]
pub fn side_file(database: &Path, suffix: &str) -> PathBuf {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name: OsString = real.into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
