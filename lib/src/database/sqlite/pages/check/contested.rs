//! Pages that two trees lead to: which of them came first is chance, so all of them are in doubt.
//!
//! Only what can be its page counts: one of another type is nobody's who needs this type, and one whose first bytes lead
//! nowhere is in no chain. Such pages are claimed when all others are.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::super::bytes::be32;
use super::super::claims::Claims;
use super::super::node::{Node, Payload};
use super::super::tree::DEPTH_MAX;
use super::Check;
use super::plan::Tree;
use super::report::{Finding, FindingKind};

/// With more of them, who comes first is called the owner.
const KEPT_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Contested(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    twice: BTreeSet<u32>,
    unfit: BTreeSet<u32>,
}

impl Contested {
    /// A page that had a use already.
    pub(super) fn twice(&self, page: u32) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.twice.len() < KEPT_MAX {
            kept.twice.insert(page);
        }
    }

    /// A page that is not what leads to it must have.
    pub(super) fn unfit(&self, page: u32, claims: &Claims) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.unfit.len() < KEPT_MAX {
            kept.unfit.insert(page);
        } else {
            let _has_a_use = claims.claim(page);
        }
    }
}

/// Whether a page can be in a chain that goes on with `next`.
pub(super) fn can_be_linked(pages: &Claims, next: u32) -> bool {
    next == 0 || pages.exists(next)
}

/// Who leads to a page: the page of the b-tree, and the one that has two uses.
struct Claimant {
    at: u32,
    page: u32,
}

impl Check<'_> {
    /// Finds everybody who leads to a page with two uses.
    pub(super) fn tell_contested(&self) {
        let mut kept = std::mem::take(&mut *self.contested.0.lock().unwrap_or_else(PoisonError::into_inner));
        // A page of the type that a tree needs is its own, whatever else leads to it; of one in a chain, nothing says so.
        kept.unfit.retain(|page| self.pages.exists(*page) && !self.pages.claim(*page));
        if kept.twice.is_empty() && kept.unfit.is_empty() {
            return;
        }
        self.observer.step("looking for all that lead to pages with two uses");
        for tree in &self.trees {
            let mut told: HashSet<u32> = HashSet::new();
            self.findings.look_back(|all| {
                let of_tree = all.iter().filter(|f| f.object.as_ref() == Some(&tree.name));
                told.extend(of_tree.filter(|f| is_of_uses(f.kind)).filter_map(|f| f.page));
            });
            for Claimant { at, page } in self.claimants(tree, &kept) {
                if told.insert(at) {
                    tree.faults.fetch_add(1, Ordering::Relaxed);
                    let what = format!("page {page} has another use too");
                    self.findings.add(Finding::new(FindingKind::UsedTwice, tree.loss(), what).of(&tree.name).at(at));
                }
            }
        }
    }

    /// Where a tree leads to one of those pages, as a page that it can have.
    fn claimants(&self, tree: &Tree, kept: &Kept) -> Vec<Claimant> {
        let seen = Claims::new(self.image.layout().page_count);
        let (mut found, mut ahead, mut bytes, mut chain) = (Vec::new(), vec![(tree.root, 1)], Vec::new(), Vec::new());
        while let Some((page, depth)) = ahead.pop() {
            if self.is_over() {
                break;
            }
            if depth > DEPTH_MAX || !seen.claim(page) || self.image.read(page, &mut bytes).is_err() {
                continue;
            }
            let Ok(node) = Node::parse(&bytes, page, self.image.layout()) else { continue };
            if tree.by_rowid.is_some_and(|by_rowid| by_rowid != node.kind.is_table()) {
                continue;
            }
            if kept.twice.contains(&page) {
                found.push(Claimant { at: page, page });
            }
            self.progress();
            let cells = (0..node.cells).filter_map(|index| node.cell(index).ok());
            for cell in cells.filter(|cell| cell.payload.overflow != 0) {
                self.linked(&cell.payload, &seen, &mut chain, &mut |linked| {
                    if kept.twice.contains(&linked) || kept.unfit.contains(&linked) {
                        found.push(Claimant { at: page, page: linked });
                    }
                });
            }
            ahead.extend(node.children().into_iter().map(|child| (child, depth + 1)));
        }
        found
    }

    /// Gives the pages of a chain, up to the first that another one of the tree has, which is the last.
    fn linked(&self, payload: &Payload<'_>, seen: &Claims, bytes: &mut Vec<u8>, each: &mut dyn FnMut(u32)) {
        let room = self.image.layout().usable as u64 - 4;
        let pages = payload.total.saturating_sub(payload.local.len() as u64).div_ceil(room);
        let mut page = payload.overflow;
        for _ in 0..pages {
            let next = match self.image.read(page, bytes) {
                Ok(()) => be32(bytes, 0).unwrap_or(0),
                Err(_) => return,
            };
            if !can_be_linked(&self.pages, next) {
                return;
            }
            each(page);
            if next == 0 || !seen.claim(page) {
                return;
            }
            page = next;
        }
    }
}

fn is_of_uses(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::UsedTwice | FindingKind::OverflowChain | FindingKind::PageType)
}
