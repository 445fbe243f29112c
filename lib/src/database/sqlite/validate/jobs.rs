//! What SQLite is asked about a copy, table by table and on two connections.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::super::error::SqliteError;
use super::super::facts::TableRows;
use super::super::own::{Asked, open_still};
use super::super::stubs::Stubs;
use super::super::versions::explained;
use super::{FINDINGS_MAX, WORKERS, corrupt_or, damaged};
use crate::progress::{Cancel, Observer};

#[derive(Debug)]
pub(super) enum Job {
    /// quick_check of the whole file: pages used twice or never, the freelist, every b-tree.
    Structure,
    ForeignKeys,
    /// integrity_check and count.
    Table(String),
    /// integrity_check of a table that has its rows in others: a full-text index, an r-tree.
    Virtual(String),
    Count(String),
}

/// What SQLite said.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) findings: Vec<String>,
    /// Rows whose foreign key has no parent; `None` where that was not asked or can't be judged.
    pub(super) violations: Option<u64>,
    pub(super) counts: Vec<TableRows>,
    /// Virtual tables that can't be opened here, and why: a tokenizer of the service's own is looked for at this late point.
    pub(super) not_judged: Vec<String>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    done: u64,
    error: Option<SqliteError>,
    answers: Answers,
}

/// Runs the jobs on a copy that nobody changes. Findings are answers.
///
/// # Errors
/// What keeps SQLite from answering.
pub(super) fn run(
    copy: &Path,
    stubs: &Stubs,
    jobs: VecDeque<Job>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Answers, SqliteError> {
    let shared = Shared { copy, stubs, cancel, observer, total: jobs.len() as u64, state: Mutex::default() };
    shared.lock().jobs = jobs;
    std::thread::scope(|scope| {
        for _ in 1..WORKERS {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let State { error, answers, .. } = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error),
        None => Ok(answers),
    }
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
                    state.answers.findings.extend(findings);
                } else if state.error.is_none() {
                    state.error = Some(error);
                }
            }
            if state.error.is_some() || state.answers.findings.len() >= FINDINGS_MAX {
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
                self.table(connection, name).and_then(|()| self.count(connection, name))
            }
            Job::Virtual(name) => {
                self.observer.step(&format!("checking table {name}"));
                match self.table(connection, name) {
                    Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
                        self.lock().answers.not_judged.push(format!("virtual table {name}: {error}"));
                        Ok(())
                    }
                    other => other,
                }
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
            if let Some(why) = explained(connection, self.copy, &text)? {
                let not_judged = &mut self.lock().answers.not_judged;
                if !not_judged.contains(&why) {
                    not_judged.push(why);
                }
                continue;
            }
            let findings = &mut self.lock().answers.findings;
            if findings.len() < FINDINGS_MAX && !findings.contains(&text) {
                findings.push(text);
            }
        }
        Ok(())
    }

    fn table(&self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        self.check(connection, &format!("PRAGMA integrity_check({})", quoted(name)))
    }

    fn foreign_keys(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.observer.step("checking foreign keys");
        let count =
            connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get::<_, i64>(0));
        match count {
            Ok(count) => self.lock().answers.violations = u64::try_from(count).ok(),
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
        self.lock().answers.counts.push(TableRows { name: table.to_owned(), rows: u64::try_from(rows).unwrap_or(0) });
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
