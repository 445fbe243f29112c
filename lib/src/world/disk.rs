//! Durable files: write, sync, rename, sync the directory, in that order.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed: what was attempted, on which path, and the system's answer.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was attempted, as a verb phrase: `create`, `write to`.
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The system's answer.
    pub source: std::io::Error,
}

impl crate::failure::Failure for DiskError {
    fn kind(&self) -> crate::failure::FailureKind {
        crate::failure::kind_of_io(&self.source)
    }
    fn hint(&self) -> Option<String> {
        crate::failure::hint_of_io(&self.source)
    }
}

/// Adds what was attempted, and on what, to an I/O error.
pub trait AtPath<T> {
    /// `action` as a verb phrase, `path` as it was used.
    ///
    /// # Errors
    /// The same error, with its context.
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<std::io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source: source.into() })
    }
}

/// Makes a file's name durable: fsync(2) of the directory that has it.
///
/// # Errors
/// When the directory can't be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).at("open", dir)?.sync_all().at("sync", dir)
}

/// The directory of a path; `.` for a bare name.
#[must_use]
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a directory and its missing parents with mode 0700, durably. One that exists is left as it is.
///
/// # Errors
/// When one can't be created, or something that is no directory has the name.
pub fn create_private_dir(dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    if parent != dir {
        create_private_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        other => other.at("create the directory", dir),
    }?;
    sync_dir(parent)
}

/// Replaces `path` by `bytes`: a temporary file of mode `mode` in the same directory, fsync, rename, fsync of the
/// directory. A crash leaves the old content or the new one, and at worst a file `.NAME.svckit-tmp` beside it.
///
/// Not promised: that owner and extended attributes of an old file are kept. For svckit's own files only.
///
/// # Errors
/// Whichever step fails; the old content is in place then, unless it was the last fsync that failed.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    write_durably_by(&temporary_of(path), path, bytes, mode)
}

/// As [`write_durably`], by a temporary file of that name in the same directory: one whose owner is to be told from it.
///
/// # Errors
/// The same.
pub fn write_durably_by(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    let parent = parent_of(path);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(temporary)
            .at("create", temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode)).at("set the mode of", temporary)?;
        file.write_all(bytes).at("write to", temporary)?;
        file.sync_all().at("sync", temporary)?;
        std::fs::rename(temporary, path).at("rename into place", path)
    })();
    if written.is_err() {
        // Best effort: the name is reused by the next attempt anyway.
        drop(std::fs::remove_file(temporary));
    }
    written?;
    sync_dir(parent)
}

/// The name that [`write_durably`] gives to a file until it is whole.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".svckit-tmp");
    parent_of(path).join(name)
}

/// Removes a file durably, and what an interrupted [`write_durably`] of it left; one that is not there is no error.
///
/// # Errors
/// When it can't be removed or the directory can't be synced.
pub fn remove_durably(path: &Path) -> Result<(), DiskError> {
    // Best effort, as it is harmless: only a whole file has the name that counts.
    drop(std::fs::remove_file(temporary_of(path)));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("remove", path)?,
    }
    sync_dir(parent_of(path))
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that we may still write (statvfs(3): f_bavail times f_frsize).
    pub bytes: u64,
    /// Files that we may still create; [`u64::MAX`] where the file system has no such bound.
    pub files: u64,
}

/// The space left where `path` is.
///
/// # Errors
/// When the path does not exist or can't be reached.
pub fn space_at(path: &Path) -> Result<Space, DiskError> {
    let stat = rustix::fs::statvfs(path).at("ask for the free space of", path)?;
    let files = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    Ok(Space { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
}

/// A file's identity: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FileId {
    /// st_dev.
    pub device: u64,
    /// st_ino.
    pub inode: u64,
}

impl FileId {
    /// The identity of the file at `path`, symbolic links followed.
    ///
    /// # Errors
    /// When there is none or it can't be reached.
    pub fn of(path: &Path) -> Result<Self, DiskError> {
        let metadata = std::fs::metadata(path).at("look at", path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The identity of an open file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of_open(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry.json");
        write_durably(&path, b"one", 0o600).unwrap();
        write_durably(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_removal_takes_along_what_an_interrupted_write_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry.json");
        std::fs::write(dir.path().join(".entry.json.svckit-tmp"), b"half").unwrap();
        remove_durably(&path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_error_names_the_action_and_the_path() {
        let error = write_durably(Path::new("/nonexistent-dir/x"), b"", 0o600).unwrap_err();
        assert!(error.to_string().starts_with("can't create /nonexistent-dir/.x.svckit-tmp: "), "{error}");
    }
}
