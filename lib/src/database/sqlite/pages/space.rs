//! How the room of a b-tree page is used: cells, freeblocks and fragments cover it exactly (fileformat2.html, 1.6).

use super::node::Node;

/// The least room of a cell, in bytes (fileformat2.html, 1.6).
const CELL_MIN: usize = 4;

/// What does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// For people.
    pub(super) what: String,
    /// Whether the page may have had more cells than it says.
    pub(super) may_hide_cells: bool,
}

/// One bit for each byte of a page.
#[derive(Debug, Default)]
pub(super) struct Space {
    words: Vec<u64>,
    covered: usize,
}

impl Space {
    /// For a page of `len` bytes.
    pub(super) fn reset(&mut self, len: usize) {
        self.words.clear();
        self.words.resize(len / 64 + 2, 0);
        self.covered = 0;
    }

    /// Takes a range; `false` where a part of it was taken before.
    #[inline]
    pub(super) fn take(&mut self, at: usize, len: usize) -> bool {
        self.covered += len;
        let mut free = true;
        let (mut at, mut left) = (at, len);
        while left > 0 {
            let (word, bit) = (at / 64, at % 64);
            let part = left.min(64 - bit);
            let mask = (u64::MAX >> (64 - part)) << bit;
            let Some(word) = self.words.get_mut(word) else {
                return false;
            };
            free &= *word & mask == 0;
            *word |= mask;
            at += part;
            left -= part;
        }
        free
    }

    /// How many bytes the cells of a page must have, by what else its header says.
    pub(super) fn of_cells(mut self, node: &Node<'_>) -> Option<usize> {
        self.reset(node.bytes().len());
        self.gaps(node).ok()??.checked_sub(node.fragments())
    }

    /// Adds the freeblocks to the cells that were taken, and compares with what the header says.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn settle(&mut self, node: &Node<'_>) -> Result<(), Misfit> {
        let unknown = |what| Misfit { what, may_hide_cells: true };
        let gaps = self.gaps(node).map_err(unknown)?;
        let said = node.fragments();
        if gaps == Some(said) {
            return Ok(());
        }
        let told = gaps.map_or("less than no".to_owned(), |gaps| gaps.to_string());
        let what = format!("{told} bytes are in no cell and no freeblock, and it says {said}");
        Err(Misfit { what, may_hide_cells: gaps.is_some_and(|gaps| gaps >= said + CELL_MIN) })
    }

    /// The bytes that are in no cell and no freeblock; `None` for less than none.
    fn gaps(&mut self, node: &Node<'_>) -> Result<Option<usize>, String> {
        let bytes = node.bytes();
        let content = node.content().max(node.least_content());
        if node.content() < node.least_content() || node.content() > bytes.len() {
            return Err(format!("its cell area would begin at byte {}", node.content()));
        }
        let mut at = node.first_freeblock();
        while at != 0 {
            let next = super::bytes::be16(bytes, at).map(usize::from);
            let len = super::bytes::be16(bytes, at + 2).map(usize::from);
            let (Some(next), Some(len)) = (next, len) else {
                return Err(format!("a freeblock lies at byte {at}"));
            };
            if at < content || len < 4 || at + len > bytes.len() {
                return Err(format!("a freeblock of {len} bytes lies at byte {at}"));
            }
            if !self.take(at, len) {
                return Err(format!("the freeblock at byte {at} overlaps something"));
            }
            // Ascending: so the list ends.
            if next != 0 && next <= at + len {
                return Err(format!("the freeblock at byte {at} is followed by one at byte {next}"));
            }
            at = next;
        }
        Ok((bytes.len() - content).checked_sub(self.covered))
    }
}
