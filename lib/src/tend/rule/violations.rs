//! Foreign keys that are violated already: what SQLite does not look at again, and some services do not start with.
//!
//! `PRAGMA foreign_key_check` reads all of a table in one statement, and a service with a rollback journal could not commit
//! until its end. Here it is read in slices.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::connection::{For, Opened, blame, quoted};
use super::references::{Reference, primary_key, references, table_columns};
use crate::tend::TaskError;
use crate::tend::state::{connect, database_in};

/// Rows of one look.
const SLICE: i64 = 2_000;
/// So many are named; the others are counted.
const NAMED_MAX: usize = 20;
/// No look at a database takes longer. What is behind it is not looked at.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// After so many steps of SQLite's machine the time is looked at.
const STEPS: i32 = 10_000;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS violations(
    task TEXT PRIMARY KEY, looked INTEGER NOT NULL, count INTEGER NOT NULL, complete INTEGER NOT NULL) WITHOUT ROWID;";

/// A row that refers to one that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its table.
    pub table: String,
    /// Its rowid; `None` in a table without rowids.
    pub rowid: Option<i64>,
    /// The table that it refers to.
    pub parent: String,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub named: Vec<Violation>,
    /// Whether all was looked at; else there may be more.
    pub complete: bool,
}

/// What the last look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastLook {
    /// When that was.
    pub at: Timestamp,
    /// How many.
    pub count: u64,
    /// Whether all was looked at.
    pub complete: bool,
}

impl Violations {
    /// Looks at all foreign keys of a database, for a few seconds at most. Nothing is changed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn look(database: &Path) -> Result<Self, TaskError> {
        Self::look_until(database, Instant::now() + LOOK_MAX)
    }

    pub(super) fn look_until(database: &Path, until: Instant) -> Result<Self, TaskError> {
        let mut opened = Opened::open(database, For::Looking, None)?;
        let wrong = |error: rusqlite::Error| blame(&error, database);
        opened.connection.progress_handler(STEPS, Some(move || Instant::now() > until)).map_err(wrong)?;
        let db = &opened.connection;
        let mut found = Self { complete: true, ..Self::default() };
        for reference in references(db).map_err(wrong)? {
            match found.look_at(db, &reference, until) {
                Ok(whole) => found.complete &= whole,
                // No time is left, or it refers to what can't be referred to: SQLite refuses writes there.
                Err(error) if is_told_by_others(&error) => found.complete = false,
                Err(error) => return Err(wrong(error)),
            }
        }
        Ok(found)
    }

    /// One foreign key; whether all of its rows were looked at.
    fn look_at(&mut self, db: &Connection, reference: &Reference, until: Instant) -> rusqlite::Result<bool> {
        let Reference { child, parent, columns, .. } = reference;
        let names = table_columns(db, child)?;
        let free = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !names.contains(&(*name).to_owned()));
        let Some(rowid) = free.filter(|name| db.prepare(&format!("SELECT {name} FROM {}", quoted(child))).is_ok())
        else {
            return self.look_without_rowids(db, reference);
        };
        let mut pairs = Vec::new();
        let sole = columns.len() == 1;
        for (from, to) in columns {
            let Some(to) = to.clone().or_else(|| primary_key(db, parent).filter(|_| sole)) else {
                // Its own writes fail too (foreignkeys.html, 3): a person finds out without us.
                return Ok(table_columns(db, parent)?.is_empty());
            };
            // The parent's type and order decide, as where SQLite itself looks; `+` leaves out the child's.
            pairs.push(format!("p.{} = +c.{}", quoted(&to), quoted(from)));
        }
        let given: Vec<String> = columns.iter().map(|(from, _)| format!("c.{} IS NOT NULL", quoted(from))).collect();
        let has_none = if table_columns(db, parent)?.is_empty() {
            "1".to_owned()
        } else {
            format!("NOT EXISTS (SELECT 1 FROM {} p WHERE {})", quoted(parent), pairs.join(" AND "))
        };
        let mut statement = db.prepare(&format!(
            "SELECT c.{rowid}, {} AND {has_none} FROM {} c WHERE c.{rowid} > ?1 ORDER BY c.{rowid} LIMIT {SLICE}",
            given.join(" AND "),
            quoted(child)
        ))?;
        // No rowid is smaller than this one, which is not looked at: nobody has it.
        let mut after = i64::MIN;
        while Instant::now() < until {
            let (mut rows, mut seen) = (statement.query([after])?, 0);
            while let Some(row) = rows.next()? {
                (after, seen) = (row.get(0)?, seen + 1);
                if row.get(1)? {
                    self.note(child, Some(after), parent);
                }
            }
            if seen < SLICE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn look_without_rowids(&mut self, db: &Connection, reference: &Reference) -> rusqlite::Result<bool> {
        let mut statement =
            db.prepare("SELECT count(*) FROM pragma_foreign_key_check(?1) WHERE lower(\"parent\") = lower(?2)")?;
        let count: i64 = statement.query_row([&reference.child, &reference.parent], |row| row.get(0))?;
        for _ in 0..count {
            self.note(&reference.child, None, &reference.parent);
        }
        Ok(true)
    }

    fn note(&mut self, table: &str, rowid: Option<i64>, parent: &str) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(Violation { table: table.to_owned(), rowid, parent: parent.to_owned() });
        }
    }

    /// Keeps the figure with the state of a task.
    pub(super) fn keep(&self, directory: &Path, task: &str, at: Timestamp) -> rusqlite::Result<()> {
        let connection = connect(&database_in(directory))?;
        connection.execute_batch(SCHEMA)?;
        let count = i64::try_from(self.count).unwrap_or(i64::MAX);
        connection.execute(
            "INSERT OR REPLACE INTO violations VALUES(?1, ?2, ?3, ?4)",
            params![task, at.as_millisecond(), count, self.complete],
        )?;
        Ok(())
    }
}

fn is_told_by_others(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted | ErrorCode::Unknown))
        || matches!(error, rusqlite::Error::SqlInputError { .. })
}

impl LastLook {
    /// What was kept of the last look; `None` where there was none. Nothing is made.
    ///
    /// # Errors
    /// When the state is there and can't be read.
    pub fn of(directory: &Path, task: &str) -> Result<Option<Self>, TaskError> {
        let path = database_in(directory);
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> rusqlite::Result<Option<Self>> {
            let connection = connect(&path)?;
            if table_columns(&connection, "violations")?.is_empty() {
                return Ok(None);
            }
            connection
                .query_row("SELECT looked, count, complete FROM violations WHERE task = ?1", [task], |row| {
                    let (at, count): (i64, i64) = (row.get(0)?, row.get(1)?);
                    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
                    Ok(Self { at, count: u64::try_from(count).unwrap_or(0), complete: row.get(2)? })
                })
                .optional()
        };
        read().map_err(|error| TaskError::Unavailable(format!("{}: {error}", path.display())))
    }
}
