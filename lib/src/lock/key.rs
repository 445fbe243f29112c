//! What is locked: a canonical identity, so that an alias, a symlink and a path to the same thing exclude each other.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::world::disk::{AtPath, DiskError, FileId, parent_of};

/// One canonical identity that an operation excludes others from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockKey {
    /// The name of the lock file, without its ending.
    file_stem: String,
    /// For people: `unit plex.service`.
    label: String,
}

impl LockKey {
    /// The lock of a service. `family` says who keeps its identity (`unit`, `container`, `process`), `canonical` is
    /// that identity (a unit's Id, a container's id).
    #[must_use]
    pub fn service(family: &str, canonical: &str) -> Self {
        Self { file_stem: stem(family, canonical.as_bytes()), label: format!("{family} {canonical}") }
    }

    /// The lock of a database file: device and inode of its real directory, and its file name. The database itself
    /// need not exist, and its inode may change under a replacement.
    ///
    /// # Errors
    /// When the directory does not exist or can't be reached.
    pub fn database(path: &Path) -> Result<Self, DiskError> {
        // A symbolic link to a database is the database it points to.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = FileId::of(parent_of(&real))?;
        let name = real.file_name().unwrap_or_default().as_bytes();
        let mut identity = format!("{}:{}:", directory.device, directory.inode).into_bytes();
        identity.extend_from_slice(name);
        Ok(Self { file_stem: stem("database", &identity), label: format!("database {}", real.display()) })
    }

    /// The lock of a directory tree: device and inode of its real directory.
    ///
    /// # Errors
    /// When the directory does not exist or can't be reached.
    pub fn tree(path: &Path) -> Result<Self, DiskError> {
        let real = std::fs::canonicalize(path).at("look at", path)?;
        let id = FileId::of(&real)?;
        let identity = format!("{}:{}", id.device, id.inode);
        Ok(Self { file_stem: stem("tree", identity.as_bytes()), label: format!("tree {}", real.display()) })
    }

    /// A lock by a name that a person gave.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { file_stem: stem("name", name.as_bytes()), label: format!("name {name}") }
    }

    /// For people: what is locked.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A short text of letters and digits that tells it from others.
    pub(crate) fn hash(&self) -> &str {
        self.file_stem.rsplit('-').next().unwrap_or_default()
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}.lock", self.file_stem)
    }
}

/// A readable beginning and a hash: distinct identities get distinct file names, whatever characters they have.
fn stem(family: &str, identity: &[u8]) -> String {
    let readable: String = String::from_utf8_lossy(identity)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@'))
        .take(60)
        .collect();
    let mut hash = Sha256::new();
    hash.update(family.as_bytes());
    hash.update([0]);
    hash.update(identity);
    let hash: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{family}-{readable}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_and_its_target_are_one_database() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.db");
        std::fs::write(&real, b"").unwrap();
        let link = dir.path().join("link.db");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let by_link = LockKey::database(&link).unwrap();
        assert_eq!(by_link.file_name(), LockKey::database(&real).unwrap().file_name());
        let other_dir = dir.path().join("alias");
        std::os::unix::fs::symlink(dir.path(), &other_dir).unwrap();
        assert_eq!(by_link.file_name(), LockKey::database(&other_dir.join("real.db")).unwrap().file_name());
    }

    #[test]
    fn a_tree_is_one_by_whatever_path() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, alias) = (dir.path().join("tree"), dir.path().join("alias"));
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&tree, &alias).unwrap();
        assert_eq!(LockKey::tree(&tree).unwrap(), LockKey::tree(&alias).unwrap());
        assert_ne!(LockKey::tree(&tree).unwrap().file_name(), LockKey::tree(dir.path()).unwrap().file_name());
        assert!(LockKey::tree(&dir.path().join("none")).is_err());
    }

    #[test]
    fn names_that_clean_up_alike_stay_apart() {
        assert_ne!(LockKey::named("a b").file_name(), LockKey::named("ab").file_name());
        assert_ne!(LockKey::named("x").file_name(), LockKey::service("unit", "x").file_name());
    }
}
