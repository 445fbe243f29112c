//! Files and directories as one tar that GNU tar reads.

mod measure;
mod read;
mod select;
mod write;
mod xattr;

use std::path::{Path, PathBuf};

pub(super) use measure::measure;
pub(super) use read::{extract, verify};
pub use select::matches_anything;
pub(super) use write::write;

/// What goes into a tree.
///
/// In: regular files, directories, symbolic links (as links), hard links, devices are refused; each with owner, mode,
/// time of modification (whole seconds) and extended attributes (ACLs and capabilities are such). Names are stored
/// without their leading `/`, so that `tar -x` puts them below the current directory.
///
/// Left out, with a notice: sockets and pipes (their service makes them anew), what vanishes while it is read.
/// Noticed, and stored as it was read: files that change or grow meanwhile. Refused: a large file that shrinks while it
/// is read, as its size is in the archive already; a store that lies in an included directory.
#[derive(Debug, Clone, Copy)]
pub struct TreeRequest<'a> {
    /// Absolute paths of files and directories, or glob patterns (`/srv/app/*.toml`). A path that exists as it is
    /// written is never taken for a pattern.
    pub includes: &'a [PathBuf],
    /// Databases that are backed up as such: they and their `-wal`, `-shm` and `-journal` are left out.
    pub databases: &'a [PathBuf],
}

/// Whether a name of an archive stays below the directory that it is extracted into.
fn stays_inside(path: &Path) -> bool {
    use std::path::Component;
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}
