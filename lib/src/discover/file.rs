//! A configuration file, read as one that commands are taken from: root runs what it says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::{DiscoverError, Finding};
use crate::world::disk::parent_of;
use crate::world::rights::{changeable_by_others, of_another};

/// The longest file that is read: a configuration, not data.
const LEN_MAX: u64 = 1 << 20;
const WRITABLE_BY_GROUP: u32 = 0o020;

/// The whole text.
///
/// # Errors
/// When it can't be read, is no text, or somebody other than root and us could have written it.
pub(crate) fn read(path: &Path) -> Result<String, DiscoverError> {
    let unreadable = |source| DiscoverError::Unreadable { path: path.to_owned(), source };
    let invalid = |what: &str| DiscoverError::Invalid {
        path: path.to_owned(),
        findings: vec![Finding { line: 1, column: 1, what: what.to_owned(), instead: None }],
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    check(path, &file)?;
    file.take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LEN_MAX {
        return Err(invalid("longer than 1 MiB: that is no configuration"));
    }
    String::from_utf8(bytes).map_err(|_| invalid("not UTF-8, as TOML must be"))
}

/// The file, the link that names it, and what lies above either.
fn check(path: &Path, file: &File) -> Result<(), DiscoverError> {
    let unreadable = |source| DiscoverError::Unreadable { path: path.to_owned(), source };
    let untrusted =
        |at: &Path, reason: String| DiscoverError::Untrusted { path: path.to_owned(), at: at.to_owned(), reason };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        // A pipe of whoever started us (`--config /dev/stdin`) has no place that others could change.
        return Ok(());
    }
    let real = std::fs::canonicalize(path).map_err(unreadable)?;
    let link = std::fs::symlink_metadata(path).map_err(unreadable)?;
    if let Some(reason) = of_another(&link) {
        return Err(untrusted(path, reason));
    }
    let named_in = std::fs::canonicalize(parent_of(path)).map_err(unreadable)?;
    for (place, is_file) in [(&real, true), (&named_in, false)] {
        // A sticky directory keeps the file its owner's, also where the file lies in it directly.
        let found = changeable_by_others(place).map_err(|error| unreadable(error.source))?;
        if let Some((at, reason)) = found.filter(|(at, _)| is_file || !is_sticky(at)) {
            return Err(untrusted(&at, reason));
        }
    }
    // For root a group is more than root; a user's own group is mostly the user alone.
    if rustix::process::geteuid().is_root() && metadata.gid() != 0 && metadata.mode() & WRITABLE_BY_GROUP != 0 {
        return Err(untrusted(&real, format!("can be written by group {}", metadata.gid())));
    }
    Ok(())
}

fn is_sticky(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.mode() & 0o1000 != 0)
}
