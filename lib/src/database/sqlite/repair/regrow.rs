//! The third step, where rows and indices can be taken over as they are: in a copy, damaged tables are written anew page
//! by page, with those of their indices that are whole, less the entries of rows that are lost. No row is put in by
//! SQLite and nothing is sorted, which is what makes it fast. What it can't do is left to [`super::refill`].

use std::collections::BTreeMap;

use super::freelist::free_pages;
use super::orphans::{self, Whose};
use super::refill::Plan;
use super::salvage::{NAMED, Work};
use super::{Base, Repaired, check, corrupt, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::{Collation, FindingKind, Met, Object, Room, Source, Wanted, grow};

/// The name of the file: in it, what is not damaged is as it was.
pub(super) const FILE: &str = "regrown.db";

pub(super) fn regrow(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    let plan = Plan::of(base)?;
    let wanted = wanted(base, &plan)?;
    let file = base.input.work.join(FILE);
    std::fs::copy(&base.file, &file).map_err(|source| header::disk("copy to", &file, source))?;
    plan.empty(base, &file)?;
    let report = check(&file, base.input.cancel, base.input.observer)?;
    let layout = base.view.image().layout();
    let room = Room::new(&file, layout, &report.never_used)?;
    let is_wanted =
        |name: &str| wanted.iter().any(|w| w.table.name == name || w.indices.iter().any(|i| i.name == name));
    let source = Source {
        image: base.view.image(),
        schema: &base.schema,
        path: &base.file,
        expected: base.report.trees.iter().filter(|tree| is_wanted(&tree.name)).map(|tree| tree.entries).sum(),
        cancel: base.input.cancel,
        observer: base.input.observer,
    };
    let grown = grow(source, &wanted, &room)?;
    let (unused, pages) = room.finish();
    free_pages(&file, layout, pages, &unused)?;
    let mut work = Work::new(base);
    for (wanted, grown) in wanted.iter().zip(&grown) {
        work.take(&wanted.table.name, grown)?;
    }
    let is_done = |index: &Object| {
        let of = |(wanted, grown): (&Wanted<'_>, &crate::database::sqlite::pages::Grown)| {
            wanted.indices.iter().any(|i| i.name == index.name) && !grown.left.contains(&index.name)
        };
        wanted.iter().zip(&grown).any(of)
    };
    let left: Vec<&Object> = plan.indices.iter().filter(|index| !is_done(index)).copied().collect();
    super::refill::finish(base, &file, work, &left, &plan)
}

/// What can be written so: rows that need no judgement but that of their form, and whole indices.
fn wanted<'b>(base: &'b Base<'_>, plan: &Plan<'b>) -> Result<Vec<Wanted<'b>>, SqliteError> {
    let refuse = |why: &str| Err(corrupt(&base.file, format!("not page by page: {why}")));
    let mut orphans: BTreeMap<&str, Vec<(i64, u32)>> = BTreeMap::new();
    for orphan in orphans::find(base) {
        let table = match orphans::whose(base, &plan.tables, &orphan) {
            Whose::Table(table) => table,
            Whose::Unknown => return refuse("there are rows of which no table is known"),
            Whose::Index => continue,
        };
        let mut first = None;
        let _checked = base.view.image().rows_of_page(orphan.page, usize::MAX, &mut |met| {
            if let Met::Row { rowid, .. } = met {
                first = Some(rowid);
            }
            first.is_none()
        });
        orphans.entry(&table.name).or_default().extend(first.map(|first| (first, orphan.page)));
    }
    // Such rows are for SQLite to refuse.
    let is_of_rows = |kind| matches!(kind, FindingKind::NullValue | FindingKind::Duplicate | FindingKind::KeyOrder);
    if base.report.findings.iter().any(|finding| is_of_rows(finding.kind)) {
        return refuse("some rows break a constraint");
    }
    let is_whole = |index: &Object| base.report.trees.iter().any(|tree| tree.name == index.name && !tree.damaged);
    let is_foreign = |index: &&&Object| {
        index.index_shape.as_ref().is_none_or(|shape| shape.key.iter().any(|key| key.collation == Collation::Unknown))
    };
    if plan.indices.iter().filter(is_foreign).any(|index| !is_whole(index)) {
        return refuse("a damaged index is in an order that only its service knows");
    }
    let of_one = |table: &&'b Object| {
        table.table_shape.as_ref().filter(|shape| !shape.without_rowid)?;
        if NAMED.contains(&table.name.as_str()) {
            return None;
        }
        let its = |index: &&&Object| index.table.eq_ignore_ascii_case(&table.name) && is_whole(index);
        let mut orphans = orphans.get(table.name.as_str()).cloned().unwrap_or_default();
        orphans.sort_unstable();
        Some(Wanted { table, indices: plan.indices.iter().filter(its).copied().collect(), orphans })
    };
    match plan.tables.iter().map(of_one).collect() {
        Some(wanted) => Ok(wanted),
        None => refuse("a table's rows are not as they are given"),
    }
}
