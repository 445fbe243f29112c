//! A rollback journal, as far as it matters whether it must be rolled back.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::descriptor::{Access, LockFile};
use super::error::LocksError;
use crate::world::disk::AtPath;

/// Whether the journal has something to roll back: one that is cut to nothing (TRUNCATE) or has a zeroed header
/// (PERSIST) has not. A living writer's journal has, too.
///
/// # Errors
/// When it can't be read; one that does not exist has nothing.
pub fn has_content(journal: &Path) -> Result<bool, LocksError> {
    let file = match LockFile::open(journal, Access::Read) {
        Err(LocksError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let mut first = [0];
    let got = file.file().read_at(&mut first, 0).at("read", journal)?;
    Ok(got == 1 && first[0] != 0)
}
