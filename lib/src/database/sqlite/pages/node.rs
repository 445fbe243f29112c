//! One b-tree page and its cells (fileformat2.html, 1.6).

use super::bytes::{be16, be32, u8_at, varint};
use super::header::Layout;

/// What a b-tree page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// 0x0d: rows.
    TableLeaf,
    /// 0x05: rowids and children.
    TableInterior,
    /// 0x0a: keys.
    IndexLeaf,
    /// 0x02: keys and children.
    IndexInterior,
}

impl NodeKind {
    /// Of a page's first byte.
    #[must_use]
    pub fn of(flag: u8) -> Option<Self> {
        match flag {
            0x0d => Some(Self::TableLeaf),
            0x05 => Some(Self::TableInterior),
            0x0a => Some(Self::IndexLeaf),
            0x02 => Some(Self::IndexInterior),
            _ => None,
        }
    }

    /// A page's first byte.
    pub(super) fn flag(self) -> u8 {
        match self {
            Self::TableLeaf => 0x0d,
            Self::TableInterior => 0x05,
            Self::IndexLeaf => 0x0a,
            Self::IndexInterior => 0x02,
        }
    }

    /// Whether it has no children.
    #[must_use]
    #[inline]
    pub fn is_leaf(self) -> bool {
        matches!(self, Self::TableLeaf | Self::IndexLeaf)
    }

    /// Whether it is keyed by rowid.
    #[must_use]
    #[inline]
    pub fn is_table(self) -> bool {
        matches!(self, Self::TableLeaf | Self::TableInterior)
    }
}

/// A b-tree page whose header holds; its cells are looked at one by one.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The page's number.
    pub page: u32,
    /// What it is.
    pub kind: NodeKind,
    /// How many cells it says that it has.
    pub cells: usize,
    /// The child after the last cell; 0 on a leaf.
    pub right: u32,
    bytes: &'a [u8],
    start: usize,
    /// The offset behind the last cell pointer.
    pointers_end: usize,
    /// The longest payload without overflow pages.
    local_max: u64,
    layout: Layout,
}

/// A cell of a b-tree page.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// The child before it; 0 on a leaf.
    pub left: u32,
    /// The key, in a table's pages; 0 in those of an index.
    pub rowid: i64,
    /// The record; empty in a table's interior pages.
    pub payload: Payload<'a>,
    /// Where in the page it is.
    pub at: usize,
    /// How many bytes of the page it takes.
    pub size: usize,
}

/// A record as it is stored: the beginning in the cell, the rest in a chain of overflow pages (1.6.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct Payload<'a> {
    /// Bytes in all.
    pub total: u64,
    /// Those in the cell.
    pub local: &'a [u8],
    /// The first page with the others; 0 for none.
    pub overflow: u32,
}

impl<'a> Node<'a> {
    /// Reads the page's header. `bytes` is the whole page.
    ///
    /// # Errors
    /// For people: why it is no b-tree page.
    pub fn parse(bytes: &'a [u8], page: u32, layout: &Layout) -> Result<Self, String> {
        let start = if page == 1 { 100 } else { 0 };
        let bytes = bytes.get(..layout.usable).ok_or("it is shorter than a page")?;
        let flag = u8_at(bytes, start).unwrap_or(0);
        let kind = NodeKind::of(flag).ok_or_else(|| format!("its type byte is {flag:#04x}"))?;
        let cells = usize::from(be16(bytes, start + 3).unwrap_or(0));
        let right = if kind.is_leaf() { 0 } else { be32(bytes, start + 8).unwrap_or(0) };
        let pointers_end = start + if kind.is_leaf() { 8 } else { 12 } + 2 * cells;
        if pointers_end > bytes.len() {
            return Err(format!("it can't have {cells} cells"));
        }
        let local_max = layout.local_max(kind == NodeKind::TableLeaf) as u64;
        Ok(Self { page, kind, cells, right, bytes, start, pointers_end, local_max, layout: *layout })
    }

    /// Where the cells begin, as the header says; 0 means 65,536.
    pub(super) fn content(&self) -> usize {
        match be16(self.bytes, self.start + 5).unwrap_or(0) {
            0 => 65_536,
            at => usize::from(at),
        }
    }

    pub(super) fn first_freeblock(&self) -> usize {
        usize::from(be16(self.bytes, self.start + 1).unwrap_or(0))
    }

    pub(super) fn fragments(&self) -> usize {
        usize::from(u8_at(self.bytes, self.start + 7).unwrap_or(0))
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many pages the database has.
    pub(super) fn page_count(&self) -> u32 {
        self.layout.page_count
    }

    pub(super) fn least_content(&self) -> usize {
        self.pointers_end
    }

    /// How many more pointers fit before the cells.
    pub(super) fn room_for_pointers(&self) -> usize {
        self.content().min(self.bytes.len()).saturating_sub(self.pointers_end) / 2
    }

    /// Cell number `index`, from 0 in the order of keys.
    ///
    /// # Errors
    /// For people: why it is none.
    #[inline]
    pub fn cell(&self, index: usize) -> Result<Cell<'a>, &'static str> {
        if index >= self.cells {
            return Err("there is no such cell");
        }
        let pointer = self.pointers_end - 2 * (self.cells - index);
        let at = usize::from(be16(self.bytes, pointer).unwrap_or(0));
        if at < self.pointers_end || at + 4 > self.bytes.len() {
            return Err("its pointer leads out of the cell area");
        }
        self.cell_at(at)
    }

    /// A cell at an offset of the page, whether or not a pointer leads there.
    #[inline]
    pub(super) fn cell_at(&self, start: usize) -> Result<Cell<'a>, &'static str> {
        const OUTSIDE: &str = "it extends beyond the page";
        let mut at = start;
        let mut left = 0;
        if !self.kind.is_leaf() {
            left = be32(self.bytes, at).ok_or(OUTSIDE)?;
            at += 4;
        }
        let mut next = || {
            let (value, len) = varint(self.bytes.get(at..)?)?;
            at += len;
            Some(value)
        };
        if self.kind == NodeKind::TableInterior {
            let rowid = next().ok_or(OUTSIDE)?.cast_signed();
            return Ok(Cell { left, rowid, payload: Payload::default(), at: start, size: at - start });
        }
        let total = next().ok_or(OUTSIDE)?;
        let rowid = if self.kind.is_table() { next().ok_or(OUTSIDE)?.cast_signed() } else { 0 };
        // SQLite's own bound; also what makes every sum below safe.
        if total > i32::MAX as u64 {
            return Err("its payload is longer than any can be");
        }
        let len = match total <= self.local_max {
            true => total as usize,
            false => self.layout.local_of(total, self.kind == NodeKind::TableLeaf),
        };
        let local = self.bytes.get(at..at + len).ok_or(OUTSIDE)?;
        at += len;
        let mut overflow = 0;
        if (len as u64) < total {
            overflow = be32(self.bytes, at).ok_or(OUTSIDE)?;
            at += 4;
        }
        // No cell takes less than 4 bytes: a freeblock must fit where it was.
        let size = (at - start).max(4);
        if start + size > self.bytes.len() {
            return Err(OUTSIDE);
        }
        Ok(Cell { left, rowid, payload: Payload { total, local, overflow }, at: start, size })
    }

    /// The children, in the order of keys, those that can be read.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        if self.kind.is_leaf() {
            return Vec::new();
        }
        let left = (0..self.cells).filter_map(|index| self.cell(index).ok()).map(|cell| cell.left);
        left.chain([self.right]).collect()
    }
}
