//! What works, and could do so much better.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::connection::quoted;
use super::enforcement::Enforcement;
use super::references::{Reference, plan};

/// Below so many rows a table is looked through about as fast as an index.
const SMALL: i64 = 1_000;

/// Something that works, and could do so much better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What.
    pub what: String,
    /// The statement that would do it. It is for a person to run: svckit changes no schema.
    pub statement: Option<String>,
}

/// Tables that would be looked through for each item.
pub(super) fn advice(
    db: &Connection,
    deletes: &[(String, String)],
    references: &[Reference],
    enforcement: &Enforcement,
) -> rusqlite::Result<Vec<Advice>> {
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    for (table, condition) in deletes {
        if scans(db, table, condition)? {
            let column = condition.split_whitespace().next().unwrap_or_default().trim_matches(['"', '`', '(']);
            wanted.insert((table.clone(), column.to_owned()));
        }
    }
    // Whoever enforces foreign keys looks for what refers to a row that goes.
    for reference in references.iter().filter(|reference| reference.is_to_what_goes(deletes)) {
        let (from, _) = &reference.columns[0];
        if scans(db, &reference.child, &format!("{} = 1", quoted(from)))? {
            wanted.insert((reference.child.clone(), from.clone()));
        }
    }
    let indices = wanted.into_iter().map(|(table, column)| {
        let name = quoted(&format!("{table}_{column}_idx"));
        Advice {
            what: format!("{table} has no index on {column}: it is looked through for each item"),
            statement: Some(format!("CREATE INDEX {name} ON {}({})", quoted(&table), quoted(&column))),
        }
    });
    let mut all: Vec<Advice> = indices.collect();
    if let Enforcement::Sqlite { slow } = enforcement {
        for (child, what) in slow {
            if is_large(db, child)? {
                all.push(Advice { what: what.clone(), statement: None });
            }
        }
    }
    Ok(all)
}

fn is_large(db: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {SMALL})", quoted(table));
    let rows: i64 = db.query_row(&sql, [], |row| row.get(0))?;
    Ok(rows >= SMALL)
}

fn scans(db: &Connection, table: &str, condition: &str) -> rusqlite::Result<bool> {
    let plan = plan(db, &format!("SELECT 1 FROM {} WHERE {condition}", quoted(table)))?;
    Ok(is_large(db, table)? && plan.iter().any(|step| step.starts_with(&format!("SCAN {table}"))))
}
