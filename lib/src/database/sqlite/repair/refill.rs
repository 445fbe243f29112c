//! The third step, where nothing but some tables is damaged: in a copy they are emptied, with their indices, and filled
//! anew; everything else stays where it is, page by page. What it can't do is left to the salvage of everything.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::account::account;
use super::freelist::{FREELIST, free_pages};
use super::judge::judge_changed;
use super::rebuild::{Rebuild, open};
use super::salvage::{SEQUENCE, Work, orphaned_rows};
use super::surgery::empty_leaf;
use super::{Base, Repaired, Step, check, corrupt, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Collation, FindingKind, NodeKind, Object, ObjectKind};

/// The name of the file: in it, what is not damaged is as it was.
pub(super) const FILE: &str = "refilled.db";

/// What is emptied and filled.
pub(super) struct Plan<'b> {
    pub(super) tables: Vec<&'b Object>,
    /// Those of the tables, and damaged ones of others.
    pub(super) indices: Vec<&'b Object>,
    /// Of those, the ones that are built when all rows are there.
    late: Vec<&'b Object>,
}

pub(super) fn refill(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    let plan = Plan::of(base)?;
    let file = base.input.work.join(FILE);
    std::fs::copy(&base.file, &file).map_err(|source| header::disk("copy to", &file, source))?;
    plan.empty(base, &file)?;
    let report = check(&file, base.input.cancel, base.input.observer)?;
    let layout = base.view.image().layout();
    free_pages(&file, layout, layout.page_count, &report.never_used)?;
    let hidden = hide(&plan.late, &file)?;
    let rebuild = Rebuild::reopen(&file)?;
    let mut work = Work::new(base);
    for table in &plan.tables {
        base.input.observer.step(&format!("salvaging the rows of {}", table.name));
        let shape = table.table_shape.as_ref();
        rebuild.can_fill(table, work.encoding)?;
        work.table(table, shape, &rebuild)?;
    }
    orphaned_rows(&mut work, &rebuild, &plan.tables)?;
    rebuild.close()?;
    show(&hidden, &file)?;
    finish(base, &file, work, &plan.late, &plan)
}

/// Builds the indices that are empty still, and judges what came of it.
pub(super) fn finish(
    base: &Base<'_>,
    file: &Path,
    mut work: Work<'_, '_>,
    indices: &[&Object],
    plan: &Plan<'_>,
) -> Result<Repaired, SqliteError> {
    base.input.observer.step("building indices");
    let connection = open(file)?;
    for index in indices {
        let sql = format!("REINDEX \"{}\"", index.name.replace('"', "\"\""));
        connection.execute_batch(&sql).asked("reindex", file)?;
    }
    connection.close().map_err(|(_, source)| source).asked("close", file)?;
    work.tell_recomputed(file)?;
    let changed: Vec<&Object> = plan.tables.iter().chain(&plan.indices).copied().collect();
    let judged = judge_changed(base, file, &changed)?;
    work.unclaimed(&judged)?;
    let (tally, aside) = work.into_parts();
    let set_aside = aside.finish()?;
    let accounting = account(base, Step::Salvage, &judged, tally);
    header::finish(base, file)?;
    Ok(Repaired { file: file.to_owned(), set_aside, accounting })
}

impl<'b> Plan<'b> {
    pub(super) fn of(base: &'b Base<'_>) -> Result<Self, SqliteError> {
        let refuse = |why: &str| Err(corrupt(&base.file, format!("not by single tables: {why}")));
        // A pointer map would have to agree with every page.
        if base.borrowed || base.view.image().layout().auto_vacuum || !base.schema.faults.is_empty() {
            return refuse("its form or its definitions");
        }
        let objects = &base.schema.objects;
        let is_known = |name: &str| objects.iter().any(|object| object.name == name);
        for finding in &base.report.findings {
            let in_reach = match finding.kind {
                FindingKind::Header
                | FindingKind::FileLength
                | FindingKind::Schema
                | FindingKind::UsedTwice
                | FindingKind::PointerMap => false,
                FindingKind::NeverUsed | FindingKind::Freelist => true,
                kind => kind < FindingKind::WalHeader && finding.object.as_deref().is_some_and(is_known),
            };
            if !in_reach {
                return refuse(&finding.what);
            }
        }
        let is_damaged = |name: &str| base.report.trees.iter().any(|tree| tree.name == name && tree.damaged);
        let of = |kind| objects.iter().filter(move |object| object.kind == kind);
        let tables: Vec<&Object> = of(ObjectKind::Table).filter(|table| is_damaged(&table.name)).collect();
        if tables.is_empty() || tables.iter().any(|table| !can_be_filled(table)) {
            return refuse("a table's definition");
        }
        let is_its = |index: &&Object| tables.iter().any(|table| table.name.eq_ignore_ascii_case(&index.table));
        let indices: Vec<&Object> =
            of(ObjectKind::Index).filter(|index| is_its(index) || is_damaged(&index.name)).collect();
        let duplicate = |index: &&&Object| {
            let mut broken = base.report.findings.iter().filter(|finding| finding.kind == FindingKind::Duplicate);
            broken.any(|finding| finding.object.as_deref() == Some(index.name.as_str()))
        };
        // Of an index that two rows have broken, the second one must be seen when it comes; and what belongs to a
        // constraint can't be taken away from its table.
        let early = |index: &&&Object| is_its(index) && (index.sql.is_none() || duplicate(index));
        let late = indices.iter().filter(|index| !early(index)).copied().collect();
        let pages = base.view.image().layout().page_count;
        if tables.iter().chain(&indices).any(|object| object.root < 2 || object.root > pages) {
            return refuse("a root page");
        }
        Ok(Self { tables, indices, late })
    }

    /// Afterwards nothing leads to any page that was theirs, and no page is free.
    pub(super) fn empty(&self, base: &Base<'_>, file: &Path) -> Result<(), SqliteError> {
        let layout = base.view.image().layout();
        header::to_rollback(file)?;
        header::write(file, &[0; 8], FREELIST)?;
        for object in self.tables.iter().chain(&self.indices) {
            let by_rowid = object.table_shape.as_ref().is_some_and(|shape| !shape.without_rowid);
            let kind = if by_rowid { NodeKind::TableLeaf } else { NodeKind::IndexLeaf };
            header::write(file, &empty_leaf(layout, kind), u64::from(object.root - 1) * layout.page_size as u64)?;
        }
        Ok(())
    }
}

fn can_be_filled(table: &Object) -> bool {
    let is_ordered = |shape: &crate::database::sqlite::pages::TableShape| {
        !shape.doubtful && shape.key.iter().all(|key| key.collation != Collation::Unknown)
    };
    table.name != SEQUENCE && table.table_shape.as_ref().is_some_and(is_ordered)
}

/// A row of the schema.
struct Hidden {
    rowid: i64,
    name: String,
    table: String,
    root: u32,
    sql: Option<String>,
}

/// Takes indices out of the schema, so that rows can be put without them.
fn hide(indices: &[&Object], file: &Path) -> Result<Vec<Hidden>, SqliteError> {
    let connection = writable(file)?;
    let run = || -> rusqlite::Result<Vec<Hidden>> {
        let mut hidden = Vec::new();
        connection.execute_batch("BEGIN")?;
        for index in indices.iter().filter(|index| index.sql.is_some()) {
            let sql =
                "SELECT rowid, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE type = 'index' AND name = ?1";
            hidden.push(connection.query_row(sql, [&index.name], |row| {
                Ok(Hidden {
                    rowid: row.get(0)?,
                    name: row.get(1)?,
                    table: row.get(2)?,
                    root: row.get(3)?,
                    sql: row.get(4)?,
                })
            })?);
            connection.execute("DELETE FROM sqlite_schema WHERE type = 'index' AND name = ?1", [&index.name])?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(hidden)
    };
    let hidden = run().asked("take indices out of", file)?;
    connection.close().map_err(|(_, source)| source).asked("close", file)?;
    Ok(hidden)
}

/// Puts them where they were.
fn show(hidden: &[Hidden], file: &Path) -> Result<(), SqliteError> {
    let connection = writable(file)?;
    let run = || -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN")?;
        for one in hidden {
            connection.execute(
                "INSERT INTO sqlite_schema(rowid, type, name, tbl_name, rootpage, sql) VALUES(?1, 'index', ?2, ?3, ?4, ?5)",
                (one.rowid, &one.name, &one.table, one.root, &one.sql),
            )?;
        }
        connection.execute_batch("COMMIT")
    };
    run().asked("put indices back into", file)?;
    connection.close().map_err(|(_, source)| source).asked("close", file)
}

fn writable(file: &Path) -> Result<Connection, SqliteError> {
    let connection = open(file)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).asked("set up", file)?;
    connection.pragma_update(None, "writable_schema", true).asked("set up", file)?;
    Ok(connection)
}
