//! A b-tree written in the order of its keys, each page once (fileformat2.html, 1.6).
//!
//! A page that is full waits until the next of its level has a cell: no page but an empty root may be without one, so
//! that at the end the last page may have to take one over from it.

use super::super::super::error::SqliteError;
use super::super::node::NodeKind;
use super::room::{Pen, Room};
use super::sheet::Sheet;

/// A tree that grows.
pub(super) struct Grower<'r> {
    pen: Pen<'r>,
    root: u32,
    is_table: bool,
    /// The leaves first.
    levels: Vec<Level>,
    cell: Vec<u8>,
    last: Option<i64>,
}

struct Level {
    /// A full page, and the key between it and the open one.
    full: Option<(Sheet, Vec<u8>)>,
    open: Sheet,
}

impl<'r> Grower<'r> {
    /// `root`: the page that it is to begin in.
    pub(super) fn new(room: &'r Room, root: u32, is_table: bool) -> Self {
        let pen = Pen::new(room);
        let open = Sheet::new(kind(is_table, true), pen.layout());
        Self { pen, root, is_table, levels: vec![Level { full: None, open }], cell: Vec::new(), last: None }
    }

    /// Adds a row; whether its key is beyond all before.
    pub(super) fn row(&mut self, rowid: i64, record: &[u8]) -> Result<bool, SqliteError> {
        if self.last.is_some_and(|last| last >= rowid) {
            return Ok(false);
        }
        self.compose(record, Some(rowid))?;
        // No cell takes less: a freeblock must fit where it was.
        self.cell.resize(self.cell.len().max(4), 0);
        if !self.levels[0].open.has_room(self.cell.len()) {
            let mut key = Vec::with_capacity(9);
            varint(&mut key, self.last.unwrap_or_default().cast_unsigned());
            self.turn(0, 0, key)?;
        }
        self.levels[0].open.push(&[&self.cell]);
        self.last = Some(rowid);
        Ok(true)
    }

    /// Adds an entry of an index.
    pub(super) fn entry(&mut self, record: &[u8]) -> Result<(), SqliteError> {
        self.compose(record, None)?;
        if self.levels[0].open.has_room(self.cell.len()) {
            self.levels[0].open.push(&[&self.cell]);
            return Ok(());
        }
        let key = self.cell.clone();
        self.turn(0, 0, key)
    }

    /// Writes the rest, the root last.
    pub(super) fn finish(mut self) -> Result<(), SqliteError> {
        let (mut level, mut right) = (0, 0);
        loop {
            let fresh = self.fresh(level);
            let mut open = std::mem::replace(&mut self.levels[level].open, fresh);
            open.right = right;
            let Some((mut full, mut key)) = self.levels[level].full.take() else {
                self.pen.write(self.root, &open.finish())?;
                return self.pen.finish();
            };
            if open.cells == 0 && level == 0 {
                open.push(&[&key]);
                key = full.pop();
            } else if open.cells == 0 {
                open.push(&[&full.right.to_be_bytes(), &key]);
                let last = full.pop();
                let (child, before) = last.split_at(4);
                full.right = u32::from_be_bytes(child.try_into().unwrap_or_default());
                key = before.to_vec();
            }
            let page = self.write(full)?;
            self.up(level + 1, page, key)?;
            right = self.write(open)?;
            level += 1;
        }
    }

    /// Leaves an empty tree, and gives back its pages.
    pub(super) fn abandon(self) -> Result<(), SqliteError> {
        let Self { mut pen, root, is_table, .. } = self;
        pen.give_back();
        pen.write(root, &Sheet::new(kind(is_table, true), pen.layout()).finish())?;
        pen.finish()
    }

    /// The open page of a level is full: `key` comes after it, and after its last child `right`.
    fn turn(&mut self, level: usize, right: u32, key: Vec<u8>) -> Result<(), SqliteError> {
        let fresh = self.fresh(level);
        let mut full = std::mem::replace(&mut self.levels[level].open, fresh);
        full.right = right;
        match self.levels[level].full.replace((full, key)) {
            Some((before, key)) => {
                let page = self.write(before)?;
                self.up(level + 1, page, key)
            }
            None => Ok(()),
        }
    }

    fn up(&mut self, level: usize, child: u32, key: Vec<u8>) -> Result<(), SqliteError> {
        if level == self.levels.len() {
            let open = self.fresh(level);
            self.levels.push(Level { full: None, open });
        }
        if self.levels[level].open.has_room(4 + key.len()) {
            self.levels[level].open.push(&[&child.to_be_bytes(), &key]);
            return Ok(());
        }
        self.turn(level, child, key)
    }

    fn fresh(&self, level: usize) -> Sheet {
        Sheet::new(kind(self.is_table, level == 0), self.pen.layout())
    }

    fn write(&mut self, sheet: Sheet) -> Result<u32, SqliteError> {
        let page = self.pen.page()?;
        self.pen.write(page, &sheet.finish())?;
        Ok(page)
    }

    /// A leaf's cell, with what of the record has no room in it in a chain of its own (1.6.1 and 1.7).
    fn compose(&mut self, record: &[u8], rowid: Option<i64>) -> Result<(), SqliteError> {
        let layout = self.pen.layout();
        let (local, rest) = record.split_at(layout.local_of(record.len() as u64, rowid.is_some()));
        self.cell.clear();
        varint(&mut self.cell, record.len() as u64);
        if let Some(rowid) = rowid {
            varint(&mut self.cell, rowid.cast_unsigned());
        }
        self.cell.extend_from_slice(local);
        let mut parts = rest.chunks(layout.usable - 4).peekable();
        if parts.peek().is_none() {
            return Ok(());
        }
        let mut page = self.pen.page()?;
        self.cell.extend_from_slice(&page.to_be_bytes());
        while let Some(part) = parts.next() {
            let next = if parts.peek().is_some() { self.pen.page()? } else { 0 };
            let mut bytes = Vec::with_capacity(layout.page_size);
            bytes.extend_from_slice(&next.to_be_bytes());
            bytes.extend_from_slice(part);
            bytes.resize(layout.page_size, 0);
            self.pen.write(page, &bytes)?;
            page = next;
        }
        Ok(())
    }
}

fn kind(is_table: bool, is_leaf: bool) -> NodeKind {
    match (is_table, is_leaf) {
        (true, true) => NodeKind::TableLeaf,
        (true, false) => NodeKind::TableInterior,
        (false, true) => NodeKind::IndexLeaf,
        (false, false) => NodeKind::IndexInterior,
    }
}

/// One to nine bytes (fileformat2.html, 1.6).
fn varint(into: &mut Vec<u8>, value: u64) {
    if value >> 56 != 0 {
        for shift in (0..8).rev() {
            into.push((value >> (8 + 7 * shift)) as u8 | 0x80);
        }
        into.push(value as u8);
        return;
    }
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        into.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}
