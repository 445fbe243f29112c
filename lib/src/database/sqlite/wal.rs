//! The write-ahead log and its index (fileformat2.html 4; walformat.html 2.1), read without SQLite.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::copy::{reader_at_start, write_at};
use super::error::SqliteError;
use super::header::be32;
use crate::progress::Cancel;
use crate::sqlite_locks::LockFile;
use crate::world::disk::AtPath;

const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const INDEX_HEADER: usize = 48;
const INDEX_VERSION: u32 = 3_007_000;

/// The end of the log at one instant, as the wal-index told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalMark {
    /// The last frame of the last commit; 0 where the log has none.
    pub(super) frame: u32,
    /// The database's length in pages.
    pub(super) pages: u32,
    /// In bytes.
    pub(super) page_size: u32,
    pub(super) checksum: [u32; 2],
    /// The log's salts, as they stand in its header.
    pub(super) salts: [u8; 8],
}

/// Reads the mark from `-shm`. `None`: the two copies of the header differ or do not check, which says that a writer
/// is changing it or that the index must be recovered.
pub(super) fn read_mark(shm: &LockFile) -> Result<Option<WalMark>, SqliteError> {
    let mut both = [0; 2 * INDEX_HEADER];
    match shm.file().read_exact_at(&mut both, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.at("read", shm.path())?,
    }
    let (first, second) = both.split_at(INDEX_HEADER);
    if first != second {
        return Ok(None);
    }
    Ok(parse_mark(first))
}

/// The index is in the byte order of the machine; only the salts are copied as they are.
pub(super) fn parse_mark(header: &[u8]) -> Option<WalMark> {
    let word = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let initialised = *header.get(12)? == 1;
    let checked = checksum(&header[..40], [0, 0], cfg!(target_endian = "big"));
    if word(0)? != INDEX_VERSION || !initialised || checked != [word(40)?, word(44)?] {
        return None;
    }
    let page_size = u32::from(u16::from_ne_bytes(header.get(14..16)?.try_into().ok()?));
    Some(WalMark {
        frame: word(16)?,
        pages: word(20)?,
        // 65,536 does not fit: SQLite keeps it as 1.
        page_size: if page_size == 1 { 65_536 } else { page_size },
        checksum: [word(24)?, word(28)?],
        salts: header.get(32..40)?.try_into().ok()?,
    })
}

/// Writes the frames up to `mark` over a copy of the database, newest last, and gives it its length.
///
/// Every frame's salts and the running checksum are proved on the way: a log that was reset or damaged under us is
/// an error, not a wrong copy.
pub(super) fn overlay(
    wal: &File,
    wal_path: &Path,
    copy: &File,
    copy_path: &Path,
    mark: &WalMark,
    cancel: &Cancel,
) -> Result<(), SqliteError> {
    if mark.frame == 0 {
        return Ok(());
    }
    let corrupt = |what: String| SqliteError::Corrupt { path: wal_path.to_owned(), findings: vec![what] };
    let mut reader = reader_at_start(wal).at("read", wal_path)?;
    let mut header = [0; WAL_HEADER];
    reader.read_exact(&mut header).at("read the header of", wal_path)?;
    let big_endian = match be32(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        other => return Err(corrupt(format!("its magic number is {other:#x}"))),
    };
    let mut sum = checksum(&header[..24], [0, 0], big_endian);
    if sum != [be32(&header, 24), be32(&header, 28)] || header[16..24] != mark.salts {
        return Err(corrupt("its header does not agree with the wal-index".to_owned()));
    }
    if be32(&header, 8) != mark.page_size {
        return Err(corrupt("its page size is not the database's".to_owned()));
    }
    let page_size = mark.page_size as usize;
    let mut frame = vec![0; FRAME_HEADER + page_size];
    let mut pages = 0;
    for number in 1..=mark.frame {
        if number % 1024 == 0 && cancel.is_requested() {
            return Err(SqliteError::Cancelled { what: "reading", path: wal_path.to_owned() });
        }
        reader.read_exact(&mut frame).at("read a frame of", wal_path)?;
        sum = checksum(&frame[..8], sum, big_endian);
        sum = checksum(&frame[FRAME_HEADER..], sum, big_endian);
        if frame[8..16] != mark.salts || sum != [be32(&frame, 16), be32(&frame, 20)] {
            return Err(corrupt(format!("frame {number} of {} does not check", mark.frame)));
        }
        let page = be32(&frame, 0);
        if page == 0 {
            return Err(corrupt(format!("frame {number} is for page 0")));
        }
        pages = be32(&frame, 4);
        write_at(copy, copy_path, &frame[FRAME_HEADER..], u64::from(page - 1) * u64::from(mark.page_size))?;
    }
    if pages != mark.pages || sum != mark.checksum {
        return Err(corrupt(format!("frame {} is not the commit that the wal-index names", mark.frame)));
    }
    Ok(copy.set_len(u64::from(pages) * u64::from(mark.page_size)).at("set the length of", copy_path)?)
}

/// The checksum of the log (fileformat2.html, 4.2), continued from `sum`. The length is a multiple of 8.
pub(super) fn checksum(bytes: &[u8], sum: [u32; 2], big_endian: bool) -> [u32; 2] {
    let [mut first, mut second] = sum;
    let word = |b: &[u8]| {
        let b = [b[0], b[1], b[2], b[3]];
        if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    [first, second]
}
