//! Pages without a use, in an auto-vacuum database: the pointer map (fileformat2.html, 1.8) has kept whose they were.
//!
//! Where the page that led to one is whole and does not name it any more, one of the two is older than the map, and what
//! was below it is lost. Below a page that is damaged itself, nothing more is told.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::Check;
use super::plan::Tree;
use super::report::{Finding, FindingKind, Loss, Rowids};
use super::walk::Worker;

/// Pages on the way up to a root.
const STEPS_MAX: usize = 100_000;
/// What the map says of a root.
const ROOT: u8 = 1;

/// What the map says of a page without a use.
enum Owner<'t> {
    Tree(&'t Tree),
    /// It is a root, of which nothing is known.
    Nobody,
}

impl Check<'_> {
    /// Tells pages of trees to which these do not lead.
    pub(super) fn tell_mapped(&self, worker: &mut Worker<'_>) {
        if !self.image.layout().auto_vacuum {
            return;
        }
        let mut damaged: HashSet<u32> = HashSet::new();
        let mut are_all = true;
        self.findings.look_back(|all| {
            are_all = all.len() < self.findings.max;
            let of_pages = all.iter().filter(|f| !matches!(f.kind, FindingKind::PointerMap | FindingKind::Freelist));
            damaged.extend(of_pages.filter_map(|finding| finding.page));
        });
        if !are_all {
            return;
        }
        for page in self.pages.unclaimed().flat_map(|(first, last)| first..=last) {
            if self.is_over() {
                return;
            }
            match self.owner(worker, &damaged, page) {
                Some(Owner::Tree(tree)) => {
                    tree.faults.fetch_add(1, Ordering::Relaxed);
                    let what = "nothing leads to it, and by the pointer map it belongs there";
                    let mut finding = Finding::new(FindingKind::NeverUsed, tree.loss(), what).of(&tree.name).at(page);
                    finding.rowids = tree.by_rowid.filter(|by| *by).map(|_| Rowids { after: None, up_to: None });
                    self.findings.add(finding);
                }
                Some(Owner::Nobody) if self.schema_is_whole => {
                    let what = "by the pointer map it is the root of a table or an index, and no definition names it";
                    self.findings.add(Finding::new(FindingKind::PointerMap, Loss::Unknown, what).at(page));
                }
                _ => {}
            }
        }
    }

    /// `None` where nothing tells, or where what is above it is damaged.
    fn owner(&self, worker: &mut Worker<'_>, damaged: &HashSet<u32>, page: u32) -> Option<Owner<'_>> {
        let mut at = page;
        for _ in 0..STEPS_MAX {
            match worker.map_entry(at)?.1? {
                (ROOT, 0) if at == page => return Some(Owner::Nobody),
                (ROOT, 0) => return self.trees.iter().find(|tree| tree.root == at).map(Owner::Tree),
                (3..=5, parent) => {
                    if !self.pages.is_claimed(parent) || damaged.contains(&parent) {
                        return None;
                    }
                    at = parent;
                }
                _ => return None,
            }
        }
        None
    }
}
