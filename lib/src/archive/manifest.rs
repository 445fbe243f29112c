//! `manifest.json`: what a backup is. It is the commit point: a directory without one is no backup.
//!
//! Two files vouch for each other: the manifest lists every payload with its hashes, and `SHA256SUMS` lists every
//! payload **and the manifest**. So any single edit, in whichever file, is noticed; an attacker who can write to the
//! store can of course write both anew (that is what the rights of the store are checked for).

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::sums::SUMS;
use crate::name::{BackupId, TargetName};
use crate::world::disk::{AtPath, DiskError};

/// The newest format version that this program reads and writes: 2 has dumps, 3 payloads that are not compressed, and
/// groups. A backup is written as the lowest that has all of it, so that older programs read what they can.
pub const VERSION: u64 = 3;
/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// At most this much of a manifest or of a `SHA256SUMS` is read, in bytes.
pub(super) const TEXT_LEN_MAX: u64 = 16 << 20;

/// The manifest of one backup. Fields that this version does not know are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format: the lowest version that has all that is in it, at most [`VERSION`].
    pub version: u64,
    /// Counts up within a target; the order of backups, whatever the clock did.
    pub sequence: u64,
    /// The backup's identity and directory name.
    pub id: BackupId,
    /// The target it is a backup of, and the name of the directory above.
    pub target: TargetName,
    /// When it was begun (RFC 3339, UTC).
    pub created: String,
    /// The nanoseconds of that second, which tell the order of backups of several targets; 0 where they are not known.
    #[serde(default)]
    pub created_ns: u32,
    /// The host that made it (uname(2)).
    pub host: String,
    /// The program and version that made it: `svckit 0.1.0`.
    pub tool: String,
    /// How it was taken: `hot`, `fenced`, `cold`.
    pub mode: String,
    /// The service it belongs to, as people name it: `unit plex.service`.
    pub service: Option<String>,
    /// What it consists of.
    pub payloads: Vec<Payload>,
    /// When the written bytes were read back and checked (RFC 3339, UTC). Retention counts only these.
    pub verified_at: Option<String>,
    /// What a person should know: files that changed or vanished while they were read, and the like.
    pub notes: Vec<String>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// What it is called in this backup; unique within it. That of a group's member begins with `MEMBER/`.
    pub name: String,
    /// Of a group: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<TargetName>,
    /// The file in the backup's directory: safe characters only, and not always what `name` says.
    pub file: String,
    /// What it is.
    pub kind: PayloadKind,
    /// The path that it was taken from; the first one for a tree.
    #[serde(with = "crate::world::raw_path")]
    pub source: PathBuf,
    /// The owner and mode of the source; `None` for a tree, which has them in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// Those of the directory that the source lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory_rights: Option<Rights>,
    /// How it is compressed.
    pub codec: Codec,
    /// The size of `file`.
    pub stored_bytes: u64,
    /// SHA-256 of `file`, hexadecimal.
    pub stored_sha256: String,
    /// The size once decompressed.
    pub content_bytes: u64,
    /// SHA-256 of the decompressed content, hexadecimal.
    pub content_sha256: String,
    /// The checks that it has passed, from the simplest on.
    pub rungs: Vec<String>,
    /// What the check of its kind recorded: row counts of a database, entries of a tree.
    pub facts: serde_json::Value,
}

/// The owner and mode of a file or directory (chown(2), chmod(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The mode's permission bits.
    pub mode: u32,
}

impl Rights {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 })
    }

    /// The same without what everybody may do: for a file that comes to another directory than it was in.
    #[must_use]
    pub fn without_others(self) -> Self {
        Self { mode: self.mode & !0o007, ..self }
    }

    /// Gives them to a file or directory: the mode, and as root the owner too.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn give(self, file: &File, path: &Path) -> Result<(), DiskError> {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid)).at("give to its owner", path)?;
        }
        // After the owner: a change of owner clears bits.
        file.set_permissions(Permissions::from_mode(self.mode)).at("set the mode of", path)
    }
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadKind {
    /// One self-contained SQLite database.
    Sqlite,
    /// A tar of files and directories.
    Files,
    /// What a server's own program wrote of its databases: a stream. Its facts say which engine and program.
    Dump,
}

impl Payload {
    /// The first format version that has it.
    pub(super) fn since_version(&self) -> u64 {
        match (self.kind, self.codec) {
            (_, Codec::None) => 3,
            _ if self.member.is_some() => 3,
            (PayloadKind::Dump, Codec::Zstd) => 2,
            (PayloadKind::Sqlite | PayloadKind::Files, Codec::Zstd) => 1,
        }
    }
}

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Zstandard frames (RFC 8878).
    Zstd,
    /// Not at all: the file is the content.
    None,
}

impl Codec {
    /// What the name of a payload's file ends with.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::None => ".raw",
        }
    }
}

impl Manifest {
    /// Reads a manifest's bytes; `path` is for the messages.
    ///
    /// # Errors
    /// [`ArchiveError::Newer`] for a version that this program does not know, [`ArchiveError::Unverified`] for
    /// anything else that no version writes.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ArchiveError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let wrong = |reason: String| ArchiveError::Unverified { path: path.to_owned(), reason };
        let head: Head = serde_json::from_slice(bytes).map_err(|e| wrong(format!("it is no manifest: {e}")))?;
        if head.version > VERSION {
            return Err(ArchiveError::Newer { path: path.to_owned(), version: head.version });
        }
        if head.version == 0 {
            return Err(wrong("format version 0 never existed".to_owned()));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| wrong(format!("it is not a whole manifest: {e}")))?;
        manifest.check_shape().map_err(wrong)?;
        Ok(manifest)
    }

    /// What must hold before a name of it may become a path.
    fn check_shape(&self) -> Result<(), String> {
        if self.payloads.is_empty() {
            return Err("it lists no payload".to_owned());
        }
        for (i, payload) in self.payloads.iter().enumerate() {
            if !is_payload_file(&payload.file, payload.codec) {
                return Err(format!("payload {:?} has the unusable file name {:?}", payload.name, payload.file));
            }
            for hash in [&payload.stored_sha256, &payload.content_sha256] {
                if !is_sha256(hash) {
                    return Err(format!("payload {:?} has a malformed hash", payload.name));
                }
            }
            if payload.codec == Codec::None
                && (payload.stored_bytes, &payload.stored_sha256) != (payload.content_bytes, &payload.content_sha256)
            {
                return Err(format!("payload {:?} is not compressed, and not what it has in it", payload.name));
            }
            if let Some(member) = &payload.member
                && payload.name.strip_prefix(member.as_str()).and_then(|rest| rest.strip_prefix('/')).is_none()
            {
                return Err(format!("payload {:?} has not the name of one of {member}", payload.name));
            }
            if self.payloads[..i].iter().any(|p| p.file == payload.file || p.name == payload.name) {
                return Err(format!("payload {:?} is listed twice", payload.name));
            }
        }
        Ok(())
    }

    /// The sum of its payloads' sizes as stored, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.payloads.iter().fold(0, |sum, p| sum.saturating_add(p.stored_bytes))
    }

    /// The sum of its payloads' sizes once decompressed, in bytes.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.payloads.iter().fold(0, |sum, p| sum.saturating_add(p.content_bytes))
    }
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// A single path component of safe characters with our ending: it can't leave the directory or be another file of it.
pub(super) fn is_payload_file(name: &str, codec: Codec) -> bool {
    name.ends_with(codec.ending())
        && ![MANIFEST, SUMS].contains(&name)
        && !name.starts_with('.')
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && matches!(Path::new(name).components().next(), Some(Component::Normal(_)))
}

/// A whole small file of the store.
pub(super) fn read_text(path: &Path) -> Result<Vec<u8>, ArchiveError> {
    let file = super::files::open_read(path)?;
    let mut bytes = Vec::new();
    file.take(TEXT_LEN_MAX + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > TEXT_LEN_MAX {
        let reason = format!("it is larger than {TEXT_LEN_MAX} bytes");
        return Err(ArchiveError::Unverified { path: path.to_owned(), reason });
    }
    Ok(bytes)
}
