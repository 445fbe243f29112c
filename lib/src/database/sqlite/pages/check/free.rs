//! The freelist (fileformat2.html, 1.5) and the pages that belong to nobody.

use super::super::bytes::be32;
use super::super::node::{Node, NodeKind};
use super::Check;
use super::report::{Finding, FindingKind, Loss, PageUses};
use super::walk::Worker;

/// Of a trunk, so many leaves are looked at to tell whether it is one.
const NAMED_MIN: u64 = 8;
/// So many pages without a use are read to tell whether rows lie there.
const READ_MAX: u32 = 10_000;

/// The freelist, as far as it could be walked.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Freelist {
    /// Pages that it has, and nothing else does.
    free: u64,
    /// Pages that it names.
    count: u64,
    /// It ends before its end.
    is_broken: bool,
}

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

    /// Walks the freelist, and claims what it has.
    pub(super) fn freelist(&self, worker: &mut Worker<'_>) -> Freelist {
        let header = self.image.header();
        let most = self.image.layout().usable / 4 - 2;
        let mut list = Freelist::default();
        let (mut trunk, mut before) = (header.freelist_trunk, 0);
        let found = |page: u32, loss: Loss, what: String| {
            self.findings.add(Finding::new(FindingKind::Freelist, loss, what).at(page.max(1)));
        };
        let mut bytes = Vec::new();
        while trunk != 0 {
            if self.is_over() {
                return list;
            }
            // Until the list is at its end, pages that it does not name may be its own.
            list.is_broken = true;
            if !self.pages.exists(trunk) {
                found(before, Loss::Nothing, format!("the freelist leads to page {trunk}, which there is not"));
                break;
            }
            let read = self.image.read(trunk, &mut bytes);
            // Of a trunk, the first byte is that of a page number: only in a database of many millions is it a type.
            if read.is_ok() && self.is_node(&bytes, trunk) {
                let what = "the freelist leads to it, and it is a page of a table or an index: it may be in use since";
                found(trunk, Loss::Unknown, what.to_owned());
                break;
            }
            let leaves = be32(&bytes, 4).unwrap_or(0) as usize;
            let is_one = leaves <= most || self.names_free_pages(&bytes, list.count);
            if read.is_ok() && !is_one {
                let what = format!("this trunk of the freelist would have {leaves} leaves, and names no free pages");
                found(trunk, Loss::Unknown, what);
                break;
            }
            if !self.pages.claim(trunk) {
                found(trunk, Loss::Nothing, "the freelist leads to it, and it has a use already".to_owned());
                break;
            }
            list.count += 1;
            list.free += 1;
            let _other = worker.expect_map(trunk, 2, 0);
            if let Err(error) = read {
                found(trunk, Loss::Nothing, error.to_string());
                break;
            }
            if leaves > most {
                found(trunk, Loss::Nothing, format!("this trunk of the freelist would have {leaves} leaves"));
                break;
            }
            for leaf in 0..leaves {
                let page = be32(&bytes, 8 + 4 * leaf).unwrap_or(0);
                if !self.pages.exists(page) {
                    found(trunk, Loss::Nothing, format!("the freelist has page {page}, which there is not"));
                } else if !self.pages.claim(page) {
                    found(page, Loss::Nothing, "it is in the freelist, and it has a use already".to_owned());
                } else {
                    list.free += 1;
                    let _other = worker.expect_map(page, 2, 0);
                }
                list.count += 1;
            }
            before = trunk;
            trunk = be32(&bytes, 0).unwrap_or(0);
            list.is_broken = false;
        }
        list
    }

    fn is_node(&self, bytes: &[u8], page: u32) -> bool {
        let node = Node::parse(bytes, page, self.image.layout());
        node.is_ok_and(|node| node.cells > 0 && (0..node.cells).all(|index| node.cell(index).is_ok()))
    }

    /// Whether a trunk whose number of leaves is damaged names such as there are: a page that has got another use does not.
    fn names_free_pages(&self, bytes: &[u8], count: u64) -> bool {
        let left = u64::from(self.image.header().freelist_pages).saturating_sub(count + 1);
        let next = be32(bytes, 0).unwrap_or(0);
        let leaf = |leaf: u64| be32(bytes, 8 + 4 * leaf as usize).unwrap_or(0);
        (next == 0 || self.pages.exists(next)) && (0..left.min(NAMED_MIN)).all(|nth| self.pages.exists(leaf(nth)))
    }

    /// Tells the pages without a use.
    pub(super) fn never_used(&self, kept: u64, list: Freelist) -> (PageUses, Vec<(u32, u32)>) {
        let (mut ranges, mut never) = (Vec::new(), 0);
        // Rows that nothing leads to any more may lie there, if something is broken.
        let is_whole = self.trees.iter().all(super::plan::Tree::is_whole) && self.schema_is_whole;
        let mut left = READ_MAX;
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
            let loss = match is_whole && (list.is_broken || !self.has_rows(first, last, &mut left)) {
                true => Loss::Nothing,
                false => Loss::Unknown,
            };
            self.findings.add(Finding::new(FindingKind::NeverUsed, loss, what).at(first));
        }
        let said = self.image.header().freelist_pages;
        if list.count != u64::from(said) {
            // Where the list is whole but for that, what it lacks was taken off it, and may be in use since.
            let is_taken = !list.is_broken && list.count < u64::from(said) && never > 0;
            let loss = if is_taken { Loss::Unknown } else { Loss::Nothing };
            let what = format!("the header says that {said} pages are free, and the freelist has {}", list.count);
            self.findings.add(Finding::new(FindingKind::Freelist, loss, what).at(1));
        }
        let all = u64::from(self.image.layout().page_count);
        (PageUses { used: all.saturating_sub(kept + list.free + never), free: list.free, kept, never }, ranges)
    }

    /// Whether rows lie in pages; of those that are too many to be read, it can't be excluded.
    fn has_rows(&self, first: u32, last: u32, left: &mut u32) -> bool {
        let mut bytes = Vec::new();
        (first..=last).any(|page| {
            *left = left.saturating_sub(1);
            let is_leaf =
                |bytes: &[u8]| NodeKind::of(bytes[0]) == Some(NodeKind::TableLeaf) && self.is_node(bytes, page);
            *left == 0 || self.image.read(page, &mut bytes).is_ok() && is_leaf(&bytes)
        })
    }

    pub(super) fn map_fault(&self, page: u32, map: u32, entry: Option<(u8, u32)>, expected: (u8, u32)) {
        let said = entry.map_or("nothing".to_owned(), |(kind, parent)| format!("kind {kind} of page {parent}"));
        let what =
            format!("pointer-map page {map} says {said} of it; it is kind {} of page {}", expected.0, expected.1);
        self.findings.add(Finding::new(FindingKind::PointerMap, Loss::Nothing, what).at(page));
    }
}
