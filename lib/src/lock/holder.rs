//! Who holds a lock, since when, doing what: the content of the lock file. It informs; the kernel's lock decides.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use crate::world::disk::FileId;
use crate::world::{ProcessId, clock};

/// At most this much of a lock file is read: it is ours, but anything may have been written to it.
const RECORD_LEN_MAX: u64 = 16 * 1024;

/// The holder of a lock, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What it does: `backup`, `restore`.
    pub operation: String,
    /// On what: `unit plex.service`.
    pub target: String,
    /// The step that it is at, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When it began (RFC 3339, UTC).
    pub since: String,
    /// The name of its machine (uname(2)): a lock directory may be shared.
    #[serde(default)]
    pub host: String,
    /// Which process it is.
    pub process: ProcessId,
}

impl Holder {
    /// Us, beginning now.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn own(operation: &str, target: &str) -> std::io::Result<Self> {
        Ok(Self {
            operation: operation.to_owned(),
            target: target.to_owned(),
            step: None,
            since: clock::now_rfc3339(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            process: ProcessId::own()?,
        })
    }

    /// The same, at a step.
    #[must_use]
    pub fn at_step(self, step: impl Into<String>) -> Self {
        Self { step: Some(step.into()), ..self }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} by process {}, since {}", self.operation, self.target, self.process.pid, self.since)?;
        self.step.as_ref().map_or(Ok(()), |step| write!(f, ", at {step}"))
    }
}

/// All of a lock file: the holder, what is locked, and the file's own identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) holder: Holder,
    /// What is locked, for people.
    #[serde(default)]
    pub(super) lock: String,
    /// The file that this was written to. Another file than that was put into its place.
    #[serde(default)]
    pub(super) file: Option<FileId>,
}

impl Record {
    /// By one write over what was there, filled up with spaces: whoever reads it meanwhile finds a holder, this one or the
    /// one before.
    pub(super) fn write_to(&self, file: &mut File) -> std::io::Result<()> {
        let mut record = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        let before = usize::try_from(file.metadata()?.len().min(RECORD_LEN_MAX)).unwrap_or(0);
        record.resize(record.len().max(before), b' ');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&record)
    }

    /// What the file says; `None` when it says nothing that can be read (the holder may just be writing it).
    pub(super) fn read_from(file: &mut File) -> Option<Self> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.take(RECORD_LEN_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Holder {
    /// Writes it as the whole record of a file that is locked.
    pub(crate) fn write_to(&self, file: &mut File) -> std::io::Result<()> {
        Record { holder: self.clone(), lock: self.target.clone(), file: FileId::of_open(file).ok() }.write_to(file)
    }

    /// What a locked file says of its holder; `None` as in [`Record::read_from`].
    pub(crate) fn read_from(file: &mut File) -> Option<Self> {
        Record::read_from(file).map(|record| record.holder)
    }
}
