//! A backup in the making: a directory that no reader looks at, until one rename makes it a backup.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::backup::Reading;
use super::codec::{BLOCK, PayloadWriter, sha256_hex};
use super::manifest::{Codec, MANIFEST, Manifest, Payload, PayloadKind, Rights};
use super::reserved::Reserved;
use super::sums::{self, SUMS};
use super::target_lock::TargetLock;
use super::{ArchiveError, Backup, TreeRequest, Verified, files, tree};
use crate::compression::Compression;
use crate::failure::Failure;
use crate::name::{BackupId, TargetName};
use crate::progress::{Cancel, Observer};
use crate::world::clock;
use crate::world::disk::{AtPath, DiskError, parent_of, sync_dir};

/// What a check has found out about one payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The checks that it passed, from the simplest on.
    pub rungs: Vec<String>,
    /// What to record of it: row counts and the like.
    pub facts: serde_json::Value,
}

/// A payload's decompressed content, read back from the disk.
pub enum Content<'a> {
    /// A copy in the scratch space, for what is judged in any order. A check may change it; it is removed afterwards.
    File(&'a Path),
    /// The bytes of a dump in their order, for what may be larger than any scratch space.
    Stream(&'a mut dyn Read),
}

/// Judges a payload's content.
pub type Check<'a> = dyn FnMut(&Payload, Content<'_>) -> Result<Checked, Box<dyn Failure + Send + Sync>> + 'a;

/// A backup in the making, with the target's lock.
///
/// After a failed step the draft is given up: its files are removed at once, and every further step answers
/// [`ArchiveError::GivenUp`]. Dropping it does the same; should the process die instead, the next
/// [`Store::begin`](super::Store::begin) on this target does.
#[derive(Debug)]
#[must_use = "a draft that is dropped is removed"]
pub struct Draft {
    target: TargetName,
    id: BackupId,
    sequence: u64,
    dir: PathBuf,
    scratch: PathBuf,
    created: String,
    created_ns: u32,
    mode: String,
    service: Option<String>,
    notes: Vec<String>,
    payloads: Vec<Payload>,
    /// Files of payloads that are being written.
    reserved: Vec<String>,
    compression: Compression,
    member: Option<TargetName>,
    verified_at: Option<String>,
    state: State,
    cancel: Cancel,
    // Last: the files are removed before others may come.
    _lock: TargetLock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    GivenUp,
    Published,
}

impl Draft {
    pub(super) fn new(
        target: TargetName,
        id: BackupId,
        sequence: u64,
        dir: PathBuf,
        scratch: PathBuf,
        lock: TargetLock,
        cancel: Cancel,
    ) -> Self {
        let (created, created_ns) = clock::now_rfc3339_and_ns();
        Self {
            target,
            id,
            sequence,
            dir,
            scratch,
            created,
            created_ns,
            mode: "hot".to_owned(),
            service: None,
            notes: Vec::new(),
            payloads: Vec::new(),
            reserved: Vec::new(),
            compression: Compression::default(),
            member: None,
            verified_at: None,
            state: State::Open,
            cancel,
            _lock: lock,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity that the backup will have.
    #[must_use]
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// A private directory in the store for copies that need not outlive the draft. Removed with it.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// What has been added so far.
    #[must_use]
    pub fn payloads(&self) -> &[Payload] {
        &self.payloads
    }

    /// How the backup is taken (`hot`, `fenced`, `cold`) and of which service, as people name it.
    pub fn describe(&mut self, mode: &str, service: Option<&str>) {
        mode.clone_into(&mut self.mode);
        self.service = service.map(str::to_owned);
    }

    /// Adds something that a person who reads the manifest should know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// How what is added from now on is compressed, and of which member of a group it is.
    pub fn pack(&mut self, compression: Compression, member: Option<&TargetName>) {
        self.compression = compression;
        self.member = member.cloned();
    }

    /// Adds one file: `content` is read, compressed, hashed, written and synced. `source` is the path it stands for,
    /// which the manifest keeps byte by byte.
    ///
    /// # Errors
    /// When `content` can't be read, the store can't be written, or on cancellation: the draft is given up.
    pub fn add_file(
        &mut self,
        kind: PayloadKind,
        name: &str,
        source: &Path,
        content: &Path,
        observer: &dyn Observer,
    ) -> Result<&Payload, ArchiveError> {
        observer.step(&format!("compressing {name}"));
        let cancel = self.cancel.clone();
        self.add(kind, name, source, "", |writer, path| {
            let mut from = File::open(content).at("open", content)?;
            let total = from.metadata().at("look at", content)?.len();
            let mut buffer = vec![0; BLOCK];
            let mut done = 0;
            loop {
                if cancel.is_requested() {
                    return Err(ArchiveError::Cancelled { what: "the backup" });
                }
                let read = from.read(&mut buffer).at("read", content)?;
                if read == 0 {
                    return Ok(());
                }
                writer.write_all(&buffer[..read]).at("write to", path)?;
                done += read as u64;
                observer.bytes(done, total);
            }
        })
    }

    /// Adds files and directories as one tar, streamed; see [`TreeRequest`] for what goes in and what does not.
    /// What changed or vanished while it was read becomes a notice and a note of the manifest.
    ///
    /// # Errors
    /// As [`Draft::add_file`]; [`ArchiveError::Source`] for what can't be stored truthfully.
    pub fn add_tree(
        &mut self,
        name: &str,
        request: &TreeRequest<'_>,
        observer: &dyn Observer,
    ) -> Result<&Payload, ArchiveError> {
        observer.step(&format!("archiving {name}"));
        let cancel = self.cancel.clone();
        let store = self.dir.ancestors().nth(2).unwrap_or(&self.dir).to_owned();
        let first = request.includes.first().cloned().unwrap_or_default();
        let mut notices = Vec::new();
        let kept = &mut notices;
        self.add(PayloadKind::Files, name, &first, ".tar", |writer, path| {
            *kept = tree::write(writer, path, &store, request, &cancel, observer)?;
            Ok(())
        })?;
        self.notes.extend(notices);
        self.last()
    }

    /// Adds what `content` gives until its end, as a dump; nothing is buffered. Whether that end is the dump's own is for
    /// the caller to know, who drops the draft where it is not. `source` names what it is a dump of.
    ///
    /// # Errors
    /// As [`Draft::add_file`].
    pub fn add_stream(
        &mut self,
        name: &str,
        source: &Path,
        content: &mut dyn Read,
        observer: &dyn Observer,
    ) -> Result<&Payload, ArchiveError> {
        observer.step(&format!("dumping {name}"));
        let reserved = self.reserve(PayloadKind::Dump, name, source)?;
        match reserved.fill(content, &self.cancel.clone(), observer) {
            Ok(payload) => self.adopt(payload)?,
            Err(error) => {
                self.give_up();
                return Err(error);
            }
        }
        self.last()
    }

    /// A place for a payload that is written beside others, by another thread perhaps; [`Draft::adopt`] adds it when it is
    /// whole.
    ///
    /// # Errors
    /// When there is one of this name already.
    pub fn reserve(&mut self, kind: PayloadKind, name: &str, source: &Path) -> Result<Reserved, ArchiveError> {
        let reserved = self.reserve_as(kind, name, source, "");
        if reserved.is_err() {
            self.give_up();
        }
        reserved
    }

    fn reserve_as(
        &mut self,
        kind: PayloadKind,
        name: &str,
        source: &Path,
        ending: &str,
    ) -> Result<Reserved, ArchiveError> {
        self.usable()?;
        if self.payloads.iter().any(|p| p.name == name) {
            let reason = format!("a payload named {name:?} is in this backup already");
            return Err(ArchiveError::Source { path: source.to_owned(), reason });
        }
        let rights = match kind {
            PayloadKind::Sqlite => (Rights::of(source), Rights::of(parent_of(source))),
            PayloadKind::Files | PayloadKind::Dump => (None, None),
        };
        let codec = match self.compression {
            Compression::None => Codec::None,
            Compression::Zstd { .. } => Codec::Zstd,
        };
        let file = self.free_file_name(name, ending, codec);
        self.reserved.push(file.clone());
        let payload = Payload {
            name: name.to_owned(),
            member: self.member.clone(),
            file,
            kind,
            source: source.to_owned(),
            rights: rights.0,
            directory_rights: rights.1,
            codec,
            stored_bytes: 0,
            stored_sha256: String::new(),
            content_bytes: 0,
            content_sha256: String::new(),
            rungs: Vec::new(),
            facts: serde_json::Value::Null,
        };
        Ok(Reserved { path: self.dir.join(&payload.file), compression: self.compression, payload })
    }

    /// Adds a payload that was filled.
    ///
    /// # Errors
    /// [`ArchiveError::GivenUp`].
    pub fn adopt(&mut self, payload: Payload) -> Result<(), ArchiveError> {
        self.usable()?;
        self.payloads.push(payload);
        Ok(())
    }

    fn last(&self) -> Result<&Payload, ArchiveError> {
        self.payloads.last().ok_or_else(|| ArchiveError::GivenUp { id: self.id.clone() })
    }

    fn add(
        &mut self,
        kind: PayloadKind,
        name: &str,
        source: &Path,
        ending: &str,
        write: impl FnOnce(&mut PayloadWriter, &Path) -> Result<(), ArchiveError>,
    ) -> Result<&Payload, ArchiveError> {
        match self.reserve_as(kind, name, source, ending).and_then(|reserved| reserved.write(write)) {
            Ok(payload) => self.payloads.push(payload),
            Err(error) => {
                self.give_up();
                return Err(error);
            }
        }
        self.last()
    }

    /// A file name of safe characters that no other payload has, whatever the payload is called.
    fn free_file_name(&self, name: &str, ending: &str, codec: Codec) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
        let mut stem: String = name.chars().map(safe).take(100).collect();
        if stem.is_empty() || stem.starts_with(['.', '-']) {
            stem.insert(0, '_');
        }
        let taken = |file: &String| self.reserved.contains(file);
        let packed = codec.ending();
        let plain = format!("{stem}{ending}{packed}");
        if !taken(&plain) {
            return plain;
        }
        // One of len + 1 candidates is free.
        let numbered = (2..self.reserved.len() + 3).map(|n| format!("{stem}-{n}{ending}{packed}"));
        numbered.into_iter().find(|f| !taken(f)).unwrap_or(plain)
    }

    /// Reads everything back from the disk: the sums of the written files, their decompressed content, every entry of
    /// a tree, and `check` on a decompressed copy of each database (in the scratch space, removed again).
    ///
    /// # Errors
    /// [`ArchiveError::Unverified`] for bytes that are not those that were written, [`ArchiveError::Check`] with the
    /// check's own answer; the draft is removed.
    pub fn verify(mut self, check: &mut Check<'_>, observer: &dyn Observer) -> Result<Verified<Self>, ArchiveError> {
        self.usable()?;
        if self.payloads.is_empty() {
            let reason = "nothing was added to the backup".to_owned();
            return Err(ArchiveError::Source { path: self.dir.clone(), reason });
        }
        let reading = Reading { dir: &self.dir, id: &self.id, scratch: &self.scratch, cancel: &self.cancel, observer };
        let checked: Vec<Checked> =
            self.payloads.iter().map(|payload| reading.verify_payload(payload, check)).collect::<Result<_, _>>()?;
        for (payload, checked) in self.payloads.iter_mut().zip(checked) {
            payload.rungs = checked.rungs;
            payload.facts = checked.facts;
        }
        self.verified_at = Some(clock::now_rfc3339());
        Ok(Verified::new(self))
    }

    pub(super) fn publish(mut self, store: &Path) -> Result<Backup, ArchiveError> {
        self.usable()?;
        let target_dir = parent_of(&self.dir).to_owned();
        if target_dir != store.join(self.target.as_str()) {
            let reason = format!("its draft was begun in another store than {}", store.display());
            return Err(ArchiveError::Source { path: self.dir.clone(), reason });
        }
        let manifest = self.manifest();
        let mut bytes =
            serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other).at("describe", &self.dir)?;
        bytes.push(b'\n');
        let sums = sums::render(&manifest, &sha256_hex(&bytes));
        files::write_synced(&self.dir.join(SUMS), sums.as_bytes())?;
        files::write_synced(&self.dir.join(MANIFEST), &bytes)?;
        sync_dir(&self.dir)?;
        let published = target_dir.join(self.id.as_str());
        rename_new(&self.dir, &published)?;
        self.state = State::Published;
        sync_dir(&target_dir)?;
        Backup::load(published, &self.target, &self.id)
    }

    fn manifest(&mut self) -> Manifest {
        Manifest {
            version: self.payloads.iter().map(Payload::since_version).max().unwrap_or(1),
            sequence: self.sequence,
            id: self.id.clone(),
            target: self.target.clone(),
            created: std::mem::take(&mut self.created),
            created_ns: self.created_ns,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool: concat!("svckit ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode: std::mem::take(&mut self.mode),
            service: self.service.take(),
            payloads: std::mem::take(&mut self.payloads),
            verified_at: self.verified_at.take(),
            notes: std::mem::take(&mut self.notes),
        }
    }

    fn usable(&self) -> Result<(), ArchiveError> {
        match self.state {
            State::Open => Ok(()),
            State::GivenUp | State::Published => Err(ArchiveError::GivenUp { id: self.id.clone() }),
        }
    }

    /// Removes what there is of it. Best effort: the next draft's sweep does it again.
    fn give_up(&mut self) {
        if self.state == State::Open {
            self.state = State::GivenUp;
            let _swept_later = std::fs::remove_dir_all(&self.dir);
        }
        let _swept_later = std::fs::remove_dir_all(&self.scratch);
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Renames a directory to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> Result<(), DiskError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has the flag. A plain rename of a directory replaces an empty directory at most, and
        // a backup is never empty.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => std::fs::rename(from, to).at("rename into place", to),
        other => other.at("rename into place", to),
    }
}

/// Now, and random digits.
pub(super) fn new_id() -> Result<BackupId, ArchiveError> {
    let source = Path::new("/dev/urandom");
    let mut random = [0; 3];
    File::open(source).at("open", source)?.read_exact(&mut random).at("read", source)?;
    let [a, b, c] = random;
    Ok(format!("{}-{a:02x}{b:02x}{c:02x}", clock::now_compact()).parse()?)
}
