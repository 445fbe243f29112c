//! The hash of a whole file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::copy::reader_at_start;
use super::error::SqliteError;
use crate::progress::{Cancel, Observer};
use crate::world::disk::AtPath;

const BUFFER: usize = 1 << 20;

/// SHA-256, in hexadecimal digits.
pub(super) fn sha256(
    file: &File,
    path: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<String, SqliteError> {
    let total = file.metadata().at("look at", path)?.len();
    let (mut hash, mut done, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    let mut reader = reader_at_start(file).at("read", path)?;
    loop {
        if cancel.is_requested() {
            return Err(SqliteError::Cancelled { what: "reading", path: path.to_owned() });
        }
        let got = reader.read(&mut buffer).at("read", path)?;
        if got == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&buffer[..got]);
        done += got as u64;
        observer.bytes(done, total.max(done));
    }
}
