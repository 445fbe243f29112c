//! Reading a tree: the full parse that verifies it, and the extraction.

use std::fs::{DirBuilder, File, FileTimes, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tar::{Archive, Entry, EntryType};

use super::stays_inside;
use super::xattr::{self, Attributes};
use crate::archive::backup::{compare_sums, damaged, open_payload};
use crate::archive::codec::{BLOCK, PayloadReader};
use crate::archive::{ArchiveError, Checked, Payload};
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, DiskError};

/// What to do with one entry; its path has been judged already.
type Visit<'a> = dyn FnMut(&mut Entry<'_, PayloadReader>, &Path) -> Result<(), ArchiveError> + 'a;

/// Reads every byte and every header, and compares all sums.
pub(in crate::archive) fn verify(dir: &Path, payload: &Payload, cancel: &Cancel) -> Result<Checked, ArchiveError> {
    let (mut entries, mut bytes) = (0u64, 0u64);
    let mut buffer = vec![0; BLOCK];
    let file = dir.join(&payload.file);
    walk(dir, payload, cancel, &mut |entry, _path| {
        entries += 1;
        loop {
            if cancel.is_requested() {
                return Err(cancelled());
            }
            match entry.read(&mut buffer).map_err(|e| damaged(&file, e))? {
                0 => return Ok(()),
                read => bytes += read as u64,
            }
        }
    })?;
    let facts = serde_json::json!({ "entries": entries, "bytes": bytes });
    Ok(Checked { rungs: vec!["full parse".to_owned()], facts })
}

/// Extracts below `into`. No entry leaves it: `..`, absolute names and links on the way are refused.
pub(in crate::archive) fn extract(
    dir: &Path,
    payload: &Payload,
    into: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<(), ArchiveError> {
    // Owners, modes and times of directories come last and innermost first: one that may not be written to takes no
    // files. Grows with the number of directories alone.
    let mut directories: Vec<Directory> = Vec::new();
    let mut bytes = 0;
    let file = dir.join(&payload.file);
    walk(dir, payload, cancel, &mut |entry, path| {
        let to = into.join(path);
        let attributes = attributes(entry).map_err(|e| damaged(&file, e))?;
        if entry.header().entry_type() == EntryType::Directory {
            make_dirs(into, path, &file)?;
            directories.push(Directory::of(entry, to, attributes).map_err(|e| damaged(&file, e))?);
            return Ok(());
        }
        entry.set_preserve_permissions(true);
        match entry.unpack_in(into) {
            Ok(true) => {}
            Ok(false) => return Err(escapes(&file, path)),
            Err(source) => return Err(DiskError { action: "extract", path: to, source }.into()),
        }
        xattr::set(&to, &attributes, observer)?;
        bytes += entry.size();
        observer.bytes(bytes, payload.content_bytes);
        Ok(())
    })?;
    for directory in directories.iter().rev() {
        directory.finish(observer)?;
    }
    // One sync for all of them: they may be many, and small.
    let root = File::open(into).at("open", into)?;
    Ok(rustix::fs::syncfs(&root).at("sync", into)?)
}

fn walk(dir: &Path, payload: &Payload, cancel: &Cancel, visit: &mut Visit<'_>) -> Result<(), ArchiveError> {
    let file = dir.join(&payload.file);
    let reader = PayloadReader::new(open_payload(dir, payload)?, payload.codec, payload.content_bytes)
        .at("decompress", &file)?;
    let mut archive = Archive::new(reader);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    for entry in archive.entries().map_err(|e| damaged(&file, e))? {
        if cancel.is_requested() {
            return Err(cancelled());
        }
        let mut entry = entry.map_err(|e| damaged(&file, e))?;
        let path = entry.path().map_err(|e| damaged(&file, e))?.into_owned();
        if !stays_inside(&path) {
            return Err(escapes(&file, &path));
        }
        visit(&mut entry, &path)?;
    }
    compare_sums(&file, archive.into_inner(), payload)
}

fn cancelled() -> ArchiveError {
    ArchiveError::Cancelled { what: "the reading of the backup" }
}

fn escapes(file: &Path, path: &Path) -> ArchiveError {
    let reason = format!("its entry {path:?} would leave the directory that it is extracted into");
    ArchiveError::Unverified { path: file.to_owned(), reason }
}

/// Makes the directories of `path` below `into`, 0700 for now, through nothing that is a link.
fn make_dirs(into: &Path, path: &Path, file: &Path) -> Result<(), ArchiveError> {
    let mut at = into.to_owned();
    for part in path.components() {
        at.push(part);
        match DirBuilder::new().mode(0o700).create(&at) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if !std::fs::symlink_metadata(&at).at("look at", &at)?.is_dir() {
                    return Err(escapes(file, path));
                }
            }
            other => other.at("create the directory", &at)?,
        }
    }
    Ok(())
}

fn attributes(entry: &mut Entry<'_, PayloadReader>) -> std::io::Result<Attributes> {
    entry.pax_extensions()?.map_or_else(|| Ok(Vec::new()), xattr::parse)
}

/// What a directory gets when everything is in it.
struct Directory {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    mode: u32,
    modified: u64,
    attributes: Attributes,
}

impl Directory {
    fn of(entry: &Entry<'_, PayloadReader>, path: PathBuf, attributes: Attributes) -> std::io::Result<Self> {
        let header = entry.header();
        let id = |number: u64| u32::try_from(number).map_err(std::io::Error::other);
        let owner = match rustix::process::geteuid().is_root() {
            true => Some((id(header.uid()?)?, id(header.gid()?)?)),
            false => None,
        };
        Ok(Self { path, owner, mode: header.mode()? & 0o7777, modified: header.mtime()?, attributes })
    }

    fn finish(&self, observer: &dyn Observer) -> Result<(), ArchiveError> {
        let path = &self.path;
        let directory = File::open(path).at("open", path)?;
        if let Some((user, group)) = self.owner {
            lchown(path, Some(user), Some(group)).at("set the owner of", path)?;
        }
        xattr::set(path, &self.attributes, observer)?;
        directory.set_permissions(Permissions::from_mode(self.mode)).at("set the mode of", path)?;
        let modified = UNIX_EPOCH.checked_add(Duration::from_secs(self.modified)).unwrap_or(UNIX_EPOCH);
        Ok(directory.set_times(FileTimes::new().set_modified(modified)).at("set the time of", path)?)
    }
}
