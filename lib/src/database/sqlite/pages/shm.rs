//! The wal-index (walformat.html, 2.1) as a witness: what its last user knew of the log.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::wal::{WalMark, parse_mark};

/// What a `-shm` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) mark: WalMark,
    /// Commits since the log was read anew or begun: all of them are known to whoever left it.
    pub(super) commits: u32,
    /// Frames whose pages are in the database file already.
    pub(super) backfilled: u32,
}

/// Reads it; `None` where it says nothing that can be relied upon.
pub(super) fn read(shm: &File) -> std::io::Result<Option<Witness>> {
    // Two copies of the header, then how much was checkpointed.
    let mut bytes = [0; 100];
    match shm.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    // They differ where a writer died between the two: each has a checksum of its own, and the first is written last.
    let of = |header: &[u8]| parse_mark(header).zip(header[8..12].try_into().ok().map(u32::from_ne_bytes));
    let found = of(&bytes[..48]).or_else(|| of(&bytes[48..96]));
    let backfilled = u32::from_ne_bytes([bytes[96], bytes[97], bytes[98], bytes[99]]);
    Ok(found.map(|(mark, commits)| Witness { mark, commits, backfilled: backfilled.min(mark.frame) }))
}
