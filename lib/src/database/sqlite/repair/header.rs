//! The few bytes of a copy's header that are written here, and its last steps.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Base;
use crate::database::sqlite::error::SqliteError;
use crate::world::disk::{AtPath, DiskError};

/// Where the versions are that say which kind of journal the database keeps (fileformat2.html, 1.3.3).
const VERSIONS: u64 = 18;

/// For work on a copy: no log may appear beside it.
pub(super) fn to_rollback(file: &Path) -> Result<(), SqliteError> {
    write(file, &[1, 1], VERSIONS)
}

/// Gives the copy the kind of journal that the database had, and makes it durable.
pub(super) fn finish(base: &Base<'_>, file: &Path) -> Result<(), SqliteError> {
    let versions = base.view.image().header().versions;
    if versions == [2, 2] {
        write(file, &versions, VERSIONS)?;
    }
    Ok(File::open(file).at("open", file)?.sync_all().at("sync", file)?)
}

pub(super) fn write(file: &Path, bytes: &[u8], at: u64) -> Result<(), SqliteError> {
    let open = OpenOptions::new().write(true).open(file).at("open", file)?;
    Ok(open.write_all_at(bytes, at).at("write to", file)?)
}

pub(super) fn disk(action: &'static str, path: &Path, source: std::io::Error) -> SqliteError {
    SqliteError::Disk(DiskError { action, path: path.to_owned(), source })
}
