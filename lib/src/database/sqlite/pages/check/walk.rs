//! One thread's walk through parts of b-trees (fileformat2.html, 1.6).

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::super::image::Unreadable;
use super::super::node::Node;
use super::super::record::Field;
use super::super::space::{Misfit, Space};
use super::super::tree::DEPTH_MAX;
use super::Check;
use super::ahead::{Block, followers};
use super::plan::Tree;
use super::queue::{Bounds, Task};
use super::report::{Finding, FindingKind, Loss, Rowids};

/// More findings of one page tell nothing more.
const PER_PAGE: usize = 5;

/// What a thread keeps from page to page, so that nothing is allocated for each.
pub(super) struct Worker<'a> {
    pub(super) check: &'a Check<'a>,
    pub(super) buffers: Vec<Vec<u8>>,
    pub(super) space: Space,
    pub(super) fields: Vec<Field>,
    /// Those of the key before.
    pub(super) fields_before: Vec<Field>,
    /// A key that is not in its page alone, and the one before it.
    pub(super) long: Vec<u8>,
    pub(super) long_before: Vec<u8>,
    pub(super) hashes: Vec<u64>,
    /// Of this page: the sums for the indices of a table, the sum of an index, and the entries. Added to those of the
    /// tree with the page: threads that add to them all the time would wait for each other.
    pub(super) sums: Vec<u64>,
    pub(super) sum: u64,
    pub(super) entries: u64,
    pub(super) chain: Vec<u8>,
    /// The pointer-map page that was looked at last.
    pub(super) map: (u32, Vec<u8>),
    /// Above 0 while pages come from the disk.
    pub(super) cold: u32,
    pub(super) block: Block,
    /// How many of the pages behind the next one are visited right after it.
    pub(super) followers: u32,
    on_page: usize,
}

/// Where the walk is.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) index: usize,
    pub(super) tree: &'a Tree,
    pub(super) page: u32,
}

/// The child of an interior page, with its bounds.
pub(super) struct Child {
    pub(super) page: u32,
    pub(super) bounds: Bounds,
}

impl<'a> Worker<'a> {
    pub(super) fn new(check: &'a Check<'a>) -> Self {
        Self {
            check,
            buffers: Vec::new(),
            space: Space::default(),
            fields: Vec::new(),
            fields_before: Vec::new(),
            long: Vec::new(),
            long_before: Vec::new(),
            hashes: Vec::new(),
            sums: Vec::new(),
            sum: 0,
            entries: 0,
            chain: Vec::new(),
            map: (0, Vec::new()),
            cold: 1,
            block: Block::default(),
            followers: 0,
            on_page: 0,
        }
    }

    pub(super) fn run(&mut self, task: Task) {
        let Some(tree) = self.check.trees.get(task.tree) else {
            return;
        };
        let here = Here { index: task.tree, tree, page: task.page };
        self.followers = 0;
        // The end is noticed by whoever asked for it.
        let _ended = self.visit(here, task.parent, task.depth, &task.bounds);
    }

    /// A finding about the tree at this place.
    pub(super) fn found(&mut self, here: Here<'_>, kind: FindingKind, loss: Loss, what: impl Into<String>) {
        here.tree.faults.fetch_add(1, Ordering::Relaxed);
        self.on_page += 1;
        if self.on_page <= PER_PAGE {
            // What leads to a root is the schema.
            self.check.findings.add(Finding::new(kind, loss, what).of(&here.tree.name).at(here.page.max(1)));
        }
    }

    /// A page, with all that is below it, can't be reached.
    fn lost(&mut self, here: Here<'_>, kind: FindingKind, what: String, bounds: &Bounds) {
        self.found_within(here, kind, here.tree.loss(), what, bounds);
    }

    /// The room of a page does not add up: where a cell may have been, its row may be lost.
    pub(super) fn misfit(&mut self, here: Here<'_>, misfit: Misfit, bounds: &Bounds) {
        let loss = match here.tree.loss() {
            _ if !misfit.may_hide_cells => Loss::Nothing,
            Loss::Rows => Loss::Unknown,
            other => other,
        };
        self.found_within(here, FindingKind::FreeSpace, loss, misfit.what, bounds);
    }

    /// Of a table, the pages around it say which rows those are.
    fn found_within(&mut self, here: Here<'_>, kind: FindingKind, loss: Loss, what: String, bounds: &Bounds) {
        here.tree.faults.fetch_add(1, Ordering::Relaxed);
        let mut finding = Finding::new(kind, loss, what).of(&here.tree.name).at(here.page.max(1));
        if here.tree.by_rowid == Some(true) && loss != Loss::Nothing {
            let (after, up_to) = bounds.rowids;
            finding.rowids = Some(Rowids { after, up_to });
        }
        self.check.findings.add(finding);
    }

    fn visit(&mut self, here: Here<'_>, parent: u32, depth: usize, bounds: &Bounds) -> ControlFlow<()> {
        if self.check.is_over() {
            return ControlFlow::Break(());
        }
        self.on_page = 0;
        if !self.check.pages.exists(here.page) {
            let what = format!("it leads to page {}, which there is not", here.page);
            self.lost(Here { page: parent, ..here }, FindingKind::PageNumber, what, bounds);
            return ControlFlow::Continue(());
        }
        if depth > DEPTH_MAX {
            self.lost(here, FindingKind::Depth, "the tree is deeper than any can be".to_owned(), bounds);
            return ControlFlow::Continue(());
        }
        let mut bytes = self.buffers.pop().unwrap_or_default();
        let flow = match self.read_timed(here.page, &mut bytes) {
            Err(error) => {
                let kind = match error {
                    Unreadable::OutOfRange(_) => FindingKind::PageNumber,
                    Unreadable::Truncated(_) | Unreadable::Disk(..) => FindingKind::Unreadable,
                };
                self.unfit(here, parent, kind, error.to_string(), bounds);
                ControlFlow::Continue(())
            }
            Ok(()) => self.read(here, parent, &bytes, depth, bounds),
        };
        self.buffers.push(bytes);
        flow
    }

    /// A page that can't be what it must be here. It may be another's, which claims it.
    fn unfit(&mut self, here: Here<'_>, parent: u32, kind: FindingKind, what: String, bounds: &Bounds) {
        self.check.contested.unfit(here.page, &self.check.pages);
        self.reached(here, parent);
        self.lost(here, kind, what, bounds);
    }

    fn reached(&mut self, here: Here<'_>, parent: u32) {
        self.check.progress();
        let (kind, from) = if parent == 0 { (1, 0) } else { (5, parent) };
        self.expect_link(here, here.page, kind, from);
    }

    fn read(&mut self, here: Here<'_>, parent: u32, bytes: &[u8], depth: usize, bounds: &Bounds) -> ControlFlow<()> {
        let node = match Node::parse(bytes, here.page, self.check.image.layout()) {
            Ok(node) => node,
            Err(what) => {
                self.unfit(here, parent, FindingKind::PageType, what, bounds);
                return ControlFlow::Continue(());
            }
        };
        let by_rowid = here.tree.by_rowid;
        if by_rowid.is_some_and(|by_rowid| by_rowid != node.kind.is_table()) {
            let what = if node.kind.is_table() { "it is a page of a table" } else { "it is a page of an index" };
            self.unfit(here, parent, FindingKind::PageType, what.to_owned(), bounds);
            return ControlFlow::Continue(());
        }
        if !self.check.pages.claim(here.page) {
            self.check.contested.twice(here.page);
            let what = format!("page {parent} leads to it, and it has a use already");
            self.lost(here, FindingKind::UsedTwice, what, bounds);
            return ControlFlow::Continue(());
        }
        self.reached(here, parent);
        // Only a root may be without any (fileformat2.html, 1.6): its cells are lost.
        if node.kind.is_leaf() && node.cells == 0 && depth > 1 {
            self.lost(here, FindingKind::PageType, "it is a leaf without any cell".to_owned(), bounds);
            return ControlFlow::Continue(());
        }
        here.tree.pages.fetch_add(1, Ordering::Relaxed);
        (self.sum, self.entries) = (0, 0);
        self.sums.clear();
        if let Some(rows) = &here.tree.rows {
            self.sums.resize(rows.sums.len(), 0);
        }
        let children = self.cells(here, &node, bounds);
        here.tree.entries.fetch_add(self.entries, Ordering::Relaxed);
        here.tree.sum.fetch_add(self.sum, Ordering::Relaxed);
        if let Some(rows) = &here.tree.rows {
            for (sum, own) in rows.sums.iter().zip(&self.sums) {
                sum.sum.fetch_add(*own, Ordering::Relaxed);
            }
        }
        if node.kind.is_leaf() {
            let seen = here.tree.leaf_depth.compare_exchange(0, depth, Ordering::Relaxed, Ordering::Relaxed);
            if let Err(other) = seen
                && other != depth
            {
                let what = format!("this leaf is {depth} deep, and others are {other}");
                self.found(here, FindingKind::Depth, Loss::Nothing, what);
            }
            return ControlFlow::Continue(());
        }
        self.announce(children.iter().map(|child| child.page));
        let followers = followers(&children);
        for (child, followers) in children.into_iter().zip(followers) {
            if self.check.queue.is_hungry() {
                let Child { page, bounds } = child;
                self.check.queue.push(Task { tree: here.index, page, parent: here.page, depth: depth + 1, bounds });
            } else {
                let there = Here { page: child.page, ..here };
                self.followers = followers;
                self.visit(there, here.page, depth + 1, &child.bounds)?;
            }
        }
        ControlFlow::Continue(())
    }
}
