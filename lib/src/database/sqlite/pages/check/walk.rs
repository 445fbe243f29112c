//! One thread's walk through parts of b-trees (fileformat2.html, 1.6).

use std::cmp::Ordering as Order;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::collate::neighbours;
use super::super::image::Unreadable;
use super::super::node::{Cell, Node};
use super::super::record::Field;
use super::super::space::Space;
use super::super::tree::DEPTH_MAX;
use super::Check;
use super::plan::Tree;
use super::queue::{Bounds, Task};
use super::report::{Finding, FindingKind, Loss};

/// More findings of one page tell nothing more.
const PER_PAGE: usize = 5;
/// A longer key is not kept as a bound for the pages below it.
const BOUND_MAX: usize = 16 << 10;

/// What a thread keeps from page to page, so that nothing is allocated for each.
pub(super) struct Worker<'a> {
    pub(super) check: &'a Check<'a>,
    pub(super) buffers: Vec<Vec<u8>>,
    space: Space,
    pub(super) fields: Vec<Field>,
    pub(super) hashes: Vec<u64>,
    pub(super) sums: Vec<u64>,
    pub(super) chain: Vec<u8>,
    /// The pointer-map page that was looked at last.
    pub(super) map: (u32, Vec<u8>),
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
struct Child {
    page: u32,
    bounds: Bounds,
}

impl<'a> Worker<'a> {
    pub(super) fn new(check: &'a Check<'a>) -> Self {
        Self {
            check,
            buffers: Vec::new(),
            space: Space::default(),
            fields: Vec::new(),
            hashes: Vec::new(),
            sums: Vec::new(),
            chain: Vec::new(),
            map: (0, Vec::new()),
            on_page: 0,
        }
    }

    pub(super) fn run(&mut self, task: Task) {
        let Some(tree) = self.check.trees.get(task.tree) else {
            return;
        };
        let here = Here { index: task.tree, tree, page: task.page };
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

    fn visit(&mut self, here: Here<'_>, parent: u32, depth: usize, bounds: &Bounds) -> ControlFlow<()> {
        if self.check.is_over() {
            return ControlFlow::Break(());
        }
        self.on_page = 0;
        let loss = here.tree.loss();
        if !self.check.pages.exists(here.page) {
            let parent = Here { page: parent, ..here };
            self.found(
                parent,
                FindingKind::PageNumber,
                loss,
                format!("it leads to page {}, which there is not", here.page),
            );
            return ControlFlow::Continue(());
        }
        if depth > DEPTH_MAX {
            self.found(here, FindingKind::Depth, loss, "the tree is deeper than any can be");
            return ControlFlow::Continue(());
        }
        if !self.check.pages.claim(here.page) {
            self.found(
                here,
                FindingKind::UsedTwice,
                loss,
                format!("page {parent} leads to it, and it has a use already"),
            );
            return ControlFlow::Continue(());
        }
        self.check.progress();
        let (kind, from) = if parent == 0 { (1, 0) } else { (5, parent) };
        self.expect_map(here.page, kind, from);
        let mut bytes = self.buffers.pop().unwrap_or_default();
        let flow = match self.check.image.read(here.page, &mut bytes) {
            Err(error) => {
                let kind = match error {
                    Unreadable::OutOfRange(_) => FindingKind::PageNumber,
                    Unreadable::Truncated(_) | Unreadable::Disk(..) => FindingKind::Unreadable,
                };
                self.found(here, kind, loss, error.to_string());
                ControlFlow::Continue(())
            }
            Ok(()) => self.read(here, &bytes, depth, bounds),
        };
        self.buffers.push(bytes);
        flow
    }

    fn read(&mut self, here: Here<'_>, bytes: &[u8], depth: usize, bounds: &Bounds) -> ControlFlow<()> {
        let node = match Node::parse(bytes, here.page, self.check.image.layout()) {
            Ok(node) => node,
            Err(what) => {
                self.found(here, FindingKind::PageType, here.tree.loss(), what);
                return ControlFlow::Continue(());
            }
        };
        let by_rowid = here.tree.by_rowid;
        if by_rowid.is_some_and(|by_rowid| by_rowid != node.kind.is_table()) {
            let what = if node.kind.is_table() { "it is a page of a table" } else { "it is a page of an index" };
            self.found(here, FindingKind::PageType, here.tree.loss(), what);
            return ControlFlow::Continue(());
        }
        here.tree.pages.fetch_add(1, Ordering::Relaxed);
        self.sums.clear();
        if let Some(rows) = &here.tree.rows {
            self.sums.resize(rows.sums.len(), 0);
        }
        let children = self.cells(here, &node, bounds);
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
        self.check.announce(children.iter().map(|child| child.page));
        for child in children {
            if self.check.queue.is_hungry() {
                let Child { page, bounds } = child;
                self.check.queue.push(Task { tree: here.index, page, parent: here.page, depth: depth + 1, bounds });
            } else {
                let there = Here { page: child.page, ..here };
                self.visit(there, here.page, depth + 1, &child.bounds)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Looks at every cell, and gives the children with the bounds that follow from the cells around them.
    fn cells(&mut self, here: Here<'_>, node: &Node<'_>, bounds: &Bounds) -> Vec<Child> {
        let loss = here.tree.loss();
        self.space.reset(self.check.image.layout().usable);
        let content = node.content();
        let mut whole = true;
        let mut children = Vec::new();
        let mut low = bounds.clone();
        // The key before, in an index: in this page, or the bound.
        let mut before: Option<Key<'_>> = bounds.keys.0.clone().map(Key::Kept);
        for index in 0..node.cells {
            let cell = match node.cell(index) {
                Ok(cell) => cell,
                Err(what) => {
                    self.found(here, FindingKind::Cell, loss, format!("cell {index}: {what}"));
                    whole = false;
                    if !node.kind.is_leaf() {
                        low = Bounds { rowids: (None, low.rowids.1), keys: (None, low.keys.1) };
                    }
                    before = None;
                    continue;
                }
            };
            if cell.at < content || !self.space.take(cell.at, cell.size) {
                self.found(here, FindingKind::Cell, loss, format!("cell {index} lies upon something else"));
                whole = false;
            }
            let (rowid, mut key) = (cell.rowid, None);
            if node.kind.is_table() {
                self.rowid_in_order(here, &cell, &mut low, node.kind.is_leaf());
                if node.kind.is_leaf() {
                    self.row(here, Some(cell.rowid), &cell.payload);
                }
            } else {
                key = self.entry(here, &cell.payload).map(Key::Here);
                if let Some(key) = &key {
                    self.key_in_order(here, before.as_ref(), key);
                }
            }
            if !node.kind.is_leaf() {
                let kept = key.as_ref().and_then(Key::keep);
                let own = Bounds { rowids: (low.rowids.0, Some(rowid)), keys: (low.keys.0.take(), kept.clone()) };
                low = Bounds { rowids: (Some(rowid), low.rowids.1), keys: (kept, low.keys.1) };
                children.push(Child { page: cell.left, bounds: own });
            }
            if key.is_some() || !node.kind.is_table() {
                before = key;
            }
        }
        if let (Some(before), Some(high)) = (&before, &bounds.keys.1) {
            self.key_in_order(here, Some(before), &Key::Kept(Arc::clone(high)));
        }
        if !node.kind.is_leaf() {
            children.push(Child { page: node.right, bounds: low });
        }
        // Cells that are wrong leave room that does not add up.
        if whole && let Err(what) = self.space.settle(node) {
            self.found(here, FindingKind::FreeSpace, Loss::Nothing, what);
        }
        children
    }

    /// Ascending, and between the keys of the page above. `low` moves on with it on a leaf.
    fn rowid_in_order(&mut self, here: Here<'_>, cell: &Cell<'_>, low: &mut Bounds, leaf: bool) {
        let above = low.rowids.0.is_none_or(|low| cell.rowid > low);
        if !above || low.rowids.1.is_some_and(|high| cell.rowid > high) {
            let what = format!("rowid {} is out of order", cell.rowid);
            self.found(here, FindingKind::KeyOrder, here.tree.loss(), what);
            // One wrong rowid does not make all that follow it wrong.
            if above {
                return;
            }
        }
        if leaf {
            low.rowids.0 = Some(cell.rowid);
        }
    }

    fn key_in_order(&mut self, here: Here<'_>, before: Option<&Key<'_>>, key: &Key<'_>) {
        let (Some(plan), Some(before)) = (&here.tree.key, before) else {
            return;
        };
        let encoding = self.check.image.layout().encoding;
        let Some(found) = neighbours(before.bytes(), key.bytes(), &plan.key, encoding) else {
            return;
        };
        match found.order {
            Some(Order::Greater) => {
                self.found(here, FindingKind::KeyOrder, here.tree.loss(), "its keys are not in their order");
            }
            Some(Order::Equal) if plan.unique.is_none_or(|unique| unique > found.equal) => {
                self.found(here, FindingKind::KeyOrder, here.tree.loss(), "it has an entry twice");
            }
            _ => {}
        }
        if plan.unique.is_some_and(|unique| found.equal >= unique) {
            let what = "two neighbouring entries have a key that must be unique";
            self.found(here, FindingKind::Duplicate, Loss::Unknown, what);
        }
    }
}

/// A key for comparison with the next one.
enum Key<'a> {
    Here(std::borrow::Cow<'a, [u8]>),
    Kept(Arc<[u8]>),
}

impl Key<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }

    fn keep(&self) -> Option<Arc<[u8]>> {
        Some(self.bytes()).filter(|bytes| bytes.len() <= BOUND_MAX).map(Arc::from)
    }
}
