//! The write-ahead log (fileformat2.html, 4), read to its end and beyond it.
//!
//! SQLite takes the frames up to the last commit before the first frame that does not check, and says nothing of the
//! rest. What is behind that frame tells whether something was lost: a log that was begun anew leaves old frames of
//! *other* salts behind, and a transaction that was rolled back leaves frames without a commit; a commit of the *same*
//! salts behind a frame that does not check was written, and is gone.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::wal::checksum;
use super::bytes::be32;
use super::overlay::{FRAME_HEADER, WAL_HEADER};
use crate::progress::Cancel;

/// How much is read at once, about.
const BLOCK: usize = 1 << 20;

/// What a log holds.
#[derive(Debug, Default)]
pub(super) struct WalScan {
    /// Why its header can't be used, if so; nothing below is from valid frames then.
    pub(super) header_fault: Option<String>,
    pub(super) page_size: u32,
    pub(super) salts: [u8; 8],
    /// Page and newest committed frame, sorted by page.
    pub(super) frames: Vec<(u32, u32)>,
    /// The last frame of the last commit; 0 for none.
    pub(super) last_commit: u32,
    /// The length of the database after it, in pages.
    pub(super) pages: u32,
    /// Commits up to there.
    pub(super) commits: u64,
    /// The running checksum of the last commit.
    pub(super) checksum: [u32; 2],
    /// Whole frames that the file has room for.
    pub(super) room: u32,
    /// The first frame that does not check although its salts are right; 0 for none.
    pub(super) bad: u32,
    /// Frames of the same salts from the bad one on, itself included.
    pub(super) after_bad: u32,
    /// How many of them are commits.
    pub(super) commits_after_bad: u32,
    /// The last frame of them that is one.
    pub(super) last_commit_after_bad: u32,
    /// Pages that they are for, at most.
    pub(super) highest_page_after_bad: u32,
    /// Frames that check and whose transaction has no commit.
    pub(super) uncommitted: u32,
    /// Bytes behind the last whole frame.
    pub(super) rest: u64,
}

impl WalScan {
    /// Whether there is a log at all.
    pub(super) fn is_empty(&self) -> bool {
        self.room == 0 && self.rest == 0
    }
}

/// Reads a log; up to `limit` frames, where somebody writes behind them. Memory: 8 bytes for each committed frame.
///
/// # Errors
/// Those of reading; `None` for a cancellation.
pub(super) fn scan(file: &File, limit: Option<u32>, cancel: &Cancel) -> std::io::Result<Option<WalScan>> {
    let len = file.metadata()?.len();
    let mut scan = WalScan::default();
    if len < WAL_HEADER {
        scan.rest = len;
        if len > 0 {
            scan.header_fault = Some(format!("it has only {len} bytes"));
        }
        return Ok(Some(scan));
    }
    let mut header = [0; WAL_HEADER as usize];
    file.read_exact_at(&mut header, 0)?;
    let word = |at| be32(&header, at).unwrap_or(0);
    scan.page_size = word(8);
    scan.salts.copy_from_slice(&header[16..24]);
    // The byte order that the checksums are made in (4.2).
    let big_endian = word(0) & 1 == 1;
    let mut sum = checksum(&header[..24], [0, 0], big_endian);
    let size_is_none = !(512..=65_536).contains(&scan.page_size) || !scan.page_size.is_power_of_two();
    if word(0) & !1 != 0x377f_0682 {
        scan.header_fault = Some(format!("its magic number is {:#x}", word(0)));
    } else if sum != [word(24), word(28)] {
        scan.header_fault = Some("its header does not check".to_owned());
    } else if size_is_none {
        scan.header_fault = Some(format!("its page size would be {}", scan.page_size));
    }
    if size_is_none {
        scan.rest = len - WAL_HEADER;
        return Ok(Some(scan));
    }
    let frame_len = FRAME_HEADER as usize + scan.page_size as usize;
    let room = (len - WAL_HEADER) / frame_len as u64;
    scan.room = u32::try_from(room).unwrap_or(u32::MAX);
    scan.rest = (len - WAL_HEADER) % frame_len as u64;

    let mut valid = scan.header_fault.is_none();
    let mut open: Vec<(u32, u32)> = Vec::new();
    let per_block = (BLOCK / frame_len).max(1);
    let mut block = vec![0; per_block * frame_len];
    let end = limit.unwrap_or(scan.room).min(scan.room);
    let mut number = 0;
    while number < end {
        if cancel.is_requested() {
            return Ok(None);
        }
        let count = per_block.min((end - number) as usize);
        let part = &mut block[..count * frame_len];
        file.read_exact_at(part, WAL_HEADER + u64::from(number) * frame_len as u64)?;
        for frame in part.chunks_exact(frame_len) {
            number += 1;
            let (head, content) = frame.split_at(FRAME_HEADER as usize);
            let word = |at| be32(head, at).unwrap_or(0);
            let (page, commit) = (word(0), word(4));
            if head[8..16] != scan.salts {
                // The log ends here, if it has not before; behind it frames of ours may follow where one was damaged.
                valid = false;
                continue;
            }
            if valid {
                let now = checksum(content, checksum(&head[..8], sum, big_endian), big_endian);
                if now == [word(16), word(20)] && page != 0 {
                    sum = now;
                    open.push((page, number));
                    if commit != 0 {
                        scan.frames.append(&mut open);
                        (scan.last_commit, scan.pages, scan.checksum) = (number, commit, sum);
                        scan.commits += 1;
                    }
                    continue;
                }
                valid = false;
            }
            if scan.bad == 0 {
                scan.bad = number;
            }
            scan.after_bad += 1;
            if commit != 0 {
                scan.commits_after_bad += 1;
                scan.last_commit_after_bad = number;
            }
            scan.highest_page_after_bad = scan.highest_page_after_bad.max(page);
        }
    }
    scan.uncommitted = u32::try_from(open.len()).unwrap_or(u32::MAX);
    // Newest last among equals: the sort is stable.
    scan.frames.sort_by_key(|(page, _)| *page);
    scan.frames.reverse();
    scan.frames.dedup_by_key(|(page, _)| *page);
    scan.frames.reverse();
    let pages = scan.pages;
    scan.frames.retain(|(page, _)| *page <= pages);
    Ok(Some(scan))
}
