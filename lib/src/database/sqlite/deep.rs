//! What only SQLite itself can judge: CHECK, full-text and other virtual tables, foreign keys, generated columns, the
//! order in its indices on expressions. It reads a copy that is complete in one file, and nothing else.

use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use super::error::SqliteError;
use super::own::{Asked, open_still};
use super::stubs::{self, Schema, Stubs};
use super::validate::Scratch;
use crate::progress::{Cancel, Observer};

/// Lines of SQLite's check that are told one by one.
const LINES_MAX: usize = 1000;

/// What a finding of SQLite is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeepKind {
    /// Pages, rows, indices, CHECK, NOT NULL, UNIQUE: integrity_check.
    Integrity,
    /// A full-text index that does not agree with its rows. The rows themselves are not touched by it.
    FullText,
    /// Rows whose foreign key has no parent: no damage, but a service's matter.
    ForeignKey,
}

/// One thing that SQLite found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeepFinding {
    /// What it is about.
    pub kind: DeepKind,
    /// SQLite's words, or for a foreign key ours.
    pub what: String,
}

/// What SQLite says of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeepReport {
    /// What it found, up to a thousand of each kind.
    pub findings: Vec<DeepFinding>,
    /// What it could not judge, and why: collations, functions and tokenizers that only the service has.
    pub not_judged: Vec<String>,
}

impl DeepReport {
    /// Whether something is damaged: a foreign key without its parent is not.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.kind != DeepKind::ForeignKey)
    }

    fn add(&mut self, kind: DeepKind, what: String) {
        if self.findings.iter().filter(|finding| finding.kind == kind).count() < LINES_MAX {
            self.findings.push(DeepFinding { kind, what });
        }
    }
}

/// Has SQLite check a copy that nobody else has open: integrity_check, which asks full-text indices too, and
/// foreign_key_check. The copy is only read; its `-shm` may lie
/// beside it meanwhile.
///
/// # Errors
/// When it is cancelled, and what keeps SQLite from reading at all. Damage is no error.
pub fn deep(copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<DeepReport, SqliteError> {
    let mut report = DeepReport::default();
    let closed = match opened(copy, &mut report)? {
        Some(Ok(stubs)) => match ask(copy, &stubs, report.clone(), cancel, observer) {
            // A tokenizer is looked for when its words are: by then the check runs.
            Err(SqliteError::Sqlite { source, .. }) if is_plain(&source) => {
                format!("a full-text index can't be opened here: {source}")
            }
            other => return other,
        },
        Some(Err(closed)) => closed,
        None => return Ok(report),
    };
    // Some virtual table does not open. A module that is not here is no damage; one that can't read its own tables is.
    if closed.contains("no such module") {
        report.not_judged.push(format!("virtual tables: {closed}"));
    } else {
        report.add(DeepKind::FullText, closed);
    }
    let scratch = Scratch::without_virtual_tables(copy, cancel, observer)?;
    match opened(&scratch.path, &mut report)? {
        Some(Ok(stubs)) => ask(&scratch.path, &stubs, report, cancel, observer),
        Some(Err(closed)) => {
            report.add(DeepKind::Integrity, closed);
            Ok(report)
        }
        None => Ok(report),
    }
}

/// What it takes to open the whole schema, or why it does not open; `None` where it is damaged, which is told.
fn opened(copy: &Path, report: &mut DeepReport) -> Result<Option<Result<Stubs, String>>, SqliteError> {
    match stubs::find(copy) {
        Ok(Schema::Opens(stubs)) => Ok(Some(Ok(stubs))),
        Ok(Schema::Closed(error)) => Ok(Some(Err(error.to_string()))),
        Err(SqliteError::Sqlite { source, .. }) if is_damage(&source) => {
            report.add(DeepKind::Integrity, source.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn ask(
    copy: &Path,
    stubs: &Stubs,
    mut report: DeepReport,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<DeepReport, SqliteError> {
    report.not_judged.extend(stubs.names());
    let mut connection = match open_for_checks(copy, stubs) {
        Ok(connection) => connection,
        Err(error) => {
            report.not_judged.push(format!("CHECK constraints: {error}"));
            let still = open_still(copy)?;
            stubs.register(&still, copy)?;
            still
        }
    };
    let ended = cancel.clone();
    let watched = connection.progress_handler(20_000, Some(move || ended.is_requested()));
    watched.asked("watch a check of", copy)?;
    observer.step("SQLite checks its integrity");
    let asked = integrity(&connection, stubs, &mut report).and_then(|()| {
        observer.step("SQLite checks foreign keys");
        foreign_keys(&connection, &mut report)
    });
    match asked {
        Err(_) if cancel.is_requested() => {
            Err(SqliteError::Cancelled { what: "checking a copy of", path: copy.to_owned() })
        }
        Err(source) if is_damage(&source) => {
            report.add(DeepKind::Integrity, source.to_string());
            Ok(report)
        }
        other => other.map(|()| report).asked("check", copy),
    }
}

/// SQLite leaves CHECK constraints out of a schema that it may not write. It writes nothing all the same.
fn open_for_checks(copy: &Path, stubs: &Stubs) -> Result<Connection, SqliteError> {
    let connection = Connection::open(copy).asked("open", copy)?;
    connection
        .execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-65536;")
        .asked("set up", copy)?;
    stubs.register(&connection, copy)?;
    connection.prepare("PRAGMA integrity_check").map(drop).asked("open the schema of", copy)?;
    Ok(connection)
}

fn integrity(connection: &Connection, stubs: &Stubs, report: &mut DeepReport) -> rusqlite::Result<()> {
    // In the order of a stand-in, whole indices would seem not to have their rows: our own check compares them.
    let pragma = if stubs.is_empty() { "integrity_check" } else { "quick_check" };
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({LINES_MAX})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned();
        if line == "ok" || stubs.explains(&line) {
            continue;
        }
        let is_of_words =
            ["inverted index for FTS", "fts5: ", "fts4: ", "fts3: "].iter().any(|words| line.contains(words));
        report.add(if is_of_words { DeepKind::FullText } else { DeepKind::Integrity }, line);
    }
    Ok(())
}

fn foreign_keys(connection: &Connection, report: &mut DeepReport) -> rusqlite::Result<()> {
    let sql = "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2";
    let asked = connection.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            report.add(DeepKind::ForeignKey, format!("{count} rows of {table} have no parent in {parent}"));
        }
        Ok(())
    });
    match asked {
        // `foreign key mismatch`: a schema that says nothing which could be judged.
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
            report.not_judged.push(format!("foreign keys: {error}"));
            Ok(())
        }
        other => other,
    }
}

/// SQLITE_ERROR: something in the schema can't be used.
fn is_plain(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}
