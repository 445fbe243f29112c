//! Rows that SQLite wrote are the rows that are read, wherever they are: file, log, journal, overflow pages.

use std::collections::BTreeMap;

use super::*;
use crate::database::sqlite::pages::{Consistency, Encoding, Met, Schema, Value, Values, text};
use crate::sqlite_locks::testing::{Task, Writer};

const FILL: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB, c REAL, d INTEGER);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
    INSERT INTO t SELECT i * 3 - 700, 'wört ' || i, CASE i % 7 WHEN 0 THEN randomblob(i * 40) END, i / 3.0,
    CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN i << (i % 60) ELSE -i END FROM n;";

fn owned(value: Value<'_>, encoding: Encoding) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(i) => i.into(),
        Value::Real(r) => r.into(),
        Value::Text(bytes) => text(bytes, encoding).into(),
        Value::Blob(bytes) => bytes.to_vec().into(),
    }
}

/// The rows of table `t` by our reader.
fn ours(view: &View) -> BTreeMap<i64, Vec<rusqlite::types::Value>> {
    let schema = Schema::read(view.image());
    assert_eq!(schema.faults, []);
    let mut rows = BTreeMap::new();
    view.image().walk(schema.table("t").unwrap().root, Some(true), usize::MAX, &mut |met| {
        match met {
            Met::Row { rowid, record, .. } => {
                let record = record.unwrap();
                let values = Values::of(&record).unwrap().map(|v| owned(v, view.image().layout().encoding));
                assert!(rows.insert(rowid, values.collect()).is_none());
            }
            Met::Fault { page, what } => panic!("page {page}: {what}"),
        }
        true
    });
    rows
}

fn theirs(db: &Path) -> BTreeMap<i64, Vec<rusqlite::types::Value>> {
    let connection = Connection::open(db).unwrap();
    let mut statement = connection.prepare("SELECT NULL, a, b, c, d, id FROM t").unwrap();
    let rows = statement.query_map([], |row| {
        let values: Vec<rusqlite::types::Value> = (0..5).map(|c| row.get(c)).collect::<Result<_, _>>()?;
        Ok((row.get(5)?, values))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// A real whose value is whole is stored as an integer.
fn same(a: &BTreeMap<i64, Vec<rusqlite::types::Value>>, b: &BTreeMap<i64, Vec<rusqlite::types::Value>>) {
    assert_eq!(a.len(), b.len());
    for ((id_a, a), (id_b, b)) in a.iter().zip(b) {
        assert_eq!(id_a, id_b);
        for (a, b) in a.iter().zip(b) {
            match (a, b) {
                (rusqlite::types::Value::Integer(a), rusqlite::types::Value::Real(b)) => {
                    assert_eq!(*a as f64, *b, "row {id_a}");
                }
                (a, b) => assert_eq!(a, b, "row {id_a}"),
            }
        }
    }
}

#[test]
fn every_page_size_and_encoding_is_read_value_by_value() {
    for page_size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            for vacuum in [0, 1, 2] {
                let place = Place::new(&format!(
                    "PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; {FILL}"
                ));
                let view = place.view();
                assert_eq!(view.image().layout().page_size, page_size);
                assert_eq!(view.image().layout().auto_vacuum, vacuum > 0);
                assert!(view.image().faults().is_empty());
                let ours = ours(&view);
                assert!(view.still_holds(PATIENCE, &place.cancel).unwrap());
                drop(view);
                same(&ours, &theirs(&place.db));
            }
        }
    }
}

#[test]
fn a_writer_in_wal_mode_is_read_up_to_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("library.db");
    let cancel = Cancel::new().unwrap();
    let setup = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0";
    let mut writer = Writer::start(&[&db], setup, Task::Busy);
    for round in 1..=10 {
        writer.wait_row(round * 30);
        let acknowledged = writer.acknowledged();
        let view = View::open(&db, None, PATIENCE, &cancel).unwrap();
        assert_eq!(view.consistency(), Consistency::ReadMark);
        let rows = ours(&view).len() as u64;
        assert!(rows >= acknowledged, "{rows} rows of {acknowledged} acknowledged");
        assert!(view.still_holds(PATIENCE, &cancel).unwrap());
    }
    writer.crash();
    // Nobody has it open now, and its log is as it left it.
    let view = View::open(&db, None, PATIENCE, &cancel).unwrap();
    assert_eq!(view.consistency(), Consistency::Quiet);
    let ours = ours(&view).len();
    drop(view);
    let rows: i64 = Connection::open(&db).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(ours as i64, rows);
}

#[test]
fn a_hot_journal_gives_the_pages_of_before() {
    let place = Place::new(&format!("PRAGMA journal_mode=DELETE; {FILL}"));
    let before = theirs(&place.db);
    let dead = place.died_in("UPDATE t SET a = 'x', b = randomblob(900);");
    let copied = std::fs::read(&dead.db).unwrap();
    let view = dead.view();
    assert!(view.logs.hot && view.logs.journal.as_ref().unwrap().records.len() > 10);
    let ours = ours(&view);
    drop(view);
    assert_eq!(std::fs::read(&dead.db).unwrap(), copied);
    same(&ours, &before);
}
