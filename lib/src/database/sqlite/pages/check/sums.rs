//! The sums that the indices of a table must have, while its rows go by: for whoever writes both anew.

use super::super::header::Encoding;
use super::super::record::{Field, Value};
use super::super::schema::{ObjectKind, Schema};
use super::hash;
use super::plan::{self, Place, RowPlan};

/// Of one table.
pub(in super::super) struct RowSums {
    plan: RowPlan,
    /// By the name of the index, its place in `sums`.
    indices: Vec<(String, usize)>,
    hashes: Vec<u64>,
    sums: Vec<u64>,
    /// Something in a row can't be known: then no sum means anything.
    unknown: bool,
}

impl RowSums {
    pub(in super::super) fn of(schema: &Schema, encoding: Encoding, table: &str) -> Option<Self> {
        let mut trees = plan::trees(schema, encoding, &mut Vec::new());
        let at = trees.iter().position(|tree| tree.kind == ObjectKind::Table && tree.name == table)?;
        let its =
            |tree: &plan::Tree| Some((tree.name.clone(), tree.compared_with.filter(|(table, _)| *table == at)?.1));
        let indices = trees.iter().filter_map(its).collect();
        let plan = trees.swap_remove(at).rows?;
        let sums = vec![0; plan.sums.len()];
        Some(Self { plan, indices, hashes: Vec::new(), sums, unknown: false })
    }

    /// Adds a row that is whole in memory.
    pub(in super::super) fn add(&mut self, rowid: i64, fields: &[Field], record: &[u8]) {
        if self.sums.is_empty() {
            return;
        }
        self.hashes.clear();
        for (place, hashed) in self.plan.hashed.iter().enumerate() {
            let hash = match fields.get(place) {
                _ if !hashed => Some(0),
                None => self.plan.defaults.get(place).copied().flatten(),
                Some(field) => hash::field(*field, record),
            };
            self.unknown |= hash.is_none();
            self.hashes.push(hash.unwrap_or_default());
        }
        let rowid = hash::value(Value::Integer(rowid));
        for (index, sum) in self.plan.sums.iter().zip(&mut self.sums) {
            let row = index.places.iter().fold(hash::START, |row, place| match place {
                Place::Rowid => hash::join(row, rowid),
                Place::Field(field) => hash::join(row, self.hashes.get(*field).copied().unwrap_or(0)),
            });
            *sum = sum.wrapping_add(row);
        }
    }

    /// What the entries of an index must sum to; `None` where that can't be known.
    pub(in super::super) fn of_index(&self, name: &str) -> Option<u64> {
        let (_, place) = self.indices.iter().find(|(index, _)| index == name).filter(|_| !self.unknown)?;
        self.sums.get(*place).copied()
    }
}

/// What an entry adds to the sum of its index.
pub(in super::super) fn of_entry(fields: &[Field], record: &[u8]) -> u64 {
    fields.iter().fold(hash::START, |entry, field| hash::join(entry, hash::field(*field, record).unwrap_or(0)))
}
