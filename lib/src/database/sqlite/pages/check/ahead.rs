//! Reading ahead: what an interior page names is read next.

use std::time::{Duration, Instant};

use super::super::image::{Image, Unreadable};
use super::walk::{Child, Worker};

/// Runs of pages told to the kernel for one interior page.
const RUNS_MAX: usize = 1024;
/// Pages that are cheaper to read than to leave out.
const GAP_MAX: u32 = 8;
/// A page that took longer came from the disk, or from another memory than ours.
const SLOW: Duration = Duration::from_micros(30);
/// How many quick reads in a row say that everything is in memory.
const PATIENCE: u32 = 256;

/// Bytes that are read at once at most: a call of the kernel costs about as much as the bytes of a page.
const BLOCK_MAX: usize = 64 << 10;

/// Pages that lie behind each other, as they were read at once.
#[derive(Debug, Default)]
pub(super) struct Block {
    first: u32,
    pages: u32,
    bytes: Vec<u8>,
    /// A disk that can't read something may take long to say so: it is asked for each page once, and no more.
    has_failed: bool,
}

impl Block {
    fn read(&mut self, image: &Image, first: u32, pages: u32) {
        let most = (BLOCK_MAX / image.layout().page_size) as u32;
        let pages = pages.min(most);
        self.pages = 0;
        if pages < 2 || self.has_failed {
            return;
        }
        match image.read_run(first, pages, &mut self.bytes) {
            Ok(true) => (self.first, self.pages) = (first, pages),
            Ok(false) => {}
            Err(_) => self.has_failed = true,
        }
    }

    /// Copies a page that is in it.
    fn give(&self, page: u32, page_size: usize, into: &mut Vec<u8>) -> bool {
        let Some(at) = page.checked_sub(self.first).filter(|at| *at < self.pages) else { return false };
        let from = at as usize * page_size;
        let Some(bytes) = self.bytes.get(from..from + page_size) else { return false };
        into.clear();
        into.extend_from_slice(bytes);
        true
    }
}

/// For each child, how many of those after it lie right behind it, one after the other.
pub(super) fn followers(children: &[Child]) -> Vec<u32> {
    let mut followers = vec![0; children.len()];
    for at in (1..children.len()).rev() {
        if children[at].page.checked_sub(1) == Some(children[at - 1].page) {
            followers[at - 1] = followers[at] + 1;
        }
    }
    followers
}

impl Worker<'_> {
    /// Reads a page, and notes whether it was waited for. What follows it is read with it.
    pub(super) fn read_timed(&mut self, page: u32, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        let image = self.check.image;
        let size = image.layout().page_size;
        let followers = std::mem::take(&mut self.followers);
        if self.block.give(page, size, into) {
            return Ok(());
        }
        let began = Instant::now();
        if followers > 0 {
            self.block.read(image, page, followers.saturating_add(1));
        }
        let read = if self.block.give(page, size, into) { Ok(()) } else { image.read(page, into) };
        self.cold = if began.elapsed() > SLOW { PATIENCE } else { self.cold.saturating_sub(1) };
        read
    }

    /// Tells the kernel of the children of a page, unless the pages before were in memory already.
    pub(super) fn announce(&self, children: impl Iterator<Item = u32>) {
        if self.cold == 0 {
            return;
        }
        let mut pages: Vec<u32> = children.filter(|page| self.check.pages.exists(*page)).collect();
        pages.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for page in pages {
            match runs.last_mut() {
                Some((_, last)) if page - *last <= GAP_MAX => *last = page,
                _ => runs.push((page, page)),
            }
        }
        runs.truncate(RUNS_MAX);
        for (first, last) in runs {
            self.check.image.will_read(first, last - first + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Bounds;
    use super::*;

    #[test]
    fn what_lies_behind_a_page_is_read_with_it_and_nothing_else() {
        let of = |pages: &[u32]| {
            let child = |page: &u32| Child { page: *page, bounds: Bounds::default() };
            followers(&pages.iter().map(child).collect::<Vec<_>>())
        };
        assert_eq!(of(&[4, 5, 6, 9, 8, 9, 9, 10]), [2, 1, 0, 0, 1, 0, 1, 0]);
        assert_eq!(of(&[u32::MAX, 0, 1]), [0, 1, 0]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_block_gives_the_pages_that_it_has() {
        let block = Block { first: 7, pages: 2, bytes: [[1; 512], [2; 512]].concat(), has_failed: false };
        let mut page = vec![9; 5];
        assert!(!block.give(6, 512, &mut page) && !block.give(9, 512, &mut page));
        assert!(block.give(8, 512, &mut page));
        assert_eq!(page, [2; 512]);
        assert!(!Block::default().give(0, 512, &mut page));
    }
}
