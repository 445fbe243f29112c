//! Who else could change a file or directory, or put another one in its place: every directory above it counts.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::{AtPath, DiskError};

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// What lets somebody else in, and where: it, or a directory above it, belongs to another non-root user, or everybody
/// can write to it. In a sticky directory above it (/tmp) everybody may: what is in it stays its owner's.
///
/// Not told: what a group may write to. A group is somebody's decision.
///
/// `path` is canonical.
pub(crate) fn changeable_by_others(path: &Path) -> Result<Option<(PathBuf, String)>, DiskError> {
    for at in path.ancestors() {
        let metadata = std::fs::symlink_metadata(at).at("look at", at)?;
        let sticky_is_enough = at != path;
        let reason = match everybody(&metadata, sticky_is_enough) {
            None => of_another(&metadata),
            found => found,
        };
        if let Some(reason) = reason {
            return Ok(Some((at.to_owned(), reason)));
        }
    }
    Ok(None)
}

/// That it belongs to somebody who is neither root nor us.
pub(crate) fn of_another(metadata: &Metadata) -> Option<String> {
    let owner = metadata.uid();
    let is_another = owner != 0 && owner != rustix::process::geteuid().as_raw();
    is_another.then(|| format!("belongs to user {owner}, who could replace it"))
}

fn everybody(metadata: &Metadata, sticky_is_enough: bool) -> Option<String> {
    let mode = metadata.mode();
    let is_open = mode & WRITABLE_BY_OTHERS != 0 && !(sticky_is_enough && mode & STICKY != 0);
    is_open.then(|| format!("can be written by everybody (mode {:04o})", mode & 0o7777))
}
