//! The cells of one page: where they lie, and the order of their keys.

use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::collate::{Parsed, neighbours};
use super::super::node::{Cell, Node};
use super::super::record::read_fields;
use super::queue::Bounds;
use super::report::{FindingKind, Loss};
use super::walk::{Child, Here, Worker};

/// A longer key is not kept as a bound for the pages below it.
const BOUND_MAX: usize = 16 << 10;

/// Where the bytes of a key are. Its fields are the worker's.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// There is none that could be compared.
    None,
    Page(&'a [u8]),
    /// In the worker: the rest was in overflow pages, or it is a bound.
    Long,
}

impl Worker<'_> {
    /// Looks at every cell, and gives the children with the bounds that follow from the cells around them.
    pub(super) fn cells(&mut self, here: Here<'_>, node: &Node<'_>, bounds: &Bounds) -> Vec<Child> {
        let loss = here.tree.loss();
        self.space.reset(self.check.image.layout().usable);
        let content = node.content();
        let mut whole = true;
        let mut children = Vec::new();
        let mut low = bounds.clone();
        // The key before, in an index: in this page, or the bound.
        let mut before = Key::None;
        if let Some(key) = &bounds.keys.0 {
            self.long_before.clear();
            self.long_before.extend_from_slice(key);
            let _whole = read_fields(key, key.len() as u64, &mut self.fields_before);
            before = Key::Long;
        }
        for index in 0..node.cells {
            let cell = match node.cell(index) {
                Ok(cell) => cell,
                Err(what) => {
                    self.found(here, FindingKind::Cell, loss, format!("cell {index}: {what}"));
                    whole = false;
                    if !node.kind.is_leaf() {
                        low = Bounds { rowids: (None, low.rowids.1), keys: (None, low.keys.1) };
                    }
                    before = Key::None;
                    continue;
                }
            };
            if cell.at < content || !self.space.take(cell.at, cell.size) {
                self.found(here, FindingKind::Cell, loss, format!("cell {index} lies upon something else"));
                whole = false;
            }
            let mut kept = None;
            if node.kind.is_table() {
                self.rowid_in_order(here, &cell, &mut low, node.kind.is_leaf());
                if node.kind.is_leaf() {
                    self.row(here, Some(cell.rowid), &cell.payload);
                }
            } else {
                let key = self.entry(here, &cell.payload);
                self.key_in_order(here, before, key);
                if !node.kind.is_leaf() {
                    kept = bytes_of(key, &self.long).filter(|bytes| bytes.len() <= BOUND_MAX).map(Arc::from);
                }
                std::mem::swap(&mut self.fields, &mut self.fields_before);
                std::mem::swap(&mut self.long, &mut self.long_before);
                before = key;
            }
            if !node.kind.is_leaf() {
                let rowid = Some(cell.rowid);
                let own = Bounds { rowids: (low.rowids.0, rowid), keys: (low.keys.0.take(), kept.clone()) };
                low = Bounds { rowids: (rowid, low.rowids.1), keys: (kept, low.keys.1) };
                children.push(Child { page: cell.left, bounds: own });
            }
        }
        if let Some(high) = &bounds.keys.1 {
            let _whole = read_fields(high, high.len() as u64, &mut self.fields);
            self.key_in_order(here, before, Key::Page(high));
        }
        if !node.kind.is_leaf() {
            children.push(Child { page: node.right, bounds: low });
        }
        // Cells that are wrong leave room that does not add up.
        if whole && let Err(misfit) = self.space.settle(node) {
            self.misfit(here, misfit, bounds);
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

    /// Compares two keys by the fields of both, which are the worker's.
    #[inline]
    fn key_in_order(&mut self, here: Here<'_>, before: Key<'_>, key: Key<'_>) {
        let Some(plan) = &here.tree.key else {
            return;
        };
        let (Some(before), Some(key)) = (bytes_of(before, &self.long_before), bytes_of(key, &self.long)) else {
            return;
        };
        let encoding = self.check.image.layout().encoding;
        let before = Parsed { bytes: before, fields: &self.fields_before };
        let key = Parsed { bytes: key, fields: &self.fields };
        let Some(found) = neighbours(before, key, &plan.key, encoding) else {
            return;
        };
        match found.order {
            None if found.no_text => _ = here.tree.not_ordered.fetch_add(1, Ordering::Relaxed),
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

fn bytes_of<'a>(key: Key<'a>, long: &'a [u8]) -> Option<&'a [u8]> {
    match key {
        Key::None => None,
        Key::Page(bytes) => Some(bytes),
        Key::Long => Some(long),
    }
}
