//! The rows of a small table, in order: for the schema, and for whoever wants to read a table as it is.

use std::collections::BTreeSet;

use super::chain::{ChainFault, bytes_of};
use super::image::Image;
use super::node::{Cell, Node, NodeKind};

/// SQLite's own bound for the depth of a b-tree.
pub(super) const DEPTH_MAX: usize = 20;

/// What a walk meets.
pub(super) enum Met<'a> {
    Row { page: u32, rowid: i64, payload: Result<std::borrow::Cow<'a, [u8]>, ChainFault> },
    Fault { page: u32, what: String },
}

/// Walks a table from its root; `visit` answers whether to go on. Every page is visited once at most.
pub(super) fn walk_table(image: &Image, root: u32, payload_max: usize, visit: &mut dyn FnMut(Met<'_>) -> bool) {
    let mut seen = BTreeSet::new();
    // Pages still to come, the next one last, with their depth.
    let mut ahead = vec![(root, 1_usize)];
    let mut bytes = Vec::new();
    while let Some((page, depth)) = ahead.pop() {
        let mut fault = |what: String| visit(Met::Fault { page, what });
        if !seen.insert(page) || depth > DEPTH_MAX {
            if !fault("it is a child for the second time".to_owned()) {
                return;
            }
            continue;
        }
        if let Err(error) = image.read(page, &mut bytes) {
            if !fault(error.to_string()) {
                return;
            }
            continue;
        }
        let node = match Node::parse(&bytes, page, image.layout()) {
            Ok(node) if node.kind.is_table() => node,
            Ok(_) => {
                if !fault("it belongs to an index".to_owned()) {
                    return;
                }
                continue;
            }
            Err(what) => {
                if !fault(what) {
                    return;
                }
                continue;
            }
        };
        if node.kind == NodeKind::TableInterior {
            ahead.extend(node.children().into_iter().rev().map(|child| (child, depth + 1)));
            continue;
        }
        for index in 0..node.cells {
            let go_on = match node.cell(index) {
                Ok(Cell { rowid, payload, .. }) => {
                    let payload = bytes_of(image, &payload, payload_max);
                    visit(Met::Row { page, rowid, payload })
                }
                Err(what) => visit(Met::Fault { page, what: format!("cell {index}: {what}") }),
            };
            if !go_on {
                return;
            }
        }
    }
}
