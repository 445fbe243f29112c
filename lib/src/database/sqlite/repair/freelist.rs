//! A freelist of pages that belong to nothing (fileformat2.html, 1.5): where SQLite itself can't copy a database without
//! them, since it has an index that only its service's SQLite can order.

use std::path::Path;

use super::header;
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::Layout;

/// Where the freelist's first page and its length are (fileformat2.html, 1.3).
pub(super) const FREELIST: u64 = 32;

/// Where the length of the database is, and the two counters that must be equal for it to count.
const PAGES: u64 = 28;
const CHANGES: u64 = 24;
const VALID_FOR: u64 = 92;

/// Makes pages that nothing leads to, given as ranges, free ones of a database of `count` pages. There was no freelist
/// before.
pub(super) fn free_pages(file: &Path, layout: &Layout, count: u32, unused: &[(u32, u32)]) -> Result<(), SqliteError> {
    let pages: Vec<u32> = unused.iter().flat_map(|(first, last)| *first..=*last).collect();
    // As few as SQLite itself takes: older ones call more a corruption.
    let leaves_max = layout.usable / 4 - 8;
    let trunks: Vec<&[u32]> = pages.chunks(leaves_max + 1).collect();
    for (index, trunk) in trunks.iter().enumerate() {
        let Some((page, leaves)) = trunk.split_first() else { continue };
        let next = trunks.get(index + 1).and_then(|next| next.first()).copied().unwrap_or(0);
        let mut bytes = Vec::with_capacity(layout.page_size);
        bytes.extend(next.to_be_bytes());
        bytes.extend(u32::try_from(leaves.len()).unwrap_or(0).to_be_bytes());
        leaves.iter().for_each(|leaf| bytes.extend(leaf.to_be_bytes()));
        bytes.resize(layout.page_size, 0);
        header::write(file, &bytes, u64::from(page - 1) * layout.page_size as u64)?;
    }
    let first = pages.first().copied().unwrap_or(0);
    let free = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    header::write(file, &[first.to_be_bytes(), free.to_be_bytes()].concat(), FREELIST)?;
    if count != layout.page_count {
        header::write(file, &count.to_be_bytes(), PAGES)?;
        header::write(file, &[0; 4], CHANGES)?;
        header::write(file, &[0; 4], VALID_FOR)?;
    }
    Ok(())
}
