//! Removal: first out of the way by a rename, then file by file.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::generation::of_name;
use super::{Generation, PublishError, Tree, steps};
use crate::world::disk::{AtPath, DiskError, remove_durably, sync_dir};

/// What became of a generation that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retired {
    Removed,
    /// A reader holds a lease on it.
    Leased,
}

/// Removes a generation that nobody reads. The caller knows that it is not the current one, and keeps it from becoming
/// so.
pub(super) fn retire(tree: &Tree, generation: Generation) -> Result<Retired, PublishError> {
    let (directory, gone) = (tree.directory(generation), tree.gone(generation));
    let held = File::open(&directory).at("open", &directory)?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Retired::Leased),
        Err(error) => Err(error).at("lock", &directory)?,
    }
    // From here on whoever has it open finds that its name is gone, and looks again.
    std::fs::rename(&directory, &gone).at("rename", &directory)?;
    drop(held);
    // Durable before the first file goes: no power cut shows half of it under its number.
    sync_dir(&tree.generations())?;
    remove_durably(&tree.manifest_path(generation))?;
    remove_tree(&gone)?;
    Ok(Retired::Removed)
}

/// Removes what interruptions left. Whoever calls it holds the tree's lock.
pub(super) fn sweep(tree: &Tree) -> Result<(), PublishError> {
    for entry in std::fs::read_dir(tree.generations()).at("list", &tree.generations())? {
        let entry = entry.at("list", &tree.generations())?;
        if is_leftover(&entry.file_name()) {
            remove_tree(&entry.path())?;
        }
    }
    let current = tree.current()?;
    // No interruption leaves a name without a manifest: it is made after it, and goes before it.
    for generation in tree.unknown()? {
        tracing::warn!(%generation, tree = %tree.root().display(), "a generation has no manifest: it is left alone");
    }
    for directory in [tree.state(), tree.manifests()] {
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            let name = entry.file_name();
            let is_temporary = name.to_string_lossy().ends_with(".svckit-tmp");
            let of = name.to_str().and_then(|name| of_name(name.strip_suffix(".json")?.as_ref()));
            if is_temporary || of.is_some_and(|generation| !tree.directory(generation).is_dir()) {
                std::fs::remove_file(entry.path()).at("remove", &entry.path())?;
            }
        }
    }
    match std::fs::remove_file(tree.new_link()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => other.at("remove", &tree.new_link())?,
    }
    // Interrupted right after its switch: nothing of it is left to do.
    if current.is_some() && steps::read(tree).is_some_and(|interrupted| Some(interrupted.generation) == current) {
        steps::forget(tree)?;
    }
    Ok(())
}

fn is_leftover(name: &std::ffi::OsStr) -> bool {
    let number = |name: &str| {
        let inner = name.strip_prefix('.')?;
        let inner = inner.strip_suffix(".new").or_else(|| inner.strip_suffix(".gone"))?;
        of_name(inner.as_ref())
    };
    name.to_str().and_then(number).is_some()
}

/// Removes a directory with all that is in it, also where its directories are read-only; one that is not there is no
/// error.
pub(super) fn remove_tree(path: &Path) -> Result<(), DiskError> {
    let removed = || match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match removed() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            removed().at("remove", path)
        }
        other => other.at("remove", path),
    }
}

/// Lets us list and change every directory.
fn open_up(root: &Path) -> Result<(), DiskError> {
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).at("set the mode of", &directory)?;
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            if entry.file_type().at("look at", &entry.path())?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}
