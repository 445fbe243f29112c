//! What SQLite is asked, on two connections: all that a whole integrity_check says, and foreign_key_check.
//!
//! A whole integrity_check is one of the pages, the freelist and the rows, which quick_check is too, and one of each table
//! against its indices, which can be asked table by table. Most of its time goes into the latter.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::super::error::SqliteError;
use super::super::own::{Asked, open_still};
use super::super::stubs::Stubs;
use super::super::versions::explained;
use super::{DeepKind, DeepReport, LINES_MAX, is_damage};
use crate::progress::{Cancel, Observer};

/// Connections that ask at the same time.
const WORKERS: usize = 2;

enum Job {
    /// quick_check of everything.
    Pages,
    /// integrity_check of one table, or virtual table.
    Table(String),
    ForeignKeys,
}

struct Shared<'a> {
    copy: &'a Path,
    stubs: &'a Stubs,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    state: Mutex<State>,
}

struct State {
    jobs: VecDeque<Job>,
    report: DeepReport,
    error: Option<SqliteError>,
}

pub(super) fn ask(
    copy: &Path,
    stubs: &Stubs,
    not_compared: &BTreeSet<&str>,
    mut report: DeepReport,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<DeepReport, SqliteError> {
    report.not_judged.extend(stubs.names());
    observer.step("SQLite checks its integrity");
    let mut jobs = VecDeque::from([Job::Pages]);
    // In the order of a stand-in, whole indices would seem not to have their rows: our own check compares them.
    if stubs.is_empty() {
        let still = open_still(copy)?;
        match tables(&still) {
            Ok(tables) => {
                let compared = tables.into_iter().filter(|table| !not_compared.contains(table.as_str()));
                jobs.extend(compared.map(Job::Table));
            }
            Err(source) if is_damage(&source) => report.add(DeepKind::Integrity, source.to_string()),
            Err(source) => return Err(source).asked("list the tables of", copy),
        }
    }
    jobs.push_back(Job::ForeignKeys);
    let state = Mutex::new(State { jobs, report, error: None });
    let shared = Shared { copy, stubs, cancel, observer, state };
    std::thread::scope(|scope| {
        for _ in 1..WORKERS {
            // Without it, it takes longer, and that is all.
            drop(std::thread::Builder::new().name("svckit-deep".to_owned()).spawn_scoped(scope, || shared.work()));
        }
        shared.work();
    });
    let State { mut report, error, .. } = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.findings.sort_by_key(|finding| finding.kind);
    error.map_or(Ok(report), Err)
}

/// What took longest first, so that both connections end together: by rows, as the last rowid tells, and indices.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name, 1 + (SELECT count(*) FROM sqlite_schema i WHERE i.type = 'index' AND i.tbl_name = s.name)
        FROM sqlite_schema s WHERE type = 'table' AND name IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let named = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let mut tables = Vec::new();
    for one in named {
        let (name, indices) = one?;
        let last = format!("SELECT max(rowid) FROM {}", quoted(&name));
        let last: Option<i64> = connection.query_row(&last, [], |row| row.get(0)).unwrap_or_default();
        tables.push((last.unwrap_or_default().saturating_mul(indices), name));
    }
    tables.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    Ok(tables.into_iter().map(|(_, name)| name).collect())
}

impl Shared<'_> {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut connection = None;
        loop {
            let Some(job) = self.state().jobs.pop_front() else { return };
            if let Err(error) = self.connection(&mut connection).and_then(|connection| self.run(connection, &job)) {
                let mut state = self.state();
                state.jobs.clear();
                state.error.get_or_insert(error);
            }
        }
    }

    fn connection<'c>(&self, open: &'c mut Option<Connection>) -> Result<&'c Connection, SqliteError> {
        if open.is_none() {
            let mut connection = match open_for_checks(self.copy, self.stubs) {
                Ok(connection) => connection,
                Err(error) => {
                    self.state().report.not_judged(format!("CHECK constraints: {error}"));
                    let still = open_still(self.copy)?;
                    self.stubs.register(&still, self.copy)?;
                    still
                }
            };
            let ended = self.cancel.clone();
            let watched = connection.progress_handler(20_000, Some(move || ended.is_requested()));
            watched.asked("watch a check of", self.copy)?;
            *open = Some(connection);
        }
        open.as_ref().ok_or_else(|| self.cancelled())
    }

    fn cancelled(&self) -> SqliteError {
        SqliteError::Cancelled { what: "checking a copy of", path: self.copy.to_owned() }
    }

    fn run(&self, connection: &Connection, job: &Job) -> Result<(), SqliteError> {
        let asked = match job {
            Job::Pages => self.integrity(connection, &format!("PRAGMA quick_check({LINES_MAX})")),
            Job::Table(name) => self.integrity(connection, &format!("PRAGMA integrity_check({})", quoted(name))),
            Job::ForeignKeys => {
                self.observer.step("SQLite checks foreign keys");
                self.foreign_keys(connection)
            }
        };
        match asked {
            Err(_) if self.cancel.is_requested() => Err(self.cancelled()),
            Err(source) if is_damage(&source) => {
                self.state().report.add(DeepKind::Integrity, source.to_string());
                Ok(())
            }
            other => other.asked("check", self.copy),
        }
    }

    fn integrity(&self, connection: &Connection, pragma: &str) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(pragma)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned();
            if line == "ok" || self.stubs.explains(&line) {
                continue;
            }
            if let Some(why) = explained(connection, self.copy, &line)? {
                self.state().report.not_judged(why);
                continue;
            }
            let is_of_words =
                ["inverted index for FTS", "fts5: ", "fts4: ", "fts3: "].iter().any(|words| line.contains(words));
            let kind = match () {
                () if is_of_words => DeepKind::FullText,
                () if line.starts_with("In RTree ") => DeepKind::Spatial,
                () => DeepKind::Integrity,
            };
            self.state().report.add(kind, line);
        }
        Ok(())
    }

    fn foreign_keys(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 ORDER BY 1, 2";
        let asked = connection.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (table, parent, count): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let what = format!("{count} rows of {table} have no parent in {parent}");
                self.state().report.add(DeepKind::ForeignKey, what);
            }
            Ok(())
        });
        match asked {
            // `foreign key mismatch`: a schema that says nothing which could be judged.
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => {
                self.state().report.not_judged(format!("foreign keys: {error}"));
                Ok(())
            }
            other => other,
        }
    }
}

/// SQLite leaves CHECK constraints out of a schema that it may not write. It writes nothing all the same.
fn open_for_checks(copy: &Path, stubs: &Stubs) -> Result<Connection, SqliteError> {
    let connection = Connection::open(copy).asked("open", copy)?;
    connection
        // Nothing is mapped: a disk that fails under a map ends the process, and says nothing.
        .execute_batch("PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-65536; PRAGMA mmap_size=0;")
        .asked("set up", copy)?;
    stubs.register(&connection, copy)?;
    connection.prepare("PRAGMA integrity_check").map(drop).asked("open the schema of", copy)?;
    Ok(connection)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
