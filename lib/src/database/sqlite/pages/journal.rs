//! The rollback journal (fileformat2.html, 3): pages as they were before a transaction that may not have ended.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bytes::be32;
use crate::progress::Cancel;

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// No name of a super-journal is longer.
const NAME_MAX: u64 = 4096;

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JournalScan {
    /// Why it can't be used, if so.
    pub(super) fault: Option<String>,
    pub(super) page_size: u32,
    /// The length of the database before the transaction, in pages.
    pub(super) pages: u32,
    /// Page and offset of its content, sorted; the first record of each page.
    pub(super) records: Vec<(u32, u64)>,
    /// Records that its headers promise and that do not check.
    pub(super) missing: u64,
    /// The journal of the several databases that changed together: if it is gone, the transaction was committed.
    pub(super) super_journal: Option<PathBuf>,
}

/// Reads a journal. Memory: 16 bytes for each page in it. `None` for a cancellation.
///
/// # Errors
/// Those of reading.
pub(super) fn scan(file: &File, cancel: &Cancel) -> std::io::Result<Option<JournalScan>> {
    let len = file.metadata()?.len();
    let super_journal = super_journal_of(file, len)?.map(|(name, _)| name);
    let mut scan = JournalScan { super_journal, ..JournalScan::default() };
    let (mut at, mut first) = (0, true);
    let mut content = Vec::new();
    // Every turn goes forward by a sector at least.
    while let Some(header) = read_part::<28>(file, at, len)? {
        let word = |at| be32(&header, at).unwrap_or(0);
        let (count, nonce, pages, sector, page_size) = (word(8), word(12), word(16), word(20), word(24));
        let sizes_fit = (32..=65_536).contains(&sector)
            && sector.is_power_of_two()
            && (512..=65_536).contains(&page_size)
            && page_size.is_power_of_two();
        if header[..8] != MAGIC || !sizes_fit {
            if first {
                scan.fault = Some("its header is none".to_owned());
            }
            break;
        }
        if first {
            (scan.page_size, scan.pages) = (page_size, pages);
        } else if page_size != scan.page_size {
            break;
        }
        first = false;
        at += u64::from(sector);
        let record_len = u64::from(scan.page_size) + 8;
        let fitting = len.saturating_sub(at) / record_len;
        // A journal that was never synced does not count its records: it goes on to its end.
        let promised = count != u32::MAX;
        let count = if promised { u64::from(count) } else { fitting };
        content.resize(scan.page_size as usize + 8, 0);
        let mut ended = false;
        for number in 0..count {
            if number % 1024 == 0 && cancel.is_requested() {
                return Ok(None);
            }
            let record_at = at + number * record_len;
            if record_at + record_len > len {
                scan.missing += count - number;
                ended = true;
                break;
            }
            file.read_exact_at(&mut content, record_at)?;
            let page = be32(&content, 0).unwrap_or(0);
            let said = be32(&content, content.len() - 4).unwrap_or(0);
            // SQLite ends the rollback at the first one that does not check.
            if page == 0 || said != sum(&content[4..content.len() - 4], nonce) {
                scan.missing += if promised { count - number } else { 0 };
                ended = true;
                break;
            }
            scan.records.push((page, record_at + 4));
        }
        if ended {
            break;
        }
        at = (at + count * record_len).next_multiple_of(u64::from(sector));
    }
    // The first record of a page is the one from before the transaction: the sort is stable.
    scan.records.sort_by_key(|(page, _)| *page);
    scan.records.dedup_by_key(|(page, _)| *page);
    let pages = scan.pages;
    scan.records.retain(|(page, _)| *page <= pages);
    Ok(Some(scan))
}

impl JournalScan {
    /// The last page that a database of `bytes` bytes can have with the journal's pages: what a transaction cut off is in
    /// the journal. A header that speaks of more is damaged.
    pub(super) fn reach(&self, bytes: u64) -> u32 {
        let of_file = bytes.div_ceil(u64::from(self.page_size.max(1)));
        let of_journal = self.records.last().map_or(0, |(page, _)| *page);
        u32::try_from(of_file).unwrap_or(u32::MAX).max(of_journal)
    }
}

fn read_part<const N: usize>(file: &File, at: u64, len: u64) -> std::io::Result<Option<[u8; N]>> {
    if at + N as u64 > len {
        return Ok(None);
    }
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(Some(bytes))
}

/// Every 200th byte from the end, added to the nonce (3, 'checksum').
fn sum(content: &[u8], nonce: u32) -> u32 {
    let mut sum = nonce;
    let mut at = content.len().saturating_sub(200);
    while at > 0 {
        sum = sum.wrapping_add(u32::from(content.get(at).copied().unwrap_or(0)));
        at = at.saturating_sub(200);
    }
    sum
}

/// The name at the end (page number, name, its length, its sum, the magic), and the length of the journal before that.
///
/// # Errors
/// Those of reading.
pub(in super::super) fn super_journal_of(file: &File, len: u64) -> std::io::Result<Option<(PathBuf, u64)>> {
    let Some(tail) = (len >= 16).then(|| read_part::<16>(file, len - 16, len)).transpose()?.flatten() else {
        return Ok(None);
    };
    let name_len = u64::from(be32(&tail, 0).unwrap_or(0));
    if tail[8..] != MAGIC || name_len == 0 || name_len > NAME_MAX.min(len - 16) {
        return Ok(None);
    }
    let mut name = vec![0; usize::try_from(name_len).unwrap_or(0)];
    file.read_exact_at(&mut name, len - 16 - name_len)?;
    // Signed characters, as C adds them.
    let said = be32(&tail, 4).unwrap_or(0);
    let is = name.iter().fold(0_u32, |sum, byte| sum.wrapping_add(i32::from(byte.cast_signed()).cast_unsigned()));
    // Names of any other form are none: newer versions of SQLite look at it.
    let is_name = name
        .last_chunk::<12>()
        .is_some_and(|end| end.starts_with(b"-mj") && end[9] == b'9' && end[3..].iter().all(u8::is_ascii_hexdigit));
    let without = len.saturating_sub(20 + name_len);
    Ok((said == is && is_name).then(|| (Path::new(std::ffi::OsStr::from_bytes(&name)).to_owned(), without)))
}
