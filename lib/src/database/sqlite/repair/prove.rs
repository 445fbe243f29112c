//! What nothing was found in, and is not proved all the same.
//!
//! | doubt | what it rests on |
//! |---|---|
//! | its whole indices have other entries than those built from its rows now | what the index of the service had, in every field |
//! | rows on a page in which something else is damaged | whatever damaged the page may have changed a value |
//! | rows of pages that nothing leads to, beside a broken freelist | they may be older than what they replace |
//! | a page of a table without rowids has entries of an index that was damaged | either page is one like every other |
//!
//! Whole indices that have every column between them prove the rows, whatever was damaged. What is left is silent: a value
//! that changed within a record, in a page that is whole, and that no index has. Nothing tells of it, so nobody can.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::account::tree;
use super::judge::Judged;
use super::orphans::{self, Whose};
use super::{Base, Step};
use crate::database::sqlite::pages::{
    FindingKind, IndexField, Object, ObjectKind, Schema, TableShape, TreeReport, index_hashes, index_sum, page_hashes,
};

/// So many rows or entries are compared one by one; with more, all of them are in doubt.
const COMPARED_MAX: usize = 4 << 20;

/// Of one table.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Unproved {
    /// Rows that may be wrong.
    pub(super) rows: u64,
    /// They are not the table's own, so others must have been in their place.
    pub(super) others_are_gone: bool,
}

/// Of a table whose account is clean so far.
pub(super) fn unproved(base: &Base<'_>, step: Step, judged: &Judged, name: &str, from_orphans: u64) -> Unproved {
    let Some(table) = object(&base.schema, name) else { return Unproved::default() };
    let Some(before) = tree(&base.report, name) else { return Unproved::default() };
    let shape = table.table_shape.as_ref();
    if shape.is_some_and(|shape| shape.without_rowid) {
        let rows = of_indices(base, step, judged, table);
        if rows > 0 {
            return Unproved { rows, others_are_gone: true };
        }
    }
    let mut rows = 0;
    if before.damaged {
        rows += disagreeing(base, judged, name);
    } else if step >= Step::Salvage {
        rows += contradicting(base, judged, name);
    }
    if rows == 0 && !shape.is_some_and(|shape| have_all_columns(base, name, shape)) {
        rows = on_damaged_pages(base, name);
        if lists_nothing(base) {
            rows += from_orphans;
        }
    }
    Unproved { rows, others_are_gone: false }
}

fn object<'a>(schema: &'a Schema, name: &str) -> Option<&'a Object> {
    schema.objects.iter().find(|object| object.name == name)
}

/// Whether which pages were free can't be told.
pub(super) fn lists_nothing(base: &Base<'_>) -> bool {
    let is_unknown = base.headed && base.view.image().header().freelist_pages == 0;
    is_unknown || base.report.findings.iter().any(|finding| finding.kind == FindingKind::Freelist)
}

/// Whether the pages that nothing leads to are just those that a broken freelist does not have any more. Where it is
/// older than what it leads to, they may have got another use since.
pub(super) fn unused_are_free(base: &Base<'_>) -> bool {
    let uses = &base.report.uses;
    let is_older = base.report.findings.iter().any(|f| f.kind == FindingKind::Freelist && f.rows_at_risk);
    lists_nothing(base) && !is_older && uses.free + uses.never == u64::from(base.view.image().header().freelist_pages)
}

/// Pages that nothing leads to, whose rows may be those of a table without rowids: neither it nor an index has them now.
/// Most of such pages are those of a damaged index, which has been built anew.
pub(super) fn unclaimed(base: &Base<'_>, judged: &Judged) -> Vec<u32> {
    let of = |kind| base.schema.objects.iter().filter(move |object| object.kind == kind);
    let without_rowid: Vec<&Object> =
        of(ObjectKind::Table).filter(|t| t.table_shape.as_ref().is_some_and(|shape| shape.without_rowid)).collect();
    let may_be_rows = |orphan: &orphans::Orphan| {
        let is_taken = || matches!(orphans::whose(base, &without_rowid, orphan), Whose::Table(_));
        !orphan.is_table() && orphans::fits_any(base, &without_rowid, orphan.page) && !is_taken()
    };
    let mut pages: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for orphan in orphans::find(base).into_iter().filter(may_be_rows) {
        page_hashes(base.view.image(), orphan.page, &mut |hash| pages.entry(orphan.page).or_default().push(hash));
    }
    let mut wanted: HashSet<u64> = pages.values().flatten().copied().collect();
    let is_keyed = |object: &&Object| match object.kind {
        ObjectKind::Index => true,
        ObjectKind::Table => object.table_shape.as_ref().is_some_and(|shape| shape.without_rowid),
        _ => false,
    };
    for object in judged.schema.objects.iter().filter(is_keyed) {
        if wanted.is_empty() {
            break;
        }
        index_hashes(judged.view.image(), object.root, base.input.cancel, &mut |_, _, hash| {
            wanted.remove(&hash);
        });
    }
    pages.retain(|_, hashes| hashes.iter().any(|hash| wanted.contains(hash)));
    pages.into_keys().collect()
}

/// Its indices in which nothing was found.
fn whole<'a>(base: &'a Base<'_>, table: &'a str) -> impl Iterator<Item = &'a TreeReport> {
    base.report.trees.iter().filter(move |t| t.kind == ObjectKind::Index && t.table == table && !t.damaged)
}

/// Whether whole indices that have all rows have every column between them.
fn have_all_columns(base: &Base<'_>, table: &str, shape: &TableShape) -> bool {
    if shape.without_rowid || shape.doubtful {
        return false;
    }
    let shapes = whole(base, table).filter_map(|index| object(&base.schema, &index.name)?.index_shape.as_ref());
    let known: BTreeSet<usize> = shapes
        .filter(|index| !index.partial)
        .flat_map(|index| index.fields.iter())
        .filter_map(|field| if let IndexField::Column(column) = field { Some(*column) } else { None })
        .collect();
    let is_own = |column: &&usize| {
        shape.rowid_alias != Some(**column) && shape.columns.get(**column).is_some_and(|c| !c.is_generated)
    };
    !known.is_empty() && shape.stored.iter().filter(is_own).all(|column| known.contains(column))
}

/// Rows on pages of which something was found that no row shows.
fn on_damaged_pages(base: &Base<'_>, table: &str) -> u64 {
    let found = base.report.findings.iter().filter(|finding| finding.object.as_deref() == Some(table));
    let pages: BTreeSet<u32> = found
        .filter(|finding| matches!(finding.kind, FindingKind::FreeSpace | FindingKind::Depth))
        .filter_map(|finding| finding.page)
        .collect();
    let mut rows = 0;
    for page in pages {
        let _unreadable = base.view.image().rows_of_page(page, 0, &mut |_| {
            rows += 1;
            true
        });
    }
    rows
}

/// How many of its indices were whole and do not have the same entries as the new ones.
pub(super) fn disagreeing(base: &Base<'_>, judged: &Judged, table: &str) -> u64 {
    whole(base, table).filter(|index| sums_differ(base, judged, &index.name)).count() as u64
}

fn root(schema: &Schema, name: &str) -> Option<u32> {
    object(schema, name).map(|object| object.root)
}

fn sums_differ(base: &Base<'_>, judged: &Judged, index: &str) -> bool {
    let cancel = base.input.cancel;
    let old = root(&base.schema, index).and_then(|root| index_sum(base.view.image(), root, cancel));
    let new = root(&judged.schema, index).and_then(|root| index_sum(judged.view.image(), root, cancel));
    old.is_some() && new.is_some() && old != new
}

/// Entries of its indices that the check could not compare with it, and that no row has.
fn contradicting(base: &Base<'_>, judged: &Judged, table: &str) -> u64 {
    not_compared(base, table).map(|index| without_rows(base, judged, &index.name)).max().unwrap_or(0)
}

fn not_compared<'a>(base: &'a Base<'_>, table: &'a str) -> impl Iterator<Item = &'a TreeReport> {
    let is_skipped = |name: &str| base.report.not_checked.iter().any(|not| not.object == name);
    whole(base, table).filter(move |index| is_skipped(&index.name))
}

fn without_rows(base: &Base<'_>, judged: &Judged, index: &str) -> u64 {
    if !sums_differ(base, judged, index) {
        return 0;
    }
    let (Some(old), Some(new)) = (root(&base.schema, index), root(&judged.schema, index)) else { return 0 };
    let (mut now, mut gone, cancel) = (HashSet::new(), 0, base.input.cancel);
    index_hashes(judged.view.image(), new, cancel, &mut |_, _, hash| {
        if now.len() < COMPARED_MAX {
            now.insert(hash);
        }
    });
    index_hashes(base.view.image(), old, cancel, &mut |_, _, hash| gone += u64::from(!now.contains(&hash)));
    gone
}

/// Rows of a table without rowids on pages that have nothing but entries of an index which lost some: then a page of one
/// took the place of one of the other.
fn of_indices(base: &Base<'_>, step: Step, judged: &Judged, table: &Object) -> u64 {
    let is_suspect = |index: &&TreeReport| {
        index.kind == ObjectKind::Index
            && index.table != table.name
            && (index.damaged
                || step >= Step::Salvage && base.report.not_checked.iter().any(|not| not.object == index.name))
    };
    let suspects = base.report.trees.iter().filter(is_suspect);
    suspects.map(|index| rows_of_index(base, judged, table, &index.name)).max().unwrap_or(0)
}

fn rows_of_index(base: &Base<'_>, judged: &Judged, table: &Object, index: &str) -> u64 {
    let shape = object(&base.schema, index).and_then(|object| object.index_shape.as_ref());
    let (Some(shape), Some(root)) = (shape, root(&judged.schema, index)) else { return 0 };
    // By page: the rows that are as long as an entry; of a page with others, none.
    let (mut pages, mut held): (BTreeMap<u32, Option<Vec<u64>>>, usize) = (BTreeMap::new(), 0);
    index_hashes(base.view.image(), table.root, base.input.cancel, &mut |page, fields, hash| {
        let rows = pages.entry(page).or_insert_with(|| Some(Vec::new()));
        match rows {
            Some(hashes) if fields == shape.fields.len() && held < COMPARED_MAX => {
                hashes.push(hash);
                held += 1;
            }
            _ => *rows = None,
        }
    });
    let mut wanted: HashSet<u64> = pages.values().flatten().flatten().copied().collect();
    if wanted.is_empty() {
        return 0;
    }
    index_hashes(judged.view.image(), root, base.input.cancel, &mut |_, _, hash| {
        wanted.remove(&hash);
    });
    let is_foreign = |hashes: &&Vec<u64>| !hashes.is_empty() && hashes.iter().all(|hash| !wanted.contains(hash));
    pages.values().flatten().filter(is_foreign).map(|hashes| hashes.len() as u64).sum()
}
