//! Who could swap the store under us: every directory above it counts.

use std::path::Path;

use super::ArchiveError;
use crate::world::disk::AtPath;
use crate::world::rights::changeable_by_others;

/// Refuses a store when it, or a directory above it, belongs to another non-root user or can be written by everybody
/// (a sticky directory such as /tmp can: what is in it stays its owner's).
///
/// Not refused: directories that a group may write to. A group is somebody's decision.
///
/// `root` is canonical.
pub(super) fn check(root: &Path) -> Result<(), ArchiveError> {
    check_part(root, root)
}

/// The same of a directory of the store, which may be a link to another place: who can write to it can put a newer backup
/// there, and have that restored.
pub(super) fn check_part(store: &Path, dir: &Path) -> Result<(), ArchiveError> {
    let real = std::fs::canonicalize(dir).at("look at", dir)?;
    let refuse = |path: &Path, reason: String| {
        Err(ArchiveError::Rights { store: store.to_owned(), path: path.to_owned(), reason })
    };
    if !real.is_dir() {
        return refuse(&real, "is not a directory".to_owned());
    }
    match changeable_by_others(&real)? {
        Some((path, reason)) => refuse(&path, reason),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, FailureKind};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_store_below_a_directory_that_everybody_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let open = top.join("open");
        let store = open.join("store");
        std::fs::create_dir_all(&store).unwrap();
        check(&store).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = check(&store).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permission);
        assert!(error.to_string().contains("open can be written by everybody (mode 0777)"), "{error}");
        assert!(error.hint().unwrap().contains("chmod o-w"));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
        check(&store).unwrap();
        assert!(check(&open).is_err(), "a store that everybody can write to, sticky or not");
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::lchown(&open, Some(1234), None).unwrap();
            let error = check(&store).unwrap_err();
            assert!(error.to_string().contains("open belongs to user 1234, who could replace it"), "{error}");
        }
    }
}
