//! A b-tree page of which one field of the header is damaged, put right by what its cells prove: with the right type, number
//! of cells and beginning of the cells, cells, freeblocks and fragments cover the page exactly, and with others they do not
//! (fileformat2.html, 1.6).

use super::header::Layout;
use super::node::{Node, NodeKind};
use super::record::read_fields;
use super::space::Space;

/// A page as it was before one field of its header changed.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Mended {
    pub(in super::super) bytes: Vec<u8>,
    /// So many of its last cells may be those of rows that were deleted: what was there stays, and so do the pointers to it,
    /// and another damaged field would explain the page as well.
    pub(in super::super) unproved: usize,
}

/// `None` where the page adds up, or where no change of the type or of the number of cells alone makes it add up.
pub(in super::super) fn mended(bytes: &[u8], page: u32, layout: &Layout) -> Option<Mended> {
    let start = if page == 1 { 100 } else { 0 };
    let with = |at: usize, new: &[u8]| {
        let mut candidate = bytes.to_vec();
        candidate.get_mut(start + at..start + at + new.len())?.copy_from_slice(new);
        Some(candidate)
    };
    let word = |number: usize| u16::try_from(number).ok().map(u16::to_be_bytes);
    if fits(bytes, page, layout) {
        return None;
    }
    let kinds = [NodeKind::TableLeaf, NodeKind::TableInterior, NodeKind::IndexLeaf, NodeKind::IndexInterior];
    let mut by_type = kinds
        .into_iter()
        .filter(|kind| page != 1 || kind.is_table())
        .filter_map(|kind| with(0, &[kind.flag()]))
        .filter(|candidate| fits(candidate, page, layout));
    let types = (by_type.next(), by_type.next());
    let none = with(3, &[0, 0])?;
    let by_cells = Node::parse(&none, page, layout).ok().and_then(|node| {
        let most = with(3, &word(node.room_for_pointers())?)?;
        let cells = cells_that_fit(&most, page, layout)?;
        Some((cells, with(3, &word(cells)?)?))
    });
    let node = Node::parse(bytes, page, layout).ok();
    // Then it may be any other field that is damaged.
    let names_cells = node.is_some_and(|node| cells_of(&node, &mut |_, _| true));
    match (types, by_cells) {
        ((Some(bytes), None), None) if !names_cells => Some(Mended { bytes, unproved: 0 }),
        ((None, _), Some((_, bytes))) if !names_cells => Some(Mended { bytes, unproved: 0 }),
        ((None, _), Some((cells, bytes))) => {
            let unproved = cells.saturating_sub(node?.cells);
            (unproved > 0).then_some(Mended { bytes, unproved })
        }
        _ => None,
    }
}

fn fits(bytes: &[u8], page: u32, layout: &Layout) -> bool {
    Node::parse(bytes, page, layout).is_ok_and(|node| cells_that_fit(bytes, page, layout) == Some(node.cells))
}

/// How many of the cells that the header names cover the page.
fn cells_that_fit(bytes: &[u8], page: u32, layout: &Layout) -> Option<usize> {
    let node = Node::parse(bytes, page, layout).ok()?;
    let wanted = Space::default().of_cells(&node)?;
    let (mut found, mut sum) = (None, 0);
    let belong = cells_of(&node, &mut |cells, size| {
        sum += size;
        found = (sum == wanted).then_some(cells);
        sum < wanted
    });
    found.filter(|_| belong)
}

/// Gives the number of each cell, from 1, and its size, for as long as `go_on` says so; whether all of these are such as belong
/// there: ascending, each by itself, with records and children.
fn cells_of(node: &Node<'_>, go_on: &mut dyn FnMut(usize, usize) -> bool) -> bool {
    let is_child = |child: u32| node.kind.is_leaf() || (2..=node.page_count()).contains(&child);
    let (mut space, mut before, mut fields) = (Space::default(), None, Vec::new());
    space.reset(node.bytes().len());
    for index in 0..node.cells {
        let Ok(cell) = node.cell(index) else { return false };
        let follows = !node.kind.is_table() || before.is_none_or(|before| cell.rowid > before);
        let has_record = node.kind != NodeKind::TableInterior;
        let is_one = !has_record || read_fields(cell.payload.local, cell.payload.total, &mut fields).is_ok();
        if !is_child(cell.left) || !follows || !is_one || !space.take(cell.at, cell.size) {
            return false;
        }
        before = Some(cell.rowid);
        if !go_on(index + 1, cell.size) {
            break;
        }
    }
    is_child(node.right)
}
