//! What is preserved: sets of the files of a database as they were, found again, verified, and put to use.
//!
//! A set lies beside the database, where others may put files too: nothing that is no plain file is opened, and none is
//! followed or waited for.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags, fadvise};
use serde::{Deserialize, Serialize};

use super::copy::{Progress, copy_bytes, create};
use super::error::SqliteError;
use super::hash::sha256;
use super::own::beside;
use super::preserve::SUFFIXES;
use crate::name::BackupId;
use crate::progress::{Cancel, Observer};
use crate::sqlite_locks::{locked_by, openers};
use crate::world::disk::{AtPath, parent_of, sync_dir};
use crate::world::raw_path::RawPath;

/// The form of `preserved.json`. A reader refuses a newer one.
pub(super) const VERSION: u32 = 1;
pub(super) const MANIFEST: &str = "preserved.json";
pub(crate) const INFIX: &str = ".svckit-preserved-";
/// A manifest names four files.
const MANIFEST_MAX: u64 = 1 << 20;

/// One file of a preserved set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreservedFile {
    /// What it has behind the name of the database: nothing, `-wal`, `-shm` or `-journal`.
    pub suffix: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `preserved.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreservedManifest {
    /// The form of the file.
    pub version: u32,
    /// The end of the directory's name: time, and random digits.
    pub id: BackupId,
    /// Where the database was.
    pub database: RawPath,
    /// Larger than that of every set of this database before it, and anew each time that the set is taken again: the
    /// clock may be turned back.
    pub sequence: u64,
    /// When it was preserved (RFC 3339, UTC).
    pub created: String,
    /// What was about to be done: `repair`, `undo`.
    pub before: String,
    /// The files, the database first.
    pub files: Vec<PreservedFile>,
}

/// A set that is complete.
#[derive(Debug, Clone)]
pub struct Preserved {
    /// The directory.
    pub directory: PathBuf,
    /// What it says of itself.
    pub manifest: PreservedManifest,
}

/// What has the name of a set, and is none that can be used.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The directory.
    pub directory: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The complete sets of one database, the oldest first.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved_sets(database: &Path) -> Result<Vec<Preserved>, SqliteError> {
    Ok(preserved_of(database)?.0)
}

/// The same, with what can't be read of those that have its name.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved_of(database: &Path) -> Result<(Vec<Preserved>, Vec<Unreadable>), SqliteError> {
    let name = database.file_name().unwrap_or_default();
    let (mut sets, mut unreadable) = preserved_in(parent_of(database))?;
    sets.retain(|set| set.manifest.database.0.file_name() == Some(name));
    let prefix = [name.as_bytes(), INFIX.as_bytes()].concat();
    unreadable.retain(|it| it.directory.file_name().is_some_and(|name| name.as_bytes().starts_with(&prefix)));
    Ok((sets, unreadable))
}

/// The complete sets in a directory, by the name of the database, the oldest of each first; and what can't be read.
/// The place that a set names is not asked: the directory may have been moved since.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved_in(directory: &Path) -> Result<(Vec<Preserved>, Vec<Unreadable>), SqliteError> {
    let (mut sets, mut unreadable) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).at("list", directory)? {
        let path = entry.at("list", directory)?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().contains(INFIX)) || !path.is_dir() {
            continue;
        }
        match manifest_of(&path) {
            Ok(manifest) => sets.push(Preserved { directory: path, manifest }),
            Err(reason) => unreadable.push(Unreadable { directory: path, reason }),
        }
    }
    let name = |set: &Preserved| set.manifest.database.0.file_name().unwrap_or_default().to_owned();
    sets.sort_by_cached_key(|set| (name(set), set.manifest.sequence, set.manifest.created.clone()));
    unreadable.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok((sets, unreadable))
}

fn manifest_of(set: &Path) -> Result<PreservedManifest, String> {
    let text = read_small(&set.join(MANIFEST), MANIFEST_MAX).map_err(|error| format!("its {MANIFEST}: {error}"))?;
    let manifest: PreservedManifest =
        serde_json::from_slice(&text).map_err(|error| format!("its {MANIFEST} is damaged: {error}"))?;
    if manifest.version > VERSION {
        return Err(format!("its {MANIFEST} has version {}, and {VERSION} is the newest known", manifest.version));
    }
    // Nothing in the file leads out of the directory.
    let is_ours = manifest.database.0.file_name().is_some()
        && manifest.files.iter().all(|file| SUFFIXES.contains(&file.suffix.as_str()))
        && manifest.files.first().is_some_and(|file| file.suffix.is_empty());
    if is_ours { Ok(manifest) } else { Err(format!("its {MANIFEST} names files that no database has")) }
}

/// Reads a file of a set that is small if it is what it should be. Whatever has its name: nothing is waited for.
///
/// # Errors
/// When it is no plain file, can't be read, or has more than `max` bytes.
pub fn read_small(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let file = open_plain(path)?;
    if file.metadata()?.len() > max {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {max} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// No link is followed, and a FIFO does not block.
fn open_plain(path: &Path) -> std::io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
    }
    Ok(file)
}

impl Preserved {
    /// Where the file with this suffix is.
    #[must_use]
    pub fn path(&self, suffix: &str) -> PathBuf {
        let name = self.manifest.database.0.file_name().unwrap_or_default();
        beside(&self.directory.join(name), suffix)
    }

    /// Reads every file again, from the disk where that can be had, and compares its hash.
    ///
    /// # Errors
    /// [`SqliteError::NotPreserved`] where one is gone, or not what was preserved.
    pub fn verify(&self, cancel: &Cancel, observer: &dyn Observer) -> Result<(), SqliteError> {
        observer.step("reading the preserved original back");
        for file in &self.manifest.files {
            self.verify_one(&self.path(&file.suffix), file, cancel, observer)?;
        }
        Ok(())
    }

    fn verify_one(
        &self,
        path: &Path,
        file: &PreservedFile,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<(), SqliteError> {
        let is_same = verify_file(path, file, cancel, observer)?;
        is_same.map_err(|reason| SqliteError::NotPreserved { path: self.path(&file.suffix), reason })
    }

    /// Copies every file into a directory of ours, with the owner and the mode that it had where that may be set, and
    /// verifies the copies. The answer is their paths, with the suffix of each, the database first.
    ///
    /// # Errors
    /// When one can't be copied, or is not what was preserved.
    pub fn copy_to(
        &self,
        directory: &Path,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Vec<(PathBuf, String)>, SqliteError> {
        let mut copies = Vec::new();
        for file in &self.manifest.files {
            let (from_path, to) = (self.path(&file.suffix), directory.join(format!("staged{}", copies.len())));
            let from = open_plain(&from_path)
                .map_err(|error| SqliteError::NotPreserved { path: from_path.clone(), reason: error.to_string() })?;
            let copy = create(&to)?;
            let progress = Progress { observer, cancel, done_before: 0, total: file.bytes, deadline: None };
            copy_bytes(&from, &from_path, &copy, &to, file.bytes, progress)?;
            // Whoever may not give it away keeps it, as it was before.
            let (uid, gid) = (rustix::fs::Uid::from_raw(file.uid), rustix::fs::Gid::from_raw(file.gid));
            let _not_allowed = rustix::fs::fchown(&copy, Some(uid), Some(gid));
            copy.set_permissions(Permissions::from_mode(file.mode)).at("set the mode of", &to)?;
            copy.sync_all().at("sync", &to)?;
            self.verify_one(&to, file, cancel, observer)?;
            copies.push((to, file.suffix.clone()));
        }
        Ok(copies)
    }

    /// Removes what a replacement moved aside, file by file where it is what was preserved: one of two equal things is
    /// enough. That is the copy, since it was verified, and nobody else can have it open. The answer is whether nothing is
    /// left there: what was written after it was preserved stays.
    ///
    /// # Errors
    /// When they can't be read or removed; the set is whole all the same.
    pub fn settle(&self, aside: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<bool, SqliteError> {
        let name = self.manifest.database.0.file_name().unwrap_or_default();
        let database = aside.join(name);
        if locked_by(&database)?.is_some() || !openers(&database).at("look for users of", &database)?.is_empty() {
            return Ok(false);
        }
        for file in &self.manifest.files {
            let original = beside(&database, &file.suffix);
            let is_there = original.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if is_there && verify_file(&original, file, cancel, observer)?.is_ok() {
                std::fs::remove_file(&original).at("remove", &original)?;
            }
        }
        // What differs keeps it from going.
        let _not_empty = std::fs::remove_dir(aside);
        sync_dir(&self.directory)?;
        Ok(!aside.exists())
    }
}

/// Whether it is what was preserved, and if not, why.
fn verify_file(
    path: &Path,
    expected: &PreservedFile,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Result<(), String>, SqliteError> {
    let file = match open_plain(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("it is gone".to_owned())),
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(Err(error.to_string())),
        other => other.at("open", path)?,
    };
    // Advice: where the page cache keeps it, its pages are read from there.
    let _advice_only = fadvise(&file, 0, None, Advice::DontNeed);
    let bytes = file.metadata().at("look at", path)?.len();
    if bytes != expected.bytes {
        return Ok(Err(format!("it has {bytes} bytes, and {} were preserved", expected.bytes)));
    }
    let is_same = sha256(&file, path, cancel, observer)? == expected.sha256;
    Ok(if is_same { Ok(()) } else { Err("its SHA-256 is another than that of what was preserved".to_owned()) })
}
