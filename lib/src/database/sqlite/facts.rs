//! What a database holds, to be recorded with its backup and compared after a restore.

use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::SqliteError;
use super::header::{Identity, JournalMode};
use super::own::Asked;

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// In bytes.
    pub page_size: u32,
    /// Pages of the file.
    pub page_count: u64,
    /// `UTF-8`, `UTF-16le` or `UTF-16be`.
    pub encoding: String,
    /// The kind of its journal.
    pub journal_mode: JournalMode,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// SHA-256 over type, name and SQL of every schema object, in the order of type and name.
    pub schema_sha256: String,
    /// The schema's objects, in the same order.
    pub objects: Vec<SchemaObject>,
    /// Rows per table, those of virtual tables excepted: their shadow tables have them.
    pub tables: Vec<TableRows>,
    /// What of the service's own the checks had to do without: `collation icu_root`, `tokenizer collating`, ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// What svckit's own reader remarked, and SQLite does not call damage: the database itself had it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Rows whose foreign key has no parent; no damage, but a service's matter. `None`: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_key_violations: Option<u64>,
}

/// One object of the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaObject {
    /// `table`, `index`, `trigger`, `view`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRows {
    /// The table.
    pub name: String,
    /// How many.
    pub rows: u64,
}

/// Everything but the rows.
pub(super) fn read(connection: &Connection, copy: &Path, identity: &Identity) -> Result<DatabaseFacts, SqliteError> {
    let encoding = connection.query_row("PRAGMA encoding", [], |row| row.get(0)).asked("read the encoding of", copy)?;
    let mut hash = Sha256::new();
    let mut objects = Vec::new();
    let mut read = || -> rusqlite::Result<()> {
        let mut statement =
            connection.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut columns = [const { String::new() }; 3];
            for (index, text) in columns.iter_mut().enumerate() {
                let bytes = bytes_of(row.get_ref(index)?);
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
                *text = String::from_utf8_lossy(bytes).into_owned();
            }
            let [kind, name, _] = columns;
            objects.push(SchemaObject { kind, name });
        }
        Ok(())
    };
    read().asked("read the schema of", copy)?;
    Ok(DatabaseFacts {
        page_size: identity.page_size,
        page_count: identity.bytes / u64::from(identity.page_size),
        encoding,
        journal_mode: identity.journal_mode,
        user_version: identity.user_version,
        application_id: identity.application_id,
        schema_sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        objects,
        tables: Vec::new(),
        without: Vec::new(),
        remarks: Vec::new(),
        foreign_key_violations: None,
    })
}

/// The tables as SQL identifiers can name them: those that have pages of their own, and the virtual ones.
pub(super) fn tables(connection: &Connection, copy: &Path) -> Result<(Vec<String>, Vec<String>), SqliteError> {
    let read = || -> rusqlite::Result<_> {
        let sql = "SELECT name, rootpage > 0 FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let (mut ordinary, mut without_pages) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let name = String::from_utf8_lossy(bytes_of(row.get_ref(0)?)).into_owned();
            // A root that is no number is none of a table that could be asked about.
            let has_pages = row.get::<_, Option<bool>>(1)?.unwrap_or(false);
            (if has_pages { &mut ordinary } else { &mut without_pages }).push(name);
        }
        Ok((ordinary, without_pages))
    };
    read().asked("list the tables of", copy)
}

fn bytes_of(value: rusqlite::types::ValueRef<'_>) -> &[u8] {
    match value {
        rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => bytes,
        _ => b"",
    }
}
