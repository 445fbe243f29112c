//! Who holds a lock, since when, doing what: the content of the lock file. It informs; the kernel's lock decides.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use crate::world::{ProcessId, clock};

/// At most this much of a lock file is read: it is ours, but anything may have been written to it.
const RECORD_LEN_MAX: u64 = 4096;

/// The holder of a lock, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What it does: `backup`, `restore`.
    pub operation: String,
    /// On what: `unit plex.service`.
    pub target: String,
    /// When it began (RFC 3339, UTC).
    pub since: String,
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
            since: clock::now_rfc3339(),
            process: ProcessId::own()?,
        })
    }

    pub(crate) fn write_to(&self, file: &mut File) -> std::io::Result<()> {
        let record = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&record)
    }

    /// What the file says; `None` when it says nothing that can be read (the holder may just be writing it).
    pub(crate) fn read_from(file: &mut File) -> Option<Self> {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        file.take(RECORD_LEN_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} by process {}, since {}", self.operation, self.target, self.process.pid, self.since)
    }
}
