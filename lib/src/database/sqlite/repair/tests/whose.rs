//! Pages whose owner is in question: those that two lead to, those that nobody does, and those that only an older page 1
//! calls free.

use super::*;
use crate::database::sqlite::pages::FindingKind;

/// Rows that a table has which page 1 does not know yet.
const ORDERS: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, cents INT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80)
    INSERT INTO orders SELECT i, 'customer ' || i, i * 100 FROM n;";

/// A database whose page 1 is as it was before [`ORDERS`].
fn with_an_older_first_page(before: &str) -> Patient {
    let mut patient = Patient::with("", 4096, before);
    let old = patient.page(1).to_vec();
    patient.change(ORDERS);
    patient.page(1).copy_from_slice(&old);
    patient
}

#[test]
fn a_table_on_pages_that_an_older_first_page_calls_free_is_set_aside() {
    let t = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t VALUES(1, 'one');";
    let trunk = format!("{t} CREATE TABLE junk(x); INSERT INTO junk VALUES(1); DROP TABLE junk;");
    let leaf = format!("{t} CREATE TABLE junk(x); INSERT INTO junk VALUES(zeroblob(30000)); DROP TABLE junk;");
    let at_the_end = t.to_owned();
    for before in [trunk, leaf, at_the_end] {
        let account = with_an_older_first_page(&before).repair().unwrap().accounting;
        assert!(!account.complete && account.unmatched_rows == 80, "{before}: {:?}", account.losses());
    }
}

#[test]
fn pages_behind_the_last_one_of_the_header_are_read() {
    let content = "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT i, 'x' || i FROM n;";
    let mut patient = Patient::with("", 1024, content);
    let pages = u32::try_from(patient.bytes.len() / 1024).unwrap();
    assert!(patient.of("t", "leaf").contains(&(pages as usize)) && pages % 32 != 0);
    patient.bytes[28..32].copy_from_slice(&(pages - 1).to_be_bytes());
    patient.expect(Step::Salvage, true);
    // What a file that grows by chunks has behind its end is nothing of the database.
    let mut patient = Patient::with("", 1024, content);
    let leaf = *patient.of("t", "leaf").last().unwrap();
    let stale = patient.page(leaf).to_vec();
    let len = patient.bytes.len();
    patient.bytes.resize(len.next_multiple_of(32 << 10), 0);
    patient.bytes[len..len + 1024].copy_from_slice(&stale);
    patient.expect(Step::Recovery, true);
}

/// Takes the last child of an interior page out of it, as an older version of the page would not have it yet.
fn without_its_last_child(patient: &mut Patient, page: usize) -> usize {
    let bytes = patient.page(page);
    let number = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let (cells, first) = (number(3), number(5));
    let cell = number(12 + 2 * (cells - 1));
    let size = 4 + if bytes[cell + 4] < 128 { 1 } else { 2 };
    assert_eq!(cell, first, "it was added last");
    let right = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
    bytes.copy_within(cell..cell + 4, 8);
    bytes[3..5].copy_from_slice(&u16::try_from(cells - 1).unwrap().to_be_bytes());
    bytes[5..7].copy_from_slice(&u16::try_from(cell + size).unwrap().to_be_bytes());
    bytes[12 + 2 * (cells - 1)..14 + 2 * (cells - 1)].fill(0);
    bytes[cell..cell + size].fill(0);
    right as usize
}

const MAPPED: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299)
    INSERT INTO t SELECT i, 'some text of row ' || i FROM n;";

#[test]
fn the_pointer_map_says_whose_a_page_was_that_nothing_leads_to() {
    let patient = |index: &str| {
        let mut patient = Patient::with("PRAGMA auto_vacuum=1;", 1024, &format!("{MAPPED} {index}"));
        let root = patient.root("t");
        let leaf = without_its_last_child(&mut patient, root);
        (patient, leaf)
    };
    // The page has nothing any more.
    let (mut zeros, leaf) = patient("");
    zeros.page(leaf).fill(0);
    let (_, account) = zeros.expect(Step::Salvage, false);
    assert!(of(&account, "t").lost.is_none(), "{:?}", account.losses());
    // An index tells how many rows it had, and that all are back where it has them still.
    let (mut zeros, leaf) = patient("CREATE INDEX t_x ON t(x);");
    let rows = u64::from(u16::from_be_bytes([zeros.page(leaf)[3], zeros.page(leaf)[4]]));
    zeros.page(leaf).fill(0);
    let (_, account) = zeros.expect(Step::Salvage, false);
    assert_eq!(of(&account, "t").lost, Some(rows), "{:?}", account.losses());
    patient("CREATE INDEX t_x ON t(x);").0.expect(Step::Salvage, true);
}

#[test]
fn a_root_that_only_the_pointer_map_knows_is_told() {
    let mut patient = Patient::with("PRAGMA auto_vacuum=1;", 1024, &format!("{MAPPED} CREATE TABLE small(x);"));
    let root = patient.root("small");
    let connection = Connection::open(&patient.db).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    connection.execute_batch("PRAGMA writable_schema=1; DELETE FROM sqlite_schema WHERE name = 'small'").unwrap();
    connection.close().unwrap();
    patient.bytes = std::fs::read(&patient.db).unwrap();
    patient.page(root).fill(0);
    let account = patient.repair().unwrap().accounting;
    let is_told = account.unreadable_schema.iter().any(|what| what.contains("no definition names it"));
    assert!(!account.complete && is_told, "{:?}", account.losses());
}

/// Two long values, one in the table and one in its index; the chain of the first ends in the last page of the other.
fn with_a_stolen_page() -> Patient {
    let content = "CREATE TABLE t(id INTEGER PRIMARY KEY, title TEXT, body TEXT); CREATE INDEX tt ON t(title);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
        INSERT INTO t SELECT i, 'title ' || i || CASE i WHEN 77 THEN printf('%.*c', 4000, 'T') ELSE '' END,
            'body ' || i || CASE i WHEN 50 THEN printf('%.*c', 4000, 'B') ELSE '' END FROM n;";
    let mut patient = Patient::with("", 1024, content);
    let next = |patient: &mut Patient, page: usize| u32::from_be_bytes(patient.page(page)[..4].try_into().unwrap());
    let of_t: Vec<usize> = patient.of("t", "overflow");
    let of_body: Vec<usize> = of_t.into_iter().filter(|page| patient.page(*page)[500] == b'B').collect();
    let of_tt = patient.of("tt", "overflow");
    let last =
        |patient: &mut Patient, pages: &[usize]| pages.iter().copied().find(|page| next(patient, *page) == 0).unwrap();
    let (end, stolen) = (last(&mut patient, &of_body), last(&mut patient, &of_tt));
    let before = of_body.iter().copied().find(|page| next(&mut patient, *page) as usize == end).unwrap();
    patient.page(before)[..4].copy_from_slice(&u32::try_from(stolen).unwrap().to_be_bytes());
    patient
}

#[test]
fn all_that_lead_to_one_page_are_in_doubt_whoever_comes_first() {
    let patient = with_a_stolen_page();
    std::fs::write(&patient.db, &patient.bytes).unwrap();
    for threads in [1, 2, 4] {
        let options = crate::database::sqlite::pages::CheckOptions {
            own: true,
            threads: Some(threads),
            ..crate::database::sqlite::pages::CheckOptions::default()
        };
        let cancel = Cancel::new().unwrap();
        let report = crate::database::sqlite::pages::check(&patient.db, &options, &cancel, &Silent).unwrap();
        for name in ["t", "tt"] {
            assert!(report.trees.iter().any(|tree| tree.name == name && tree.damaged), "{name}: {:?}", report.findings);
        }
    }
    let (_, account) = patient.expect(Step::Salvage, false);
    assert!(of(&account, "t").doubtful > 0, "{:?}", account.losses());
}

#[test]
fn a_page_is_not_taken_from_its_owner_by_one_that_can_not_have_it() {
    // A table leads to a leaf of an index.
    let mut patient = Patient::new("", 1024);
    let (root, leaf) = (patient.root("items"), patient.of("items_title", "leaf")[3]);
    patient.page(root)[8..12].copy_from_slice(&u32::try_from(leaf).unwrap().to_be_bytes());
    std::fs::write(&patient.db, &patient.bytes).unwrap();
    let report = super::super::check(&patient.db, &Cancel::new().unwrap(), &Silent).unwrap();
    let is_damaged = |name: &str| report.trees.iter().any(|tree| tree.name == name && tree.damaged);
    assert!(is_damaged("items") && !is_damaged("items_title"), "{:?}", report.findings);
    assert!(!report.findings.iter().any(|finding| finding.kind == FindingKind::UsedTwice));
}

#[test]
fn a_largest_root_that_can_not_be_makes_no_pointer_maps() {
    for (form, vacuum) in [("", 0), ("PRAGMA auto_vacuum=1;", 1)] {
        let mut patient = Patient::new(form, 1024);
        patient.bytes[52] = 1;
        let repaired = patient.repair().unwrap();
        patient.judge(&repaired, Step::Indices, true);
        let connection = Connection::open(&repaired.file).unwrap();
        let now: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).unwrap();
        assert_eq!(now, vacuum);
    }
}
