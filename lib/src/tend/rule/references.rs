//! What a schema says of its tables and foreign keys.

use rusqlite::Connection;

/// A foreign key: rows of `child` refer to rows of `parent`.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) child: String,
    pub(super) parent: String,
    /// Child's column, parent's column; without one it is the primary key.
    pub(super) columns: Vec<(String, Option<String>)>,
    pub(super) on_delete: String,
}

impl Reference {
    /// Whether it refers to rows of a table that one of the deletes, each with its condition, takes some from.
    pub(super) fn is_to_what_goes(&self, deletes: &[(String, String)]) -> bool {
        deletes.iter().any(|(table, _)| table.eq_ignore_ascii_case(&self.parent))
    }
}

/// The tables, by name.
pub(super) fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    // `_` alone would stand for any character, and leave out a table called sqlites.
    let query =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name";
    db.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

/// The names of a table's columns in lower case; none where there is no such table.
pub(super) fn table_columns(db: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare("SELECT lower(name) FROM pragma_table_info(?1)")?.query_map([table], |row| row.get(0))?.collect()
}

/// The column of a primary key that has one.
pub(super) fn primary_key(db: &Connection, table: &str) -> Option<String> {
    let query = "SELECT name FROM pragma_table_info(?1) WHERE pk > 0";
    let columns: rusqlite::Result<Vec<String>> =
        db.prepare(query).and_then(|mut statement| statement.query_map([table], |row| row.get(0))?.collect());
    columns.ok().filter(|columns| columns.len() == 1)?.pop()
}

/// The foreign keys of all tables.
pub(super) fn references(db: &Connection) -> rusqlite::Result<Vec<Reference>> {
    let mut references: Vec<Reference> = Vec::new();
    for child in tables(db)? {
        let mut statement = db.prepare(
            "SELECT id, \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        )?;
        let mut rows = statement.query([&child])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let (id, parent, from, to): (i64, String, String, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            if last == Some(id)
                && let Some(reference) = references.last_mut()
            {
                reference.columns.push((from, to));
            } else {
                let (child, columns) = (child.clone(), vec![(from, to)]);
                references.push(Reference { child, parent, columns, on_delete: row.get(4)? });
            }
            last = Some(id);
        }
    }
    Ok(references)
}

/// How the values of a column are compared: what texts are equal, and what is converted (datatype3.html, 3.1, 4.2 and 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) collation: String,
    pub(super) affinity: Affinity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    None,
    Text,
    Number,
    /// As a number; whole ones are stored as integers and read as what they are.
    Real,
}

impl Comparison {
    pub(super) fn of(db: &Connection, table: &str, column: &str) -> rusqlite::Result<Self> {
        let (kind, collation, ..) = db.column_metadata(Some("main"), table, column)?;
        let word = |word: Option<&std::ffi::CStr>| word.unwrap_or_default().to_string_lossy().to_ascii_uppercase();
        let kind = word(kind);
        let strict = "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?1)";
        let has = |part: &&str| kind.contains(*part);
        let affinity = match () {
            () if kind == "ANY" && db.query_row(strict, [table], |row| row.get(0))? => Affinity::None,
            () if has(&"INT") => Affinity::Number,
            () if ["CHAR", "CLOB", "TEXT"].iter().any(has) => Affinity::Text,
            () if kind.is_empty() || has(&"BLOB") => Affinity::None,
            () if ["REAL", "FLOA", "DOUB"].iter().any(has) => Affinity::Real,
            () => Affinity::Number,
        };
        Ok(Self { collation: word(collation), affinity })
    }

    /// Whether values of a referring column with this one that equal a value of the column `to` are only those that a
    /// foreign key takes for it: it goes by `to`, and our own statements by the column that refers.
    pub(super) fn finds_no_more_than(&self, to: &Self) -> bool {
        let converts_alike = match self.affinity {
            Affinity::None => true,
            Affinity::Text => to.affinity != Affinity::None,
            Affinity::Number | Affinity::Real => matches!(to.affinity, Affinity::Number | Affinity::Real),
        };
        converts_alike && self.collation == to.collation
    }
}

/// The steps of a query's plan. Its parameters stay NULL: the plan does not depend on them.
pub(super) fn plan(db: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        steps.push(row.get(3)?);
    }
    Ok(steps)
}
