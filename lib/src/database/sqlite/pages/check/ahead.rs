//! Reading ahead: what an interior page names is read next.

use std::time::{Duration, Instant};

use super::super::image::Unreadable;
use super::walk::Worker;

/// Runs of pages told to the kernel for one interior page.
const RUNS_MAX: usize = 1024;
/// Pages that are cheaper to read than to leave out.
const GAP_MAX: u32 = 8;
/// A page that took longer came from the disk, or from another memory than ours.
const SLOW: Duration = Duration::from_micros(30);
/// How many quick reads in a row say that everything is in memory.
const PATIENCE: u32 = 256;

impl Worker<'_> {
    /// Reads a page, and notes whether it was waited for.
    pub(super) fn read_timed(&mut self, page: u32, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        let began = Instant::now();
        let read = self.check.image.read(page, into);
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
