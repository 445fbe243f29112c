//! A b-tree page whose type or number of cells is damaged, put right by what its cells prove: with the right two, cells,
//! freeblocks and fragments cover the page exactly, and with others they do not (fileformat2.html, 1.6).

use super::header::Layout;
use super::node::{Node, NodeKind};
use super::record::read_fields;
use super::space::Space;

/// The page with the only type and number of cells that fit it; `None` where it has them, where none do or several.
pub(in super::super) fn mended(bytes: &[u8], page: u32, layout: &Layout) -> Option<Vec<u8>> {
    let start = if page == 1 { 100 } else { 0 };
    let with = |kind: NodeKind, cells: usize| -> Option<Vec<u8>> {
        let mut candidate = bytes.to_vec();
        *candidate.get_mut(start)? = kind.flag();
        candidate.get_mut(start + 3..start + 5)?.copy_from_slice(&u16::try_from(cells).ok()?.to_be_bytes());
        Some(candidate)
    };
    let kinds = [NodeKind::TableLeaf, NodeKind::TableInterior, NodeKind::IndexLeaf, NodeKind::IndexInterior];
    let mut fits = kinds.into_iter().filter(|kind| page != 1 || kind.is_table()).filter_map(|kind| {
        let most = Node::parse(&with(kind, 0)?, page, layout).ok()?.room_for_pointers();
        let cells = cells_that_fit(&with(kind, most)?, page, layout)?;
        with(kind, cells)
    });
    let only = fits.next()?;
    (fits.next().is_none() && only != bytes).then_some(only)
}

/// How many cells cover the page. `bytes` says that there are as many as there is room for pointers to.
fn cells_that_fit(bytes: &[u8], page: u32, layout: &Layout) -> Option<usize> {
    let node = Node::parse(bytes, page, layout).ok()?;
    let is_child = |child: u32| node.kind.is_leaf() || (2..=layout.page_count).contains(&child);
    let wanted = Space::default().of_cells(&node)?;
    let (mut space, mut covered, mut before, mut fields) = (Space::default(), 0, None, Vec::new());
    space.reset(layout.usable);
    for index in 0..node.cells {
        let cell = node.cell(index).ok()?;
        let follows = !node.kind.is_table() || before.is_none_or(|before| cell.rowid > before);
        let has_record = node.kind != NodeKind::TableInterior;
        let is_one = !has_record || read_fields(cell.payload.local, cell.payload.total, &mut fields).is_ok();
        if !is_child(cell.left) || !follows || !is_one || !space.take(cell.at, cell.size) {
            return None;
        }
        (covered, before) = (covered + cell.size, Some(cell.rowid));
        if covered >= wanted {
            return (covered == wanted && is_child(node.right)).then_some(index + 1);
        }
    }
    None
}
