//! Pages that nothing leads to any more, and whose rows they have: by the gaps that damaged tables have, the number of
//! their fields, and what their columns can hold (datatype3.html, 3).

use super::Base;
use crate::database::sqlite::pages::{Met, NodeKind, Object, ObjectKind, TableShape, Value, Values};

/// A page with rows that belong to nothing.
pub(super) struct Orphan {
    pub(super) page: u32,
    kind: NodeKind,
    /// Fields and rowid of its rows, and how far they fit where.
    pub(super) rows: usize,
}

impl Orphan {
    /// Whether it is of a table with rowids.
    pub(super) fn is_table(&self) -> bool {
        self.kind.is_table()
    }
}

/// All of them, in the order of pages.
pub(super) fn find(base: &Base<'_>) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for page in base.report.never_used.iter().flat_map(|(first, last)| *first..=*last) {
        let mut rows = 0;
        let met = base.view.image().rows_of_page(page, usize::MAX, &mut |met| {
            rows += usize::from(row_of(&met, |_, values| !is_of_schema(values)).unwrap_or(false));
            true
        });
        if let Ok(kind) = met
            && rows > 0
        {
            orphans.push(Orphan { page, kind, rows });
        }
    }
    orphans
}

/// Asks about a row that is whole.
fn row_of(met: &Met<'_>, ask: impl FnOnce(i64, &[Value<'_>]) -> bool) -> Option<bool> {
    let Met::Row { rowid, record: Ok(record), .. } = met else { return None };
    let values = Values::all(record).filter(|values| !values.is_empty())?;
    Some(ask(*rowid, &values))
}

/// A row of the schema itself: once another one is in use, nothing leads to it.
fn is_of_schema(values: &[Value<'_>]) -> bool {
    let [Value::Text(kind), Value::Text(_), Value::Text(_), Value::Integer(_), Value::Text(_) | Value::Null] = values
    else {
        return false;
    };
    let plain: Vec<u8> = kind.iter().copied().filter(|byte| *byte != 0).collect();
    [&b"table"[..], b"index", b"view", b"trigger"].contains(&plain.as_slice())
}

/// What is to be done with the rows of a page.
pub(super) enum Whose<'a> {
    Table(&'a Object),
    /// They are rows, and can't be told whose.
    Unknown,
    /// They are entries of an index: nothing is lost with them.
    Index,
}

/// Whose rows they are, if exactly one table fits best.
pub(super) fn whose<'a>(base: &Base<'_>, tables: &[&'a Object], orphan: &Orphan) -> Whose<'a> {
    let by_rowid = orphan.kind.is_table();
    let mut fits: Vec<(u64, &Object)> = Vec::new();
    for table in tables {
        let Some(shape) = table.table_shape.as_ref().filter(|shape| shape.without_rowid != by_rowid) else { continue };
        if let Some(score) = score(base, table, shape, orphan) {
            fits.push((score, table));
        }
    }
    fits.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    match fits.as_slice() {
        [] if by_rowid || (!base.schema.faults.is_empty() && !is_of_an_index(base, orphan)) => Whose::Unknown,
        [] => Whose::Index,
        [(best, _), (second, _), ..] if best == second => Whose::Unknown,
        // An index with as many fields may have had it.
        [(_, table), ..] if !by_rowid && rivals(base, table) => Whose::Unknown,
        [(_, table), ..] => Whose::Table(table),
    }
}

/// Whether every row of the page can be one of some of the tables, with all of its columns.
pub(super) fn fits_any(base: &Base<'_>, tables: &[&Object], page: u32) -> bool {
    tables.iter().filter_map(|table| table.table_shape.as_ref()).any(|shape| {
        let mut fits = true;
        let read = base.view.image().rows_of_page(page, usize::MAX, &mut |met| {
            let is_one = |_, values: &[Value<'_>]| values.len() == shape.stored.len() && fit(shape, values).is_some();
            fits = row_of(&met, is_one).unwrap_or(true);
            fits
        });
        read.is_ok() && fits
    })
}

/// Whether an index that is known has as many fields as the rows of a page. Where a part of the schema can't be read, the
/// others may be those of a table without rowids that it had.
fn is_of_an_index(base: &Base<'_>, orphan: &Orphan) -> bool {
    let mut fields = None;
    let _told_elsewhere = base.view.image().rows_of_page(orphan.page, usize::MAX, &mut |met| {
        row_of(&met, |_, values| {
            fields = Some(values.len());
            true
        });
        fields.is_none()
    });
    let indices = base.schema.objects.iter().filter(|object| object.kind == ObjectKind::Index);
    indices
        .map(|index| index.index_shape.as_ref().map(|shape| shape.fields.len()))
        .any(|own| own.is_none() || own == fields)
}

/// Whether a damaged index has records as long as those of the table.
fn rivals(base: &Base<'_>, table: &Object) -> bool {
    let fields = table.table_shape.as_ref().map_or(0, |shape| shape.stored.len());
    base.schema.objects.iter().filter(|object| object.kind == ObjectKind::Index).any(|index| {
        let damaged = base.report.trees.iter().any(|tree| tree.name == index.name && tree.damaged);
        damaged && index.index_shape.as_ref().is_none_or(|shape| shape.fields.len() == fields)
    })
}

/// How well the rows fit the table; `None` where one of them can't be its.
fn score(base: &Base<'_>, table: &Object, shape: &TableShape, orphan: &Orphan) -> Option<u64> {
    let damaged = base.report.trees.iter().any(|tree| tree.name == table.name && tree.damaged);
    if !damaged || shape.doubtful {
        return None;
    }
    let gaps: Vec<_> = base
        .report
        .findings
        .iter()
        .filter(|finding| finding.object.as_deref() == Some(table.name.as_str()))
        .filter_map(|finding| finding.rowids)
        .collect();
    let in_gap = |rowid: i64| {
        gaps.iter().any(|g| g.after.is_none_or(|after| rowid > after) && g.up_to.is_none_or(|up_to| rowid <= up_to))
    };
    let (mut score, mut possible) = (0_u64, !gaps.is_empty() || shape.without_rowid);
    let read = base.view.image().rows_of_page(orphan.page, usize::MAX, &mut |met| {
        row_of(&met, |rowid, values| {
            match fit(shape, values) {
                Some(fit) if shape.without_rowid || in_gap(rowid) => score += fit,
                _ => possible = false,
            }
            possible
        })
        .unwrap_or(true)
    });
    (read.is_ok() && possible).then_some(score)
}

/// How well values fit the columns, from 1; `None` where they can't be a row of the table.
pub(super) fn fit(shape: &TableShape, values: &[Value<'_>]) -> Option<u64> {
    if values.is_empty() || values.len() > shape.stored.len() {
        return None;
    }
    // All fields are better than some: a column may be younger than the row.
    let mut score = if values.len() == shape.stored.len() { 3 } else { 1 };
    for (value, column) in values.iter().zip(&shape.stored) {
        let definition = shape.columns.get(*column)?;
        if shape.rowid_alias == Some(*column) {
            if *value != Value::Null {
                return None;
            }
            score += 2;
            continue;
        }
        let affinity = Affinity::of(&definition.type_name);
        score += match (affinity, value) {
            (_, Value::Null) if definition.not_null => return None,
            (Affinity::Text, Value::Integer(_) | Value::Real(_)) => return None,
            (Affinity::Text, Value::Text(_)) | (Affinity::Number, Value::Integer(_) | Value::Real(_)) => 2,
            (Affinity::Number, Value::Text(_)) => 0,
            _ => 1,
        };
    }
    Some(score)
}

#[derive(Clone, Copy)]
enum Affinity {
    Text,
    Number,
    None,
}

impl Affinity {
    /// By the declared type (datatype3.html, 3.1).
    fn of(type_name: &str) -> Self {
        let upper = type_name.to_ascii_uppercase();
        let has = |word: &str| upper.contains(word);
        if has("INT") {
            Self::Number
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || upper.is_empty() {
            Self::None
        } else {
            Self::Number
        }
    }
}
