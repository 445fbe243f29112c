//! The databases that are damaged, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use svckit_testbed::corruptor::{Damage, Files};

/// Every row of every table, with its rowid where it has one, as a hash.
pub(crate) type Rows = BTreeMap<String, BTreeSet<u64>>;

/// A form of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pragmas: &'static str,
    pub(crate) page_size: usize,
    /// Commits that are only in the log.
    has_log: bool,
}

const fn form(name: &'static str, pragmas: &'static str, page_size: usize, has_log: bool) -> Form {
    Form { name, pragmas, page_size, has_log }
}

pub(crate) const FORMS: [Form; 8] = [
    form("pages of 1024", "", 1024, false),
    form("auto-vacuum, 512", "PRAGMA auto_vacuum=1;", 512, false),
    form("UTF-16le, 4096", "PRAGMA encoding='UTF-16le';", 4096, false),
    form("with a log, 1024", "", 1024, true),
    form("UTF-16be, incremental, 2048", "PRAGMA encoding='UTF-16be'; PRAGMA auto_vacuum=2;", 2048, false),
    form("pages of 65536", "", 65_536, false),
    form("with a log, auto-vacuum, 4096", "PRAGMA auto_vacuum=1;", 4096, true),
    form("pages of 8192", "", 8192, false),
];

/// A table of every kind.
const LIBRARY: &str = "
    CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT NOT NULL, size INTEGER, added REAL, cover BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
    INSERT INTO items SELECT i, 'title ' || i || ' of the library', i % 97, i / 8.0,
        CASE WHEN i % 50 = 0 THEN randomblob(6000) END FROM n;
    CREATE INDEX items_title ON items(title);
    CREATE INDEX items_size ON items(size) WHERE size > 50;
    CREATE INDEX items_lower ON items(upper(title));
    CREATE TABLE plays(at REAL, item INT, who TEXT);
    INSERT INTO plays SELECT id / 4.0, id, 'person ' || (id % 7) FROM items WHERE id % 3 = 0;
    CREATE TABLE settings(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO settings SELECT 'key ' || id, CASE WHEN id % 40 = 0 THEN randomblob(5000) ELSE title END
        FROM items WHERE id <= 400;
    CREATE TABLE made(a INTEGER, b AS (a * 2) VIRTUAL, c TEXT AS (a || 'x') STORED, d);
    INSERT INTO made(a, d) SELECT id, title FROM items WHERE id <= 200;
    CREATE INDEX made_b ON made(b);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
    INSERT INTO counted(t) SELECT title FROM items WHERE id <= 300;
    DELETE FROM counted WHERE id > 250;
    CREATE VIRTUAL TABLE words USING fts5(body);
    INSERT INTO words SELECT title FROM items WHERE id <= 300;
    CREATE VIEW large AS SELECT * FROM items WHERE size > 90;
    CREATE TRIGGER played AFTER INSERT ON plays BEGIN UPDATE items SET size = size + 1 WHERE id = new.item; END;
    CREATE TABLE gone(x); INSERT INTO gone SELECT randomblob(900) FROM items WHERE id < 60; DROP TABLE gone;
    PRAGMA user_version=77; PRAGMA application_id=1234; ANALYZE;";
/// What came after the last checkpoint.
const LATER: &str = "
    UPDATE items SET title = 'now ' || id WHERE id % 9 = 0; DELETE FROM items WHERE id % 100 = 7;
    INSERT INTO items(title, size) SELECT 'late ' || id, 5 FROM settings, items WHERE id < 3 LIMIT 60;
    UPDATE settings SET value = 'now' WHERE key LIKE '%5';";

/// A database, and what is in it.
pub(crate) struct Patient {
    pub(crate) form: Form,
    pub(crate) files: Files,
    pub(crate) truth: Rows,
    /// Every byte of the headers of a page of each kind, changed.
    pub(crate) headers: Vec<Damage>,
}

impl Patient {
    pub(crate) fn new(form: Form) -> Self {
        let directory = scratch();
        let db = directory.path().join("library.db");
        let connection = Connection::open(&db).unwrap();
        connection.execute_batch(&format!("PRAGMA page_size={}; {} {LIBRARY}", form.page_size, form.pragmas)).unwrap();
        if form.has_log {
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
            connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            // One commit each.
            for statement in LATER.split_inclusive(';') {
                connection.execute_batch(statement).unwrap();
            }
        }
        let read = |suffix: &&'static str| std::fs::read(side(&db, suffix)).ok().map(|bytes| (*suffix, bytes));
        let files: Files = ["", "-wal", "-shm"].iter().filter_map(read).collect();
        let truth = rows(&connection).unwrap();
        let headers = headers(&connection, &files[""], form.page_size);
        Self { form, files, truth, headers }
    }
}

/// Of one leaf and one interior page of each table and index: b-tree page headers (fileformat2.html, 1.6).
fn headers(connection: &Connection, bytes: &[u8], size: usize) -> Vec<Damage> {
    let sql = "SELECT pagetype = 'leaf', max(pageno) FROM dbstat WHERE pagetype IN ('leaf', 'internal')
        GROUP BY name, pagetype";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let mut damages = Vec::new();
    for (is_leaf, page) in pages.map(Result::unwrap) {
        let start = (usize::try_from(page).unwrap() - 1) * size + if page == 1 { 100 } else { 0 };
        for at in start..start + if is_leaf { 8 } else { 12 } {
            // Some are in the log only.
            let Some(&old) = bytes.get(at) else { continue };
            let new = BTreeSet::from([0, 0xff, old ^ 1, old ^ 0x80, old.wrapping_sub(1)]);
            damages.extend(new.into_iter().filter(|new| *new != old).map(|new| Damage::byte(at, new)));
        }
    }
    damages
}

/// In memory where that is possible.
pub(crate) fn scratch() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("svckit-damage-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

/// Puts the files where a repair finds them.
pub(crate) fn write(files: &Files, db: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match files.get(suffix) {
            Some(bytes) => std::fs::write(side(db, suffix), bytes).unwrap(),
            None => drop(std::fs::remove_file(side(db, suffix))),
        }
    }
}

pub(crate) fn side(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What SQLite reads, without its indices.
pub(crate) fn rows(connection: &Connection) -> rusqlite::Result<Rows> {
    let sql = "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";
    let mut tables = connection.prepare(sql)?;
    let tables: Vec<(String, bool)> =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut all = Rows::new();
    for (table, without_rowid) in tables {
        let rowid = if without_rowid { "" } else { "rowid, " };
        let mut statement = connection.prepare(&format!("SELECT {rowid}* FROM \"{table}\" NOT INDEXED"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut set = BTreeSet::new();
        while let Some(row) = rows.next()? {
            let mut hasher = DefaultHasher::new();
            for column in 0..columns {
                format!("{:?}", row.get_ref(column)?).hash(&mut hasher);
            }
            set.insert(hasher.finish());
        }
        drop(rows);
        all.insert(table, set);
    }
    Ok(all)
}
