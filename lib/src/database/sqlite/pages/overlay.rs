//! Pages whose valid content is not in the database file: those of the WAL's commits, and those that a hot rollback
//! journal keeps from before a transaction that never ended.

use crate::sqlite_locks::LockFile;

/// Where pages are that are not read from the database.
#[derive(Debug)]
pub(super) enum Overlay {
    None,
    /// Page and frame, sorted; the newest frame of each page.
    Wal {
        file: LockFile,
        frames: Vec<(u32, u32)>,
    },
    /// Page and offset, sorted; the first record of each page.
    Journal {
        file: LockFile,
        records: Vec<(u32, u64)>,
    },
}

pub(super) const WAL_HEADER: u64 = 32;
pub(super) const FRAME_HEADER: u64 = 24;

impl Overlay {
    /// The file and the offset of a page's content.
    pub(super) fn find(&self, page: u32, page_size: usize) -> Option<(&LockFile, u64)> {
        match self {
            Self::None => None,
            Self::Wal { file, frames } => {
                let at = frames.binary_search_by_key(&page, |(page, _)| *page).ok()?;
                let (_, frame) = frames.get(at)?;
                let frame_len = FRAME_HEADER + page_size as u64;
                Some((file, WAL_HEADER + u64::from(frame.saturating_sub(1)) * frame_len + FRAME_HEADER))
            }
            Self::Journal { file, records } => {
                let at = records.binary_search_by_key(&page, |(page, _)| *page).ok()?;
                records.get(at).map(|(_, offset)| (file, *offset))
            }
        }
    }

    /// The highest page in it; 0 for none.
    pub(super) fn last_page(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Wal { frames, .. } => frames.last().map_or(0, |(page, _)| *page),
            Self::Journal { records, .. } => records.last().map_or(0, |(page, _)| *page),
        }
    }
}
