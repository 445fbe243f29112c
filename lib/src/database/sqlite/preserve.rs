//! The original, preserved before anything is done to it: the database and its side files together, in a directory
//! that only its owner can enter, hashed, and verified by reading back what was written.
//!
//! `DATABASE.svckit-preserved-ID/` has the files under their own names, and `preserved.json`, which is written before
//! the directory gets its name: what has that name is complete. Nothing removes it but a person.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};

use super::copy::{Progress, Stamp, copy_bytes, create};
use super::error::SqliteError;
use super::hash::sha256;
use super::header::missing;
use super::live::open_if_there;
use super::own::beside;
use crate::name::BackupId;
use crate::progress::{Cancel, Observer};
use crate::sqlite_locks::{Access, LockFile};
use crate::world::clock;
use crate::world::disk::{AtPath, create_private_dir, parent_of, sync_dir, write_durably};
use crate::world::raw_path::RawPath;

/// The form of `preserved.json`. A reader refuses a newer one.
const VERSION: u32 = 1;
const MANIFEST: &str = "preserved.json";
const INFIX: &str = ".svckit-preserved-";
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

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
    /// Larger than that of every set of this database before it: the clock may be turned back.
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

/// The files of a database as they were read: to see that nobody changed them since.
#[derive(Debug)]
pub struct Untouched(Vec<(PathBuf, Option<Stamp>)>);

impl Untouched {
    /// As they are now.
    ///
    /// # Errors
    /// When one can't be looked at.
    pub fn now(database: &Path) -> Result<Self, SqliteError> {
        let stamp = |suffix| {
            let path = beside(database, suffix);
            Stamp::at(&path).map(|stamp| (path, stamp))
        };
        Ok(Self(SUFFIXES.into_iter().map(stamp).collect::<Result<_, _>>()?))
    }

    /// # Errors
    /// [`SqliteError::Replace`] where one was changed.
    pub fn verify(&self) -> Result<(), SqliteError> {
        for (path, before) in &self.0 {
            let now = Stamp::at(path)?;
            let same = match (before, &now) {
                (Some(before), Some(now)) => before.same_content(now),
                (before, now) => before.is_none() && now.is_none(),
            };
            if !same {
                let reason = "somebody changed it since it was preserved".to_owned();
                return Err(SqliteError::Replace { path: path.clone(), reason });
            }
        }
        Ok(())
    }
}

/// The length of a database with the files beside it, in bytes.
///
/// # Errors
/// As [`super::identify`] where there is no database; when a file can't be looked at.
pub fn bytes_of(database: &Path) -> Result<u64, SqliteError> {
    let mut bytes = 0;
    for suffix in SUFFIXES {
        match std::fs::metadata(beside(database, suffix)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(database)?),
            other => bytes += other.at("look at", database)?.len(),
        }
    }
    Ok(bytes)
}

/// Preserves what lies at `database`: nobody may have it open, or be able to open it. A set with the same content is
/// verified and taken again. `staging`: a directory of ours on the same file system, for what is not complete yet.
///
/// # Errors
/// Whatever keeps a verified copy from being there: then nothing may be done to the original.
pub fn preserve(
    database: &Path,
    before: &str,
    staging: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Preserved, SqliteError> {
    observer.step("hashing the original");
    let mut files = Vec::new();
    for suffix in SUFFIXES {
        let Some(file) = open_if_there(&beside(database, suffix), Access::Read)? else { continue };
        let (path, metadata) = (file.path(), file.file().metadata().at("look at", file.path())?);
        files.push(PreservedFile {
            suffix: suffix.to_owned(),
            bytes: metadata.len(),
            sha256: sha256(file.file(), path, cancel, observer)?,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        });
    }
    if files.first().is_none_or(|file| !file.suffix.is_empty()) {
        return Err(missing(database)?);
    }
    let sets = preserved_sets(database)?;
    let sequence = sets.last().map_or(0, |set| set.manifest.sequence) + 1;
    let same = |set: &Preserved| set.manifest.files == files && set.manifest.before == before;
    if let Some(set) = sets.into_iter().rev().find(same)
        && set.verify(cancel, observer).is_ok()
    {
        return Ok(set);
    }
    let id = BackupId::fresh();
    let manifest = PreservedManifest {
        version: VERSION,
        id: id.clone(),
        database: RawPath(database.to_owned()),
        sequence,
        created: clock::now_rfc3339(),
        before: before.to_owned(),
        files,
    };
    let draft = Preserved { directory: staging.join("preserved"), manifest };
    create_private_dir(&draft.directory)?;
    for file in &draft.manifest.files {
        observer.step("preserving the original");
        let from = LockFile::open(&beside(database, &file.suffix), Access::Read)?;
        let to = draft.path(&file.suffix);
        let progress = Progress { observer, cancel, done_before: 0, total: file.bytes, deadline: None };
        let copy = create(&to)?;
        copy_bytes(from.file(), from.path(), &copy, &to, file.bytes, progress)?;
        copy.sync_all().at("sync", &to)?;
    }
    draft.verify(cancel, observer)?;
    let text = serde_json::to_vec_pretty(&draft.manifest).map_err(|source| SqliteError::Facts { source })?;
    write_durably(&draft.directory.join(MANIFEST), &text, 0o600)?;
    sync_dir(&draft.directory)?;
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(format!("{INFIX}{id}"));
    let directory = parent_of(database).join(name);
    std::fs::rename(&draft.directory, &directory).at("rename into place", &directory)?;
    sync_dir(parent_of(database))?;
    Ok(Preserved { directory, ..draft })
}

/// The complete sets of one database, the oldest first. What can't be read is passed over.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved_sets(database: &Path) -> Result<Vec<Preserved>, SqliteError> {
    let name = database.file_name().unwrap_or_default().to_os_string();
    let sets = preserved_in(parent_of(database))?;
    Ok(sets.into_iter().filter(|set| set.manifest.database.0.file_name() == Some(&name)).collect())
}

/// The complete sets in a directory, by database, the oldest of each first.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved_in(directory: &Path) -> Result<Vec<Preserved>, SqliteError> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(directory).at("list", directory)? {
        let path = entry.at("list", directory)?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().contains(INFIX)) {
            continue;
        }
        let text = std::fs::read(path.join(MANIFEST));
        match text.map(|text| serde_json::from_slice::<PreservedManifest>(&text)) {
            Ok(Ok(manifest)) if manifest.version <= VERSION && is_ours(&manifest) => {
                sets.push(Preserved { directory: path, manifest });
            }
            other => tracing::debug!(path = %path.display(), ?other, "no preserved set that can be read"),
        }
    }
    let order = |set: &Preserved| (set.manifest.database.0.clone(), set.manifest.sequence);
    sets.sort_by_cached_key(order);
    Ok(sets)
}

/// Nothing in the file leads out of the directory.
fn is_ours(manifest: &PreservedManifest) -> bool {
    manifest.database.0.file_name().is_some()
        && manifest.files.iter().all(|file| SUFFIXES.contains(&file.suffix.as_str()))
        && manifest.files.first().is_some_and(|file| file.suffix.is_empty())
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
    /// [`SqliteError::Corrupt`] where one is not what was preserved.
    pub fn verify(&self, cancel: &Cancel, observer: &dyn Observer) -> Result<(), SqliteError> {
        observer.step("reading the preserved original back");
        for file in &self.manifest.files {
            verify_file(&self.path(&file.suffix), file, cancel, observer)?;
        }
        Ok(())
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
            let from = File::open(&from_path).at("open", &from_path)?;
            let copy = create(&to)?;
            let progress = Progress { observer, cancel, done_before: 0, total: file.bytes, deadline: None };
            copy_bytes(&from, &from_path, &copy, &to, file.bytes, progress)?;
            // Whoever may not give it away keeps it, as it was before.
            let (uid, gid) = (rustix::fs::Uid::from_raw(file.uid), rustix::fs::Gid::from_raw(file.gid));
            let _not_allowed = rustix::fs::fchown(&copy, Some(uid), Some(gid));
            copy.set_permissions(Permissions::from_mode(file.mode)).at("set the mode of", &to)?;
            copy.sync_all().at("sync", &to)?;
            verify_file(&to, file, cancel, observer)?;
            copies.push((to, file.suffix.clone()));
        }
        Ok(copies)
    }

    /// Puts the files that a replacement moved aside in the place of their copies: they are the originals themselves,
    /// with all that belongs to them, and one of two equal things is enough. Those that differ stay where they are.
    ///
    /// # Errors
    /// When they can't be read or moved; the set is whole all the same.
    pub fn take_in(&self, aside: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<(), SqliteError> {
        for file in &self.manifest.files {
            let copy = self.path(&file.suffix);
            let original = aside.join(copy.file_name().unwrap_or_default());
            if original.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
                && verify_file(&original, file, cancel, observer).is_ok()
            {
                std::fs::rename(&original, &copy).at("rename into place", &copy)?;
            }
        }
        sync_dir(&self.directory)?;
        // What differs keeps it from going.
        let _not_empty = std::fs::remove_dir(aside);
        Ok(())
    }
}

fn verify_file(
    path: &Path,
    expected: &PreservedFile,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<(), SqliteError> {
    let file = File::open(path).at("open", path)?;
    // Advice: where the page cache keeps it, its pages are read from there.
    let _advice_only = fadvise(&file, 0, None, Advice::DontNeed);
    let bytes = file.metadata().at("look at", path)?.len();
    if bytes == expected.bytes && sha256(&file, path, cancel, observer)? == expected.sha256 {
        return Ok(());
    }
    let findings = vec!["it is not what was preserved: its SHA-256 is another".to_owned()];
    Err(SqliteError::Corrupt { path: path.to_owned(), findings })
}
