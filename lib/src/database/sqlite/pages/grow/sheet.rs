//! One b-tree page while it is being filled (fileformat2.html, 1.6): pointers from the front, cells from the end.

use super::super::header::Layout;
use super::super::node::NodeKind;

/// A page to be.
pub(super) struct Sheet {
    bytes: Vec<u8>,
    kind: NodeKind,
    usable: usize,
    pub(super) cells: usize,
    /// Where the last cell begins.
    content: usize,
    /// The child after the last cell; 0 on a leaf.
    pub(super) right: u32,
}

impl Sheet {
    pub(super) fn new(kind: NodeKind, layout: &Layout) -> Self {
        let bytes = vec![0; layout.page_size];
        Self { bytes, kind, usable: layout.usable, cells: 0, content: layout.usable, right: 0 }
    }

    fn header(&self) -> usize {
        if self.kind.is_leaf() { 8 } else { 12 }
    }

    /// Whether a cell of `len` bytes has room.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.header() + 2 * (self.cells + 1) + len <= self.content
    }

    /// Adds a cell after all others, which must have room.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        self.content -= parts.iter().map(|part| part.len()).sum::<usize>();
        let mut at = self.content;
        for part in parts {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let pointer = self.header() + 2 * self.cells;
        // A page has 65,536 bytes at most, and a cell begins before its end.
        self.bytes[pointer..pointer + 2].copy_from_slice(&(self.content as u16).to_be_bytes());
        self.cells += 1;
    }

    /// Takes the last cell away; there must be one before it.
    pub(super) fn pop(&mut self) -> Vec<u8> {
        let before = self.header() + 2 * (self.cells - 2);
        let end = usize::from(u16::from_be_bytes([self.bytes[before], self.bytes[before + 1]]));
        let cell = self.bytes[self.content..end].to_vec();
        self.bytes[self.content..end].fill(0);
        self.bytes[before + 2..before + 4].fill(0);
        (self.content, self.cells) = (end, self.cells - 1);
        cell
    }

    /// The page as it is written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[0] = match self.kind {
            NodeKind::TableLeaf => 0x0d,
            NodeKind::TableInterior => 0x05,
            NodeKind::IndexLeaf => 0x0a,
            NodeKind::IndexInterior => 0x02,
        };
        self.bytes[3..5].copy_from_slice(&(self.cells as u16).to_be_bytes());
        // 65,536 is written as 0.
        let content = if self.cells == 0 { self.usable } else { self.content };
        self.bytes[5..7].copy_from_slice(&(content as u16).to_be_bytes());
        if !self.kind.is_leaf() {
            self.bytes[8..12].copy_from_slice(&self.right.to_be_bytes());
        }
        self.bytes
    }
}
