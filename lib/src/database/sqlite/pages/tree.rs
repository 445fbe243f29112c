//! What a b-tree holds, page by page, wherever it can be read: for the schema, and for whoever salvages rows.

use std::borrow::Cow;

use super::chain::{ChainFault, bytes_of};
use super::claims::Claims;
use super::image::Image;
use super::node::{Node, NodeKind};

/// SQLite's own bound for the depth of a b-tree.
pub(super) const DEPTH_MAX: usize = 20;

/// What is met in a b-tree.
#[derive(Debug)]
pub enum Met<'a> {
    /// A row, or an entry of an index.
    Row {
        /// The page that has it.
        page: u32,
        /// Its key, in a table with rowids; 0 elsewhere.
        rowid: i64,
        /// The record, as far as it was asked for; [`super::Values`] reads it.
        record: Result<Cow<'a, [u8]>, ChainFault>,
    },
    /// A page or a cell that can't be read.
    Fault {
        /// The page.
        page: u32,
        /// For people.
        what: String,
    },
}

/// Whether to go on.
pub type GoOn = bool;

impl Image {
    /// Meets everything in the b-tree at `root`, in the order of rowids in a table that has them; what is damaged is
    /// left out and told. `by_rowid`: whether it must be a table with rowids; `None` for either. Of a record,
    /// `record_max` bytes are read, or what is in the page itself. Every page is visited once at most; memory is one
    /// bit for each page of the database.
    pub fn walk(&self, root: u32, by_rowid: Option<bool>, record_max: usize, visit: &mut dyn FnMut(Met<'_>) -> GoOn) {
        let seen = Claims::new(self.layout().page_count);
        // Pages still to come, the next one last, with their depth.
        let mut ahead = vec![(root, 1_usize)];
        let mut bytes = Vec::new();
        while let Some((page, depth)) = ahead.pop() {
            let node = if !seen.exists(page) {
                Err("there is no such page".to_owned())
            } else if !seen.claim(page) || depth > DEPTH_MAX {
                Err("a page leads to it that can't be above it".to_owned())
            } else if let Err(error) = self.read(page, &mut bytes) {
                Err(error.to_string())
            } else {
                Node::parse(&bytes, page, self.layout())
            };
            let node = match node {
                Ok(node) if by_rowid.is_none_or(|by_rowid| by_rowid == node.kind.is_table()) => node,
                other => {
                    let what = other.err().unwrap_or_else(|| "it is a page of another kind of tree".to_owned());
                    if !visit(Met::Fault { page, what }) {
                        return;
                    }
                    continue;
                }
            };
            ahead.extend(node.children().into_iter().rev().map(|child| (child, depth + 1)));
            if !self.meet(&node, record_max, visit) {
                return;
            }
        }
    }

    /// Gives every entry of the index at `root`, in its order; whether all of it could be read. `visit` can end it, too.
    pub(super) fn entries(&self, root: u32, visit: &mut dyn FnMut(&[u8]) -> GoOn) -> bool {
        self.entries_below(root, 1, &Claims::new(self.layout().page_count), visit).is_some()
    }

    fn entries_below(
        &self,
        page: u32,
        depth: usize,
        seen: &Claims,
        visit: &mut dyn FnMut(&[u8]) -> GoOn,
    ) -> Option<()> {
        let mut bytes = Vec::new();
        if depth > DEPTH_MAX || !seen.claim(page) || self.read(page, &mut bytes).is_err() {
            return None;
        }
        let node = Node::parse(&bytes, page, self.layout()).ok().filter(|node| !node.kind.is_table())?;
        for index in 0..node.cells {
            let cell = node.cell(index).ok()?;
            if !node.kind.is_leaf() {
                self.entries_below(cell.left, depth + 1, seen, visit)?;
            }
            let record = bytes_of(self, &cell.payload, usize::MAX).ok()?;
            visit(&record).then_some(())?;
        }
        if node.kind.is_leaf() { Some(()) } else { self.entries_below(node.right, depth + 1, seen, visit) }
    }

    /// Meets everything in one page, whatever leads to it: for pages that belong to nothing any more.
    ///
    /// # Errors
    /// For people: why it is no page of a b-tree.
    pub fn rows_of_page(
        &self,
        page: u32,
        record_max: usize,
        visit: &mut dyn FnMut(Met<'_>) -> GoOn,
    ) -> Result<NodeKind, String> {
        let mut bytes = Vec::new();
        self.read(page, &mut bytes).map_err(|error| error.to_string())?;
        let node = Node::parse(&bytes, page, self.layout())?;
        let _ended = self.meet(&node, record_max, visit);
        Ok(node.kind)
    }

    fn meet(&self, node: &Node<'_>, record_max: usize, visit: &mut dyn FnMut(Met<'_>) -> GoOn) -> GoOn {
        let page = node.page;
        if node.kind == NodeKind::TableInterior {
            return true;
        }
        (0..node.cells).all(|index| match node.cell(index) {
            Ok(cell) => visit(Met::Row { page, rowid: cell.rowid, record: bytes_of(self, &cell.payload, record_max) }),
            Err(what) => visit(Met::Fault { page, what: format!("cell {index}: {what}") }),
        })
    }
}
