//! Whether what a step made is whole, by both readers.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{Base, check, header};
use crate::database::sqlite::deep::{DeepKind, DeepReport, deep_but};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Object, ObjectKind, Report, Schema, View};

/// Findings that are told.
const TOLD_MAX: usize = 10;

/// What a step made: whole but for the words of full-text indices that can't be built here.
pub(super) struct Judged {
    pub(super) report: Report,
    pub(super) schema: Schema,
    pub(super) view: View,
    /// What is left to say: full-text indices, foreign keys, what SQLite could not judge.
    pub(super) deep: DeepReport,
    /// Full-text indices that SQLite found fault with, and that were built anew, though all of them could be read: they may
    /// have had the right words, and the rows the wrong ones.
    pub(super) words_in_doubt: Vec<String>,
}

/// Checks it, and has full-text indices that do not agree with their rows built anew once.
pub(super) fn judge(base: &Base<'_>, file: &Path) -> Result<Judged, SqliteError> {
    judge_with(base, file, &|_| false)
}

/// The same of a copy in which only some tables are not byte by byte what they were. Both readers read the others too,
/// pages and rows; that their indices are those of their rows is left to ours, where it can tell.
pub(super) fn judge_changed(base: &Base<'_>, file: &Path, changed: &[&Object]) -> Result<Judged, SqliteError> {
    judge_with(base, file, &|table| !changed.iter().any(|object| object.table.eq_ignore_ascii_case(table)))
}

fn judge_with(base: &Base<'_>, file: &Path, is_as_it_was: &dyn Fn(&str) -> bool) -> Result<Judged, SqliteError> {
    let mut judged = look(base, file, is_as_it_was)?;
    let is_of_words = |judged: &Judged| judged.deep.findings.iter().any(|f| f.kind == DeepKind::FullText);
    if is_of_words(&judged) && build_words(base, &judged.schema, file)? {
        let words_in_doubt = readable_words(base, &judged);
        judged = Judged { words_in_doubt, ..look(base, file, is_as_it_was)? };
    }
    Ok(judged)
}

fn look(base: &Base<'_>, file: &Path, is_as_it_was: &dyn Fn(&str) -> bool) -> Result<Judged, SqliteError> {
    let (cancel, observer) = (base.input.cancel, base.input.observer);
    header::to_rollback(file)?;
    let report = check(file, cancel, observer)?;
    let mut problems: Vec<String> = report.findings.iter().map(|f| f.what.clone()).take(TOLD_MAX).collect();
    let proved: Vec<&str> =
        report.trees.iter().filter(|tree| tree.kind == ObjectKind::Table).map(|t| t.name.as_str()).collect();
    let proved = proved.into_iter().filter(|table| is_as_it_was(table) && all_is_compared(&report, table)).collect();
    let deep = deep_but(file, &proved, cancel, observer)?;
    let of_sqlite = deep.findings.iter().filter(|f| f.kind == DeepKind::Integrity).map(|f| f.what.clone());
    problems.extend(of_sqlite.take(TOLD_MAX));
    if !problems.is_empty() {
        return Err(SqliteError::Corrupt { path: file.to_owned(), findings: problems });
    }
    let view = View::open_own(file, cancel)?;
    let schema = Schema::read(view.image());
    Ok(Judged { report, schema, view, deep, words_in_doubt: Vec::new() })
}

/// Whether nothing of the table is left to SQLite: an index on an expression, a definition that is not understood.
fn all_is_compared(report: &Report, table: &str) -> bool {
    let mut its = report.trees.iter().filter(|tree| tree.table.eq_ignore_ascii_case(table));
    its.all(|tree| !report.not_checked.iter().any(|not| not.object == tree.name))
}

/// Of the full-text indices that are found fault with, those in whose own tables nothing was.
fn readable_words(base: &Base<'_>, judged: &Judged) -> Vec<String> {
    let found: Vec<&str> =
        judged.deep.findings.iter().filter(|f| f.kind == DeepKind::FullText).map(|f| f.what.as_str()).collect();
    let tables: Vec<&str> = virtual_tables(&judged.schema).map(|table| table.name.as_str()).collect();
    let names_one = |what: &str| tables.iter().any(|table| what.contains(table));
    let is_meant = |table: &&str| found.iter().any(|what| what.contains(*table) || !names_one(what));
    let at_risk = |table: &str| {
        let mut risks = base.report.findings.iter().filter(|f| f.rows_at_risk).filter_map(|f| f.object.as_deref());
        risks.any(|object| object.strip_prefix(table).is_some_and(|part| part.starts_with('_') && part != "_content"))
    };
    tables.iter().copied().filter(is_meant).filter(|table| !at_risk(table)).map(str::to_owned).collect()
}

/// Those that keep words.
fn virtual_tables(schema: &Schema) -> impl Iterator<Item = &Object> {
    let is_of_words = |table: &&Object| {
        table.kind == ObjectKind::VirtualTable
            && table.sql.as_deref().is_some_and(|sql| sql.to_ascii_lowercase().contains("using fts"))
    };
    schema.objects.iter().filter(is_of_words)
}

/// Whether any was built anew. One whose tokenizer is not here can't be, and stays as it is.
fn build_words(base: &Base<'_>, schema: &Schema, file: &Path) -> Result<bool, SqliteError> {
    base.input.observer.step("building full-text indices anew");
    let connection = Connection::open(file).asked("open", file)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).asked("set up", file)?;
    connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF;").asked("set up", file)?;
    let mut any = false;
    for table in virtual_tables(schema) {
        let name = table.name.replace('"', "\"\"");
        // Without its version the table does not even open.
        if table.sql.as_deref().is_some_and(|sql| sql.to_ascii_lowercase().contains("using fts5")) {
            let version = format!("INSERT OR IGNORE INTO \"{name}_config\" VALUES('version', 4)");
            let _other_form = connection.execute(&version, []);
        }
        any |= connection.execute(&format!("INSERT INTO \"{name}\"(\"{name}\") VALUES('rebuild')"), []).is_ok();
    }
    connection.close().map_err(|(_, source)| source).asked("close", file)?;
    Ok(any)
}
