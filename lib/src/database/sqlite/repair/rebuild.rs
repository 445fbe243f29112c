//! The new database that salvaged rows go into: the original's definitions, as they were written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};

use super::aside::Bound;
use super::corrupt;
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{
    Collation, Encoding, Header, Layout, Object, ObjectKind, Schema, TableShape, Value, text,
};

/// Stand-ins that one definition may need.
const STUBS_MAX: usize = 64;

/// A new database that is being filled.
pub(super) struct Rebuild {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl Rebuild {
    /// An empty one in the form of the original.
    pub(super) fn create(path: &Path, header: &Header, layout: &Layout) -> Result<Self, SqliteError> {
        let connection = open(path)?;
        let encoding = match layout.encoding {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Le => "UTF-16le",
            Encoding::Utf16Be => "UTF-16be",
        };
        let vacuum = match (layout.auto_vacuum, header.incremental_vacuum) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let form = format!(
            "PRAGMA page_size={}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; PRAGMA user_version={}; \
             PRAGMA application_id={}; BEGIN;",
            layout.page_size,
            header.user_version,
            header.application_id.cast_signed()
        );
        connection.execute_batch(&form).asked("set up", path)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// A copy with emptied tables, whose triggers rest.
    pub(super) fn reopen(path: &Path) -> Result<Self, SqliteError> {
        let connection = open(path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).asked("set up", path)?;
        connection.execute_batch("BEGIN").asked("write to", path)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Whether rows can be put into a table that is there: its definition may need what only its service has.
    pub(super) fn can_fill(&self, table: &Object, encoding: Encoding) -> Result<(), SqliteError> {
        let Some(shape) = &table.table_shape else { return Err(corrupt(&self.path, "its columns are not known")) };
        let inserter = Inserter::new(&self.connection, &table.name, shape, encoding);
        inserter.prepare(shape.stored.len()).map(drop).asked("prepare to fill a table of", &self.path)
    }

    pub(super) fn close(self) -> Result<(), SqliteError> {
        self.connection.execute_batch("COMMIT").asked("write to", &self.path)?;
        self.connection.close().map_err(|(_, source)| source).asked("close", &self.path)
    }

    /// Makes a table by its own definition. What it needs of the service's own is stood in for where that changes
    /// nothing about how rows are stored.
    pub(super) fn create_table(&self, object: &Object) -> Result<(), SqliteError> {
        let sql = object.sql.as_deref().unwrap_or_default();
        if let Some(shape) = &object.table_shape
            && shape.key.iter().any(|key| key.collation == Collation::Unknown)
        {
            return Err(corrupt(&self.path, "it is ordered by a collation that only its service has"));
        }
        let is_internal = object.name.starts_with("sqlite_");
        if is_internal && self.exists(&object.name)? {
            return Ok(());
        }
        let writable = |on: bool| self.connection.pragma_update(None, "writable_schema", on);
        for _ in 0..STUBS_MAX {
            if is_internal {
                writable(true).asked("set up", &self.path)?;
            }
            let made = self.connection.execute_batch(sql);
            if is_internal {
                writable(false).asked("set up", &self.path)?;
            }
            let Err(error) = made else { return Ok(()) };
            if !self.stand_in(&error.to_string()).asked("stand in for a function in", &self.path)? {
                return Err(error).asked("make a table in", &self.path);
            }
        }
        Err(corrupt(&self.path, "it needs too much that only its service has"))
    }

    fn exists(&self, name: &str) -> Result<bool, SqliteError> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
        let count: i64 = self.connection.query_row(sql, [name], |row| row.get(0)).asked("look into", &self.path)?;
        Ok(count > 0)
    }

    /// Whether the error names something that can be stood in for, and was.
    fn stand_in(&self, error: &str) -> rusqlite::Result<bool> {
        let named = |prefix: &str| {
            let (_, rest) = error.split_once(prefix)?;
            Some(rest.split([' ', '\n', '(']).next().unwrap_or(rest).to_owned())
        };
        if let Some(name) = named("no such collation sequence: ") {
            self.connection.create_collation(name.as_str(), |a: &str, b: &str| a.cmp(b))?;
            return Ok(true);
        }
        let Some(name) = named("no such function: ").or_else(|| named("unknown function: ")) else {
            return Ok(false);
        };
        let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_UTF8;
        // NULL: a CHECK that is unknown passes.
        self.connection.create_scalar_function(name.as_str(), -1, flags, |_| Ok(rusqlite::types::Null))?;
        Ok(true)
    }

    /// Runs statements of our own.
    pub(super) fn run(&self, sql: &str) -> Result<(), SqliteError> {
        self.connection.execute_batch(sql).asked("write to", &self.path)
    }

    /// Makes everything but the tables, without a stand-in for anything. The answer is what can't be made, and why.
    pub(super) fn finish(self, schema: &Schema) -> Result<BTreeMap<String, String>, SqliteError> {
        let path = self.path;
        self.connection.execute_batch("COMMIT").asked("write to", &path)?;
        self.connection.close().map_err(|(_, source)| source).asked("close", &path)?;
        let connection = open(&path)?;
        let mut failed = BTreeMap::new();
        for index in schema.objects.iter().filter(|object| object.kind == ObjectKind::Index) {
            let Some(sql) = &index.sql else { continue };
            let made = connection.execute_batch(sql);
            if let Err(error) = made
                && !error.to_string().contains("already exists")
            {
                failed.insert(index.name.clone(), error.to_string());
            }
        }
        let others: Vec<&Object> = schema.objects.iter().filter(|object| verbatim(object.kind).is_some()).collect();
        let write = |objects: &[&Object]| write_verbatim(&connection, objects).asked("write definitions to", &path);
        let usable = fault(&path).is_none();
        write(&others)?;
        if usable && fault(&path).is_some() {
            // One of them makes all of the schema unreadable: those that don't are kept.
            remove_verbatim(&connection, &others).asked("write definitions to", &path)?;
            for object in others {
                write(&[object])?;
                if let Some(fault) = fault(&path) {
                    remove_verbatim(&connection, &[object]).asked("write definitions to", &path)?;
                    failed.insert(object.name.clone(), fault);
                }
            }
        }
        connection.close().map_err(|(_, source)| source).asked("close", &path)?;
        Ok(failed)
    }
}

/// What the schema calls an object that has no b-tree of its own.
fn verbatim(kind: ObjectKind) -> Option<&'static str> {
    match kind {
        ObjectKind::VirtualTable => Some("table"),
        ObjectKind::View => Some("view"),
        ObjectKind::Trigger => Some("trigger"),
        ObjectKind::Table | ObjectKind::Index => None,
    }
}

fn write_verbatim(connection: &Connection, objects: &[&Object]) -> rusqlite::Result<()> {
    connection.pragma_update(None, "writable_schema", true)?;
    connection.execute_batch("BEGIN")?;
    for object in objects {
        connection.execute(
            "INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql) VALUES(?1, ?2, ?3, 0, ?4)",
            (verbatim(object.kind), &object.name, &object.table, &object.sql),
        )?;
    }
    connection.execute_batch("COMMIT")
}

fn remove_verbatim(connection: &Connection, objects: &[&Object]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    for object in objects {
        connection.execute(
            "DELETE FROM sqlite_schema WHERE type = ?1 AND name = ?2 AND rootpage = 0",
            (verbatim(object.kind), &object.name),
        )?;
    }
    connection.execute_batch("COMMIT")
}

/// What a connection that comes now says of the schema, if it can't use it.
fn fault(path: &Path) -> Option<String> {
    let look = |connection: Connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    match open(path) {
        Ok(connection) => look(connection).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

pub(super) fn open(path: &Path) -> Result<Connection, SqliteError> {
    let connection = Connection::open(path).asked("open", path)?;
    let set = || -> rusqlite::Result<()> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
        // As the service's own SQLite may have taken it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
        connection.execute_batch(
            "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-32768; \
             PRAGMA threads=2;",
        )
    };
    set().asked("set up", path)?;
    Ok(connection)
}

/// Puts rows into one table.
pub(super) struct Inserter<'c, 's> {
    connection: &'c Connection,
    name: String,
    shape: &'s TableShape,
    rowid: Option<&'static str>,
    encoding: Encoding,
    /// By the number of fields that the row has: the others get their default.
    statements: Vec<Option<Statement<'c>>>,
    /// Rows that had another value in a generated column than it is given now.
    pub(super) recomputed: u64,
}

impl<'c, 's> Inserter<'c, 's> {
    pub(super) fn new(connection: &'c Connection, name: &str, shape: &'s TableShape, encoding: Encoding) -> Self {
        let is_free = |word: &&&str| !shape.columns.iter().any(|column| column.name.eq_ignore_ascii_case(word));
        let rowid = ["rowid", "_rowid_", "oid"].iter().find(is_free).copied().filter(|_| !shape.without_rowid);
        let statements = (0..=shape.stored.len()).map(|_| None).collect();
        Self { connection, name: name.to_owned(), shape, rowid, encoding, statements, recomputed: 0 }
    }

    /// The fields that are written: all but the rowid's other name and what is generated.
    fn written(&self, fields: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let stored = self.shape.stored.iter().copied().enumerate().take(fields);
        stored.filter(|(_, column)| {
            self.shape.rowid_alias != Some(*column)
                && self.shape.columns.get(*column).is_some_and(|column| !column.is_generated)
        })
    }

    /// The fields of columns that are generated and stored: they are computed anew.
    fn computed(&self, fields: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let stored = self.shape.stored.iter().copied().enumerate().take(fields);
        stored.filter(|(_, column)| self.shape.columns.get(*column).is_some_and(|column| column.is_generated))
    }

    fn prepare(&self, fields: usize) -> rusqlite::Result<Statement<'c>> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let column = |column: usize| self.shape.columns.get(column).map_or(String::new(), |c| quoted(&c.name));
        let mut names: Vec<String> = self.written(fields).map(|(_, index)| column(index)).collect();
        match (self.shape.rowid_alias, self.rowid) {
            (Some(alias), _) => names.push(column(alias)),
            (None, Some(rowid)) => names.push(rowid.to_owned()),
            (None, None) => {}
        }
        let places = vec!["?"; names.len()].join(",");
        let computed: Vec<String> = self.computed(fields).map(|(_, index)| column(index)).collect();
        let returning = if computed.is_empty() { "" } else { " RETURNING " };
        self.connection.prepare(&format!(
            "INSERT INTO {}({}) VALUES({places}){returning}{}",
            quoted(&self.name),
            names.join(","),
            computed.join(",")
        ))
    }

    /// Puts one row.
    pub(super) fn put(&mut self, rowid: i64, values: &[Value<'_>]) -> rusqlite::Result<()> {
        let fields = values.len().min(self.shape.stored.len());
        if self.statements[fields].is_none() {
            self.statements[fields] = Some(self.prepare(fields)?);
        }
        let written: Vec<usize> = self.written(fields).map(|(place, _)| place).collect();
        let computed: Vec<usize> = self.computed(fields).map(|(place, _)| place).collect();
        let has_rowid = self.shape.rowid_alias.is_some() || self.rowid.is_some();
        let Some(statement) = &mut self.statements[fields] else { return Ok(()) };
        for (at, place) in written.iter().enumerate() {
            statement.raw_bind_parameter(at + 1, Bound(values[*place], self.encoding))?;
        }
        if has_rowid {
            statement.raw_bind_parameter(written.len() + 1, rowid)?;
        }
        if computed.is_empty() {
            return statement.raw_execute().map(drop);
        }
        let (mut rows, mut differs) = (statement.raw_query(), false);
        while let Some(row) = rows.next()? {
            for (at, place) in computed.iter().enumerate() {
                differs |= !is_same(row.get_ref(at)?, values[*place], self.encoding);
            }
        }
        self.recomputed += u64::from(differs);
        Ok(())
    }
}

/// A real that is whole may be stored as an integer.
fn is_same(now: ValueRef<'_>, stored: Value<'_>, encoding: Encoding) -> bool {
    match (now, stored) {
        (ValueRef::Null, Value::Null) => true,
        (ValueRef::Integer(now), Value::Integer(stored)) => now == stored,
        (ValueRef::Real(now), Value::Real(stored)) => now.to_bits() == stored.to_bits(),
        (ValueRef::Real(now), Value::Integer(stored)) => now.to_bits() == (stored as f64).to_bits(),
        (ValueRef::Text(now), Value::Text(stored)) if encoding == Encoding::Utf8 => now == stored,
        (ValueRef::Text(now), Value::Text(stored)) => now == text(stored, encoding).as_bytes(),
        (ValueRef::Blob(now), Value::Blob(stored)) => now == stored,
        _ => false,
    }
}
