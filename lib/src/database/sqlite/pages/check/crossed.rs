//! Pages that have changed places: in an auto-vacuum database each page's entry in the pointer map (fileformat2.html, 1.8)
//! names the one that leads to it.
//!
//! One wrong entry is a fault of the map, and costs nothing. Where the page that it names leads to another one, whose entry
//! is wrong too, the pages themselves are in doubt: each is whole, and may be in the place of the other.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::Check;
use super::report::{Finding, FindingKind};

/// Beyond so many, the map itself is in ruins.
const LINKS_MAX: usize = 100_000;

/// A page whose entry names another one than leads to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) tree: usize,
    /// The page of the b-tree.
    pub(super) at: u32,
    pub(super) page: u32,
    /// What leads to it by the map.
    pub(super) said: u32,
    /// And what does.
    pub(super) is: u32,
}

#[derive(Debug, Default)]
pub(super) struct Crossed(Mutex<Vec<Link>>);

impl Crossed {
    pub(super) fn add(&self, link: Link) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() < LINKS_MAX {
            links.push(link);
        }
    }
}

impl Check<'_> {
    /// Tells where the links contradict each other.
    pub(super) fn tell_crossed(&self) {
        let links = self.crossed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let leading: HashSet<u32> = links.iter().map(|link| link.is).collect();
        for link in links.iter().filter(|link| leading.contains(&link.said)) {
            let Some(tree) = self.trees.get(link.tree) else { continue };
            tree.faults.fetch_add(1, Ordering::Relaxed);
            let what = format!(
                "page {} leads to page {}, which followed page {} by the pointer map: one may be in the place of the other",
                link.is, link.page, link.said
            );
            let finding = Finding::new(FindingKind::PointerMap, tree.loss(), what).of(&tree.name).at(link.at.max(1));
            self.findings.add(finding);
        }
    }
}
