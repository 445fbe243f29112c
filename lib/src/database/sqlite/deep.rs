//! What only SQLite itself can judge: CHECK, full-text and other virtual tables, foreign keys, generated columns, the
//! order in its indices on expressions. It reads a copy that is complete in one file, and nothing else.

mod ask;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use self::ask::ask;
use super::error::SqliteError;
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
    /// An R-tree whose own tables do not agree with each other (rtree.html, 6).
    Spatial,
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

    fn not_judged(&mut self, what: String) {
        if !self.not_judged.contains(&what) {
            self.not_judged.push(what);
        }
    }

    fn add(&mut self, kind: DeepKind, what: String) {
        let told = || self.findings.iter().filter(|finding| finding.kind == kind);
        if told().count() < LINES_MAX && !told().any(|finding| finding.what == what) {
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
    deep_but(copy, &BTreeSet::new(), cancel, observer)
}

/// As [`deep`], but that some tables are not compared with their indices: they are read all the same.
pub(super) fn deep_but(
    copy: &Path,
    not_compared: &BTreeSet<&str>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<DeepReport, SqliteError> {
    let ask = |copy: &Path, stubs: &Stubs, report: DeepReport| ask(copy, stubs, not_compared, report, cancel, observer);
    let mut report = DeepReport::default();
    let closed = match opened(copy, &mut report)? {
        Some(Ok(stubs)) => match ask(copy, &stubs, report.clone()) {
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
        report.add(if closed.contains("RTree") { DeepKind::Spatial } else { DeepKind::FullText }, closed);
    }
    let scratch = Scratch::without_virtual_tables(copy, cancel, observer)?;
    match opened(&scratch.path, &mut report)? {
        Some(Ok(stubs)) => ask(&scratch.path, &stubs, report),
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

/// SQLITE_ERROR: something in the schema can't be used.
fn is_plain(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}
