//! A database, what is in it, and what came back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use svckit::database::sqlite::SqliteError;
use svckit::database::sqlite::repair::{RepairInput, Repaired, repair};
use svckit::progress::{Cancel, Silent};
use svckit_testbed::corruptor::pages_of;
use svckit_testbed::random::Random;

use crate::theirs;

const LIBRARY: &str = "
    CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT NOT NULL, size INT, data BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO items SELECT i, 'Title ' || (i * 7919 % 6000), i % 97, CASE i % 40 WHEN 0 THEN randomblob(6000) END FROM n;
    CREATE INDEX items_title ON items(title);
    CREATE TABLE plays(at REAL, item INT, who TEXT);
    INSERT INTO plays SELECT id / 4.0, id, 'person ' || (id % 7) FROM items WHERE id % 3 = 0;
    CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO settings SELECT 'key ' || id, title FROM items WHERE id <= 800;
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
    INSERT INTO counted(t) SELECT title FROM items WHERE id <= 700;
    CREATE VIEW large AS SELECT * FROM items WHERE size > 90;
    CREATE TABLE gone(x); INSERT INTO gone SELECT randomblob(900) FROM items WHERE id < 200; DROP TABLE gone; ANALYZE;";

/// Every row of every table, with its rowid where it has one.
pub(crate) type Rows = BTreeMap<String, BTreeSet<String>>;

pub(crate) struct Patient {
    dir: tempfile::TempDir,
    pub(crate) db: PathBuf,
    pub(crate) page_size: usize,
    pub(crate) bytes: Vec<u8>,
    truth: Rows,
    pub(crate) random: Random,
}

/// Rows that are back exactly.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) ours: usize,
    pub(crate) theirs: usize,
    pub(crate) all: usize,
    pub(crate) repaired: Result<Repaired, SqliteError>,
}

impl Patient {
    pub(crate) fn new(form: &str, page_size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("library.db");
        let connection = Connection::open(&db).unwrap();
        connection.execute_batch(&format!("PRAGMA page_size={page_size}; {form} {LIBRARY}")).unwrap();
        connection.close().unwrap();
        let (truth, bytes) = (rows(&db), std::fs::read(&db).unwrap());
        Self { dir, db, page_size, bytes, truth, random: Random(7) }
    }

    /// Pages of an object, by SQLite's word.
    pub(crate) fn of(&self, object: &str, kind: &str) -> Vec<usize> {
        pages_of(&self.db, object, kind)
    }

    pub(crate) fn page(&mut self, number: usize) -> &mut [u8] {
        &mut self.bytes[(number - 1) * self.page_size..number * self.page_size]
    }

    /// The damaged image by both; never fewer rows by ours, and nothing called complete that is not.
    #[track_caller]
    pub(crate) fn compare(&self, what: &str) -> Back {
        let dead = self.dir.path().join("dead.db");
        std::fs::write(&dead, &self.bytes).unwrap();
        self.compare_at(&dead, what)
    }

    #[track_caller]
    pub(crate) fn compare_at(&self, dead: &Path, what: &str) -> Back {
        let work = tempfile::tempdir_in(self.dir.path()).unwrap();
        let into = work.path().join("theirs.db");
        // It opens the file itself, and may take a journal in.
        let copy = work.path().join("copy.db");
        for suffix in ["", "-wal", "-journal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            if name(dead).exists() {
                std::fs::copy(name(dead), name(&copy)).unwrap();
            }
        }
        theirs::recover(&copy, &into);
        let theirs = self.exact(&into);
        let place = work.path().join("work");
        std::fs::create_dir(&place).unwrap();
        let repaired = repair(RepairInput {
            copy: dead,
            work: &place,
            reference: None,
            program: None,
            only: None,
            log_losses: &[],
            cancel: &Cancel::new().unwrap(),
            observer: &Silent,
        });
        let ours = repaired.as_ref().map_or(0, |repaired| self.exact(&repaired.file));
        let all: usize = self.truth.values().map(BTreeSet::len).sum();
        let told = repaired.as_ref().map_or_else(|e| vec![e.to_string()], |r| r.accounting.losses());
        let line = format!("{what}: {ours} of {all} rows, .recover {theirs}: {told:?}");
        assert!(ours >= theirs, "{line}");
        if let Ok(repaired) = &repaired {
            assert!(!repaired.accounting.complete || rows(&repaired.file) == self.truth, "{line}");
        }
        Back { ours, theirs, all, repaired }
    }

    fn exact(&self, db: &Path) -> usize {
        let back = rows(db);
        let of = |(table, rows): (&String, &BTreeSet<String>)| {
            back.get(table).map_or(0, |now| rows.intersection(now).count())
        };
        self.truth.iter().map(of).sum()
    }
}

/// What SQLite reads, as far as it does.
pub(crate) fn rows(db: &Path) -> Rows {
    let mut all = Rows::new();
    let Ok(connection) = Connection::open(db) else { return all };
    let sql = "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema WHERE type = 'table' AND rootpage > 0
        AND name NOT LIKE 'sqlite_stat%'";
    let Ok(mut tables) = connection.prepare(sql) else { return all };
    let tables: Vec<(String, bool)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().flatten().collect();
    for (table, without_rowid) in tables {
        let rowid = if without_rowid { "" } else { "rowid, " };
        let Ok(mut statement) = connection.prepare(&format!("SELECT {rowid}* FROM \"{table}\"")) else { continue };
        let columns = statement.column_count();
        let Ok(mut rows) = statement.query([]) else { continue };
        let mut set = BTreeSet::new();
        while let Ok(Some(row)) = rows.next() {
            let values: Vec<ValueRef<'_>> = (0..columns).map(|column| row.get_ref(column).unwrap()).collect();
            set.insert(format!("{values:?}"));
        }
        drop(rows);
        all.insert(table, set);
    }
    all
}
