//! Files and directories of a store: private from the first moment, whatever the umask.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::Errno;

use super::ArchiveError;
use crate::world::disk::{AtPath, DiskError};

/// Creates a file that must not exist yet, mode 0600.
pub(super) fn create(path: &Path) -> Result<File, DiskError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .at("create", path)?;
    file.set_permissions(Permissions::from_mode(0o600)).at("set the mode of", path)?;
    Ok(file)
}

/// Creates a directory that must not exist yet, mode 0700.
pub(super) fn create_dir(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new().mode(0o700).create(path).at("create the directory", path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).at("set the mode of", path)
}

/// Opens a regular file of the store for reading; a symbolic link or a pipe in its place is refused, not followed
/// or waited for.
pub(super) fn open_read(path: &Path) -> Result<File, ArchiveError> {
    let not_ours = || {
        let reason = "it is not a regular file, which is all that a backup has".to_owned();
        ArchiveError::Unverified { path: path.to_owned(), reason }
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let file = match opened {
        // A link, or a socket.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NXIO)) => return Err(not_ours()),
        other => other.at("open", path)?,
    };
    if !file.metadata().at("look at", path)?.is_file() {
        return Err(not_ours());
    }
    Ok(file)
}

/// Asks the kernel to forget the cached pages of a file that was synced, so that reading it again reads the disk.
/// File systems without a page cache of this kind ignore it.
pub(super) fn drop_cache(file: &File) {
    let _advice_only = fadvise(file, 0, None, Advice::DontNeed);
}

/// Writes a whole small file, mode 0600, and syncs it.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    use std::io::Write;
    let mut file = create(path)?;
    file.write_all(bytes).at("write to", path)?;
    file.sync_all().at("sync", path)
}
