//! What a directory holds, name by name.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::manifest::Kind;
use super::{PublishError, Watch};
use crate::world::disk::AtPath;

/// One name and what lstat(2) says of it.
#[derive(Debug)]
pub(super) struct Found {
    /// Below the directory; empty for itself.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) look: Look,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    pub(super) modified: [i64; 2],
    changed: [i64; 2],
    inode: u64,
    device: u64,
}

impl Look {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            size: metadata.len(),
            modified: [metadata.mtime(), metadata.mtime_nsec()],
            changed: [metadata.ctime(), metadata.ctime_nsec()],
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// Everything at and below a directory, sorted by path, links not followed.
///
/// # Errors
/// What can't be listed, and what is neither file, directory nor symbolic link.
pub(super) fn scan(root: &Path, watch: Watch<'_>) -> Result<Vec<Found>, PublishError> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    let metadata = std::fs::metadata(root).at("look at", root)?;
    found.push(Found { path: PathBuf::new(), kind: Kind::Directory, look: Look::of(&metadata) });
    while let Some(directory) = todo.pop() {
        watch.go_on("the reading of the tree")?;
        // `join` of an empty path would end the name with a slash.
        let at = if directory.as_os_str().is_empty() { root.to_owned() } else { root.join(&directory) };
        for entry in std::fs::read_dir(&at).at("list", &at)? {
            let entry = entry.at("list", &at)?;
            let path = directory.join(entry.file_name());
            let metadata = entry.metadata().at("look at", &entry.path())?;
            let kind = if metadata.is_file() {
                Kind::File
            } else if metadata.is_dir() {
                todo.push(path.clone());
                Kind::Directory
            } else if metadata.is_symlink() {
                Kind::Symlink
            } else {
                let reason = "it is no file, no directory and no symbolic link".to_owned();
                return Err(PublishError::Source { path: entry.path(), reason });
            };
            found.push(Found { path, kind, look: Look::of(&metadata) });
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The first difference between two looks at the same directory.
pub(super) fn difference<'a>(before: &'a [Found], after: &'a [Found]) -> Option<&'a Path> {
    let same = |a: &Found, b: &Found| a.path == b.path && a.kind == b.kind && a.look == b.look;
    let at = before.iter().zip(after).position(|(a, b)| !same(a, b));
    let at = at.or_else(|| (before.len() != after.len()).then(|| before.len().min(after.len())))?;
    before.get(at).or_else(|| after.get(at)).map(|found| found.path.as_path())
}
