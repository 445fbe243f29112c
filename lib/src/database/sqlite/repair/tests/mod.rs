//! Databases that are damaged on purpose, repaired, and compared with what they were, row by row.

mod computed;
mod logs;
mod matrix;
mod mutated;
mod of_the_service;
mod proved;
mod regrown;
mod restored;
mod whose;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::{Accounting, RepairInput, Repaired, Step, TableAccount, repair};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::tests::random::Random;
use crate::progress::{Cancel, Silent};

/// Tables and indices of many kinds, with overflow, free pages, full text, and generated columns.
const LIBRARY: &str = "
    CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT NOT NULL, size INT, data BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO items SELECT i, 'Title ' || (i * 7919 % 6000), i % 97, CASE i % 40 WHEN 0 THEN randomblob(6000) END FROM n;
    CREATE INDEX items_title ON items(title);
    CREATE INDEX items_size ON items(size);
    CREATE TABLE plays(at REAL, item INT, who TEXT);
    INSERT INTO plays SELECT id / 4.0, id, 'person ' || (id % 7) FROM items WHERE id % 3 = 0;
    CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO settings SELECT 'key ' || id, title FROM items WHERE id <= 800;
    CREATE TABLE made(a INTEGER, b AS (a * 2) VIRTUAL, c TEXT AS (a || 'x') STORED, d);
    INSERT INTO made(a, d) SELECT id, title FROM items WHERE id <= 500;
    CREATE INDEX made_b ON made(b);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
    INSERT INTO counted(t) SELECT title FROM items WHERE id <= 700;
    DELETE FROM counted WHERE id > 600;
    CREATE VIRTUAL TABLE words USING fts5(body);
    INSERT INTO words SELECT title FROM items WHERE id <= 900;
    CREATE VIEW large AS SELECT * FROM items WHERE size > 90;
    CREATE TRIGGER played AFTER INSERT ON plays BEGIN UPDATE items SET size = size + 1 WHERE id = new.item; END;
    CREATE TABLE gone(x); INSERT INTO gone SELECT randomblob(900) FROM items WHERE id < 200; DROP TABLE gone;
    PRAGMA user_version=77; PRAGMA application_id=1234; ANALYZE;";

/// Every row of every table, with its rowid where it has one.
type Rows = BTreeMap<String, BTreeSet<String>>;

/// A database, what was in it, and its image to be damaged.
struct Patient {
    dir: tempfile::TempDir,
    db: PathBuf,
    page_size: usize,
    bytes: Vec<u8>,
    truth: Rows,
    random: Random,
    program: Option<PathBuf>,
    log_losses: Vec<String>,
}

impl Patient {
    fn new(form: &str, page_size: usize) -> Self {
        Self::with(form, page_size, LIBRARY)
    }

    fn with(form: &str, page_size: usize, content: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("library.db");
        let connection = Connection::open(&db).unwrap();
        connection.execute_batch(&format!("PRAGMA page_size={page_size}; {form} {content}")).unwrap();
        connection.close().unwrap();
        let (truth, bytes) = (rows(&db), std::fs::read(&db).unwrap());
        Self { dir, db, page_size, bytes, truth, random: Random(7), program: None, log_losses: Vec::new() }
    }

    /// As it is after those statements.
    fn change(&mut self, sql: &str) {
        let connection = Connection::open(&self.db).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        (self.truth, self.bytes) = (rows(&self.db), std::fs::read(&self.db).unwrap());
    }

    /// Pages of an object, by SQLite's word.
    fn of(&self, object: &str, kind: &str) -> Vec<usize> {
        let connection = Connection::open(&self.db).unwrap();
        let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno";
        let mut statement = connection.prepare(sql).unwrap();
        let pages = statement.query_map([object, kind], |row| row.get::<_, i64>(0)).unwrap();
        pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
    }

    fn root(&self, object: &str) -> usize {
        let connection = Connection::open(&self.db).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        usize::try_from(connection.query_row(sql, [object], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
    }

    fn some(&mut self, pages: &[usize], count: usize) -> Vec<usize> {
        let mut left = pages.to_vec();
        (0..count.min(pages.len())).map(|_| left.swap_remove(self.random.below(left.len()))).collect()
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.page(one).to_vec(), self.page(other).to_vec());
        self.page(one).copy_from_slice(&second);
        self.page(other).copy_from_slice(&first);
    }

    fn page(&mut self, number: usize) -> &mut [u8] {
        let size = self.page_size;
        &mut self.bytes[(number - 1) * size..number * size]
    }

    fn repair(&self) -> Result<Repaired, SqliteError> {
        std::fs::write(&self.db, &self.bytes).unwrap();
        self.repair_as_it_lies(None)
    }

    fn repair_as_it_lies(&self, reference: Option<&Path>) -> Result<Repaired, SqliteError> {
        self.repair_with(reference, None)
    }

    fn repair_with(&self, reference: Option<&Path>, only: Option<Step>) -> Result<Repaired, SqliteError> {
        let work = self.dir.path().join("work");
        if work.exists() {
            std::fs::remove_dir_all(&work).unwrap();
        }
        std::fs::create_dir(&work).unwrap();
        let before: Vec<_> = ["", "-wal", "-shm", "-journal"].map(|s| std::fs::read(side(&self.db, s)).ok()).into();
        let cancel = Cancel::new().unwrap();
        let (copy, observer, program) = (&self.db, &Silent, self.program.as_deref());
        let log_losses = &self.log_losses;
        let repaired =
            repair(RepairInput { copy, work: &work, reference, program, only, log_losses, cancel: &cancel, observer });
        let after: Vec<_> = ["", "-wal", "-shm", "-journal"].map(|s| std::fs::read(side(&self.db, s)).ok()).into();
        assert!(before == after, "the damaged copy is only read");
        repaired
    }

    /// Repaired by that step; the share of rows that are back exactly; nothing is called complete that is not.
    fn expect(&self, step: Step, complete: bool) -> (f64, Accounting) {
        let repaired = self.repair().unwrap();
        self.judge(&repaired, step, complete)
    }

    #[track_caller]
    fn judge(&self, repaired: &Repaired, step: Step, complete: bool) -> (f64, Accounting) {
        let account = repaired.accounting.clone();
        assert_eq!((account.step, account.complete), (step, complete), "{:?}", account.losses());
        let back = rows(&repaired.file);
        if complete {
            assert_eq!(account.objects_before, account.objects_after);
            assert!(back == self.truth, "it is called complete, and is not what was");
        }
        assert_eq!(integrity(&repaired.file), "ok");
        let (mut all, mut exact) = (0, 0);
        for (table, rows) in &self.truth {
            let now = back.get(table).cloned().unwrap_or_default();
            all += rows.len();
            exact += rows.intersection(&now).count();
            if let Some(told) = account.tables.iter().find(|t| t.table == *table) {
                assert_eq!(told.after as usize, now.len(), "{table}");
                let really = rows.len() - rows.intersection(&now).count();
                let said = told.lost.map_or(u64::MAX, |lost| lost + told.doubtful + told.set_aside) as usize;
                let indexed = account.log_losses.is_empty() && (told.by_index.is_some() || told.lost == Some(0));
                assert!(!indexed || really == 0 || said > 0, "{table}: {really} rows are not back: {told:?}");
            }
        }
        (exact as f64 / all as f64, account)
    }
}

fn of<'a>(account: &'a Accounting, table: &str) -> &'a TableAccount {
    account.tables.iter().find(|told| told.table == table).unwrap()
}

fn side(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// SQLite's own word.
fn integrity(db: &Path) -> String {
    let connection = Connection::open(db).unwrap();
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap_or_else(|error| error.to_string())
}

/// What SQLite reads.
fn rows(db: &Path) -> Rows {
    let connection = Connection::open(db).unwrap();
    let sql =
        "SELECT name, (SELECT count(*) FROM pragma_index_list(s.name) WHERE origin = 'pk'), sql LIKE '%WITHOUT ROWID%'
        FROM sqlite_schema s WHERE type = 'table' AND rootpage > 0";
    let mut tables = connection.prepare(sql).unwrap();
    let tables: Vec<(String, bool)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    let mut all = Rows::new();
    for (table, without_rowid) in tables {
        let rowid = if without_rowid { "" } else { "rowid, " };
        let mut statement = connection.prepare(&format!("SELECT {rowid}* FROM \"{table}\"")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut set = BTreeSet::new();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<ValueRef<'_>> = (0..columns).map(|column| row.get_ref(column).unwrap()).collect();
            set.insert(format!("{values:?}"));
        }
        drop(rows);
        all.insert(table, set);
    }
    all
}
