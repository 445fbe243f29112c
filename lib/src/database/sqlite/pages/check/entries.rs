//! What an index says of single rows: for whoever has to choose between two versions of one.

use std::collections::HashMap;

use super::super::image::Image;
use super::super::record::{Value, Values};
use super::super::shape::{IndexField, IndexShape, TableShape};
use super::super::tree::Met;
use super::hash;
use crate::progress::Cancel;

/// For each rowid that is wanted, the hash of its entry in the index at `root`. `None` where the index can't be read to
/// its end, or has more of them than `max`.
pub(in super::super::super) fn index_entries(
    image: &Image,
    root: u32,
    max: usize,
    wanted: &dyn Fn(i64) -> bool,
    cancel: &Cancel,
) -> Option<HashMap<i64, u64>> {
    let (mut entries, mut whole) = (HashMap::new(), true);
    image.walk(root, Some(false), usize::MAX, &mut |met| {
        let values = match &met {
            Met::Row { record: Ok(record), .. } => Values::all(record),
            _ => None,
        };
        match values.as_deref() {
            Some(values @ [.., Value::Integer(rowid)]) => {
                if wanted(*rowid) {
                    let fields = values.iter().fold(hash::START, |all, value| hash::join(all, hash::value(*value)));
                    entries.insert(*rowid, fields);
                }
            }
            _ => whole = false,
        }
        whole &= entries.len() <= max && !cancel.is_requested();
        whole
    });
    whole.then_some(entries)
}

/// The hash that the entry of a row must have; `None` where not all of it can be told from the record.
pub(in super::super::super) fn entry_of(
    index: &IndexShape,
    table: &TableShape,
    rowid: i64,
    values: &[Value<'_>],
) -> Option<u64> {
    index.fields.iter().try_fold(hash::START, |all, field| {
        let value = match field {
            IndexField::Rowid => Value::Integer(rowid),
            IndexField::Column(column) => *values.get(table.place_of(*column)?)?,
            IndexField::Computed => return None,
        };
        Some(hash::join(all, hash::value(value)))
    })
}
