//! One item in a transaction: it goes with all that belongs to it, or stays.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, Statement, ToSql, Transaction, TransactionBehavior};

use super::check::Checked;
use super::config::Rule;
use super::connection::{Opened, blame, quoted};
use super::key::Key;
use super::outbox::Made;
use crate::tend::TaskError;

/// Rows of one look: short enough that a writer beside us hardly waits for its end.
pub(super) const SLICE: usize = 2_000;
/// The times that a statement may name, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) now: i64,
    pub(super) connected_since: i64,
}

/// A transaction in which nobody else writes, of the schema that was checked: another one may have foreign keys or triggers
/// that nobody has thought of.
pub(super) fn begin<'o>(
    opened: &'o mut Opened,
    checked: &Checked,
    database: &Path,
) -> Result<Transaction<'o>, TaskError> {
    let wrong = |error: rusqlite::Error| blame(&error, database);
    let transaction = opened.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrong)?;
    let version: i64 = transaction.pragma_query_value(None, "schema_version", |row| row.get(0)).map_err(wrong)?;
    if version != checked.schema_version {
        let path = database.display();
        return Err(TaskError::Unavailable(format!(
            "{path}: its schema has just changed, the next pass checks it again"
        )));
    }
    Ok(transaction)
}

/// Removes an item with all that belongs to it, in a savepoint: all of it or nothing. The answer is its summaries; `None`
/// where the service has used it since, or removed it.
pub(super) fn remove(
    rule: &Rule,
    checked: &Checked,
    transaction: &mut Transaction<'_>,
    item: &str,
    when: When,
) -> Result<Option<Vec<Made>>, TaskError> {
    let wrong = |error: rusqlite::Error| blame(&error, &rule.database);
    let key = key_of(item)?;
    let savepoint = transaction.savepoint().map_err(wrong)?;
    let due = run(&savepoint, &checked.is_due, when, Some(key.value()), |statement| {
        statement.raw_query().next().map(|row| row.is_some())
    });
    if !due.map_err(wrong)? {
        return Ok(None);
    }
    let mut made = Vec::new();
    for (number, (summary, columns)) in rule.summaries.iter().zip(&checked.columns).enumerate() {
        let rows = run(&savepoint, &summary.select, when, Some(key.value()), |statement| {
            let mut rows = statement.raw_query();
            let mut all: Vec<Vec<Value>> = Vec::new();
            while let Some(row) = rows.next()? {
                all.push((0..columns.len()).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?);
            }
            Ok(all)
        });
        for row in rows.map_err(wrong)? {
            let lacks = |required: &&String| {
                columns.iter().position(|column| column == *required).is_some_and(|at| row[at] == Value::Null)
            };
            if let Some(required) = summary.required.iter().find(lacks) {
                return Err(TaskError::Item(format!(
                    "it can't be summed up for {}: it has no {required}",
                    summary.table
                )));
            }
            made.push(Made { item: item.to_owned(), summary: number, columns: columns.clone(), row });
        }
    }
    let mut last = 0;
    for (table, condition) in &checked.deletes {
        let sql = format!("DELETE FROM {} WHERE {condition}", quoted(table));
        last = run(&savepoint, &sql, when, Some(key.value()), |statement| statement.raw_execute()).map_err(wrong)?;
    }
    if last != 1 {
        return Err(TaskError::Item(format!("{last} rows of {} would have gone, not one", rule.table)));
    }
    savepoint.commit().map_err(wrong)?;
    Ok(Some(made))
}

/// Prepares a statement and binds those of our parameters that it has.
pub(super) fn run<T>(
    connection: &Connection,
    sql: &str,
    when: When,
    key: Option<&dyn ToSql>,
    with: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(SLICE).unwrap_or(i64::MAX);
    let integers = [(":now", when.now), (":connected_since", when.connected_since), (":limit", limit)];
    let numbers = integers.map(|(name, number)| (name, Value::Integer(number)));
    let numbers = numbers.iter().map(|(name, number)| (*name, number as &dyn ToSql));
    let keys = key.into_iter().flat_map(|key| [(":key", key), (":after", key)]);
    for (name, value) in numbers.chain(keys) {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    with(&mut statement)
}

pub(super) fn key_of(item: &str) -> Result<Key, TaskError> {
    Key::parse(item).ok_or_else(|| TaskError::Item(format!("{item:?} is no key")))
}
