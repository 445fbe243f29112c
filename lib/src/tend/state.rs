//! What is remembered of a task across passes and runs, in a SQLite database of our own.
//!
//! What can't be written stays in memory and is written the next time: a full disk ends no loop. What a person changes
//! beside us (a release from quarantine) is read again at each pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::remembered::{Counters, Failing, StateError, Times};
use super::retry::Backoff;
use crate::world::disk::create_private_dir;

/// How long we wait for somebody else who writes into our own state.
const BUSY: Duration = Duration::from_secs(5);
/// What is kept of a reason.
const REASON_CHARS_MAX: usize = 500;

/// What is remembered of one task.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    task: String,
    connection: Option<Connection>,
    /// What is to be known also while the disk can't tell.
    pub(super) times: Times,
    pub(super) counters: Counters,
    pub(super) cursor: Option<String>,
    pub(super) last_error: Option<String>,
    failing: BTreeMap<String, Failing>,
    /// Whether something of the above is not on disk.
    unsaved: bool,
    /// Items whose record changed and is not on disk.
    unsaved_items: BTreeSet<String>,
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS task(
    name TEXT PRIMARY KEY, cursor TEXT, last_error TEXT,
    start INTEGER, end INTEGER, success INTEGER, progress INTEGER,
    passes INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, panics INTEGER NOT NULL,
    passes_failed INTEGER NOT NULL, passes_deferred INTEGER NOT NULL, passes_abandoned INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS item(
    task TEXT NOT NULL, item TEXT NOT NULL, failures INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER,
    reason TEXT NOT NULL, PRIMARY KEY(task, item)) WITHOUT ROWID;";

/// The database in a directory.
#[must_use]
pub(super) fn database_in(directory: &Path) -> PathBuf {
    directory.join("tend.db")
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // One sync for each commit: the outbox relies on it.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

impl State {
    /// Opens the state of a task in this directory, which is made where it is not there.
    ///
    /// # Errors
    /// When the directory or the database can't be made or read.
    pub fn open(directory: &Path, task: &str) -> Result<Self, StateError> {
        create_private_dir(directory)?;
        let path = database_in(directory);
        let mut state = Self::blank(path.clone(), task.to_owned());
        let loaded = state.load().or_else(|error| {
            if !is_beyond_use(&error) {
                return Err(error);
            }
            // Loops go on from nothing; what it held is kept for a person to look at.
            tracing::error!(path = %path.display(), %error, "the state is damaged: it is put aside, and begun anew");
            put_aside(&path)?;
            state.load()
        });
        loaded.map_err(|source| StateError::Database { path, source })?;
        Ok(state)
    }

    /// Nothing is known yet.
    fn blank(path: PathBuf, task: String) -> Self {
        Self {
            path,
            task,
            connection: None,
            times: Times::default(),
            counters: Counters::default(),
            cursor: None,
            last_error: None,
            failing: BTreeMap::new(),
            unsaved: false,
            unsaved_items: BTreeSet::new(),
        }
    }

    /// The task's name.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Its times.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times
    }

    /// Its sums.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Why the last pass that failed did so; gone with the first that did not.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The items that failed and are not done.
    pub fn failing(&self) -> impl Iterator<Item = &Failing> {
        self.failing.values()
    }

    /// Whether an item is to be left alone at `now`.
    #[must_use]
    pub fn is_held(&self, item: &str, now: Timestamp) -> bool {
        self.failing.get(item).is_some_and(|failing| failing.is_held(now))
    }

    /// Reads what is on disk, over what is in memory, unless that has not been written yet.
    fn load(&mut self) -> rusqlite::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        if !self.unsaved {
            self.read(&connection)?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn read(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let task = connection
            .prepare_cached(
                "SELECT cursor, last_error, start, end, success, progress, passes, done, failed, panics,
                 passes_failed, passes_deferred, passes_abandoned FROM task WHERE name = ?1",
            )?
            .query_row([&self.task], |row| {
                let times =
                    Times { start: time(row, 2)?, end: time(row, 3)?, success: time(row, 4)?, progress: time(row, 5)? };
                let counters = Counters {
                    passes: sum(row, 6)?,
                    done: sum(row, 7)?,
                    failed: sum(row, 8)?,
                    panics: sum(row, 9)?,
                    passes_failed: sum(row, 10)?,
                    passes_deferred: sum(row, 11)?,
                    passes_abandoned: sum(row, 12)?,
                };
                Ok((row.get(0)?, row.get(1)?, times, counters))
            })
            .optional()?;
        if let Some((cursor, last_error, times, counters)) = task {
            (self.cursor, self.last_error, self.times, self.counters) = (cursor, last_error, times, counters);
        }
        self.failing = read_failing(connection, &self.task)?.into_iter().map(|one| (one.item.clone(), one)).collect();
        Ok(())
    }

    /// Reads again what a person may have changed. What can't be read now is as it was.
    pub(super) fn refresh(&mut self) {
        if let Err(error) = self.load() {
            tracing::warn!(task = self.task, path = %self.path.display(), %error, "the state can't be read: it is kept in memory");
        }
    }

    /// An item failed; the answer is when it is tried again, `None` for never.
    pub(super) fn failed(&mut self, item: &str, reason: &str, now: Timestamp, backoff: &Backoff) -> Option<Timestamp> {
        let before = self.failing.get(item);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let first = before.map_or(now, |before| before.first);
        let pause = backoff.pause(item, failures);
        let next = pause.map(|pause| now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        self.failing.insert(item.to_owned(), Failing { item: item.to_owned(), failures, first, next, reason });
        self.touch(item);
        next
    }

    /// An item is done, or is not due any more: nothing of it is remembered.
    pub(super) fn forget(&mut self, item: &str) {
        if self.failing.remove(item).is_some() {
            self.touch(item);
        }
    }

    /// The clock was set back: what happened later than `now` is taken to have happened now, and what was to be tried again
    /// by the former clock is by this one.
    pub(super) fn set_back(&mut self, now: Timestamp, backoff: &Backoff) {
        let Times { start, end, success, progress } = &mut self.times;
        for time in [start, end, success, progress].into_iter().flatten() {
            *time = (*time).min(now);
        }
        let mut moved = Vec::new();
        for one in self.failing.values_mut() {
            let pause = backoff.pause(&one.item, one.failures).unwrap_or_default();
            let latest = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
            let corrected = (one.first.min(now), one.next.map(|next| next.min(latest)));
            if corrected != (one.first, one.next) {
                (one.first, one.next) = corrected;
                moved.push(one.item.clone());
            }
        }
        self.unsaved_items.extend(moved);
        self.save();
    }

    fn touch(&mut self, item: &str) {
        self.unsaved_items.insert(item.to_owned());
        self.unsaved = true;
    }

    /// Writes what changed. What can't be written now is written the next time.
    pub(super) fn save(&mut self) {
        self.unsaved = true;
        if let Err(error) = self.write() {
            tracing::warn!(task = self.task, path = %self.path.display(), %error, "the state can't be written: it is kept in memory");
            // A connection that once met a full disk or a replaced file is not asked again.
            self.connection = None;
        }
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for item in &self.unsaved_items {
            match self.failing.get(item) {
                Some(one) => transaction
                    .prepare_cached("INSERT OR REPLACE INTO item VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![self.task, item, one.failures, ms(one.first), one.next.map(ms), one.reason])?,
                None => transaction
                    .prepare_cached("DELETE FROM item WHERE task = ?1 AND item = ?2")?
                    .execute(params![self.task, item])?,
            };
        }
        let (times, sums) = (&self.times, &self.counters);
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO task VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                self.task,
                self.cursor,
                self.last_error,
                times.start.map(ms),
                times.end.map(ms),
                times.success.map(ms),
                times.progress.map(ms),
                of(sums.passes),
                of(sums.done),
                of(sums.failed),
                of(sums.panics),
                of(sums.passes_failed),
                of(sums.passes_deferred),
                of(sums.passes_abandoned),
            ])?;
        transaction.commit()?;
        self.unsaved = false;
        self.unsaved_items.clear();
        self.connection = Some(connection);
        Ok(())
    }

    /// Reads the states of all tasks of a directory, without changing or making anything; empty where there is none yet.
    ///
    /// # Errors
    /// When the database is there and can't be read.
    pub fn all(directory: &Path) -> Result<Vec<Self>, StateError> {
        let path = database_in(directory);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let wrong = |source| StateError::Database { path: path.clone(), source };
        let read = || -> rusqlite::Result<Vec<Self>> {
            // Readers of a log need to write its index: where they may not, nothing is read.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY)?;
            let names: Vec<String> = connection
                .prepare("SELECT name FROM task ORDER BY name")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut states = Vec::new();
            for task in names {
                let mut state = Self::blank(path.clone(), task);
                state.read(&connection)?;
                states.push(state);
            }
            Ok(states)
        };
        read().map_err(wrong)
    }

    /// Has an item in quarantine tried once more, at the next pass.
    ///
    /// # Errors
    /// When it is not in quarantine, or the state can't be written.
    pub fn release(directory: &Path, task: &str, item: &str) -> Result<(), StateError> {
        Self::change(directory, task, item, "UPDATE item SET next = 0 WHERE task = ?1 AND item = ?2 AND next IS NULL")
    }

    /// Forgets an item in quarantine. Where it is still due, it is met as if for the first time.
    ///
    /// # Errors
    /// When it is not in quarantine, or the state can't be written.
    pub fn drop_item(directory: &Path, task: &str, item: &str) -> Result<(), StateError> {
        Self::change(directory, task, item, "DELETE FROM item WHERE task = ?1 AND item = ?2 AND next IS NULL")
    }

    /// A pass was given up and did not even end: its worker can't say so itself.
    pub(super) fn note_abandoned(directory: &Path, task: &str) {
        let path = database_in(directory);
        let noted = connect(&path).and_then(|connection| {
            let why = "the pass is stuck: it was given up, and does not end";
            connection.execute(
                "UPDATE task SET passes_abandoned = passes_abandoned + 1, last_error = ?2 WHERE name = ?1",
                params![task, why],
            )
        });
        if let Err(error) = noted {
            tracing::warn!(task, path = %path.display(), %error, "the state can't be written");
        }
    }

    fn change(directory: &Path, task: &str, item: &str, statement: &str) -> Result<(), StateError> {
        let path = database_in(directory);
        let not_there = || StateError::NotThere { task: task.to_owned(), item: item.to_owned() };
        if !path.exists() {
            return Err(not_there());
        }
        let changed = connect(&path).and_then(|connection| connection.execute(statement, params![task, item]));
        match changed.map_err(|source| StateError::Database { path, source })? {
            0 => Err(not_there()),
            _ => Ok(()),
        }
    }
}

fn is_beyond_use(error: &rusqlite::Error) -> bool {
    let codes = [rusqlite::ErrorCode::NotADatabase, rusqlite::ErrorCode::DatabaseCorrupt];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// The database with what lies beside it, under names of this second.
fn put_aside(path: &Path) -> rusqlite::Result<()> {
    let now = crate::world::clock::now_compact();
    for side in ["-wal", "-shm", ""] {
        let of = |suffix: String| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        match std::fs::rename(of(side.to_owned()), of(format!(".damaged-{now}{side}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_failing(connection: &Connection, task: &str) -> rusqlite::Result<Vec<Failing>> {
    let mut statement = connection
        .prepare_cached("SELECT item, failures, first, next, reason FROM item WHERE task = ?1 ORDER BY item")?;
    let rows = statement.query_map([task], |row| {
        Ok(Failing {
            item: row.get(0)?,
            failures: row.get(1)?,
            first: time(row, 2)?.unwrap_or_default(),
            next: time(row, 3)?,
            reason: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// Milliseconds since the epoch.
fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

fn time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let value: Option<i64> = row.get(column)?;
    Ok(value.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}

fn sum(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    Ok(u64::try_from(value).unwrap_or(0))
}

fn of(sum: u64) -> i64 {
    i64::try_from(sum).unwrap_or(i64::MAX)
}
