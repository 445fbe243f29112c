//! A published backup: read it, check it, take things out of it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{BLOCK, Hashed, PayloadReader, Sums, sha256_hex};
use super::hold::Hold;
use super::manifest::{MANIFEST, Manifest, Payload, PayloadKind, read_text};
use super::sums::{self, SUMS};
use super::{ArchiveError, Check, Content, files, tree};
use crate::name::{BackupId, TargetName};
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, DiskError, sync_dir};

/// A backup whose manifest was read and agrees with its `SHA256SUMS`. Its payloads are not looked at before
/// [`Backup::verify_hashes`], [`Backup::verify`] or [`Backup::extract`].
#[derive(Debug, Clone)]
pub struct Backup {
    dir: PathBuf,
    manifest: Manifest,
    hold: Option<Arc<Hold>>,
}

impl PartialEq for Backup {
    fn eq(&self, other: &Self) -> bool {
        (&self.dir, &self.manifest) == (&other.dir, &other.manifest)
    }
}

impl Backup {
    pub(super) fn load(dir: PathBuf, target: &TargetName, id: &BackupId) -> Result<Self, ArchiveError> {
        let path = dir.join(MANIFEST);
        let bytes = read_own(&dir, MANIFEST)?;
        let manifest = Manifest::parse(&bytes, &path)?;
        sums::check(&read_own(&dir, SUMS)?, &manifest, &sha256_hex(&bytes), &dir.join(SUMS))?;
        if manifest.id != *id || manifest.target != *target {
            let reason = format!("it is the manifest of backup {} of {}", manifest.id, manifest.target);
            return Err(ArchiveError::Unverified { path, reason });
        }
        Ok(Self { dir, manifest, hold: None })
    }

    /// The same, kept from being expired for as long as the answer or a clone of it lives. Whoever reads more of it than
    /// the manifest wants that.
    ///
    /// # Errors
    /// [`ArchiveError::Expired`] where it is gone already.
    pub fn held(self) -> Result<Self, ArchiveError> {
        let hold = Hold::take(&self.dir)?;
        Ok(Self { hold: Some(Arc::new(hold)), ..self })
    }

    /// What it is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The payload of this name.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`].
    pub fn payload(&self, name: &str) -> Result<&Payload, ArchiveError> {
        let missing = || ArchiveError::Missing { what: format!("payload {name} in"), path: self.dir.clone() };
        self.manifest.payloads.iter().find(|p| p.name == name).ok_or_else(missing)
    }

    /// The members of a group, in the order of its payloads; none where it is no group's.
    #[must_use]
    pub fn members(&self) -> Vec<TargetName> {
        let mut members = Vec::new();
        for member in self.manifest.payloads.iter().filter_map(|payload| payload.member.clone()) {
            if !members.contains(&member) {
                members.push(member);
            }
        }
        members
    }

    /// What a group's backup has of one member, as a backup of that alone: the others are left out of the manifest.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`] where it has nothing of it.
    pub fn of_member(&self, member: &TargetName) -> Result<Self, ArchiveError> {
        let prefix = format!("{member}/");
        let mut manifest = self.manifest.clone();
        manifest.payloads.retain(|payload| payload.member.as_ref() == Some(member));
        for payload in &mut manifest.payloads {
            payload.name = payload.name.strip_prefix(&prefix).unwrap_or(&payload.name).to_owned();
        }
        if manifest.payloads.is_empty() {
            return Err(ArchiveError::Missing { what: format!("member {member} in"), path: self.dir.clone() });
        }
        Ok(Self { dir: self.dir.clone(), manifest, hold: self.hold.clone() })
    }

    /// Looks at the payloads' files, and reads none: that each is there, and as long as the manifest says.
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] for the first that is not.
    pub fn look_at_files(&self) -> Result<(), ArchiveError> {
        for payload in &self.manifest.payloads {
            let path = self.dir.join(&payload.file);
            match std::fs::symlink_metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(path)),
                Ok(metadata) if metadata.is_file() && metadata.len() == payload.stored_bytes => {}
                Ok(metadata) => {
                    let reason = match metadata.is_file() {
                        true => format!("the file has {} bytes, not {}", metadata.len(), payload.stored_bytes),
                        false => "it is not a regular file".to_owned(),
                    };
                    return Err(ArchiveError::Unverified { path, reason });
                }
                Err(error) => Err(error).at("look at", &path)?,
            }
        }
        Ok(())
    }

    /// Reads every payload's stored bytes from the disk and compares sizes and hashes. Decompresses nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] for the first file that is not what the manifest says.
    pub fn verify_hashes(&self, cancel: &Cancel) -> Result<(), ArchiveError> {
        for payload in &self.manifest.payloads {
            verify_stored(&self.dir, payload, cancel)?;
        }
        Ok(())
    }

    /// Verifies as a draft is verified: stored bytes, decompressed content, and the check of each kind, on a copy in
    /// `scratch` (a directory of the caller's) that is removed again.
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] for bytes that are not those of the manifest, [`ArchiveError::Check`] with the
    /// check's own answer.
    pub fn verify(
        &self,
        scratch: &Path,
        check: &mut Check<'_>,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Vec<super::Checked>, ArchiveError> {
        let read = Reading { dir: &self.dir, id: &self.manifest.id, scratch, cancel, observer };
        self.manifest.payloads.iter().map(|payload| read.verify_payload(payload, check)).collect()
    }

    /// Takes one payload out into the directory `into`, hashed on the way and synced: a database as one file (mode
    /// 0600, named as [`Backup::extracted_name`] says, which must not exist yet), a tree as its files below `into`,
    /// with owners where we are root.
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] when the bytes are not those that were backed up. A database's file is removed then;
    /// of a tree there may be some files, so `into` is better a directory made for it.
    pub fn extract(
        &self,
        payload: &Payload,
        into: &Path,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<PathBuf, ArchiveError> {
        observer.step(&format!("extracting {}", payload.name));
        match payload.kind {
            PayloadKind::Sqlite | PayloadKind::Dump => {
                let path = into.join(Self::extracted_name(payload));
                let file = decompress(&self.dir, payload, &path, cancel, observer)?;
                file.sync_all().at("sync", &path)?;
                sync_dir(into)?;
                Ok(path)
            }
            PayloadKind::Files => {
                verify_stored(&self.dir, payload, cancel)?;
                tree::extract(&self.dir, payload, into, cancel, observer)?;
                Ok(into.to_owned())
            }
        }
    }

    /// A dump's content as a stream, hashed on the way: what was read counts only once [`DumpReader::finish`] has
    /// compared it.
    ///
    /// # Errors
    /// When its file can't be read.
    pub fn open_dump(&self, payload: &Payload) -> Result<DumpReader, ArchiveError> {
        let path = self.dir.join(&payload.file);
        let reader = PayloadReader::new(open_payload(&self.dir, payload)?, payload.codec, payload.content_bytes);
        Ok(DumpReader { reader: reader.at("decompress", &path)?, path, payload: payload.clone() })
    }

    /// The file name under which [`Backup::extract`] writes a payload that is one file.
    #[must_use]
    pub fn extracted_name(payload: &Payload) -> &str {
        payload.file.strip_suffix(payload.codec.ending()).unwrap_or(&payload.file)
    }
}

/// The content of a dump, from the first byte to the last.
pub struct DumpReader {
    reader: PayloadReader,
    path: PathBuf,
    payload: Payload,
}

impl DumpReader {
    /// Reads what is left, and compares everything with the manifest.
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] when it is not what was backed up.
    pub fn finish(self) -> Result<(), ArchiveError> {
        compare_sums(&self.path, self.reader, &self.payload)
    }
}

impl Read for DumpReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// One of the two files that every backup has.
fn read_own(dir: &Path, name: &str) -> Result<Vec<u8>, ArchiveError> {
    match read_text(&dir.join(name)) {
        Err(ArchiveError::Disk(e)) if e.source.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!("it has no {name}, and is no backup without");
            Err(ArchiveError::Unverified { path: dir.to_owned(), reason })
        }
        other => other,
    }
}

/// The sequence number that an unreadable manifest claims, 0 where it claims none: so that a new backup's is not lower.
pub(super) fn claimed_sequence(dir: &Path) -> u64 {
    #[derive(serde::Deserialize)]
    struct Claim {
        sequence: u64,
    }
    // A flipped bit must not use up the numbers: nobody has made 2^40 backups.
    let bytes = read_text(&dir.join(MANIFEST)).unwrap_or_default();
    serde_json::from_slice::<Claim>(&bytes).map_or(0, |c| c.sequence).min(1 << 40)
}

/// Where and how payloads are read back.
pub(super) struct Reading<'a> {
    pub(super) dir: &'a Path,
    pub(super) id: &'a BackupId,
    pub(super) scratch: &'a Path,
    pub(super) cancel: &'a Cancel,
    pub(super) observer: &'a dyn Observer,
}

impl Reading<'_> {
    /// Climbs every rung for one payload.
    pub(super) fn verify_payload(
        &self,
        payload: &Payload,
        check: &mut Check<'_>,
    ) -> Result<super::Checked, ArchiveError> {
        self.observer.step(&format!("verifying {}", payload.name));
        let mut rungs = vec!["stored sha256".to_owned(), "content sha256".to_owned()];
        let checked = match payload.kind {
            PayloadKind::Files => tree::verify(self.dir, payload, self.cancel)?,
            PayloadKind::Sqlite => {
                let copy = self.scratch.join("verify");
                let _removed = RemovedAtEnd(&copy);
                decompress(self.dir, payload, &copy, self.cancel, self.observer)?;
                check(payload, Content::File(&copy)).map_err(|failure| ArchiveError::Check {
                    id: self.id.clone(),
                    payload: payload.name.clone(),
                    failure,
                })?
            }
            PayloadKind::Dump => {
                let path = self.dir.join(&payload.file);
                let reader = PayloadReader::new(open_payload(self.dir, payload)?, payload.codec, payload.content_bytes);
                let mut reader = Told { inner: reader.at("decompress", &path)?, done: 0, payload, of: self };
                let checked = check(payload, Content::Stream(&mut reader));
                // Damaged bytes explain whatever the check says of them.
                compare_sums(&path, reader.inner, payload)?;
                checked.map_err(|failure| ArchiveError::Check {
                    id: self.id.clone(),
                    payload: payload.name.clone(),
                    failure,
                })?
            }
        };
        rungs.extend(checked.rungs);
        Ok(super::Checked { rungs, facts: checked.facts })
    }
}

/// Tells the observer how far a check is, and the check of a cancellation.
struct Told<'a, 'b> {
    inner: PayloadReader,
    done: u64,
    payload: &'a Payload,
    of: &'a Reading<'b>,
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.of.cancel.is_requested() {
            return Err(std::io::Error::other("it was cancelled"));
        }
        let read = self.inner.read(buffer)?;
        self.done += read as u64;
        self.of.observer.bytes(self.done, self.payload.content_bytes);
        Ok(read)
    }
}

/// A scratch copy: removed with what a check may have put beside it. Best effort; the sweep does it again.
struct RemovedAtEnd<'a>(&'a Path);

impl Drop for RemovedAtEnd<'_> {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            let _absent_or_swept_later = std::fs::remove_file(path);
        }
    }
}

/// Opens a payload's file so that its bytes come from the disk.
pub(super) fn open_payload(dir: &Path, payload: &Payload) -> Result<File, ArchiveError> {
    let path = dir.join(&payload.file);
    let file = match files::open_read(&path) {
        Err(ArchiveError::Disk(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing(path));
        }
        other => other?,
    };
    files::drop_cache(&file);
    Ok(file)
}

fn missing(path: PathBuf) -> ArchiveError {
    ArchiveError::Unverified { path, reason: "the file is missing".to_owned() }
}

fn verify_stored(dir: &Path, payload: &Payload, cancel: &Cancel) -> Result<(), ArchiveError> {
    let path = dir.join(&payload.file);
    let mut file = Hashed::new(open_payload(dir, payload)?);
    let mut buffer = vec![0; BLOCK];
    loop {
        if cancel.is_requested() {
            return Err(ArchiveError::Cancelled { what: "the verification" });
        }
        if file.read(&mut buffer).at("read", &path)? == 0 {
            break;
        }
    }
    let (_, bytes, sha256) = file.finish();
    compare(&path, "the file", (bytes, &sha256), (payload.stored_bytes, &payload.stored_sha256))
}

/// Decompresses a payload into a new file, and compares all sums. On any failure the file is removed; it is not synced.
fn decompress(
    dir: &Path,
    payload: &Payload,
    to: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<File, ArchiveError> {
    let path = dir.join(&payload.file);
    let mut reader = PayloadReader::new(open_payload(dir, payload)?, payload.codec, payload.content_bytes)
        .at("decompress", &path)?;
    let mut file = files::create(to)?;
    let outcome = (|| {
        let mut buffer = vec![0; BLOCK];
        let mut done = 0;
        loop {
            if cancel.is_requested() {
                return Err(ArchiveError::Cancelled { what: "the decompression" });
            }
            let read = reader.read(&mut buffer).map_err(|e| damaged(&path, e))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).at("write to", to)?;
            done += read as u64;
            observer.bytes(done, payload.content_bytes);
        }
        compare_sums(&path, reader, payload)
    })();
    if outcome.is_err() {
        let _swept_later = std::fs::remove_file(to);
    }
    outcome.map(|()| file)
}

/// Reads to the end and compares what was read with what the manifest says.
pub(super) fn compare_sums(path: &Path, reader: PayloadReader, payload: &Payload) -> Result<(), ArchiveError> {
    let Sums { content_bytes, content_sha256, stored_bytes, stored_sha256 } =
        reader.finish().map_err(|e| damaged(path, e))?;
    compare(path, "the file", (stored_bytes, &stored_sha256), (payload.stored_bytes, &payload.stored_sha256))?;
    compare(path, "its content", (content_bytes, &content_sha256), (payload.content_bytes, &payload.content_sha256))
}

fn compare(path: &Path, what: &str, is: (u64, &str), should: (u64, &str)) -> Result<(), ArchiveError> {
    let reason = if is.0 != should.0 {
        format!("{what} has {} bytes, not {}", is.0, should.0)
    } else if is.1 != should.1 {
        format!("{what} has the SHA-256 {}, not {}", is.1, should.1)
    } else {
        return Ok(());
    };
    Err(ArchiveError::Unverified { path: path.to_owned(), reason })
}

/// An error while decompressing: the system's own stays what it is, one of the decoder means damaged bytes.
pub(super) fn damaged(path: &Path, error: std::io::Error) -> ArchiveError {
    if error.raw_os_error().is_some() {
        return DiskError { action: "read", path: path.to_owned(), source: error }.into();
    }
    ArchiveError::Unverified { path: path.to_owned(), reason: format!("the compressed data is damaged: {error}") }
}
