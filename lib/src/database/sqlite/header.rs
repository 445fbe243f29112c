//! The first hundred bytes of a database (fileformat2.html, 1.3).

use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::SqliteError;
use crate::sqlite_locks::{Access, LockFile, has_content, side_file};
use crate::world::disk::{AtPath, FileId};

/// How long a header is.
pub(super) const HEADER_LEN: usize = 100;

/// Which kind of journal a database keeps, as its header tells: the rollback modes are one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalMode {
    /// DELETE, TRUNCATE, PERSIST, MEMORY or OFF.
    Rollback,
    /// A write-ahead log.
    Wal,
}

/// What the header of a database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which file it is.
    pub file: FileId,
    /// The length of the file, in bytes.
    pub bytes: u64,
    /// In bytes: a power of two from 512 to 65,536.
    pub page_size: u32,
    /// The kind of its journal.
    pub journal_mode: JournalMode,
    /// Changes with every transaction in a rollback mode.
    pub change_counter: u32,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: u32,
}

/// Says whether `path` is a SQLite database, by its header; symbolic links are followed. Changes nothing.
///
/// # Errors
/// A distinct error each where there is no file, a directory or another thing, an empty file, another file; and where only
/// its log is left of a database ([`SqliteError::LogOnly`]).
pub fn identify(path: &Path) -> Result<Identity, SqliteError> {
    look_at(path)?;
    identify_open(&LockFile::open(path, Access::Read)?)
}

/// The header of a file that is open.
pub(super) fn identify_open(file: &LockFile) -> Result<Identity, SqliteError> {
    let path = file.path();
    let bytes = file.file().metadata().at("look at", path)?.len();
    if bytes == 0 {
        return Err(log_of(path, false)?.unwrap_or_else(|| SqliteError::Empty { path: path.to_owned() }));
    }
    let not = |reason: String| SqliteError::NotSqlite { path: path.to_owned(), reason };
    let mut header = [0; HEADER_LEN];
    if bytes < HEADER_LEN as u64 {
        return Err(not(format!("it has only {bytes} bytes")));
    }
    file.file().read_exact_at(&mut header, 0).at("read", path)?;
    parse(&header, file.id(), bytes).map_err(not)
}

fn look_at(path: &Path) -> Result<(), SqliteError> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing(path)?);
        }
        other => other.at("look at", path)?,
    };
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a pipe",
        () => "a device",
    };
    Err(SqliteError::NotAFile { path: path.to_owned(), what })
}

/// Why there is no file `path`.
pub(super) fn missing(path: &Path) -> Result<SqliteError, SqliteError> {
    Ok(log_of(path, true)?.unwrap_or_else(|| SqliteError::Missing { path: path.to_owned() }))
}

/// What a log beside a database without a byte says of it.
fn log_of(path: &Path, gone: bool) -> Result<Option<SqliteError>, SqliteError> {
    for suffix in ["-wal", "-journal"] {
        let log = side_file(path, suffix);
        if has_content(&log)? {
            return Ok(Some(SqliteError::LogOnly { path: path.to_owned(), log, gone }));
        }
    }
    Ok(None)
}

fn parse(header: &[u8; HEADER_LEN], file: FileId, bytes: u64) -> Result<Identity, String> {
    if &header[..16] != b"SQLite format 3\0" {
        return Err("its first bytes are not those of one".to_owned());
    }
    let page_size = match u32::from(be16(header, 16)) {
        1 => 65_536,
        size => size,
    };
    if !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
        return Err(format!("its page size would be {page_size}"));
    }
    let journal_mode = match header[19] {
        1 => JournalMode::Rollback,
        2 => JournalMode::Wal,
        other => return Err(format!("its format version {other} is not known")),
    };
    Ok(Identity {
        file,
        bytes,
        page_size,
        journal_mode,
        change_counter: be32(header, 24),
        user_version: be32(header, 60).cast_signed(),
        application_id: be32(header, 68),
    })
}

/// The big-endian number at `at`; 0 where the bytes end before it.
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// The big-endian number at `at`; 0 where the bytes end before it.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}
