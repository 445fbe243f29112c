//! One row of the backup after the other, against the salvaged table.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Statement};

use super::doubt::Doubt;
use super::witness::{Witness, Word};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Encoding, Object, TableShape, Value};
use crate::database::sqlite::repair::aside::{Aside, Bound, Origin};
use crate::database::sqlite::repair::rebuild::Inserter;

/// What came of one table.
#[derive(Debug, Default, Clone)]
pub(super) struct Filled {
    /// Rows of the backup for which the database had none any more.
    pub(super) rows: u64,
    /// Of all rows of the backup that were taken, those that whole indices have in every column.
    pub(super) proved: u64,
    /// Rows in doubt in whose place the backup's are.
    pub(super) replaced: u64,
    /// Rows in doubt that the indices confirm, in every column.
    pub(super) confirmed: u64,
    /// Rows in doubt are left, of which nothing is known.
    pub(super) doubt_left: bool,
    /// Rows in doubt that differ, and nothing decides.
    pub(super) undecided: u64,
    /// Rows that a whole index says were deleted since.
    pub(super) deleted: u64,
    /// Rows that break a constraint: they are set aside.
    pub(super) refused: u64,
    /// Whether a whole index says which rows there were.
    pub(super) existence_known: bool,
    /// Why nothing was taken at all.
    pub(super) left_out: Option<String>,
}

/// Fills one table.
pub(super) struct Filler<'c, 's> {
    connection: &'c Connection,
    name: &'s str,
    shape: &'s TableShape,
    doubt: &'s Doubt,
    witnesses: &'s [Witness],
    encoding: Encoding,
    inserter: Inserter<'c, 's>,
    /// By the number of fields.
    lookups: HashMap<usize, Statement<'c>>,
    proves: bool,
    /// Rows in doubt of which nothing is known yet.
    open: HashSet<i64>,
    filled: Filled,
}

impl<'c, 's> Filler<'c, 's> {
    pub(super) fn new(
        connection: &'c Connection,
        table: &'s Object,
        shape: &'s TableShape,
        doubt: &'s Doubt,
        witnesses: &'s [Witness],
        encoding: Encoding,
    ) -> Self {
        let existence_known = Witness::existed(witnesses, 0).is_some();
        Self {
            connection,
            name: &table.name,
            shape,
            doubt,
            witnesses,
            encoding,
            inserter: Inserter::new(connection, &table.name, shape, encoding),
            lookups: HashMap::new(),
            proves: Witness::have_all_columns(witnesses, shape),
            open: doubt.rows().clone(),
            filled: Filled { existence_known, ..Filled::default() },
        }
    }

    pub(super) fn finish(self) -> Filled {
        Filled { doubt_left: !self.open.is_empty() || self.doubt.everywhere || self.doubt.more, ..self.filled }
    }

    fn confirm(&mut self, rowid: i64) {
        // In a column that no index has, it may be damaged, or that of an older page, all the same.
        self.filled.confirmed += u64::from(self.proves && self.open.remove(&rowid));
    }

    /// Decides about one row of the backup.
    pub(super) fn row(
        &mut self,
        page: u32,
        rowid: i64,
        values: &[Value<'_>],
        aside: &mut Aside,
    ) -> Result<(), SqliteError> {
        let (missing, wrong) = (self.doubt.may_be_missing(rowid), self.doubt.may_be_wrong(rowid));
        if !missing && !wrong {
            return Ok(());
        }
        let origin = Origin { table: Some(self.name), page, rowid };
        let action = "compare with the backup rows of";
        let path = std::path::Path::new(self.name);
        match self.look_up(rowid, values).asked(action, path)? {
            Some(true) => {
                if wrong && Witness::ask(self.witnesses, self.shape, rowid, values) == Word::Same {
                    self.confirm(rowid);
                }
                Ok(())
            }
            Some(false) if wrong => self.differing(origin, rowid, values, aside),
            Some(false) => Ok(()),
            None if !missing => Ok(()),
            None => self.missing(origin, rowid, values, aside),
        }
    }

    fn missing(
        &mut self,
        origin: Origin<'_>,
        rowid: i64,
        values: &[Value<'_>],
        aside: &mut Aside,
    ) -> Result<(), SqliteError> {
        if Witness::existed(self.witnesses, rowid) == Some(false) {
            self.filled.deleted += 1;
            return Ok(());
        }
        match self.inserter.put(rowid, values) {
            Ok(()) => {
                self.filled.rows += 1;
                self.open.remove(&rowid);
                self.prove(rowid, values);
                Ok(())
            }
            Err(error) => {
                self.filled.refused += 1;
                aside.put(origin, &format!("of the backup, and it does not fit: {error}"), values)
            }
        }
    }

    fn prove(&mut self, rowid: i64, values: &[Value<'_>]) {
        let same = || Witness::ask(self.witnesses, self.shape, rowid, values) == Word::Same;
        self.filled.proved += u64::from(self.proves && same());
    }

    fn differing(
        &mut self,
        origin: Origin<'_>,
        rowid: i64,
        values: &[Value<'_>],
        aside: &mut Aside,
    ) -> Result<(), SqliteError> {
        let path = std::path::Path::new(self.name);
        let theirs = Witness::ask(self.witnesses, self.shape, rowid, values);
        // Of one that SQLite's interface does not give (text that is none), nothing is known.
        let own = self.own(rowid).unwrap_or_default();
        let own_values: Vec<Value<'_>> = own.iter().map(borrowed).collect();
        let ours = match own_values.len() == self.shape.stored.len() && self.encoding == Encoding::Utf8 {
            true => Witness::ask(self.witnesses, self.shape, rowid, &own_values),
            false => Word::Nothing,
        };
        match (ours, theirs) {
            // What the indices do not have may be of another time in it.
            (Word::Other, Word::Same) => {
                aside.put(origin, "in doubt: the indices have the values of the backup's", &own_values)?;
                self.remove(rowid).asked("remove a row in doubt from", path)?;
                match self.inserter.put(rowid, values) {
                    Ok(()) => {
                        self.filled.replaced += 1;
                        self.open.remove(&rowid);
                    }
                    Err(error) => return Err(error).asked("take a row of the backup into", path),
                }
                self.prove(rowid, values);
                Ok(())
            }
            (Word::Same, Word::Other) => {
                self.confirm(rowid);
                Ok(())
            }
            _ => {
                self.filled.undecided += 1;
                aside.put(origin, "of the backup: it differs from the row that is in place, which is in doubt", values)
            }
        }
    }

    /// The columns that a record of so many fields gives.
    fn columns(&self, fields: usize) -> Vec<(usize, String)> {
        let stored = self.shape.stored.iter().copied().enumerate().take(fields);
        let own = stored.filter(|(_, column)| self.shape.rowid_alias != Some(*column));
        own.filter_map(|(place, column)| self.shape.columns.get(column).map(|c| (place, quoted(&c.name)))).collect()
    }

    /// Whether the row with this key has the same values; `None` where there is none.
    fn look_up(&mut self, rowid: i64, values: &[Value<'_>]) -> rusqlite::Result<Option<bool>> {
        let columns = self.columns(values.len());
        if !self.lookups.contains_key(&values.len()) {
            let compared: Vec<String> = columns.iter().map(|(_, name)| format!("{name} COLLATE BINARY")).collect();
            let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
            let same = match compared.is_empty() {
                true => "1".to_owned(),
                false => format!("({}) IS ({})", compared.join(","), places.join(",")),
            };
            let key = self.key(columns.len(), &columns);
            let sql = format!("SELECT {same} FROM {} NOT INDEXED WHERE {key}", quoted(self.name));
            drop(self.lookups.insert(values.len(), self.connection.prepare(&sql)?));
        }
        let Some(statement) = self.lookups.get_mut(&values.len()) else { return Ok(None) };
        for (at, (place, _)) in columns.iter().enumerate() {
            statement.raw_bind_parameter(at + 1, Bound(values[*place], self.encoding))?;
        }
        if !self.shape.without_rowid {
            statement.raw_bind_parameter(columns.len() + 1, rowid)?;
        }
        let mut rows = statement.raw_query();
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    /// What names one row, whose columns are the first parameters.
    fn key(&self, bound: usize, columns: &[(usize, String)]) -> String {
        if !self.shape.without_rowid {
            return format!("{} = ?{}", self.rowid_name(), bound + 1);
        }
        // The key comes first in a record of such a table.
        let parts = columns.iter().take(self.shape.key.len()).enumerate();
        parts.map(|(at, (_, name))| format!("{name} = ?{}", at + 1)).collect::<Vec<_>>().join(" AND ")
    }

    fn rowid_name(&self) -> String {
        if let Some(column) = self.shape.rowid_alias.and_then(|alias| self.shape.columns.get(alias)) {
            return quoted(&column.name);
        }
        let is_free = |word: &&&str| !self.shape.columns.iter().any(|column| column.name.eq_ignore_ascii_case(word));
        ["rowid", "_rowid_", "oid"].iter().find(is_free).map_or("rowid", |word| word).to_owned()
    }

    /// The row that is in place, field by field; only of a table with rowids.
    fn own(&self, rowid: i64) -> rusqlite::Result<Vec<rusqlite::types::Value>> {
        if self.shape.without_rowid {
            return Ok(Vec::new());
        }
        let names: Vec<String> = self
            .shape
            .stored
            .iter()
            .map(|column| match self.shape.columns.get(*column) {
                Some(_) if self.shape.rowid_alias == Some(*column) => "NULL".to_owned(),
                Some(column) => quoted(&column.name),
                None => "NULL".to_owned(),
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM {} NOT INDEXED WHERE {} = ?1",
            names.join(","),
            quoted(self.name),
            self.rowid_name()
        );
        let mut statement = self.connection.prepare(&sql)?;
        let read = |row: &rusqlite::Row<'_>| (0..names.len()).map(|column| row.get(column)).collect();
        statement.query_row([rowid], read).optional().map(Option::unwrap_or_default)
    }

    fn remove(&self, rowid: i64) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {} WHERE {} = ?1", quoted(self.name), self.rowid_name());
        self.connection.prepare(&sql)?.execute([rowid]).map(drop)
    }
}

fn borrowed(value: &rusqlite::types::Value) -> Value<'_> {
    use rusqlite::types::Value as Own;
    match value {
        Own::Null => Value::Null,
        Own::Integer(integer) => Value::Integer(*integer),
        Own::Real(real) => Value::Real(*real),
        Own::Text(text) => Value::Text(text.as_bytes()),
        Own::Blob(bytes) => Value::Blob(bytes),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
