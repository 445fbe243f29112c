//! The proof of a copy, rung by rung.
//!
//! | rung | what is known |
//! |---|---|
//! | `header` | it begins as a database does, and is one complete file |
//! | `structure` | every page is where it belongs, on every table and index (quick_check) |
//! | `integrity` | and every index agrees with its table (integrity_check, table by table on two connections) |
//! | `foreign-keys` | and every foreign key has its parent |
//! | `counts` | the rows of every table were counted |
//!
//! A schema that only the service's own SQLite can open climbs `header`, `structure` and `counts`, with stand-ins.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::copy::{Progress, copy_bytes, create};
use super::error::SqliteError;
use super::facts::{self, DatabaseFacts, TableRows};
use super::header::identify;
use super::own::{Asked, beside, open_still};
use super::stubs::{self, Schema, Stubs};
use crate::progress::{Cancel, Observer};
use crate::world::disk::AtPath;

/// Findings beyond this many tell nothing more.
const FINDINGS_MAX: usize = 10;

/// Connections that check at the same time.
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
    let mut rungs = vec!["header".to_owned()];
    let connection = damaged(open_still(copy))?;
    let mut facts = damaged(facts::read(&connection, copy, &identity))?;
    let tables = damaged(facts::ordinary_tables(&connection, copy))?;
    drop(connection);

    let (stubs, without_virtual) = match damaged(stubs::find(copy))? {
        Schema::Opens(stubs) => (stubs, None),
        Schema::Closed(error) => {
            observer.notice(&format!("checking {} without its virtual tables: {error}", copy.display()));
            facts.without.push(format!("virtual tables: {error}"));
            let scratch = Scratch::without_virtual_tables(copy, cancel, observer)?;
            // What else is missing shows only now.
            match damaged(stubs::find(&scratch.path))? {
                Schema::Opens(stubs) => (stubs, Some(scratch)),
                Schema::Closed(source) => {
                    return Err(corrupt_or(SqliteError::Sqlite { action: "open", path: copy.to_owned(), source }));
                }
            }
        }
    };
    facts.without.extend(stubs.names());
    let whole = stubs.is_empty() && without_virtual.is_none();
    let checked = without_virtual.as_ref().map_or(copy, |scratch| scratch.path.as_path());

    let mut jobs = VecDeque::from([Job::Structure]);
    if whole {
        jobs.push_back(Job::ForeignKeys);
    }
    jobs.extend(tables.into_iter().map(|name| if whole { Job::Table(name) } else { Job::Count(name) }));
    let shared =
        Shared { copy: checked, stubs: &stubs, cancel, observer, total: jobs.len() as u64, state: Mutex::default() };
    shared.lock().jobs = jobs;
    std::thread::scope(|scope| {
        for _ in 1..WORKERS {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.error {
        return Err(error);
    }
    if !state.findings.is_empty() {
        return Err(corrupt(state.findings));
    }
    rungs.push("structure".to_owned());
    if whole {
        rungs.push("integrity".to_owned());
    }
    if state.violations == Some(0) {
        rungs.push("foreign-keys".to_owned());
    }
    rungs.push("counts".to_owned());
    facts.foreign_key_violations = state.violations;
    facts.tables = state.counts;
    facts.tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Validation { rungs, facts })
}

#[derive(Debug)]
enum Job {
    /// quick_check of the whole file: pages used twice or never, the freelist, every b-tree.
    Structure,
    ForeignKeys,
    /// integrity_check and count.
    Table(String),
    Count(String),
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    done: u64,
    findings: Vec<String>,
    error: Option<SqliteError>,
    violations: Option<u64>,
    counts: Vec<TableRows>,
}

struct Shared<'a> {
    copy: &'a Path,
    stubs: &'a Stubs,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    total: u64,
    state: Mutex<State>,
}

impl Shared<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut connection = None;
        loop {
            let Some(job) = self.lock().jobs.pop_front() else {
                return;
            };
            let done = self.connection(&mut connection).and_then(|connection| self.run(connection, &job));
            let mut state = self.lock();
            state.done += 1;
            self.observer.bytes(state.done, self.total);
            if let Err(error) = done {
                // The first one tells; findings that stand already are worth more than it.
                if let SqliteError::Corrupt { findings, .. } = error {
                    state.findings.extend(findings);
                } else if state.error.is_none() {
                    state.error = Some(error);
                }
            }
            if state.error.is_some() || state.findings.len() >= FINDINGS_MAX {
                state.jobs.clear();
            }
        }
    }

    fn connection<'c>(&self, open: &'c mut Option<Connection>) -> Result<&'c Connection, SqliteError> {
        if open.is_none() {
            let mut connection = damaged(open_still(self.copy))?;
            self.stubs.register(&connection, self.copy)?;
            let cancel = self.cancel.clone();
            let ended = connection.progress_handler(20_000, Some(move || cancel.is_requested()));
            ended.asked("watch a check of", self.copy)?;
            *open = Some(connection);
        }
        open.as_ref().ok_or_else(|| SqliteError::Cancelled { what: "checking", path: self.copy.to_owned() })
    }

    fn run(&self, connection: &Connection, job: &Job) -> Result<(), SqliteError> {
        let answer = match job {
            Job::Structure => {
                self.observer.step("checking the structure of every page");
                self.check(connection, "PRAGMA quick_check(100)")
            }
            Job::ForeignKeys => self.foreign_keys(connection),
            Job::Table(name) => {
                self.observer.step(&format!("checking table {name}"));
                let check = format!("PRAGMA integrity_check({})", quoted(name));
                self.check(connection, &check).and_then(|()| self.count(connection, name))
            }
            Job::Count(name) => self.count(connection, name),
        };
        answer.map_err(|source| {
            if self.cancel.is_requested() {
                return SqliteError::Cancelled { what: "checking", path: self.copy.to_owned() };
            }
            corrupt_or(SqliteError::Sqlite { action: "check", path: self.copy.to_owned(), source })
        })
    }

    fn check(&self, connection: &Connection, sql: &str) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned();
            if text == "ok" || self.stubs.explains(&text) {
                continue;
            }
            let mut state = self.lock();
            if state.findings.len() < FINDINGS_MAX && !state.findings.contains(&text) {
                state.findings.push(text);
            }
        }
        Ok(())
    }

    fn foreign_keys(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.observer.step("checking foreign keys");
        let count =
            connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get::<_, i64>(0));
        match count {
            Ok(count) => self.lock().violations = u64::try_from(count).ok(),
            // A schema whose foreign keys can't be judged (`foreign key mismatch`) is no damage; the rung is not climbed.
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
                tracing::debug!(%error, "foreign keys can't be judged");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn count(&self, connection: &Connection, table: &str) -> rusqlite::Result<()> {
        let sql = format!("SELECT count(*) FROM {}", quoted(table));
        let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        self.lock().counts.push(TableRows { name: table.to_owned(), rows: u64::try_from(rows).unwrap_or(0) });
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
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

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// A copy of the copy, for a check that must change the schema; removed with it.
struct Scratch {
    path: std::path::PathBuf,
}

impl Scratch {
    /// Virtual tables have no pages: without their rows in the schema, everything that has pages is checked.
    fn without_virtual_tables(copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Self, SqliteError> {
        let scratch = Self { path: beside(copy, ".without-virtual-tables") };
        scratch.remove();
        let from = std::fs::File::open(copy).at("open", copy)?;
        let len = from.metadata().at("look at", copy)?.len();
        let progress = Progress { observer, cancel, done_before: 0, total: len, deadline: None };
        copy_bytes(&from, copy, &create(&scratch.path)?, &scratch.path, len, progress)?;
        let change = || -> rusqlite::Result<()> {
            let connection = Connection::open(&scratch.path)?;
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            connection.pragma_update(None, "synchronous", false)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "writable_schema", true)?;
            connection.execute("DELETE FROM sqlite_schema WHERE type = 'table' AND rootpage = 0", [])?;
            connection.close().map_err(|(_, error)| error)
        };
        damaged(change().asked("take the virtual tables out of", &scratch.path))?;
        Ok(scratch)
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-journal", "-shm"] {
            // Best effort: it lies in our own scratch directory.
            drop(std::fs::remove_file(beside(&self.path, suffix)));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
