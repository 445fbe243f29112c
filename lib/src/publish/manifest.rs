//! What a generation consists of: `.svc-publish/manifests/000042.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Generation, PublishError};
use crate::world::disk::AtPath;
use crate::world::raw_path::{self, RawPath};

/// The version that this program writes, and the newest that it reads.
pub const MANIFEST_VERSION: u32 = 1;

/// All of a generation: names, kinds, sizes, modes, hashes and targets. Sorted by path; parents come first.
///
/// Not in it, and not promised: owners, extended attributes, times of directories and links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format.
    pub version: u32,
    /// Whose it is.
    pub generation: Generation,
    /// When it was made (RFC 3339, UTC).
    pub created: String,
    /// Before anything was read for it: seconds and nanoseconds since the epoch.
    pub began: [i64; 2],
    /// What is in it.
    pub entries: Vec<Entry>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// One name of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below the generation's directory; empty for itself.
    #[serde(with = "raw_path")]
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// The permission bits; 0 for a symbolic link, which has none.
    pub mode: u32,
    /// Of a file: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of a file: time of modification, seconds and nanoseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<[i64; 2]>,
    /// Of a file: SHA-256 of its content, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a symbolic link: where it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RawPath>,
    /// Of what is gone from the source and kept for readers who still ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// How an entry that is gone from the source comes to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The last generation whose source had it.
    pub from: Generation,
    /// How many generations have had it since, this one included.
    pub generations: u32,
}

/// How much a generation holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Manifest {
    /// As it lies on the disk and goes to a mirror: one line of JSON.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn to_line(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads one, and checks that it means something.
    pub(super) fn read(path: &Path) -> Result<Self, PublishError> {
        Self::parse(&std::fs::read(path).at("read", path)?, path)
    }

    /// `path` is for the message.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, PublishError> {
        let refuse = |reason: String| PublishError::Unverified { path: path.to_owned(), reason };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| refuse(format!("it is no manifest: {e}")))?;
        if manifest.version > MANIFEST_VERSION {
            let version = manifest.version;
            return Err(refuse(format!("it has version {version}; this program reads up to {MANIFEST_VERSION}")));
        }
        let stays_inside = |e: &Entry| e.path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if let Some(entry) = manifest.entries.iter().find(|entry| !stays_inside(entry)) {
            return Err(refuse(format!("{:?} would leave the generation", entry.path)));
        }
        if !manifest.entries.is_sorted_by(|a, b| a.path < b.path) {
            return Err(refuse("its entries are not sorted, or one is there twice".to_owned()));
        }
        Ok(manifest)
    }

    /// The entry of a path.
    #[must_use]
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.path.as_path().cmp(path)).ok().map(|at| &self.entries[at])
    }

    /// How much it holds.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let add = |sum: Totals, size: u64| Totals { files: sum.files + 1, bytes: sum.bytes + size };
        self.entries.iter().filter_map(|entry| entry.size).fold(Totals::default(), add)
    }

    /// Whether both describe the same content: what differs is only whence and when it came.
    #[must_use]
    pub fn is_same_content(&self, other: &Self) -> bool {
        let same = |a: &Entry, b: &Entry| {
            (&a.path, a.kind, a.mode, a.size, &a.sha256, &a.target)
                == (&b.path, b.kind, b.mode, b.size, &b.sha256, &b.target)
        };
        self.entries.len() == other.entries.len() && self.entries.iter().zip(&other.entries).all(|(a, b)| same(a, b))
    }
}

/// A hash in digits.
pub(super) fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String can't fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn file(path: &[u8]) -> Entry {
        Entry {
            path: OsStr::from_bytes(path).into(),
            kind: Kind::File,
            mode: 0o644,
            size: Some(3),
            modified: Some([1, 2]),
            sha256: Some("ab".to_owned()),
            target: None,
            carried: None,
        }
    }

    fn manifest(paths: &[&[u8]]) -> Manifest {
        let entries = paths.iter().map(|path| file(path)).collect();
        Manifest { version: 1, generation: Generation(7), created: String::new(), began: [0, 0], entries }
    }

    #[test]
    fn any_name_survives_and_none_leaves_the_generation() {
        let at = Path::new("m");
        let kept = manifest(&[b"a\nb", b"a\xff", b"\xc3\xa4/x"]);
        assert_eq!(Manifest::parse(&kept.to_line().unwrap(), at).unwrap(), kept);
        assert_eq!(kept.totals(), Totals { files: 3, bytes: 9 });
        assert!(kept.entry(Path::new("\u{e4}/x")).is_some() && kept.entry(Path::new("b")).is_none());
        for bad in [manifest(&[b"../x"]), manifest(&[b"/etc/x"]), manifest(&[b"b", b"a"]), manifest(&[b"a", b"a"])] {
            assert!(Manifest::parse(&bad.to_line().unwrap(), at).is_err(), "{bad:?}");
        }
        let newer = Manifest { version: 2, ..manifest(&[]) };
        assert!(Manifest::parse(&newer.to_line().unwrap(), at).unwrap_err().to_string().contains("version 2"));
    }
}
