//! What our parser makes of a definition is what SQLite makes of it.

use rusqlite::Connection;

use super::*;
use crate::database::sqlite::pages::{Collation, IndexField, ObjectKind, Schema};

const DEFINITIONS: &[&str] = &[
    "CREATE TABLE a(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, size REAL NOT NULL DEFAULT -1.5e3)",
    "CREATE TABLE b(x INTEGER PRIMARY KEY DESC, y, z UNIQUE, UNIQUE(y, z DESC), UNIQUE(z))",
    "CREATE TABLE c(x INT PRIMARY KEY, y TEXT, keys, CONSTRAINT u UNIQUE (y COLLATE RTRIM, x) ON CONFLICT IGNORE)",
    "CREATE TABLE d(a, b, c TEXT COLLATE NOCASE, PRIMARY KEY(c, a, c), UNIQUE(b)) WITHOUT ROWID",
    "CREATE TABLE e(a TEXT, b INTEGER PRIMARY KEY, c ANY UNIQUE) WITHOUT ROWID, STRICT",
    "CREATE TABLE f(a INTEGER, b TEXT GENERATED ALWAYS AS (a || ',(' ) VIRTUAL, c AS (a*2) STORED, d UNIQUE)",
    "CREATE TABLE \"g \"\"h\"(\"a b\" VARCHAR(20, 3) NOT NULL, [c d] DEFAULT (1+1), `e` DEFAULT 'x''y', f DEFAULT current_timestamp)",
    "CREATE TABLE i(a REFERENCES a(id) ON DELETE SET NULL ON UPDATE NO ACTION DEFERRABLE INITIALLY DEFERRED NOT NULL, \
     b CHECK(b > 0 AND b IN (1, 2)), FOREIGN KEY(b) REFERENCES a MATCH FULL, CHECK (a <> b) CHECK (1), UNIQUE(a, b))",
    "CREATE TABLE j(id INTEGER PRIMARY KEY AUTOINCREMENT, -- a comment, with a comma\n v unsigned big int /* ( */ DEFAULT +5)",
    "CREATE TABLE k(a INTEGER, b, c, PRIMARY KEY(a))",
    "CREATE TABLE l(a, b, c, PRIMARY KEY(b DESC, a), UNIQUE(b, a), UNIQUE(a, b))",
    "CREATE TABLE m AS SELECT 1 AS x, 'y' AS \"z z\"",
    "CREATE TABLE n(n INT, v, w UNIQUE, PRIMARY KEY(n DESC)) WITHOUT ROWID",
    "CREATE TABLE o(c0 INTEGER, c1, PRIMARY KEY(c0 COLLATE NOCASE)) WITHOUT ROWID",
    "CREATE TABLE p(c UNIQUE, d, PRIMARY KEY(c DESC)) WITHOUT ROWID",
    "CREATE TABLE q(a INTEGER(11) PRIMARY KEY, b, c \"INTEGER\", d UNIQUE)",
    "CREATE TABLE r(a UNIQUE, b, PRIMARY KEY(a, a)) WITHOUT ROWID",
    "CREATE TABLE s(a, b, UNIQUE(a, b), PRIMARY KEY(a, b, a DESC)) WITHOUT ROWID",
    "CREATE TABLE t(a, b, \"desc\", PRIMARY KEY((a))) WITHOUT ROWID",
    "CREATE TABLE u(a \"INTEGER\" PRIMARY KEY, b)",
    "CREATE INDEX q1 ON q(b, a)",
    "CREATE INDEX t1 ON t((a))",
    "CREATE INDEX t2 ON t(((b) COLLATE NOCASE) DESC, b COLLATE NOCASE COLLATE RTRIM, desc desc, (desc))",
    "CREATE INDEX t3 ON t(length(a) DESC, a || b COLLATE NOCASE DESC, (a || b) COLLATE NOCASE DESC, a + desc, b ASC)",
    "CREATE INDEX u1 ON u(b)",
    "CREATE INDEX n1 ON n(v)",
    "CREATE INDEX o1 ON o(c0)",
    "CREATE INDEX o2 ON o(c1)",
    "CREATE INDEX p1 ON p(d)",
    "CREATE INDEX a1 ON a(size DESC, name)",
    "CREATE UNIQUE INDEX IF NOT EXISTS a2 ON a(name COLLATE BINARY, id)",
    "CREATE INDEX a3 ON a(lower(name))",
    "CREATE INDEX a4 ON a(size) WHERE size > 0",
    "CREATE INDEX a5 ON a(id, \"name\")",
    "CREATE INDEX d1 ON d(b DESC, a)",
    "CREATE INDEX d2 ON d(c COLLATE BINARY)",
    "CREATE INDEX f1 ON f(b, c)",
    "CREATE INDEX \"g 1\" ON \"g \"\"h\"(\"a b\", [c d] DESC)",
    "CREATE VIEW v AS SELECT * FROM a",
    "CREATE TRIGGER trigger_a AFTER INSERT ON a BEGIN SELECT 1; END",
];

#[test]
fn every_definition_is_understood_as_sqlite_does() {
    let place = Place::new(&DEFINITIONS.join(";"));
    let schema = Schema::read(place.view().image());
    assert_eq!(schema.faults, []);
    let connection = Connection::open(&place.db).unwrap();
    let (mut tables, mut indices) = (0, 0);
    for object in &schema.objects {
        match object.kind {
            ObjectKind::Table if object.name == "sqlite_sequence" => {}
            ObjectKind::Table => {
                tables += 1;
                let shape = object.table_shape.as_ref().unwrap_or_else(|| panic!("{object:?}"));
                assert!(!shape.doubtful, "{object:?}");
                let mut statement = connection
                    .prepare("SELECT name, type, \"notnull\", hidden FROM pragma_table_xinfo(?1) ORDER BY cid")
                    .unwrap();
                let theirs = statement.query_map([&object.name], |row| {
                    let hidden: i32 = row.get(3)?;
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?, hidden == 2))
                });
                let theirs: Vec<_> = theirs.unwrap().map(Result::unwrap).collect();
                let ours: Vec<_> = shape
                    .columns
                    .iter()
                    .map(|c| (c.name.clone(), c.type_name.clone(), c.not_null, c.is_virtual))
                    .collect();
                // SQLite keeps the type as it is written.
                let theirs: Vec<_> = theirs
                    .into_iter()
                    .map(|(name, kind, not_null, hidden)| (name, kind.replace(", ", ","), not_null, hidden))
                    .collect();
                assert_eq!(ours, theirs, "{}", object.name);
            }
            ObjectKind::Index => {
                indices += 1;
                let shape = object.index_shape.as_ref().unwrap_or_else(|| panic!("{object:?}"));
                let mut statement = connection
                    .prepare("SELECT cid, coll, \"desc\", key FROM pragma_index_xinfo(?1) ORDER BY seqno")
                    .unwrap();
                let theirs = statement.query_map([&object.name], |row| {
                    let cid: i64 = row.get(0)?;
                    Ok((cid, row.get::<_, String>(1)?, row.get::<_, bool>(2)?, row.get::<_, bool>(3)?))
                });
                let theirs: Vec<_> = theirs.unwrap().map(Result::unwrap).collect();
                assert_eq!(shape.fields.len(), theirs.len(), "{}", object.name);
                let alias = schema.table(&object.table).and_then(|t| t.table_shape.as_ref()?.rowid_alias);
                for ((field, key), (cid, collation, descending, _)) in shape.fields.iter().zip(&shape.key).zip(&theirs)
                {
                    let expected = match *cid {
                        -1 => IndexField::Rowid,
                        cid if usize::try_from(cid).is_ok() && alias == usize::try_from(cid).ok() => IndexField::Rowid,
                        1 if object.name == "f1" => IndexField::Computed,
                        -2 => IndexField::Computed,
                        cid => IndexField::Column(usize::try_from(cid).unwrap()),
                    };
                    assert_eq!(*field, expected, "{}", object.name);
                    // That of an expression is not always known, and never another one.
                    if *cid != -2 || key.collation != Collation::Unknown {
                        assert_eq!(key.collation, Collation::named(collation), "{}", object.name);
                    }
                    assert_eq!(key.descending, *descending, "{}", object.name);
                }
                let unique: bool = connection
                    .query_row(
                        "SELECT \"unique\" FROM pragma_index_list(?1) WHERE name = ?2",
                        [&object.table, &object.name],
                        |row| row.get(0),
                    )
                    .unwrap();
                assert_eq!(shape.unique.is_some(), unique, "{}", object.name);
                assert_eq!(shape.partial, object.name == "a4");
            }
            ObjectKind::View | ObjectKind::Trigger | ObjectKind::VirtualTable => {}
        }
    }
    assert_eq!((tables, indices), (20, 35));
}

#[test]
fn what_is_no_definition_is_doubted_and_never_panics() {
    for sql in
        ["", "CREATE", "CREATE TABLE", "CREATE TABLE t(", "CREATE TABLE t()", "CREATE TABLE t(a", "SELECT 1", "'"]
    {
        assert_eq!(crate::database::sqlite::pages::create::table(sql), None, "{sql}");
    }
    for sql in ["CREATE TABLE t(a, b FROBNICATE DEFAULT)", "CREATE TABLE t(a CHECK, b)", "CREATE TABLE t(a) WITHOUT X"]
    {
        assert!(crate::database::sqlite::pages::create::table(sql).unwrap().doubtful, "{sql}");
    }
    // Every prefix, and every one with a byte changed.
    for sql in DEFINITIONS {
        for end in (0..sql.len()).filter(|end| sql.is_char_boundary(*end)) {
            let _parsed = crate::database::sqlite::pages::create::table(&sql[..end]);
            let changed = format!("{}({}", &sql[..end], &sql[end..]);
            let _parsed = crate::database::sqlite::pages::create::table(&changed);
            let _parsed = crate::database::sqlite::pages::create::index(&changed);
        }
    }
}
