//! Summaries on their way from one database to another, each of which counts once.
//!
//! | step | on disk | after a crash here |
//! |---|---|---|
//! | the unit's items are removed, not committed | - | nothing happened |
//! | the rows are in the outbox, `doubtful` | outbox | the items are still there: the rows go, and are made again |
//! | the unit is committed | database | the items are gone: the rows count |
//! | the rows count (`due`) | outbox | they are sent |
//! | the last row number of the target is noted with those that are sent | outbox | as the next |
//! | they are in the target | target | they are found there behind that number, and not sent again |
//! | they leave the outbox | outbox | done |
//!
//! One case is left: we die between the second and the third step, and the service removes and sums up the same item
//! itself before our next pass. Then it is summed up twice.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::config::Rule;
use super::connection::{For, Opened, blame, quoted};
use crate::tend::TaskError;
use crate::tend::state::{connect, database_in};

/// So many rows are sent in one transaction of the target.
const SENT_AT_ONCE: usize = 500;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS outbox(
    id INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, item TEXT NOT NULL, summary INTEGER NOT NULL,
    columns TEXT NOT NULL, row TEXT NOT NULL, counts INTEGER NOT NULL DEFAULT 0, sent_behind INTEGER);
  CREATE INDEX IF NOT EXISTS outbox_task ON outbox(task, counts);";

/// A row of a summary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) item: String,
    pub(super) summary: usize,
    pub(super) columns: Vec<String>,
    pub(super) row: Vec<Value>,
}

/// A value as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<&Value> for Kept {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(*number),
            // JSON has no infinities.
            Value::Real(number) if !number.is_finite() => Self::Null,
            Value::Real(number) => Self::Real(*number),
            Value::Text(text) => Self::Text(text.clone()),
            Value::Blob(bytes) => Self::Blob(bytes.clone()),
        }
    }
}

impl From<Kept> for Value {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Null => Self::Null,
            Kept::Integer(number) => Self::Integer(number),
            Kept::Real(number) => Self::Real(number),
            Kept::Text(text) => Self::Text(text),
            Kept::Blob(bytes) => Self::Blob(bytes),
        }
    }
}

/// The rows of one task that are on their way.
#[derive(Debug)]
pub(super) struct Outbox {
    connection: Connection,
    task: String,
}

/// A row as it lies in the outbox.
struct Lying {
    id: i64,
    columns: Vec<String>,
    row: Vec<Value>,
}

impl Outbox {
    pub(super) fn open(directory: &Path, task: &str) -> Result<Self, TaskError> {
        let path = database_in(directory);
        let open = || -> rusqlite::Result<Connection> {
            let connection = connect(&path)?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|error| of_ours(&error))?;
        Ok(Self { connection, task: task.to_owned() })
    }

    /// How many rows are on their way.
    pub(super) fn len(&self) -> rusqlite::Result<u64> {
        self.connection.query_row("SELECT count(*) FROM outbox WHERE task = ?1", [&self.task], |row| {
            row.get::<_, i64>(0).map(|count| u64::try_from(count).unwrap_or(0))
        })
    }

    /// Puts rows in whose items are about to go, durably. The answer is their numbers.
    pub(super) fn put(&mut self, made: &[Made]) -> Result<Vec<i64>, TaskError> {
        let mut put = || -> rusqlite::Result<Vec<i64>> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut numbers = Vec::with_capacity(made.len());
            for one in made {
                let row: Vec<Kept> = one.row.iter().map(Kept::from).collect();
                transaction
                    .prepare_cached("INSERT INTO outbox(task, item, summary, columns, row) VALUES(?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![self.task, one.item, number_of(one.summary), json(&one.columns), json(&row)])?;
                numbers.push(transaction.last_insert_rowid());
            }
            transaction.commit()?;
            Ok(numbers)
        };
        put().map_err(|error| of_ours(&error))
    }

    /// Their items are gone.
    pub(super) fn count(&mut self, numbers: &[i64]) -> rusqlite::Result<()> {
        self.each("UPDATE outbox SET counts = 1 WHERE id = ?1", numbers)
    }

    /// Their items are still there.
    pub(super) fn take_back(&mut self, numbers: &[i64]) -> rusqlite::Result<()> {
        self.each("DELETE FROM outbox WHERE id = ?1", numbers)
    }

    fn each(&mut self, statement: &str, numbers: &[i64]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for number in numbers {
            transaction.prepare_cached(statement)?.execute([number])?;
        }
        transaction.commit()
    }

    /// Decides about the rows of a unit that may or may not have been committed: `is_there` tells whether an item is.
    pub(super) fn settle(&mut self, is_there: impl Fn(&str) -> Result<bool, TaskError>) -> Result<(), TaskError> {
        let doubtful: Vec<(i64, String)> = (|| {
            self.connection
                .prepare_cached("SELECT id, item FROM outbox WHERE task = ?1 AND counts = 0")?
                .query_map([&self.task], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()
        })()
        .map_err(|error| of_ours(&error))?;
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for (number, item) in doubtful {
            if is_there(&item)? { there.push(number) } else { gone.push(number) }
        }
        self.count(&gone).and_then(|()| self.take_back(&there)).map_err(|error| of_ours(&error))
    }

    /// Sends what counts; the answer is how many rows.
    pub(super) fn send(&mut self, rule: &Rule) -> Result<u64, TaskError> {
        let mut sent = 0;
        for (summary, to) in rule.summaries.iter().enumerate() {
            loop {
                let lying = self.lying(summary, true).map_err(|error| of_ours(&error))?;
                let lying = match lying {
                    Some(begun) => begun,
                    None => match self.lying(summary, false).map_err(|error| of_ours(&error))? {
                        Some(new) => new,
                        None => break,
                    },
                };
                let mut target = Opened::open(&to.database, For::Writing, None)?;
                let count = lying.1.len() as u64;
                self.send_some(&mut target, &to.table, lying).map_err(|error| blame(&error, &to.database))?;
                sent += count;
            }
        }
        Ok(sent)
    }

    /// Rows of a summary: those whose sending has begun, with the last row number before, or new ones.
    fn lying(&self, summary: usize, begun: bool) -> rusqlite::Result<Option<(Option<i64>, Vec<Lying>)>> {
        let which = if begun { "NOT NULL" } else { "NULL" };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT id, columns, row, sent_behind FROM outbox
             WHERE task = ?1 AND counts = 1 AND summary = ?2 AND sent_behind IS {which} ORDER BY id LIMIT {SENT_AT_ONCE}"
        ))?;
        let mut rows = statement.query(params![self.task, number_of(summary)])?;
        let (mut behind, mut lying) = (None, Vec::new());
        while let Some(row) = rows.next()? {
            let (columns, values): (String, String) = (row.get(1)?, row.get(2)?);
            let kept: Vec<Kept> = serde_json::from_str(&values).map_err(unreadable)?;
            behind = row.get(3)?;
            lying.push(Lying {
                id: row.get(0)?,
                columns: serde_json::from_str(&columns).map_err(unreadable)?,
                row: kept.into_iter().map(Value::from).collect(),
            });
        }
        Ok((!lying.is_empty()).then_some((behind, lying)))
    }

    fn send_some(
        &mut self,
        target: &mut Opened,
        table: &str,
        lying: (Option<i64>, Vec<Lying>),
    ) -> rusqlite::Result<()> {
        let (begun, lying) = lying;
        let numbers: Vec<i64> = lying.iter().map(|one| one.id).collect();
        let transaction = target.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let arrived = match (begun, lying.first()) {
            // They were sent in one transaction: where the first is, all are.
            (Some(behind), Some(first)) => has_arrived(&transaction, table, behind, first)?,
            _ => false,
        };
        if !arrived {
            let last: i64 = transaction.query_row(
                &format!("SELECT coalesce(max(rowid), 0) FROM {}", quoted(table)),
                [],
                |row| row.get(0),
            )?;
            let own = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for number in &numbers {
                own.prepare_cached("UPDATE outbox SET sent_behind = ?2 WHERE id = ?1")?.execute([*number, last])?;
            }
            own.commit()?;
            for one in &lying {
                let columns: Vec<String> = one.columns.iter().map(|column| quoted(column)).collect();
                let marks = vec!["?"; one.row.len()].join(", ");
                transaction
                    .prepare_cached(&format!("INSERT INTO {}({}) VALUES({marks})", quoted(table), columns.join(", ")))?
                    .execute(params_from_iter(&one.row))?;
            }
            transaction.commit()?;
        }
        self.take_back(&numbers)
    }
}

fn has_arrived(target: &Connection, table: &str, behind: i64, one: &Lying) -> rusqlite::Result<bool> {
    let same: Vec<String> = one.columns.iter().map(|column| format!("{} IS ?", quoted(column))).collect();
    let sql = format!("SELECT 1 FROM {} WHERE rowid > {behind} AND {} LIMIT 1", quoted(table), same.join(" AND "));
    Ok(target.query_row(&sql, params_from_iter(&one.row), |_| Ok(())).optional()?.is_some())
}

fn json<T: Serialize>(what: &T) -> String {
    // Strings and numbers: there is nothing in it that could fail.
    serde_json::to_string(what).unwrap_or_default()
}

fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

fn number_of(summary: usize) -> i64 {
    i64::try_from(summary).unwrap_or(i64::MAX)
}

/// Our own state: no item is to blame for it.
fn of_ours(error: &rusqlite::Error) -> TaskError {
    TaskError::Unavailable(format!("the outbox of summaries can't be used: {error}"))
}
