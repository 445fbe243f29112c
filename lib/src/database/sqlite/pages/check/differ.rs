//! Which rows an index and its table disagree about, once it is known that they do: both are read again, twice.
//!
//! The first time, sums by bucket of rowids tell where the differences are; the second time, those buckets' rows are
//! compared one by one. Memory is bounded, whatever the size of the table.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::super::record::{Field, Value, read_fields};
use super::super::tree::Met;
use super::Check;
use super::hash;
use super::known::{KNOWN_MAX, Known};
use super::plan::{IndexSum, Place, RowPlan, Tree};

const BUCKETS: usize = 1 << 14;
/// Rows of the buckets that differ; with more, the first of them are told.
const ROWS_MAX: usize = 200_000;
/// Rows that are told.
pub(super) const TOLD_MAX: usize = 100;
/// So much of a record is read: what is indexed lies before it, or the rows are not looked for.
pub(super) const RECORD_MAX: usize = 64 << 10;

/// Rowids, each list in ascending order and not longer than [`TOLD_MAX`].
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// In the table only.
    pub(super) missing: Vec<i64>,
    /// In the index only.
    pub(super) extra: Vec<i64>,
    /// In both, with other values.
    pub(super) other: Vec<i64>,
    /// How many there are in all, as far as they were looked at.
    pub(super) count: usize,
}

impl Check<'_> {
    /// `None` where it can't be told.
    pub(super) fn differences(
        &self,
        table: &Tree,
        plan: &RowPlan,
        index: &Tree,
        sum: &IndexSum,
    ) -> Option<Differences> {
        // Writers wait for us, or the table has no rowids.
        if self.view.keeps_waiting() || table.by_rowid != Some(true) {
            return None;
        }
        let mut buckets = vec![0_u64; BUCKETS];
        self.rows(table, |fields, record, rowid| of_row(plan, sum, fields, record, rowid), &mut |rowid, hash| {
            let bucket = &mut buckets[bucket_of(rowid)];
            *bucket = bucket.wrapping_add(hash);
        })?;
        self.rows(index, of_entry, &mut |rowid, hash| {
            let bucket = &mut buckets[bucket_of(rowid)];
            *bucket = bucket.wrapping_sub(hash);
        })?;
        // The hash in the table, and that in the index.
        let mut rows: HashMap<i64, (Option<u64>, Option<u64>)> = HashMap::new();
        let room = |rows: &HashMap<i64, _>, rowid: i64| {
            buckets[bucket_of(rowid)] != 0 && (rows.len() < ROWS_MAX || rows.contains_key(&rowid))
        };
        self.rows(index, of_entry, &mut |rowid, hash| {
            if room(&rows, rowid) {
                rows.entry(rowid).or_default().1 = Some(hash);
            }
        })?;
        let full = rows.len() >= ROWS_MAX;
        self.rows(table, |fields, record, rowid| of_row(plan, sum, fields, record, rowid), &mut |rowid, hash| {
            if rows.contains_key(&rowid) || !full && room(&rows, rowid) {
                rows.entry(rowid).or_default().0 = Some(hash);
            }
        })?;
        let mut differ: Vec<_> = rows.into_iter().filter(|(_, (table, index))| table != index).collect();
        differ.sort_unstable_by_key(|(rowid, _)| *rowid);
        let mut found = Differences { count: differ.len(), ..Differences::default() };
        for (rowid, sides) in differ {
            let list = match sides {
                (Some(_), None) => &mut found.missing,
                (None, _) => &mut found.extra,
                (Some(_), Some(_)) => &mut found.other,
            };
            if list.len() < TOLD_MAX {
                list.push(rowid);
            }
        }
        Some(found)
    }

    /// The rowids of entries, in pages of a damaged index in which nothing was found, that are not those of any row:
    /// up to [`TOLD_MAX`]. `None` where it can't be told. A few may be missed in tables of many millions of rows.
    pub(super) fn without_rows(&self, table: &Tree, plan: &RowPlan, index: &Tree, sum: &IndexSum) -> Option<Vec<i64>> {
        let damaged = self.findings.pages_of(&index.name)?;
        if self.view.keeps_waiting() || table.by_rowid != Some(true) {
            return None;
        }
        let known = Known::new(table.entries.load(Ordering::Relaxed), KNOWN_MAX);
        self.rows(table, |fields, record, rowid| of_row(plan, sum, fields, record, rowid), &mut |_, hash| {
            known.add(hash);
        })?;
        let (mut fields, mut rows) = (Vec::new(), Vec::new());
        self.image.walk(index.root, index.by_rowid, RECORD_MAX, &mut |met| {
            if let Met::Row { page, record: Ok(record), .. } = met
                && !damaged.contains(&page)
            {
                let _cut = read_fields(&record, u64::MAX, &mut fields);
                if let Some((rowid, hash)) = of_entry(&fields, &record, 0)
                    && !known.has(hash)
                {
                    rows.push(rowid);
                }
            }
            rows.len() < TOLD_MAX && !self.is_over()
        });
        rows.sort_unstable();
        (!self.is_over()).then_some(rows)
    }

    /// Gives every row's or entry's rowid and hash; `None` where one can't be had.
    fn rows(
        &self,
        tree: &Tree,
        hash_of: impl Fn(&[Field], &[u8], i64) -> Option<(i64, u64)>,
        each: &mut dyn FnMut(i64, u64),
    ) -> Option<()> {
        let mut fields = Vec::new();
        let mut whole = true;
        self.image.walk(tree.root, tree.by_rowid, RECORD_MAX, &mut |met| {
            let found = match met {
                Met::Row { rowid, record: Ok(record), .. } => {
                    // It may be cut: the fields that are whole in it are all the same.
                    let _cut = read_fields(&record, u64::MAX, &mut fields);
                    hash_of(&fields, &record, rowid)
                }
                _ => None,
            };
            match found {
                Some((rowid, hash)) => each(rowid, hash),
                None => whole = false,
            }
            whole && !self.is_over()
        });
        (whole && !self.is_over()).then_some(())
    }
}

fn bucket_of(rowid: i64) -> usize {
    (hash::value(Value::Integer(rowid)) as usize) % BUCKETS
}

fn of_row(plan: &RowPlan, sum: &IndexSum, fields: &[Field], record: &[u8], rowid: i64) -> Option<(i64, u64)> {
    let mut row = hash::START;
    for place in &sum.places {
        let field = match place {
            Place::Rowid => hash::value(Value::Integer(rowid)),
            Place::Field(place) => match fields.get(*place) {
                Some(field) => hash::field(*field, record)?,
                None => (*plan.defaults.get(*place)?)?,
            },
        };
        row = hash::join(row, field);
    }
    Some((rowid, row))
}

fn of_entry(fields: &[Field], record: &[u8], _: i64) -> Option<(i64, u64)> {
    let mut entry = hash::START;
    for field in fields {
        entry = hash::join(entry, hash::field(*field, record)?);
    }
    let last = fields.last()?;
    match last.value(record)? {
        Value::Integer(rowid) => Some((rowid, entry)),
        _ => None,
    }
}
