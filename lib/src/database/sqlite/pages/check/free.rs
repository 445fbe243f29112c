//! The freelist (fileformat2.html, 1.5) and the pages that belong to nobody.

use super::super::bytes::be32;
use super::Check;
use super::report::{Finding, FindingKind, Loss, PageUses};
use super::walk::Worker;

impl Check<'_> {
    /// Claims what is neither b-tree nor free: pointer maps and the page of the lock bytes. How many they are.
    pub(super) fn claim_kept(&self) -> u64 {
        let layout = self.image.layout();
        let mut kept = u64::from(self.pages.claim(layout.lock_page()));
        let mut map = layout.pointer_map_of(2);
        while let Some(page) = map.filter(|page| *page <= layout.page_count) {
            kept += u64::from(self.pages.claim(page));
            // The page behind it belongs to it, so the one behind all of those is the next map, or the lock page.
            let next = page.saturating_add((layout.usable / 5) as u32 + 1);
            map = layout.pointer_map_of(next).filter(|next| *next > page);
        }
        kept
    }

    /// Walks the freelist; how many pages it has that nothing else does.
    pub(super) fn freelist(&self, worker: &mut Worker<'_>) -> u64 {
        let header = self.image.header();
        let most = self.image.layout().usable / 4 - 2;
        let (mut trunk, mut count, mut free) = (header.freelist_trunk, 0_u64, 0_u64);
        let mut before = 0;
        let found = |page: u32, what: String| {
            self.findings.add(Finding::new(FindingKind::Freelist, Loss::Nothing, what).at(page.max(1)));
        };
        let mut bytes = Vec::new();
        while trunk != 0 {
            if self.is_over() {
                return free;
            }
            if !self.pages.exists(trunk) {
                found(before, format!("the freelist leads to page {trunk}, which there is not"));
                break;
            }
            if !self.pages.claim(trunk) {
                found(trunk, "the freelist leads to it, and it has a use already".to_owned());
                break;
            }
            count += 1;
            free += 1;
            let _other = worker.expect_map(trunk, 2, 0);
            if let Err(error) = self.image.read(trunk, &mut bytes) {
                found(trunk, error.to_string());
                break;
            }
            let leaves = be32(&bytes, 4).unwrap_or(0) as usize;
            if leaves > most {
                found(trunk, format!("this trunk of the freelist would have {leaves} leaves"));
                break;
            }
            for leaf in 0..leaves {
                let page = be32(&bytes, 8 + 4 * leaf).unwrap_or(0);
                if !self.pages.exists(page) {
                    found(trunk, format!("the freelist has page {page}, which there is not"));
                } else if !self.pages.claim(page) {
                    found(page, "it is in the freelist, and it has a use already".to_owned());
                } else {
                    free += 1;
                    let _other = worker.expect_map(page, 2, 0);
                }
                count += 1;
            }
            before = trunk;
            trunk = be32(&bytes, 0).unwrap_or(0);
        }
        if count != u64::from(header.freelist_pages) {
            let what =
                format!("the header says that {} pages are free, and the freelist has {count}", header.freelist_pages);
            found(1, what);
        }
        free
    }

    /// Tells the pages without a use.
    pub(super) fn never_used(&self, kept: u64, free: u64) -> (PageUses, Vec<(u32, u32)>) {
        let (mut ranges, mut never) = (Vec::new(), 0);
        // Rows that nothing leads to any more may lie there, if something is broken.
        let loss = if self.trees.iter().all(super::plan::Tree::is_whole) && self.schema_is_whole {
            Loss::Nothing
        } else {
            Loss::Unknown
        };
        for (first, last) in self.pages.unclaimed() {
            never += u64::from(last - first) + 1;
            let what = if first == last {
                "it has no use".to_owned()
            } else {
                format!("it and all up to page {last} have no use")
            };
            if ranges.len() < self.ranges_max {
                ranges.push((first, last));
            }
            self.findings.add(Finding::new(FindingKind::NeverUsed, loss, what).at(first));
        }
        let all = u64::from(self.image.layout().page_count);
        (PageUses { used: all.saturating_sub(kept + free + never), free, kept, never }, ranges)
    }

    pub(super) fn map_fault(&self, page: u32, map: u32, entry: Option<(u8, u32)>, expected: (u8, u32)) {
        let said = entry.map_or("nothing".to_owned(), |(kind, parent)| format!("kind {kind} of page {parent}"));
        let what =
            format!("pointer-map page {map} says {said} of it; it is kind {} of page {}", expected.0, expected.1);
        self.findings.add(Finding::new(FindingKind::PointerMap, Loss::Nothing, what).at(page));
    }
}
