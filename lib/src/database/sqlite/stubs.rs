//! Stand-ins for what only the service's own SQLite has: collations, functions, full-text tokenizers.
//!
//! They let SQLite *open* a schema; what depends on their meaning (the order of an index, the words of a full-text
//! index) is not judged with them, and nothing is ever written with them.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;

use super::error::SqliteError;
use super::own::{Asked, open_still};

/// More than this many missing things are not a schema that somebody uses.
const STUBS_MAX: usize = 256;

/// What is missing, by kind and name.
#[derive(Debug, Clone, Default)]
pub(super) struct Stubs {
    collations: Vec<String>,
    functions: Vec<String>,
    tokenizers: Vec<String>,
}

/// What came of the attempt to open the whole schema for a check.
#[derive(Debug)]
pub(super) enum Schema {
    /// It opens with these stand-ins; with none, everything can be judged.
    Opens(Stubs),
    /// It does not open, with this answer of SQLite.
    Closed(rusqlite::Error),
}

impl Stubs {
    pub(super) fn is_empty(&self) -> bool {
        self.collations.is_empty() && self.functions.is_empty() && self.tokenizers.is_empty()
    }

    /// For people and for the manifest.
    pub(super) fn names(&self) -> Vec<String> {
        let named = |kind: &'static str, names: &[String]| {
            names.iter().map(|name| format!("{kind} {name}")).collect::<Vec<_>>()
        };
        let mut all = named("collation", &self.collations);
        all.extend(named("function", &self.functions));
        all.extend(named("tokenizer", &self.tokenizers));
        all
    }

    /// Whether a finding is about a full-text index whose words a stand-in would cut differently.
    pub(super) fn explains(&self, finding: &str) -> bool {
        !self.tokenizers.is_empty() && finding.contains("inverted index for FTS")
    }

    /// Gives the stand-ins to a connection.
    pub(super) fn register(&self, connection: &Connection, copy: &Path) -> Result<(), SqliteError> {
        let register = || -> rusqlite::Result<()> {
            for name in &self.collations {
                connection.create_collation(name.as_str(), |a: &str, b: &str| a.cmp(b))?;
            }
            let flags =
                FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_UTF8;
            for name in &self.functions {
                // NULL: a CHECK that is unknown passes.
                connection.create_scalar_function(name.as_str(), -1, flags, |_| Ok(rusqlite::types::Null))?;
            }
            if !self.tokenizers.is_empty() {
                connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, true)?;
            }
            for name in &self.tokenizers {
                let sql = "SELECT fts3_tokenizer(?1, fts3_tokenizer('simple'))";
                connection.query_row(sql, [name], |_| Ok(()))?;
            }
            Ok(())
        };
        register().asked("stand in for the service's own functions in", copy)
    }
}

/// Finds out by compiling the check what it needs: each missing thing is named in SQLite's answer.
pub(super) fn find(copy: &Path) -> Result<Schema, SqliteError> {
    let mut stubs = Stubs::default();
    for _ in 0..STUBS_MAX {
        let connection = open_still(copy)?;
        stubs.register(&connection, copy)?;
        let Err(error) = connection.prepare("PRAGMA integrity_check") else {
            return Ok(Schema::Opens(stubs));
        };
        let text = error.to_string();
        let named = |prefix: &str| {
            let (_, rest) = text.split_once(prefix)?;
            // rusqlite adds ` in SQL at offset N` lines to some answers.
            Some(rest.split([' ', '\n', '(']).next().unwrap_or(rest).to_owned())
        };
        let (list, name) = if let Some(name) = named("no such collation sequence: ") {
            (&mut stubs.collations, name)
        } else if let Some(name) = named("no such function: ").or_else(|| named("unknown function: ")) {
            (&mut stubs.functions, name)
        } else if let Some(name) = named("unknown tokenizer: ") {
            (&mut stubs.tokenizers, name)
        } else {
            return Ok(Schema::Closed(error));
        };
        if list.contains(&name) {
            // A stand-in that does not help.
            return Ok(Schema::Closed(error));
        }
        list.push(name);
    }
    Ok(Schema::Closed(rusqlite::Error::InvalidQuery))
}
