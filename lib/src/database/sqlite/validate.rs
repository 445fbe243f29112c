//! The proof of a copy, rung by rung.
//!
//! | rung | what is known |
//! |---|---|
//! | `header` | it begins as a database does, and is one complete file |
//! | `pages` | every page has one use; every record, key and index entry is whole and in its place, and every index that can be compared has its table's entries ([`super::pages`], which needs nothing of the service) |
//! | `structure` | and SQLite finds no fault with them: nothing that quick_check would find |
//! | `integrity` | and every index agrees with its table (integrity_check, table by table on two connections) |
//! | `foreign-keys` | and every foreign key has its parent |
//! | `counts` | the rows of every table were counted |
//!
//! quick_check itself is run where `integrity` can't be climbed, or where our reader remarked something: in all other
//! cases every part of it has been done by the rungs beside it.
//!
//! CHECK constraints are not judged: SQLite leaves them out of a schema that it may not write (and on a copy it may
//! write nothing). Rows that break one are as the service has them, like those without the parent of a foreign key.
//!
//! A schema that only the service's own SQLite can open climbs `header`, `pages`, `structure` and `counts`, the latter
//! two with stand-ins.

mod jobs;
mod scratch;

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::jobs::Job;
pub(super) use self::scratch::Scratch;
use super::error::SqliteError;
use super::facts::{self, DatabaseFacts};
use super::header::identify;
use super::own::{beside, open_still};
use super::pages::{CheckOptions, Finding, Loss, check};
use super::stubs::{self, Schema, Stubs};
use crate::progress::{Cancel, Observer};

/// Findings beyond this many tell nothing more.
const FINDINGS_MAX: usize = 10;

/// Threads that check at the same time.
const WORKERS: usize = 2;

/// What was proved, and what the copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// The rungs that were climbed, lowest first: see the module.
    pub rungs: Vec<String>,
    /// What the copy holds.
    pub facts: DatabaseFacts,
}

/// Proves a copy that nobody has open: it is read only, and nothing appears beside it.
///
/// # Errors
/// [`SqliteError::Corrupt`] with the first findings; what keeps it from being read.
pub fn validate(copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Validation, SqliteError> {
    observer.step("checking the header");
    let corrupt = |findings: Vec<String>| SqliteError::Corrupt { path: copy.to_owned(), findings };
    let identity = match identify(copy) {
        Err(SqliteError::NotSqlite { reason, .. }) => return Err(corrupt(vec![reason])),
        Err(SqliteError::Empty { .. }) => return Err(corrupt(vec!["it is empty".to_owned()])),
        other => other?,
    };
    for suffix in ["-wal", "-journal"] {
        if std::fs::metadata(beside(copy, suffix)).is_ok_and(|m| m.len() > 0) {
            return Err(corrupt(vec![format!("a {suffix} lies beside it: it is not complete in one file")]));
        }
    }
    let remarks = page_by_page(copy, cancel, observer)?;
    let mut rungs = vec!["header".to_owned(), "pages".to_owned()];
    let connection = damaged(open_still(copy))?;
    let mut facts = damaged(facts::read(&connection, copy, &identity))?;
    facts.remarks = remarks;
    let (tables, virtual_tables) = damaged(facts::tables(&connection, copy))?;
    drop(connection);

    let run = |checked: &Path, stubs: &Stubs, whole: bool, facts: &DatabaseFacts| {
        let mut jobs = VecDeque::new();
        // What every page says is known already; without the service's own functions the rest of it is asked at once.
        if !whole || !facts.remarks.is_empty() {
            jobs.push_back(Job::Structure);
        }
        if whole {
            jobs.push_back(Job::ForeignKeys);
            jobs.extend(virtual_tables.iter().cloned().map(Job::Virtual));
        }
        jobs.extend(tables.iter().cloned().map(|name| if whole { Job::Table(name) } else { Job::Count(name) }));
        jobs::run(checked, stubs, jobs, cancel, observer)
    };
    let attempt = match damaged(stubs::find(copy))? {
        Schema::Opens(stubs) => match run(copy, &stubs, stubs.is_empty(), &facts) {
            // A tokenizer of the service's own is looked for when its words are.
            Err(SqliteError::Sqlite { source, .. }) if is_plain(&source) && !virtual_tables.is_empty() => Err(source),
            answers => Ok((stubs.names(), stubs.is_empty(), answers?)),
        },
        Schema::Closed(error) => Err(error),
    };
    let (missing, whole, answers) = match attempt {
        Ok(done) => done,
        Err(error) => {
            observer.notice(&format!("checking {} without its virtual tables: {error}", copy.display()));
            facts.without.push(format!("virtual tables: {error}"));
            let scratch = Scratch::without_virtual_tables(copy, cancel, observer)?;
            // What else is missing shows only now.
            match damaged(stubs::find(&scratch.path))? {
                Schema::Opens(stubs) => (stubs.names(), false, run(&scratch.path, &stubs, false, &facts)?),
                Schema::Closed(source) => {
                    return Err(corrupt_or(SqliteError::Sqlite { action: "open", path: copy.to_owned(), source }));
                }
            }
        }
    };
    facts.without.extend(missing);
    if !answers.findings.is_empty() {
        return Err(corrupt(answers.findings));
    }
    rungs.push("structure".to_owned());
    if whole && answers.not_judged.is_empty() {
        rungs.push("integrity".to_owned());
    }
    facts.without.extend(answers.not_judged);
    if answers.violations == Some(0) {
        rungs.push("foreign-keys".to_owned());
    }
    rungs.push("counts".to_owned());
    facts.foreign_key_violations = answers.violations;
    facts.tables = answers.counts;
    facts.tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Validation { rungs, facts })
}

/// Every page by our own reader. The answer: what costs nothing and is no damage if SQLite says so.
fn page_by_page(copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Vec<String>, SqliteError> {
    let options =
        CheckOptions { threads: Some(WORKERS), findings_max: FINDINGS_MAX, own: true, ..CheckOptions::default() };
    let corrupt = |findings| SqliteError::Corrupt { path: copy.to_owned(), findings };
    let report = match check(copy, &options, cancel, observer) {
        Err(SqliteError::NotSqlite { reason, .. }) => return Err(corrupt(vec![reason])),
        other => other?,
    };
    let texts: Vec<String> = report.findings.iter().map(told).take(FINDINGS_MAX).collect();
    if report.findings.iter().any(|finding| finding.loss != Loss::Nothing) {
        return Err(corrupt(texts));
    }
    for text in &texts {
        observer.notice(&format!("{}: {text}", copy.display()));
    }
    Ok(texts)
}

fn told(finding: &Finding) -> String {
    let of = finding.object.as_ref().map(|object| format!("{object}, "));
    let page = finding.page.map(|page| format!("page {page}: "));
    format!("{}{}{}", of.unwrap_or_default(), page.unwrap_or_default(), finding.what)
}

/// SQLite's 'malformed' and 'not a database' are findings, not failures.
fn corrupt_or(error: SqliteError) -> SqliteError {
    match error {
        SqliteError::Sqlite { path, source, .. } if is_damage(&source) => {
            SqliteError::Corrupt { path, findings: vec![source.to_string()] }
        }
        other => other,
    }
}

fn damaged<T>(result: Result<T, SqliteError>) -> Result<T, SqliteError> {
    result.map_err(corrupt_or)
}

/// SQLITE_ERROR: something in the schema can't be used.
fn is_plain(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}
