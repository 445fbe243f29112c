//! Whatever SQLite calls whole, the check calls whole; and it has looked at all of it.

use super::*;
use crate::database::sqlite::pages::{Consistency, ObjectKind, Report, Schema};
use crate::sqlite_locks::testing::{Task, Writer};

/// Tables and indices of all kinds, with rows that have been changed and removed.
pub(super) const EVERYTHING: &str = "
    CREATE TABLE plain(id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE UNIQUE, b REAL, c BLOB, d INT NOT NULL DEFAULT 3);
    CREATE INDEX plain_b ON plain(b DESC, a);
    CREATE INDEX plain_c ON plain(c);
    CREATE INDEX plain_partial ON plain(d) WHERE d > 100;
    CREATE INDEX plain_expression ON plain(lower(a), d);
    CREATE TABLE keyed(k TEXT, n INTEGER, v BLOB, w TEXT COLLATE RTRIM, PRIMARY KEY(n DESC, k)) WITHOUT ROWID;
    CREATE INDEX keyed_w ON keyed(w, n);
    CREATE UNIQUE INDEX keyed_v ON keyed(v);
    CREATE TABLE made(a INTEGER, b AS (a * 2) VIRTUAL, c TEXT AS (a || 'x') STORED, d);
    CREATE INDEX made_b ON made(b);
    CREATE INDEX made_c ON made(c, d);
    CREATE TABLE loose(x, y, z);
    CREATE INDEX loose_all ON loose(x, y, z);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
    INSERT INTO plain SELECT i * 7, 'Name ' || (i * 7919 % 900), i / 4.0,
        CASE WHEN i % 50 = 0 THEN randomblob(i * 20) WHEN i % 3 = 0 THEN NULL ELSE 'x' || i END, i FROM n;
    INSERT INTO keyed SELECT a, d % 40, CASE WHEN d % 60 = 0 THEN zeroblob(9000) || d ELSE d || a END, a || '  ' FROM plain;
    INSERT INTO made SELECT d, b FROM plain;
    INSERT INTO loose SELECT a, b, c FROM plain UNION ALL SELECT b, c, d FROM plain UNION ALL SELECT NULL, 1e300, -0.0;
    INSERT INTO loose VALUES(9007199254740993, 9007199254740992.0, 4.0), (zeroblob(0), '', x'');
    INSERT INTO counted(t) SELECT a FROM plain;
    ALTER TABLE loose ADD COLUMN young TEXT DEFAULT 'old';
    ALTER TABLE loose ADD COLUMN number NUMERIC DEFAULT '12.50';
    ALTER TABLE loose ADD COLUMN word TEXT DEFAULT 7;
    CREATE INDEX loose_young ON loose(young, number, word, x);
    INSERT INTO loose(x, young) VALUES(1, 'new');
    DELETE FROM plain WHERE d % 11 = 3;
    UPDATE plain SET c = randomblob(3000) WHERE d % 100 = 1;
    DELETE FROM counted WHERE id > 700;
    CREATE TABLE gone(x); INSERT INTO gone SELECT randomblob(900) FROM plain; DROP TABLE gone;
    CREATE VIEW seen AS SELECT * FROM plain;
    ANALYZE;";

/// SQLite's own word; nothing is left beside.
pub(super) fn integrity(db: &Path) -> Vec<String> {
    let connection = Connection::open(db).unwrap();
    let Ok(mut statement) = connection.prepare("PRAGMA integrity_check") else {
        return vec!["no answer".to_owned()];
    };
    let Ok(rows) = statement.query_map([], |row| row.get(0)) else {
        return vec!["no answer".to_owned()];
    };
    rows.map(|row| row.unwrap_or_else(|error| error.to_string())).filter(|line: &String| line != "ok").collect()
}

fn assert_clean(place: &Place, what: &str) -> Report {
    let before = place.contents();
    let report = place.check();
    assert_eq!(report.findings, [], "{what}");
    let own = place.check_own();
    assert_eq!(own.consistency, Consistency::Own);
    assert_eq!((&own.findings, &own.trees, &own.uses), (&report.findings, &report.trees, &report.uses), "{what}");
    assert_eq!(place.contents(), before, "{what}: something was written");
    assert_eq!(integrity(&place.db), Vec::<String>::new(), "{what}");
    let connection = Connection::open(&place.db).unwrap();
    for tree in report.trees.iter().filter(|tree| tree.kind == ObjectKind::Table) {
        let sql = format!("SELECT count(*) FROM \"{}\"", tree.name);
        let rows: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(tree.entries as i64, rows, "{what}: {}", tree.name);
    }
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap();
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    assert_eq!((report.uses.free as i64, i64::from(report.pages)), (free, pages), "{what}");
    assert_eq!(report.uses.never, 0);
    report
}

#[test]
fn every_kind_of_table_in_every_format_is_clean() {
    for page_size in [512, 1024, 4096, 16384, 65536] {
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            for vacuum in [0, 1, 2] {
                let what = format!("{page_size} {encoding} {vacuum}");
                let place = Place::new(&format!(
                    "PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; {EVERYTHING}"
                ));
                let report = assert_clean(&place, &what);
                assert_eq!(report.consistency, Consistency::Quiet);
                let skipped: Vec<&str> = report.not_checked.iter().map(|n| n.object.as_str()).collect();
                assert_eq!(skipped, ["plain_partial", "plain_expression", "made_b"], "{what}");
                // Of plain 3, keyed 2, made 1, loose 2, counted 1, and none that was not meant to be.
                assert_eq!(report.indices_compared, 9, "{what}");
                assert_eq!(report.uses.kept > 0, vacuum > 0);
            }
        }
    }
}

#[test]
fn records_whose_header_is_longer_than_a_page_are_read() {
    let columns: Vec<String> = (0..1500).map(|n| format!("c{n}")).collect();
    let place = Place::new(&format!(
        "PRAGMA page_size=512; CREATE TABLE wide({}); CREATE INDEX first ON wide(c3, c700); CREATE INDEX last ON wide(c1400);
         CREATE INDEX many ON wide({});
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
         INSERT INTO wide(c0, c3, c699, c700, c1400, c1499) SELECT i, 'x' || i, randomblob(i * 90), i * 2.5, i * i, i FROM n;",
        columns.join(","),
        columns[600..900].join(",")
    ));
    let report = assert_clean(&place, "wide");
    assert_eq!((report.indices_compared, report.trees[1].entries), (3, 40));
}

#[test]
fn reserved_bytes_are_no_part_of_a_page() {
    for (page_size, reserved) in [(512_usize, 32_u8), (4096, 8), (65536, 255), (1024, 255)] {
        let place = Place::new(&format!("PRAGMA page_size={page_size}; CREATE TABLE t(x); DROP TABLE t; VACUUM;"));
        let mut bytes = std::fs::read(&place.db).unwrap();
        assert_eq!(bytes.len(), page_size);
        bytes[20] = reserved;
        let content = u16::try_from((page_size - usize::from(reserved)) % 65536).unwrap();
        bytes[105..107].copy_from_slice(&content.to_be_bytes());
        std::fs::write(&place.db, bytes).unwrap();
        place.run(EVERYTHING);
        assert_eq!(place.view().image().layout().usable, page_size - usize::from(reserved));
        assert_clean(&place, &format!("{page_size} less {reserved}"));
    }
}

#[test]
fn full_text_and_other_virtual_tables_are_named_and_their_pages_checked() {
    let place = Place::new(
        "CREATE VIRTUAL TABLE f5 USING fts5(a, b); CREATE VIRTUAL TABLE f4 USING fts4(a);
         CREATE VIRTUAL TABLE r USING rtree(id, x0, x1);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO f5 SELECT 'word' || (i % 97), 'other ' || i FROM n;
         INSERT INTO f4 SELECT a || ' ' || b FROM f5;
         INSERT INTO r SELECT rowid, rowid, rowid + 1 FROM f5;",
    );
    let report = place.check();
    assert_eq!(report.findings, []);
    let skipped: Vec<&str> = report.not_checked.iter().map(|n| n.object.as_str()).collect();
    assert!(["f5", "f4", "r"].iter().all(|name| skipped.contains(name)), "{skipped:?}");
    assert!(report.trees.iter().any(|tree| tree.name == "f5_data" && tree.entries > 10));
}

#[test]
fn a_collation_that_only_the_service_has_is_needed_for_nothing() {
    let place = Place::new("CREATE TABLE first(x)");
    let connection = Connection::open(&place.db).unwrap();
    connection.create_collation("icu_root", |a: &str, b: &str| b.len().cmp(&a.len()).then(b.cmp(a))).unwrap();
    batch(
        &connection,
        "CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT COLLATE icu_root, year INT);
         CREATE UNIQUE INDEX items_title ON items(title);
         CREATE INDEX items_year ON items(year, title);
         CREATE TABLE keyed(k TEXT COLLATE icu_root PRIMARY KEY, v) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO items SELECT i, 'Title ' || (i * 7919 % 3000), 1900 + i % 130 FROM n;
         INSERT INTO keyed SELECT title, id FROM items;",
    );
    connection.close().unwrap();
    let report = place.check();
    assert_eq!(report.findings, []);
    assert_eq!((report.indices_compared, report.not_checked.len()), (2, 0));
    assert!(!integrity(&place.db).is_empty(), "the control: SQLite can't do without it");

    // The order of what is SQLite's own is still judged: two years change places, in the index only.
    let mut bytes = std::fs::read(&place.db).unwrap();
    let root = Schema::read(place.view().image()).objects.iter().find(|o| o.name == "items_year").unwrap().root;
    let page = report.page_size * (root as usize - 1)..report.page_size * root as usize;
    let pointers = page.start + 12;
    for byte in 0..2 {
        bytes.swap(pointers + byte, pointers + 2 + byte);
    }
    std::fs::write(&place.db, bytes).unwrap();
    let kinds: Vec<_> = place.check().findings.iter().map(|f| f.kind).collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == crate::database::sqlite::pages::FindingKind::KeyOrder)
    );
}

#[test]
fn a_database_in_use_is_checked_as_of_its_last_commit_and_left_alone() {
    for (mode, consistency) in [("WAL", Consistency::ReadMark), ("DELETE", Consistency::Compared)] {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
        let setup = format!("PRAGMA journal_mode={mode}; PRAGMA wal_autocheckpoint=0");
        let writer = Writer::start(&[&place.db], &setup, Task::Idle(300));
        let before = place.contents();
        let report = place.check();
        assert_eq!(place.contents(), before, "{mode}");
        assert_eq!(report.findings, [], "{mode}");
        assert_eq!(report.consistency, consistency, "{mode}");
        assert_eq!(report.trees[1].entries, 300, "{mode}");
        writer.finish();
    }
}

/// Keeps what it is told.
#[derive(Default)]
struct Told {
    steps: std::sync::Mutex<Vec<String>>,
    bytes: std::sync::Mutex<Vec<(u64, u64)>>,
}

impl crate::progress::Observer for Told {
    fn step(&self, what: &str) {
        self.steps.lock().unwrap().push(what.to_owned());
    }
    fn bytes(&self, done: u64, total: u64) {
        self.bytes.lock().unwrap().push((done, total));
    }
}

#[test]
fn the_number_of_threads_changes_nothing_and_progress_is_told() {
    let place = Place::new(&format!("PRAGMA page_size=512; {EVERYTHING}"));
    let reports = [1, 2, 8].map(|threads| {
        let told = Told::default();
        let options = CheckOptions { threads: Some(threads), ..CheckOptions::default() };
        let report = check(&place.db, &options, &place.cancel, &told).unwrap();
        assert_eq!(*told.steps.lock().unwrap(), ["reading the schema", "checking every page"]);
        let bytes = told.bytes.lock().unwrap();
        assert!(bytes.len() > 1 && bytes.iter().all(|(done, total)| done <= total), "{bytes:?}");
        report
    });
    assert!(reports[0].is_clean());
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
}

#[test]
fn an_end_that_is_asked_for_comes() {
    let place = Place::new(EVERYTHING);
    place.cancel.request();
    let error = check(&place.db, &CheckOptions::default(), &place.cancel, &Silent).unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
}

#[test]
fn what_is_rare_and_healthy_is_clean() {
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)";
    for sql in [
        format!("CREATE TABLE t(a); CREATE INDEX i ON t(length(a) DESC); {rows} INSERT INTO t SELECT substr(hex(zeroblob(200)), 1, i) FROM n"),
        format!(
            "CREATE TABLE t(a, b); CREATE INDEX i ON t(a || b COLLATE NOCASE, (b || a) COLLATE NOCASE DESC);
             {rows} INSERT INTO t SELECT char(60 + i % 60), char(120 - i % 60) FROM n"
        ),
        format!("CREATE TABLE t(a INTEGER(11) PRIMARY KEY, b); CREATE INDEX i ON t(b, a); {rows} INSERT INTO t SELECT i * 3, i % 7 FROM n"),
        format!("CREATE TABLE t(a, b, PRIMARY KEY(a)) WITHOUT ROWID; CREATE INDEX i ON t((a)); {rows} INSERT INTO t SELECT i, i FROM n"),
        format!("CREATE TABLE t(a UNIQUE, b, PRIMARY KEY(a, a)) WITHOUT ROWID; {rows} INSERT INTO t SELECT i, i FROM n"),
        format!("CREATE TABLE t(a, b, UNIQUE(a, b), PRIMARY KEY(a, b, a DESC)) WITHOUT ROWID; {rows} INSERT INTO t SELECT i, i FROM n"),
        "CREATE TABLE \"syntax error\"(a); CREATE INDEX i ON \"syntax error\"(a);
         CREATE TABLE \"incomplete input\"(a); CREATE INDEX j ON \"incomplete input\"(a);
         CREATE TABLE \"unrecognized token\"(a);
         CREATE TRIGGER k AFTER INSERT ON \"unrecognized token\" BEGIN SELECT 1; END"
            .to_owned(),
        "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b); CREATE INDEX i ON t(b); INSERT INTO t(b) VALUES(1), (2); ANALYZE;
         INSERT INTO sqlite_stat1 VALUES(NULL, NULL, NULL); INSERT INTO sqlite_sequence VALUES(NULL, NULL)"
            .to_owned(),
    ] {
        assert_clean(&Place::new(&sql), &sql);
    }
}

#[test]
fn rows_that_are_older_than_a_column_have_the_default_that_sqlite_gives_them() {
    let mut sql = String::new();
    let defaults = [
        ("TEXT", "-0"),
        ("TEXT", "00099999999999"),
        ("TEXT", "-99999999999"),
        ("TEXT", "007"),
        ("INT", "0x9e1c7fef"),
        ("", "0x9e1c7fef"),
        ("BLOB", "-0x9e1c7fef"),
        ("REAL", "0x7fffffffffffffff"),
        ("INT", "-0x7f"),
        ("INT", "'\u{b}5'"),
        ("INT", "'\u{85}5'"),
        ("REAL", "' -5\u{c}'"),
        ("REAL", "1.5e3"),
        ("INT", "1040791683054012530952"),
        ("REAL", "0.1234567890123456789"),
    ];
    for (number, (kind, default)) in defaults.iter().enumerate() {
        sql.push_str(&format!(
            "CREATE TABLE t{number}(a); INSERT INTO t{number} VALUES(1);
             ALTER TABLE t{number} ADD COLUMN c {kind} DEFAULT {default}; CREATE INDEX i{number} ON t{number}(c);"
        ));
    }
    let report = assert_clean(&Place::new(&sql), "defaults");
    let not_compared: Vec<&str> = report.not_checked.iter().map(|n| n.object.as_str()).collect();
    assert_eq!(not_compared, ["i1", "i4", "i5", "i6", "i7", "i13", "i14"]);
}
