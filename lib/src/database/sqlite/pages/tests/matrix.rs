//! The matrix of corruption cases: each is found, named, and its loss told; SQLite's own check says the same where it
//! sees it at all.

use super::healthy::integrity;
use super::*;
use crate::database::sqlite::pages::FindingKind as Kind;
use crate::database::sqlite::pages::{Loss, Met};
use crate::database::sqlite::tests::random::Random;

/// One table with blobs and two indices, another without; some free pages.
const LIBRARY: &str = "PRAGMA page_size=1024;
    CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT, size INT, data BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO items SELECT i, 'Title ' || (i * 7919 % 6000), i % 97, CASE i % 40 WHEN 0 THEN randomblob(6000) END FROM n;
    CREATE INDEX items_title ON items(title);
    CREATE INDEX items_size ON items(size);
    CREATE TABLE other(x);
    INSERT INTO other SELECT title FROM items WHERE id < 500;
    DELETE FROM other WHERE rowid > 50;";

struct Pages {
    place: Place,
    bytes: Vec<u8>,
    random: Random,
}

impl Pages {
    fn new() -> Self {
        let place = Place::new(LIBRARY);
        let bytes = std::fs::read(&place.db).unwrap();
        Self { place, bytes, random: Random(7) }
    }

    /// Pages of an object, by SQLite's word; `at_root` for the root only.
    fn of(&self, object: &str, kind: &str) -> Vec<usize> {
        let connection = Connection::open(&self.place.db).unwrap();
        let mut statement =
            connection.prepare("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno").unwrap();
        let pages = statement.query_map([object, kind], |row| row.get::<_, i64>(0)).unwrap();
        pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
    }

    fn root(&self, object: &str) -> usize {
        let connection = Connection::open(&self.place.db).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        usize::try_from(connection.query_row(sql, [object], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
    }

    fn some(&mut self, pages: &[usize], count: usize) -> Vec<usize> {
        let mut left = pages.to_vec();
        (0..count.min(pages.len())).map(|_| left.swap_remove(self.random.below(left.len()))).collect()
    }

    fn page(&mut self, number: usize) -> &mut [u8] {
        &mut self.bytes[(number - 1) * 1024..number * 1024]
    }

    /// Writes the image, and checks it by both.
    fn judge(&self) -> (Report, Vec<String>) {
        std::fs::write(&self.place.db, &self.bytes).unwrap();
        let report = self.place.check();
        assert_eq!(std::fs::read(&self.place.db).unwrap(), self.bytes);
        (report, integrity(&self.place.db))
    }

    /// Both find it; ours calls it that.
    fn expect(&self, kind: Kind, object: Option<&str>, rows_at_risk: bool) -> Report {
        let (report, theirs) = self.judge();
        assert!(!theirs.is_empty(), "SQLite does not see it: {:?}", report.findings);
        let found =
            report.findings.iter().any(|f| f.kind == kind && object.is_none_or(|o| f.object.as_deref() == Some(o)));
        assert!(found, "{kind:?} of {object:?} is not in {:?}", report.findings);
        assert_eq!(report.rows_at_risk(), rows_at_risk, "{:?}", report.findings);
        report
    }
}

fn tree<'a>(report: &'a Report, name: &str) -> &'a super::super::TreeReport {
    report.trees.iter().find(|tree| tree.name == name).unwrap()
}

#[test]
fn a_damaged_header_is_found_and_the_pages_are_read_all_the_same() {
    let mut pages = Pages::new();
    pages.bytes[3] = b'X';
    let report = pages.expect(Kind::Header, None, true);
    assert_eq!((report.page_size, tree(&report, "items").entries), (1024, 6000));
    let mut pages = Pages::new();
    for size in [[0x10, 0], [0, 7], [2, 0], [0, 1]] {
        pages.bytes[16..18].copy_from_slice(&size);
        let report = pages.expect(Kind::Header, None, true);
        assert_eq!((report.page_size, tree(&report, "items").entries), (1024, 6000), "{size:?}");
    }
    let mut pages = Pages::new();
    pages.bytes[..1024].fill(0);
    let report = pages.expect(Kind::Header, None, true);
    assert_eq!(report.page_size, 1024);
    assert!(report.uses.never > 100);
}

#[test]
fn a_page_size_that_can_not_be_is_the_one_that_the_number_of_pages_gives() {
    let place = Place::new(
        "PRAGMA page_size=1024; CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE INDEX tx ON t(x);
        CREATE TABLE g(x); INSERT INTO g VALUES(zeroblob(20000)); DROP TABLE g;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT i, 'x' || i FROM n;",
    );
    let mut bytes = std::fs::read(&place.db).unwrap();
    bytes[16] = 5;
    std::fs::write(&place.db, bytes).unwrap();
    let report = place.check();
    assert_eq!((report.page_size, tree(&report, "t").entries), (1024, 500));
}

#[test]
fn what_is_no_database_is_refused() {
    let place = Place::new("CREATE TABLE t(x)");
    let text = "\nsome text\r, long enough for many pages\n".repeat(9000);
    for content in [&b"SQLite"[..], &[0; 9000], text.as_bytes(), &[10; 70_000]] {
        std::fs::write(&place.db, content).unwrap();
        let error = check(&place.db, &CheckOptions::default(), &place.cancel, &Silent).unwrap_err();
        assert!(error.to_string().contains("is not a SQLite database"), "{error}");
    }
    std::fs::write(&place.db, "").unwrap();
    assert!(check(&place.db, &CheckOptions::default(), &place.cancel, &Silent).is_err());
}

#[test]
fn zeroed_pages_are_found_and_the_whole_indices_say_how_many_rows_there_were() {
    let mut pages = Pages::new();
    let root = pages.root("items");
    pages.page(root).fill(0);
    let report = pages.expect(Kind::PageType, Some("items"), true);
    assert_eq!(tree(&report, "items").rows_by_index, Some(6000));
    assert_eq!(report.findings.iter().find(|f| f.kind == Kind::PageType).unwrap().page, Some(root as u32));

    let mut pages = Pages::new();
    let interior = pages.of("items", "internal");
    let one = interior.into_iter().find(|page| *page != root).unwrap();
    pages.page(one).fill(0);
    let report = pages.expect(Kind::PageType, Some("items"), true);
    let reached = tree(&report, "items").entries;
    assert!(tree(&report, "items").damaged && (3000..6000).contains(&reached), "{reached}");
    // What nothing leads to any more is told, and can be read all the same.
    let view = pages.place.view();
    let mut orphans = 0;
    for page in report.never_used.iter().flat_map(|(first, last)| *first..=*last) {
        let _no_leaf = view.image().rows_of_page(page, 100, &mut |met| {
            orphans += u64::from(matches!(met, Met::Row { .. }));
            true
        });
    }
    assert_eq!(reached + orphans, 6000);
    drop(view);

    let mut pages = Pages::new();
    let leaves = pages.of("items", "leaf");
    for page in pages.some(&leaves, 20) {
        pages.page(page).fill(0);
    }
    let report = pages.expect(Kind::PageType, Some("items"), true);
    assert_eq!(report.totals[&Kind::PageType], 20);
    assert_eq!(tree(&report, "items").rows_by_index, Some(6000));
    // The pages around a lost one say which rows it had: all ids are in use, so they can be counted.
    let lost: i64 =
        report.findings.iter().filter_map(|f| f.rowids).map(|r| r.up_to.unwrap_or(6000) - r.after.unwrap_or(0)).sum();
    assert_eq!(tree(&report, "items").entries as i64 + lost, 6000);
    assert!(lost > 20);
}

#[test]
fn damage_within_pages_is_found() {
    let mut pages = Pages::new();
    let leaves = pages.of("items", "leaf");
    for page in pages.some(&leaves, 20) {
        let (offset, bit) = (8 + pages.random.below(1016), pages.random.below(8));
        pages.page(page)[offset] ^= 1 << bit;
    }
    pages.expect(Kind::Record, None, true);

    let mut pages = Pages::new();
    for page in pages.some(&leaves, 20) {
        let header = [pages.random.next(), pages.random.next()];
        pages.page(page)[..8].copy_from_slice(&header[0].to_le_bytes());
    }
    pages.expect(Kind::PageType, Some("items"), true);

    let mut pages = Pages::new();
    for page in pages.some(&leaves, 10) {
        pages.page(page)[512..].fill(0);
    }
    let (report, theirs) = pages.judge();
    assert!(!theirs.is_empty() && report.rows_at_risk());

    let mut pages = Pages::new();
    let chains = pages.of("items", "overflow");
    for page in pages.some(&chains, 10) {
        pages.page(page).fill(0);
    }
    pages.expect(Kind::OverflowChain, Some("items"), true);
}

#[test]
fn damage_of_indices_and_of_the_freelist_puts_no_row_at_risk() {
    let mut pages = Pages::new();
    let leaves = pages.of("items_title", "leaf");
    for page in pages.some(&leaves, 20) {
        pages.page(page).fill(0);
    }
    let report = pages.expect(Kind::PageType, Some("items_title"), false);
    assert!(report.findings.iter().all(|f| matches!(f.loss, Loss::Index)), "{:?}", report.findings);
    assert_eq!(tree(&report, "items").entries, 6000);
    assert!(!tree(&report, "items").damaged);

    let mut pages = Pages::new();
    let trunk = u32::from_be_bytes(pages.bytes[32..36].try_into().unwrap()) as usize;
    assert!(trunk > 0);
    pages.page(trunk)[4..8].copy_from_slice(&3_000_000_u32.to_be_bytes());
    let report = pages.expect(Kind::Freelist, None, false);
    assert!(report.findings.iter().all(|f| f.loss == Loss::Nothing), "{:?}", report.findings);
}

#[test]
fn an_index_that_does_not_agree_with_its_table_is_found() {
    // One row was removed, and the index is as it was before.
    let mut pages = Pages::new();
    let index: Vec<usize> = ["leaf", "internal"].iter().flat_map(|kind| pages.of("items_size", kind)).collect();
    pages.place.run("DELETE FROM items WHERE id = 17");
    let old = std::mem::replace(&mut pages.bytes, std::fs::read(&pages.place.db).unwrap());
    for page in index {
        pages.page(page).copy_from_slice(&old[(page - 1) * 1024..page * 1024]);
    }
    let report = pages.expect(Kind::IndexMismatch, Some("items_size"), true);
    let found = report.findings.iter().find(|f| f.kind == Kind::IndexMismatch).unwrap();
    assert!(found.what.contains("6000 entries") && found.what.contains("5999 rows"), "{}", found.what);
    assert!(found.rows == [17] && found.what.ends_with("in the index only: row 17"), "{found:?}");

    // The same number, another value: one letter of a title, in the table only.
    let mut pages = Pages::new();
    let at = pages.of("items", "leaf").into_iter().find_map(|page| {
        let page_bytes = &pages.bytes[(page - 1) * 1024..page * 1024];
        page_bytes.windows(6).position(|w| w == b"Title ").map(|offset| (page, offset))
    });
    let (page, offset) = at.unwrap();
    pages.page(page)[offset] = b'S';
    let report = pages.expect(Kind::IndexMismatch, Some("items_title"), true);
    assert_eq!(report.indices_compared, 2);
    assert!(report.findings[0].rows.len() == 1 && report.findings[0].what.contains("not the same: row "));
    assert!(report.findings.iter().all(|f| f.object.as_deref() == Some("items_title")));
}

#[test]
fn entries_of_a_partial_index_that_are_those_of_no_row_are_found() {
    for (key, tail) in
        [("id INTEGER PRIMARY KEY", ""), ("id TEXT PRIMARY KEY", ""), ("id TEXT PRIMARY KEY", " WITHOUT ROWID")]
    {
        let place = Place::new(&format!(
            "CREATE TABLE t({key}, x TEXT, done INT, late DEFAULT 7){tail}; CREATE INDEX open ON t(x, late) WHERE done IS NULL;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
             INSERT INTO t(id, x) SELECT i, 'x ' || i FROM n;"
        ));
        let before = std::fs::read(&place.db).unwrap();
        // That a row should not be in it, or no more, is not judged.
        place.run("UPDATE t SET done = 1 WHERE id = 50");
        assert!(place.check().is_clean());
        place.run("DELETE FROM t WHERE CAST(id AS INT) IN (11, 12); UPDATE t SET x = 'other' WHERE id = 20");
        let mut bytes = std::fs::read(&place.db).unwrap();
        let connection = Connection::open(&place.db).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'open'";
        let root = usize::try_from(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()).unwrap();
        connection.close().unwrap();
        bytes[(root - 1) * 4096..root * 4096].copy_from_slice(&before[(root - 1) * 4096..root * 4096]);
        std::fs::write(&place.db, bytes).unwrap();
        let report = place.check();
        let found: Vec<_> = report.findings.iter().filter(|f| f.kind == Kind::IndexMismatch).collect();
        assert!(found.len() == 1 && found[0].what.starts_with("3 of its entries"), "{:?}", report.findings);
        let rows: &[i64] = if tail.is_empty() { &[11, 12, 20] } else { &[] };
        assert!(found[0].rows == rows && report.rows_at_risk(), "{found:?}");
    }
}

#[test]
fn a_file_that_was_cut_is_found() {
    let mut pages = Pages::new();
    let len = pages.bytes.len() * 6 / 10;
    pages.bytes.truncate(len);
    let report = pages.expect(Kind::PageNumber, Some("items"), true);
    assert!(report.totals.contains_key(&Kind::Header) && tree(&report, "items").entries > 1000);

    // Free pages at the end, by a part of one.
    let place = Place::new("CREATE TABLE a(x); INSERT INTO a VALUES(1); CREATE TABLE b(x);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO b SELECT randomblob(900) FROM n;
        DROP TABLE b;");
    let len = std::fs::metadata(&place.db).unwrap().len();
    std::fs::File::options().write(true).open(&place.db).unwrap().set_len(len - 1000).unwrap();
    let report = place.check();
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::FileLength]);
    assert!(!report.rows_at_risk());
}

#[test]
fn a_damaged_definition_is_found() {
    let mut pages = Pages::new();
    let at = pages.bytes.windows(12).position(|w| w == b"CREATE TABLE").unwrap();
    pages.bytes[at..at + 12].fill(b'?');
    let (report, theirs) = pages.judge();
    assert!(!theirs.is_empty());
    assert!(report.is_damaged() && report.rows_at_risk(), "{:?}", report.findings);
}

#[test]
fn constraints_that_are_broken_are_found() {
    let place = Place::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE INDEX t_a ON t(a);
        INSERT INTO t VALUES(1, 'x', 1), (2, 'x', NULL), (3, NULL, 2), (4, NULL, 2);",
    );
    let connection = Connection::open(&place.db).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    batch(
        &connection,
        "PRAGMA writable_schema=1;
         UPDATE sqlite_schema SET sql='CREATE TABLE t(id INTEGER PRIMARY KEY, a, b NOT NULL)' WHERE name='t';
         UPDATE sqlite_schema SET sql='CREATE UNIQUE INDEX t_a ON t(a)' WHERE name='t_a';",
    );
    connection.close().map_err(|(_, e)| e).unwrap();
    let report = place.check();
    let kinds: Vec<Kind> = report.findings.iter().map(|f| f.kind).collect();
    // NULLs are never equal.
    assert_eq!((kinds.len(), report.totals[&Kind::Duplicate], report.totals[&Kind::NullValue]), (2, 1, 1), "{kinds:?}");
    assert_eq!(integrity(&place.db).len(), 2);
}
