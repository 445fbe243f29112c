//! The original, preserved before anything is done to it: the database and its side files together, in a directory
//! that only its owner can enter, hashed, and verified by reading back what was written.
//!
//! `DATABASE.svckit-preserved-ID/` has the files under their own names, and `preserved.json`, which is written before
//! the directory gets its name: what has that name is complete. Nothing removes it but a person.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::copy::{Progress, Stamp, copy_bytes, create};
use super::error::SqliteError;
use super::hash::sha256;
use super::header::missing;
use super::live::open_if_there;
use super::own::beside;
use super::preserved::{INFIX, MANIFEST, Preserved, PreservedFile, PreservedManifest, VERSION};
use crate::name::BackupId;
use crate::progress::{Cancel, Observer};
use crate::sqlite_locks::{Access, LockFile};
use crate::world::clock;
use crate::world::disk::{AtPath, create_private_dir, parent_of, sync_dir, write_durably};
use crate::world::raw_path::RawPath;

pub(super) const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

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
/// verified and taken again, as the latest. `known`: the sets that there are of it, read before its service was stopped.
/// `staging`: a directory of ours on the same file system, for what is not complete yet.
///
/// # Errors
/// Whatever keeps a verified copy from being there: then nothing may be done to the original.
pub fn preserve(
    database: &Path,
    before: &str,
    known: &[Preserved],
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
    let sequence = known.iter().map(|set| set.manifest.sequence).max().unwrap_or(0) + 1;
    let same = |set: &&Preserved| set.manifest.files == files && set.manifest.before == before;
    if let Some(set) = known.iter().rev().find(same)
        && set.verify(cancel, observer).is_ok()
    {
        let mut set = set.clone();
        set.manifest.sequence = sequence;
        write_manifest(&set)?;
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
    write_manifest(&draft)?;
    sync_dir(&draft.directory)?;
    let directory = beside(database, &format!("{INFIX}{id}"));
    std::fs::rename(&draft.directory, &directory).at("rename into place", &directory)?;
    sync_dir(parent_of(database))?;
    Ok(Preserved { directory, ..draft })
}

fn write_manifest(set: &Preserved) -> Result<(), SqliteError> {
    let text = serde_json::to_vec_pretty(&set.manifest).map_err(|source| SqliteError::Facts { source })?;
    Ok(write_durably(&set.directory.join(MANIFEST), &text, 0o600)?)
}
