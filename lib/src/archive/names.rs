//! What of a directory is ours, told by names alone. What has another name is never removed.

use std::path::Path;

use super::ArchiveError;
use super::proof::PROOF;
use super::target_lock::LOCK;
use crate::world::disk::AtPath;

/// With an identity behind it: a draft.
pub(super) const PARTIAL: &str = ".partial-";
/// Its copies for verification.
pub(super) const SCRATCH: &str = ".scratch-";
/// A backup that is being removed.
pub(super) const EXPIRED: &str = ".expired-";

/// `20261121T040719Z-3fa96c`.
pub(super) fn is_backup_id(name: &str) -> bool {
    let shape = b"dddddddd\x54dddddd\x5a-xxxxxx";
    name.len() == shape.len()
        && name.bytes().zip(shape).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
            other => byte == *other,
        })
}

/// The names in a directory that are UTF-8 (ours all are), and whether each is a directory.
pub(super) fn entries(dir: &Path) -> Result<Vec<(String, bool)>, ArchiveError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let is_dir = match entry.file_type() {
            Ok(kind) => kind.is_dir(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => Err(error).at("look at", &entry.path())?,
        };
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, is_dir));
        }
    }
    Ok(found)
}

/// Whether a directory of this name is what only a dead attempt leaves: one of our beginnings and an identity of ours.
/// The beginning alone is also that of directories of other programs.
pub(super) fn is_leftover(name: &str) -> bool {
    [PARTIAL, SCRATCH, EXPIRED].iter().any(|ours| name.strip_prefix(ours).is_some_and(is_backup_id))
}

/// Whether a directory is a target's: it has a backup, or nothing but what we left there.
pub(super) fn holds_ours(dir: &Path) -> Result<bool, ArchiveError> {
    let (mut ours, mut foreign) = (0, 0);
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        match is_dir {
            true if is_backup_id(&name) => return Ok(true),
            true if is_leftover(&name) => ours += 1,
            false if name == LOCK || name.contains(PROOF) => ours += 1,
            _ => foreign += 1,
        }
    }
    Ok(ours > 0 && foreign == 0)
}

#[cfg(test)]
mod tests {
    use super::super::draft;
    use super::*;

    #[test]
    fn only_our_own_identities_are_backups() {
        assert!(is_backup_id("20261121T040719Z-3fa96c"));
        for other in ["20261121T040719Z-3fa96", "20261121T040719Z-3fa96g", "20261121X040719Z-3fa96c", "notes", ""] {
            assert!(!is_backup_id(other), "{other}");
        }
        assert!(is_backup_id(draft::new_id().unwrap().as_str()));
    }

    #[test]
    fn what_others_call_partial_or_scratch_is_theirs() {
        assert!(is_leftover(".partial-20261121T040719Z-3fa96c") && is_leftover(".expired-20261121T040719Z-3fa96c"));
        for other in [".scratch-area", ".partial-downloads", ".expired-", ".partial-20261121T040719Z-3fa96c.old"] {
            assert!(!is_leftover(other), "{other}");
        }
    }
}
