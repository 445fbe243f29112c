//! Whether what a step made is whole, by both readers.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{Base, check, header};
use crate::database::sqlite::deep::{DeepKind, DeepReport, deep};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{ObjectKind, Report, Schema, View};

/// Findings that are told.
const TOLD_MAX: usize = 10;

/// What a step made: whole but for the words of full-text indices that can't be built here.
pub(super) struct Judged {
    pub(super) report: Report,
    pub(super) schema: Schema,
    pub(super) view: View,
    /// What is left to say: full-text indices, foreign keys, what SQLite could not judge.
    pub(super) deep: DeepReport,
}

/// Checks it, and has full-text indices that do not agree with their rows built anew once.
pub(super) fn judge(base: &Base<'_>, file: &Path) -> Result<Judged, SqliteError> {
    let mut judged = look(base, file)?;
    let is_of_words = |judged: &Judged| judged.deep.findings.iter().any(|f| f.kind == DeepKind::FullText);
    if is_of_words(&judged) && build_words(base, &judged.schema, file)? {
        judged = look(base, file)?;
    }
    Ok(judged)
}

fn look(base: &Base<'_>, file: &Path) -> Result<Judged, SqliteError> {
    let (cancel, observer) = (base.input.cancel, base.input.observer);
    header::to_rollback(file)?;
    let report = check(file, cancel, observer)?;
    let mut problems: Vec<String> = report.findings.iter().map(|f| f.what.clone()).take(TOLD_MAX).collect();
    let deep = deep(file, cancel, observer)?;
    let of_sqlite = deep.findings.iter().filter(|f| f.kind == DeepKind::Integrity).map(|f| f.what.clone());
    problems.extend(of_sqlite.take(TOLD_MAX));
    if !problems.is_empty() {
        return Err(SqliteError::Corrupt { path: file.to_owned(), findings: problems });
    }
    let view = View::open_own(file, cancel)?;
    let schema = Schema::read(view.image());
    Ok(Judged { report, schema, view, deep })
}

/// Whether any was built anew. One whose tokenizer is not here can't be, and stays as it is.
fn build_words(base: &Base<'_>, schema: &Schema, file: &Path) -> Result<bool, SqliteError> {
    base.input.observer.step("building full-text indices anew");
    let connection = Connection::open(file).asked("open", file)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).asked("set up", file)?;
    connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF;").asked("set up", file)?;
    let mut any = false;
    for table in schema.objects.iter().filter(|object| object.kind == ObjectKind::VirtualTable) {
        let is_of_words = table.sql.as_deref().is_some_and(|sql| sql.to_ascii_lowercase().contains("using fts"));
        let name = table.name.replace('"', "\"\"");
        // Without its version the table does not even open.
        if table.sql.as_deref().is_some_and(|sql| sql.to_ascii_lowercase().contains("using fts5")) {
            let version = format!("INSERT OR IGNORE INTO \"{name}_config\" VALUES('version', 4)");
            let _other_form = connection.execute(&version, []);
        }
        any |= is_of_words
            && connection.execute(&format!("INSERT INTO \"{name}\"(\"{name}\") VALUES('rebuild')"), []).is_ok();
    }
    connection.close().map_err(|(_, source)| source).asked("close", file)?;
    Ok(any)
}
