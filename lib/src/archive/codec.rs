//! Payload bytes: compressed and hashed while they stream, in memory that does not grow with them.
//!
//! Zstandard, at level 3 with two worker threads where nobody says otherwise, no long-distance matching, a checksum per frame. Window and job sizes
//! are stated, not left to the level: the program stays below 20 MiB with them, whatever the size of a payload, where
//! the level's own job size needs 50 MiB [measured: peak resident memory at jobs of 1, 2, 4 MiB was 12, 19, 33 MiB].

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use sha2::{Digest, Sha256};
use zstd::stream::raw::CParameter;
use zstd::stream::{read::Decoder, write::Encoder};

use super::manifest::Codec;
use crate::compression::Compression;

/// Back-references reach 2 MiB (the level's own).
const WINDOW_LOG: u32 = 21;
/// Bytes that one worker compresses at a time.
const JOB_BYTES: u32 = 2 << 20;
/// The largest window that a payload may ask for when it is read, in bits: 8 MiB, as RFC 8878 recommends.
const READ_WINDOW_LOG_MAX: u32 = 23;
/// Bytes per read and write.
pub(super) const BLOCK: usize = 128 << 10;

/// Sizes and hashes of one payload's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) content_bytes: u64,
    pub(super) content_sha256: String,
    pub(super) stored_bytes: u64,
    pub(super) stored_sha256: String,
}

/// Counts and hashes what passes.
#[derive(Debug)]
pub(super) struct Hashed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Hashed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }
    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
    pub(super) fn finish(self) -> (T, u64, String) {
        (self.inner, self.bytes, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.note(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

/// Writes content; the file gets it compressed, or as it is.
pub(super) struct PayloadWriter {
    packer: Hashed<Packer>,
}

enum Packer {
    Zstd(Encoder<'static, Hashed<File>>),
    /// What is stored is the content: it is hashed once.
    Plain(File),
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Plain(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        // A flush would end a zstd block; only `finish` needs one.
        Ok(())
    }
}

impl PayloadWriter {
    pub(super) fn new(file: File, compression: Compression) -> io::Result<Self> {
        let packer = match compression {
            Compression::None => Packer::Plain(file),
            Compression::Zstd { level, threads } => {
                let mut encoder = Encoder::new(Hashed::new(file), i32::from(level))?;
                encoder.include_checksum(true)?;
                encoder.long_distance_matching(false)?;
                encoder.multithread(u32::from(threads))?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                encoder.set_parameter(CParameter::JobSize(JOB_BYTES))?;
                Packer::Zstd(encoder)
            }
        };
        Ok(Self { packer: Hashed::new(packer) })
    }

    /// Ends the frame; the file is complete, and not synced.
    pub(super) fn finish(self) -> io::Result<(File, Sums)> {
        let (packer, content_bytes, content_sha256) = self.packer.finish();
        let (file, stored_bytes, stored_sha256) = match packer {
            Packer::Zstd(encoder) => encoder.finish()?.finish(),
            Packer::Plain(file) => (file, content_bytes, content_sha256.clone()),
        };
        Ok((file, Sums { content_bytes, content_sha256, stored_bytes, stored_sha256 }))
    }
}

impl Write for PayloadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.packer.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.packer.flush()
    }
}

/// Reads content from a file of the store.
pub(super) struct PayloadReader {
    content: Hashed<io::Take<Unpacker>>,
}

enum Unpacker {
    Zstd(Decoder<'static, BufReader<Hashed<File>>>),
    Plain(BufReader<Hashed<File>>),
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Plain(file) => file.read(buffer),
        }
    }
}

impl PayloadReader {
    /// `content_bytes_max` bounds what is handed out: a flipped length can't fill the disk.
    pub(super) fn new(file: File, codec: Codec, content_bytes_max: u64) -> io::Result<Self> {
        let file = BufReader::with_capacity(BLOCK, Hashed::new(file));
        let unpacker = match codec {
            Codec::None => Unpacker::Plain(file),
            Codec::Zstd => {
                let mut decoder = Decoder::with_buffer(file)?;
                decoder.window_log_max(READ_WINDOW_LOG_MAX)?;
                Unpacker::Zstd(decoder)
            }
        };
        Ok(Self { content: Hashed::new(unpacker.take(content_bytes_max.saturating_add(1))) })
    }

    /// Reads what is left, so that the sums are those of the whole content and the whole file.
    pub(super) fn finish(mut self) -> io::Result<Sums> {
        io::copy(&mut self.content, &mut io::sink())?;
        let (content, content_bytes, content_sha256) = self.content.finish();
        let mut stored = match content.into_inner() {
            Unpacker::Zstd(decoder) => decoder.into_inner(),
            Unpacker::Plain(file) => file,
        };
        io::copy(&mut stored, &mut io::sink())?;
        let (_, stored_bytes, stored_sha256) = stored.into_inner().finish();
        Ok(Sums { content_bytes, content_sha256, stored_bytes, stored_sha256 })
    }
}

impl Read for PayloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
