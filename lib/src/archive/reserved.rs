//! A payload's place in a draft, written beside others.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::codec::{BLOCK, PayloadWriter, Sums};
use super::manifest::Payload;
use super::{ArchiveError, files};
use crate::compression::Compression;
use crate::progress::{Cancel, Observer};
use crate::world::disk::AtPath;

/// A payload that is not written yet.
#[derive(Debug)]
pub struct Reserved {
    pub(super) path: PathBuf,
    pub(super) compression: Compression,
    pub(super) payload: Payload,
}

impl Reserved {
    /// Writes what `content` gives until its end, and syncs it.
    ///
    /// # Errors
    /// When `content` can't be read, the store can't be written, or on cancellation.
    pub fn fill(
        self,
        content: &mut dyn Read,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Payload, ArchiveError> {
        let source = self.payload.source.clone();
        self.write(|writer, path| {
            let mut buffer = vec![0; BLOCK];
            let mut done = 0;
            loop {
                if cancel.is_requested() {
                    return Err(ArchiveError::Cancelled { what: "the backup" });
                }
                let read = content.read(&mut buffer).at("read the dump of", &source)?;
                if read == 0 {
                    return Ok(());
                }
                writer.write_all(&buffer[..read]).at("write to", path)?;
                done += read as u64;
                observer.bytes(done, 0);
            }
        })
    }

    pub(super) fn write(
        mut self,
        write: impl FnOnce(&mut PayloadWriter, &Path) -> Result<(), ArchiveError>,
    ) -> Result<Payload, ArchiveError> {
        let path = &self.path;
        let mut writer = PayloadWriter::new(files::create(path)?, self.compression).at("compress into", path)?;
        write(&mut writer, path)?;
        let (file, sums) = writer.finish().at("write to", path)?;
        file.sync_all().at("sync", path)?;
        let Sums { content_bytes, content_sha256, stored_bytes, stored_sha256 } = sums;
        self.payload = Payload { content_bytes, content_sha256, stored_bytes, stored_sha256, ..self.payload };
        Ok(self.payload)
    }
}
