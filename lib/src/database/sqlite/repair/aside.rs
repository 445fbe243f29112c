//! What could be read and fits nowhere: a database with one table, beside the preserved original.

use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};

use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Encoding, Value, text};

/// Columns of the table at the beginning.
const COLUMNS: usize = 8;
/// SQLite's own bound for a table, less our five.
const COLUMNS_MAX: usize = 1900;

/// Where a row was.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The table, where it is known.
    pub(super) table: Option<&'a str>,
    pub(super) page: u32,
    pub(super) rowid: i64,
}

/// The database; made with the first row.
pub(super) struct Aside {
    path: PathBuf,
    connection: Option<Connection>,
    columns: usize,
    encoding: Encoding,
}

/// A value as it is bound: text is UTF-8 for SQLite's interface.
pub(super) struct Bound<'a>(pub(super) Value<'a>, pub(super) Encoding);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Integer(integer) => ToSqlOutput::Borrowed(ValueRef::Integer(integer)),
            Value::Real(real) => ToSqlOutput::Borrowed(ValueRef::Real(real)),
            Value::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            // The bytes as they are, whether or not they are UTF-8.
            Value::Text(bytes) if self.1 == Encoding::Utf8 => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Value::Text(bytes) => ToSqlOutput::Owned(rusqlite::types::Value::Text(text(bytes, self.1))),
        })
    }
}

impl Aside {
    pub(super) fn new(path: &Path, encoding: Encoding) -> Self {
        Self { path: path.to_owned(), connection: None, columns: COLUMNS, encoding }
    }

    /// The one that was finished before, to go on with.
    pub(super) fn again(path: &Path, encoding: Encoding) -> Result<Self, SqliteError> {
        let connection = Connection::open(path).asked("open", path)?;
        connection.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;").asked("set up", path)?;
        let sql = "SELECT count(*) - 5 FROM pragma_table_info('lost_and_found')";
        let columns: i64 = connection.query_row(sql, [], |row| row.get(0)).asked("look into", path)?;
        let columns = usize::try_from(columns).unwrap_or_default();
        Ok(Self { path: path.to_owned(), connection: Some(connection), columns, encoding })
    }

    /// Puts a row aside, with the reason.
    pub(super) fn put(&mut self, origin: Origin<'_>, reason: &str, values: &[Value<'_>]) -> Result<(), SqliteError> {
        let path = self.path.clone();
        self.put_row(origin, reason, values).asked("set a row aside in", &path)
    }

    fn put_row(&mut self, origin: Origin<'_>, reason: &str, values: &[Value<'_>]) -> rusqlite::Result<()> {
        let fresh = self.connection.is_none();
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.path)?,
        };
        let connection = self.connection.insert(connection);
        if fresh {
            let columns: Vec<String> = (0..COLUMNS).map(|column| format!("c{column}")).collect();
            connection.execute_batch(&format!(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE lost_and_found(\
                 origin TEXT, page INTEGER, row INTEGER, reason TEXT, fields INTEGER, {}); BEGIN;",
                columns.join(", ")
            ))?;
        }
        let kept = values.len().min(COLUMNS_MAX);
        while self.columns < kept {
            connection.execute_batch(&format!("ALTER TABLE lost_and_found ADD COLUMN c{}", self.columns))?;
            self.columns += 1;
        }
        let places = vec!["?"; 5 + kept].join(",");
        let names: String = (0..kept).map(|column| format!(",c{column}")).collect();
        let sql = format!("INSERT INTO lost_and_found(origin,page,row,reason,fields{names}) VALUES({places})");
        let mut statement = connection.prepare(&sql)?;
        statement.raw_bind_parameter(1, origin.table)?;
        statement.raw_bind_parameter(2, origin.page)?;
        statement.raw_bind_parameter(3, origin.rowid)?;
        statement.raw_bind_parameter(4, reason)?;
        statement.raw_bind_parameter(5, i64::try_from(values.len()).unwrap_or(i64::MAX))?;
        for (place, value) in values.iter().take(kept).enumerate() {
            statement.raw_bind_parameter(6 + place, Bound(*value, self.encoding))?;
        }
        statement.raw_execute().map(drop)
    }

    /// The finished database; `None` where nothing was put aside.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>, SqliteError> {
        let Some(connection) = self.connection.take() else { return Ok(None) };
        connection.execute_batch("COMMIT").asked("finish", &self.path)?;
        connection.close().map_err(|(_, source)| source).asked("close", &self.path)?;
        Ok(Some(self.path))
    }
}
