//! Definitions with flipped bits, against SQLite's own word whether it can open the database.

use super::*;
use crate::database::sqlite::pages::{FindingKind as Kind, Loss};

const NOTES: &str = "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT, at INT); CREATE INDEX by_at ON notes(at);
    CREATE INDEX by_low ON notes(lower(body)); CREATE VIEW seen AS SELECT * FROM notes;
    CREATE TRIGGER tr AFTER INSERT ON notes BEGIN DELETE FROM notes WHERE id < 0; END;
    INSERT INTO notes(body, at) VALUES('x', 1), ('y', 2)";
const FULL_TEXT: &str = "CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES('x')";

/// What makes the database, what of its text is replaced, and by what.
const CASES: &[(&str, &str, &str)] = &[
    (NOTES, "by_at ON notes(at)", "by_at ON notes(au)"),
    (NOTES, "by_at ON notes(at)", "by_at ON notds(at)"),
    (NOTES, "INDEX by_at ON", "INDEX bx_at ON"),
    (NOTES, "indexby_atnotes", "indexbx_atnotes"),
    (NOTES, "indexby_atnotes", "indexby_atnoten"),
    (NOTES, "lower(body)", "lowdr(body)"),
    (NOTES, "lower(body)", "lower(bodq)"),
    (NOTES, "INSERT ON notes BEGIN", "INSERT ON notep BEGIN"),
    (NOTES, "DELETE FROM notes WHERE", "DELETE FROM notep WHERE"),
    (NOTES, "TRIGGER tr AFTER", "TRIGGER tp AFTER"),
    (NOTES, "SELECT * FROM notes", "SELECT * FROM notds"),
    (NOTES, "VIEW seen AS", "VIEW seeo AS"),
    (NOTES, "CREATE TABLE notes(", "CREATE TABLE notds("),
    (NOTES, "tablenotesnotes", "tablenotdsnotes"),
    (NOTES, "tablenotesnotes", "tablenotesnotds"),
    (NOTES, "body TEXT, at INT", "body TEXT, id INT"),
    (NOTES, "PRIMARY KEY, body", "PRIMAPY KEY, body"),
    ("CREATE TABLE t(a INT, b TEXT) STRICT", "a INT,", "a IOT,"),
    ("CREATE TABLE t(a, b AS (a+1))", "(a+1)", "(c+1)"),
    ("CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID", "WITHOUT ROWID", "WITHOUT ROWIE"),
    ("CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b)", "INTEGER PRIMARY", "INTEFER PRIMARY"),
    ("CREATE TABLE t(a COLLATE NOCASE, b); CREATE INDEX i ON t(a)", "COLLATE NOCASE", "COLLATE NOCASD"),
    ("CREATE TABLE t(a, b CHECK(length(b) > 0))", "length(b)", "lengti(b)"),
    ("CREATE TABLE t(a, b CHECK(length(b) > 0))", "length(b)", "length(c)"),
    ("CREATE TABLE t(a, b, PRIMARY KEY(a))", "KEY(a)", "KEY(c)"),
    ("CREATE TABLE t(a, b, UNIQUE(a))", "UNIQUE(a)", "UNIQUE(c)"),
    ("CREATE TABLE t(a UNIQUE, b)", "sqlite_autoindex_t_1t", "sqlite_autoindex_t_1u"),
    ("CREATE TABLE t(a, b, FOREIGN KEY(a) REFERENCES x(y))", "KEY(a)", "KEY(c)"),
    ("CREATE TABLE t(a, b, FOREIGN KEY(a) REFERENCES x(y))", "x(y)", "x(z)"),
    ("CREATE TABLE t(a, b); CREATE INDEX i ON t(a) WHERE b>0", "WHERE b>0", "WHERE c>0"),
    ("CREATE TABLE t(a, b); CREATE INDEX i ON t(a) WHERE b>\"x\"", "\"x\"", "\"y\""),
    (FULL_TEXT, "USING fts5", "USING fts7"),
    (FULL_TEXT, "TABLE f USING", "TABLE g USING"),
];

#[test]
fn a_definition_that_sqlite_can_not_read_is_found_and_no_other() {
    let mut refused = 0;
    for (sql, old, new) in CASES {
        let place = Place::new(sql);
        assert!(place.check().is_clean(), "{sql}");
        let mut bytes = std::fs::read(&place.db).unwrap();
        let at = bytes.windows(old.len()).position(|part| part == old.as_bytes()).unwrap_or_else(|| panic!("{old}"));
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
        std::fs::write(&place.db, bytes).unwrap();
        let findings = place.check().findings;
        let of_schema: Vec<_> = findings.iter().filter(|f| f.kind == Kind::Schema).collect();
        let theirs = Connection::open(&place.db).unwrap().prepare("SELECT * FROM sqlite_schema").map(drop);
        assert_eq!(of_schema.is_empty(), theirs.is_ok(), "{new}: {theirs:?} {findings:?}");
        refused += usize::from(theirs.is_err());
        if new.contains("notes(au)") {
            assert_eq!((of_schema.len(), of_schema[0].loss), (1, Loss::Index));
            assert!(of_schema[0].what.ends_with("no such column: au"), "{}", of_schema[0].what);
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn every_definition_that_can_not_be_read_is_told_once() {
    let place = Place::new(NOTES);
    let mut bytes = std::fs::read(&place.db).unwrap();
    for (old, new) in
        [("by_at ON notes(at)", "by_at ON notes(au)"), ("lower(body)", "lower(bodq)"), ("VIEW seen", "VIEW seeo")]
    {
        let at = bytes.windows(old.len()).position(|part| part == old.as_bytes()).unwrap();
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    std::fs::write(&place.db, bytes).unwrap();
    let findings = place.check().findings;
    let mut names: Vec<_> = findings.iter().map(|f| (f.kind, f.object.as_deref().unwrap())).collect();
    names.sort_unstable();
    assert_eq!(names, [(Kind::Schema, "by_at"), (Kind::Schema, "by_low"), (Kind::Schema, "seen")]);
}

#[test]
fn what_sqlite_takes_from_an_old_schema_is_no_damage() {
    let place = Place::new("CREATE TABLE first(x)");
    let connection = Connection::open(&place.db).unwrap();
    connection.create_collation("icu_root", |a: &str, b: &str| a.cmp(b)).unwrap();
    batch(
        &connection,
        "CREATE TABLE \"Old Name\"(a TEXT COLLATE icu_root, b CHECK(b <> \"no column\"), c DEFAULT \"d\");
         CREATE INDEX \"i i\" ON \"old name\"(a COLLATE icu_root, coalesce(b, \"e\"), \"c\");
         CREATE VIEW v AS SELECT * FROM \"Old Name\" JOIN first;
         CREATE TRIGGER tv INSTEAD OF INSERT ON v BEGIN INSERT INTO gone VALUES(new.a); END;
         CREATE TRIGGER t1 AFTER INSERT ON \"OLD NAME\" BEGIN SELECT missing(new.a); END;
         PRAGMA legacy_alter_table=ON; ALTER TABLE \"Old Name\" RENAME TO \"new name\"; ALTER TABLE \"new name\" ADD COLUMN z;
         DROP TABLE first;
         CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v UNIQUE); INSERT INTO counted(v) VALUES(1); ANALYZE;",
    );
    connection.close().unwrap();
    assert_eq!(place.check().findings, []);
}

#[test]
fn values_of_another_type_in_a_strict_table_are_found() {
    let sql = "CREATE TABLE t(i INT, n INTEGER, r REAL, t TEXT, b BLOB, a ANY) STRICT;
         CREATE TABLE k(w TEXT PRIMARY KEY, v INT) STRICT, WITHOUT ROWID;
         INSERT INTO t VALUES(1, NULL, 2, 'x', x'00', 'y'), (0, 5, 1.5, '', x'', 3), (NULL, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO k VALUES('a', 1), ('b', NULL);
         ALTER TABLE t ADD COLUMN later INT DEFAULT 7";
    assert!(Place::new(sql).check().is_clean());
    for (old, new, what) in [
        ("i INT,", "i ANY,", None),
        ("i INT,", "i REAL,", None),
        ("i INT,", "i TEXT,", Some("row 1 has what is not text in column i")),
        ("n INTEGER,", "n BLOB,", Some("row 2 has what is not a blob in column n")),
        ("r REAL,", "r INT,", Some("row 2 has what is not an integer in column r")),
        ("t TEXT,", "t REAL,", Some("row 1 has what is not a number in column t")),
        ("b BLOB,", "b TEXT,", Some("row 1 has what is not text in column b")),
        ("a ANY,", "a TEXT,", None),
        ("v INT)", "v TEXT)", Some("a row has what is not text in column v")),
    ] {
        let place = Place::new(sql);
        let connection = Connection::open(&place.db).unwrap();
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        connection.pragma_update(None, "writable_schema", true).unwrap();
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2)", [old, new]).unwrap();
        connection.close().map_err(|(_, error)| error).unwrap();
        let findings = place.check().findings;
        let theirs = super::healthy::integrity(&place.db);
        assert_eq!(findings.is_empty(), theirs.is_empty(), "{new}: {theirs:?} {findings:?}");
        let told = findings.first().map(|f| (f.kind, f.what.as_str()));
        if let Some(what) = what {
            assert_eq!(told, Some((Kind::Record, what)), "{theirs:?}");
        }
    }
}

#[test]
fn keys_whose_text_is_not_utf_16_are_named() {
    let sql = "PRAGMA encoding='UTF-16le'; CREATE TABLE t(a TEXT COLLATE NOCASE, b TEXT); CREATE INDEX i ON t(a); CREATE INDEX j ON t(b);
         INSERT INTO t VALUES('x', 'x'), ('Y', 'Y')";
    let place = Place::new(sql);
    assert_eq!(place.check().not_checked, []);
    place.run("INSERT INTO t VALUES(CAST(x'00d8' AS TEXT), CAST(x'00d8' AS TEXT))");
    let report = place.check();
    assert_eq!(report.findings, []);
    let named: Vec<_> = report.not_checked.iter().map(|n| (n.object.as_str(), n.why.as_str())).collect();
    assert_eq!(named, [("i", "some of its text is not UTF-16: the order of its keys was not judged there")]);
}
