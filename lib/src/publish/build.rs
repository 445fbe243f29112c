//! A generation's content: copied from a directory, or linked where nothing has changed since the last one.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::copy::{Copier, Hash};
use super::manifest::{Entry, Kind, Manifest};
use super::scan::{Found, Look, difference, scan};
use super::{PublishError, Tree, Watch};
use crate::world::disk::AtPath;
use crate::world::raw_path::RawPath;

/// A file that was modified less than this before it was read may change again within the same tick of its file
/// system's clock: next time its content is compared. Two seconds are the coarsest tick in use (FAT).
const SAME_TICK_MAX: i64 = 2;

/// How it is told that a file has not changed since the last generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Comparison {
    /// Size, time of modification to the nanosecond, mode and owner.
    #[default]
    Metadata,
    /// The content, of both the source's file and the one that is linked, and mode and owner.
    Content,
}

/// How a generation's content came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Built {
    /// Files that are those of the last generation.
    pub linked: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Bytes of those.
    pub bytes_copied: u64,
    /// Files and links of the last generation that are not there any more.
    pub vanished: u64,
    /// Files and links that are kept although they vanished.
    pub carried: u64,
}

impl Tree {
    /// What an update from a directory would do, told by sizes and times alone.
    ///
    /// # Errors
    /// When the directory or the manifest of the current generation can't be read.
    pub fn would_build(&self, from: &Path, watch: Watch<'_>) -> Result<Built, PublishError> {
        let manifest = self.current()?.map(|current| self.manifest(current)).transpose()?;
        let last = manifest.as_ref();
        let last = last.map(|manifest| Last { directory: self.directory(manifest.generation), manifest });
        preview(from, last.as_ref(), watch)
    }

    /// The same where there is no tree yet.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn would_build_first(from: &Path, watch: Watch<'_>) -> Result<Built, PublishError> {
        preview(from, None, watch)
    }
}

/// The generation before, as far as it helps.
pub(super) struct Last<'a> {
    pub(super) directory: PathBuf,
    pub(super) manifest: &'a Manifest,
}

/// Makes `into` what `from` is. The entries are those of the manifest.
///
/// # Errors
/// [`PublishError::Changed`] when `from` is not the same at the end as it was at the beginning.
pub(super) fn build(
    from: &Path,
    into: &Path,
    last: Option<&Last<'_>>,
    comparison: Comparison,
    watch: Watch<'_>,
) -> Result<(Vec<Entry>, Built), PublishError> {
    watch.observer.step("reading the source");
    let found = scan(from, watch)?;
    watch.observer.step("making the generation");
    let builder = Builder { from, into, last, comparison, copier: Copier::new(), watch };
    let mut built = Built::default();
    let total = found.iter().filter(|found| found.kind == Kind::File).map(|found| found.look.size).sum();
    let (mut entries, mut done) = (Vec::with_capacity(found.len()), 0);
    for one in &found {
        watch.go_on("the update")?;
        entries.push(builder.put(one, &mut built)?);
        if one.kind == Kind::File {
            done += one.look.size;
            watch.observer.bytes(done, total);
        }
    }
    // The innermost first: what is put into a directory changes its time, and one may not be writable.
    for directory in found.iter().rev().filter(|found| found.kind == Kind::Directory) {
        builder.copier.finish_directory(&directory.look, &join(into, &directory.path))?;
    }
    let after = scan(from, watch)?;
    if let Some(path) = difference(&found, &after) {
        return Err(PublishError::Changed { path: join(from, path) });
    }
    built.vanished = vanished(&found, last);
    Ok((entries, built))
}

/// What [`build`] would do, by metadata alone.
pub(super) fn preview(from: &Path, last: Option<&Last<'_>>, watch: Watch<'_>) -> Result<Built, PublishError> {
    let (found, mut built) = (scan(from, watch)?, Built::default());
    let old = |found: &Found| last.and_then(|last| last.manifest.entry(&found.path));
    for one in found.iter().filter(|found| found.kind == Kind::File) {
        let same = |entry: &Entry| {
            (entry.kind, entry.mode, entry.size, entry.modified)
                == (Kind::File, one.look.mode, Some(one.look.size), Some(one.look.modified))
        };
        if old(one).is_some_and(same) {
            built.linked += 1;
        } else {
            built.copied += 1;
            built.bytes_copied += one.look.size;
        }
    }
    built.vanished = vanished(&found, last);
    Ok(built)
}

fn vanished(found: &[Found], last: Option<&Last<'_>>) -> u64 {
    let Some(last) = last else { return 0 };
    let names: BTreeSet<&Path> = found.iter().map(|found| found.path.as_path()).collect();
    let of_before = last.manifest.entries.iter().filter(|entry| entry.kind != Kind::Directory);
    of_before.filter(|entry| !names.contains(entry.path.as_path())).count() as u64
}

/// `join` of an empty path would end the name with a slash.
pub(super) fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

struct Builder<'a> {
    from: &'a Path,
    into: &'a Path,
    last: Option<&'a Last<'a>>,
    comparison: Comparison,
    copier: Copier,
    watch: Watch<'a>,
}

impl Builder<'_> {
    fn put(&self, found: &Found, built: &mut Built) -> Result<Entry, PublishError> {
        let (from, to) = (join(self.from, &found.path), join(self.into, &found.path));
        let mut entry = Entry {
            path: found.path.clone(),
            kind: found.kind,
            mode: found.look.mode,
            size: None,
            modified: None,
            sha256: None,
            target: None,
            carried: None,
        };
        match found.kind {
            Kind::Directory if found.path.as_os_str().is_empty() => {}
            // Open to us alone until everything is in it.
            Kind::Directory => DirBuilder::new().mode(0o700).create(&to).at("create the directory", &to)?,
            Kind::Symlink => {
                let target = match std::fs::read_link(&from) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Err(PublishError::Changed { path: from });
                    }
                    other => other.at("read the link", &from)?,
                };
                self.copier.symlink(&target, &found.look, &to)?;
                (entry.mode, entry.target) = (0, Some(RawPath(target)));
            }
            Kind::File => {
                let (hash, modified) = match self.link(found, &from, &to)? {
                    Some(hash) => {
                        built.linked += 1;
                        (Some(hash), found.look.modified)
                    }
                    None => {
                        built.copied += 1;
                        built.bytes_copied += found.look.size;
                        self.copier.copy(&from, &found.look, &to, Hash::Yes, self.watch)?
                    }
                };
                (entry.size, entry.modified, entry.sha256) = (Some(found.look.size), Some(modified), hash);
            }
        }
        Ok(entry)
    }

    /// Links to the file of the last generation, where it is the same; the answer is its hash.
    fn link(&self, found: &Found, from: &Path, to: &Path) -> Result<Option<String>, PublishError> {
        let Some(last) = self.last else { return Ok(None) };
        let Some(entry) = last.manifest.entry(&found.path).filter(|entry| entry.kind == Kind::File) else {
            return Ok(None);
        };
        let (Some(size), Some(modified), Some(hash)) = (entry.size, entry.modified, &entry.sha256) else {
            return Ok(None);
        };
        let old = last.directory.join(&found.path);
        // The manifest may be right and the file not.
        let Ok(metadata) = std::fs::symlink_metadata(&old) else { return Ok(None) };
        let is_kept = metadata.is_file() && {
            let look = Look::of(&metadata);
            (look.size, look.modified, look.mode) == (size, modified, entry.mode)
                && look.mode == found.look.mode
                && (!self.copier.is_root() || look.owner == found.look.owner)
                && look.size == found.look.size
        };
        if !is_kept {
            return Ok(None);
        }
        let same_time = modified == found.look.modified;
        let is_certain = same_time && modified[0] < last.manifest.began[0] - SAME_TICK_MAX;
        let is_same = match self.comparison {
            Comparison::Metadata if is_certain => true,
            Comparison::Metadata if !same_time => false,
            // By content alone another time would be lost.
            _ => same_time && self.copier.hash(from, self.watch)? == *hash,
        };
        // Whoever asks for the content is not given a file that rotted under its old look.
        let is_whole = |old: &Path| Ok::<_, PublishError>(self.copier.hash(old, self.watch)? == *hash);
        if !is_same || (self.comparison == Comparison::Content && !is_whole(&old)?) {
            return Ok(None);
        }
        match std::fs::hard_link(&old, to) {
            Ok(()) => Ok(Some(hash.clone())),
            // Another file system, too many links to one file, or a rule against links to files of others.
            Err(error) => {
                tracing::debug!(%error, path = %old.display(), "it is copied, since it can't be linked");
                Ok(None)
            }
        }
    }
}
