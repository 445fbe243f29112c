//! The second step: all tables are whole, and what is damaged can be built anew from them.
//!
//! REINDEX fails on an index whose pages are damaged, since it empties the index first. So each is given an empty leaf
//! as its root, by us; what it had before belongs to nothing then, as does what a damaged freelist had, and VACUUM INTO
//! copies what has a use (where it can't, they become free pages). Rowids stay as they are: VACUUM INTO keeps them.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::account::{Tally, account};
use super::freelist::{FREELIST, free_pages};
use super::judge::judge;
use super::prove::{unclaimed, unused_are_free};
use super::{Base, Repaired, Step, check, corrupt, header, orphans};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Finding, FindingKind, Layout, Loss, NodeKind, ObjectKind};

/// Where the largest root is, which only a database with pointer maps has (fileformat2.html, 1.3).
const LARGEST_ROOT: u64 = 52;
/// The type of a leaf of an index.
const INDEX_LEAF: u8 = 0x0a;
/// The type of a leaf of a table that is keyed by rowid.
const TABLE_LEAF: u8 = 0x0d;

pub(super) fn rebuild_indices(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    // Where the freelist is broken, its pages are those that nothing leads to, if they are as many. Else rows in such pages
    // are lost ones; and with definitions from elsewhere, they may be those of a table that was made since.
    let orphans = orphans::find(base);
    // Entries of damaged indices lie there too.
    let has_rows = orphans.iter().any(|orphan| base.borrowed || orphan.is_table());
    let unused_is_free = !has_rows || unused_are_free(base) && !base.borrowed;
    if let Some(finding) = base.report.findings.iter().find(|finding| !is_within_reach(base, finding, unused_is_free)) {
        return Err(corrupt(&base.file, format!("more than indices is damaged: {}", finding.what)));
    }
    let work = base.input.work.join("indices-work.db");
    std::fs::copy(&base.file, &work).map_err(|source| header::disk("copy to", &work, source))?;
    let file = base.input.work.join("indices.db");
    operate(base, &work)?;
    if let Err(error) = copy_used(&work, &file) {
        // It can't write what it can't order. Then every page stays where it is, and what belongs to nothing is free.
        if base.view.image().layout().auto_vacuum {
            return Err(error);
        }
        tracing::debug!(%error, "pages without a use are made free ones");
        let _not_there = std::fs::remove_file(&file);
        let report = check(&work, base.input.cancel, base.input.observer)?;
        let layout = base.view.image().layout();
        free_pages(&work, layout, layout.page_count, &report.never_used)?;
        std::fs::rename(&work, &file).map_err(|source| header::disk("rename to", &file, source))?;
    } else {
        std::fs::remove_file(&work).map_err(|source| header::disk("remove", &work, source))?;
    }
    let judged = judge(base, &file)?;
    if let Some(page) = unclaimed(base, &judged).first().filter(|_| !unused_are_free(base)) {
        return Err(corrupt(&base.file, format!("page {page} has rows, and nothing leads to it")));
    }
    let accounting = account(base, Step::Indices, &judged, Tally { notes: of_one_index(base), ..Tally::default() });
    header::finish(base, &file)?;
    Ok(Repaired { file, set_aside: None, accounting })
}

/// Of an index, or of pages that no table has.
fn is_within_reach(base: &Base<'_>, finding: &Finding, unused_is_free: bool) -> bool {
    match &finding.object {
        Some(name) => base.schema.objects.iter().any(|o| o.kind == ObjectKind::Index && o.name == *name),
        None => match finding.kind {
            FindingKind::NeverUsed => unused_is_free,
            FindingKind::Freelist | FindingKind::PointerMap => true,
            kind => kind < FindingKind::WalHeader && finding.loss == Loss::Nothing,
        },
    }
}

/// Rows that one index lacks are its fault, nearly always; that their page of the table is an older one can't be excluded.
fn of_one_index(base: &Base<'_>) -> Vec<String> {
    let lacks = |f: &&Finding| f.kind == FindingKind::IndexMismatch && f.loss == Loss::Index && !f.rows.is_empty();
    let told = base.report.findings.iter().filter(lacks).map(|finding| {
        let (index, rows) = (finding.object.as_deref().unwrap_or_default(), finding.rows.len());
        let first = finding.rows.iter().take(5).map(i64::to_string).collect::<Vec<_>>().join(", ");
        let more = if rows > 5 { " and more" } else { "" };
        format!("{index} lacked rows that its table has, and they are kept: {first}{more}. If they had been deleted, they are back")
    });
    told.collect()
}

fn operate(base: &Base<'_>, work: &Path) -> Result<(), SqliteError> {
    header::to_rollback(work)?;
    header::write(work, &[0; 8], FREELIST)?;
    let layout = base.view.image().layout();
    if !layout.auto_vacuum {
        header::write(work, &[0; 4], LARGEST_ROOT)?;
    }
    let leaf = empty_leaf(layout, NodeKind::IndexLeaf);
    let damaged = base.report.trees.iter().filter(|tree| tree.kind == ObjectKind::Index && tree.damaged);
    let mut names = Vec::new();
    for tree in damaged {
        let root = base.schema.objects.iter().find(|o| o.kind == ObjectKind::Index && o.name == tree.name);
        let root = root.map_or(0, |object| object.root);
        if root < 2 || root > layout.page_count {
            return Err(corrupt(work, format!("index {} would begin in page {root}", tree.name)));
        }
        header::write(work, &leaf, u64::from(root - 1) * layout.page_size as u64)?;
        names.push(tree.name.clone());
    }
    let connection = Connection::open(work).asked("open", work)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).asked("set up", work)?;
    let settings = "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; PRAGMA foreign_keys=OFF;";
    connection.execute_batch(settings).asked("set up", work)?;
    for name in names {
        base.input.observer.step(&format!("building index {name}"));
        connection.execute_batch(&format!("REINDEX \"{}\"", name.replace('"', "\"\""))).asked("reindex", work)?;
    }
    connection.close().map_err(|(_, source)| source).asked("close", work)
}

/// A root page with nothing below it (fileformat2.html, 1.6).
pub(super) fn empty_leaf(layout: &Layout, kind: NodeKind) -> Vec<u8> {
    let mut leaf = vec![0; layout.page_size];
    leaf[0] = if kind == NodeKind::TableLeaf { TABLE_LEAF } else { INDEX_LEAF };
    // 65,536 is written as 0.
    leaf[5..7].copy_from_slice(&(layout.usable as u16).to_be_bytes());
    leaf
}

fn copy_used(work: &Path, to: &Path) -> Result<(), SqliteError> {
    let connection = Connection::open(work).asked("open", work)?;
    let name = to.to_str().ok_or_else(|| corrupt(to, "its path is not UTF-8"))?;
    connection.execute("VACUUM INTO ?1", [name]).asked("copy what is used of", work)?;
    connection.close().map_err(|(_, source)| source).asked("close", work)
}
