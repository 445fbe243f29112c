//! Reading ahead: what an interior page names is read next.

use super::Check;

/// Runs of pages told to the kernel for one interior page.
const RUNS_MAX: usize = 32;
/// Pages that are cheaper to read than to leave out.
const GAP_MAX: u32 = 8;

impl Check<'_> {
    /// Tells the kernel of the children of a page.
    pub(super) fn announce(&self, children: impl Iterator<Item = u32>) {
        let mut pages: Vec<u32> = children.filter(|page| self.pages.exists(*page)).collect();
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
            self.image.will_read(first, last - first + 1);
        }
    }
}
