//! Rollback journals: hot ones, damaged ones, and those that only look hot.

use std::fs::File;

use super::healthy::integrity;
use super::logs::{expect, rows};
use super::*;
use crate::database::sqlite::SqliteError;
use crate::database::sqlite::pages::FindingKind as Kind;

/// A database with 3000 rows, in a rollback mode, whose writer died while it changed all of them.
fn cut_off() -> Place {
    let place = Place::new(
        "PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; CREATE TABLE t(x); CREATE INDEX i ON t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i FROM n;",
    );
    let connection = Connection::open(&place.db).unwrap();
    batch(&connection, "PRAGMA cache_size=5; BEGIN; UPDATE t SET x = x + 1; DELETE FROM t WHERE x % 2;");
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("library.db");
    for suffix in ["", "-journal"] {
        std::fs::copy(side(&place.db, suffix), side(&db, suffix)).unwrap();
    }
    drop(connection);
    Place { db, dir, cancel: Cancel::new().unwrap() }
}

#[test]
fn a_hot_journal_is_told_and_is_no_damage() {
    let place = cut_off();
    let report = expect(&place, Kind::HotJournal);
    assert!(!report.is_damaged() && !report.is_clean() && !report.rows_at_risk());
    assert_eq!(rows(&report), 3000);
    // Without it the half of a transaction is damage.
    std::fs::remove_file(side(&place.db, "-journal")).unwrap();
    assert!(place.check().rows_at_risk());
}

#[test]
fn a_journal_that_does_not_check_is_told() {
    let place = cut_off();
    let journal = side(&place.db, "-journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // A byte that the sum of the third record counts: every 200th from the end of the page.
    bytes[512 + 2 * 1032 + 4 + 1024 - 200] ^= 0xff;
    std::fs::write(&journal, bytes).unwrap();
    let report = place.check();
    assert!(report.findings.iter().any(|f| f.kind == Kind::JournalDamaged && f.rows_at_risk), "{:?}", report.findings);
}

#[test]
fn a_journal_whose_transaction_was_committed_elsewhere_is_not_rolled_back() {
    let place = cut_off();
    let journal = side(&place.db, "-journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // As a transaction over several databases ends: the journal of all of them is gone.
    let name = place.dir.path().join("all.db-mj0123AB9CD").into_os_string().into_encoded_bytes();
    let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
    bytes.extend((0x4000_0000_u32 / 1024 + 1).to_be_bytes());
    bytes.extend(&name);
    bytes.extend((name.len() as u32).to_be_bytes());
    bytes.extend(sum.to_be_bytes());
    bytes.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    std::fs::write(&journal, bytes).unwrap();
    let report = place.check();
    assert!(report.is_damaged() && !report.findings.iter().any(|f| f.kind == Kind::HotJournal));
    // With it there, the transaction was not.
    std::fs::write(place.dir.path().join("all.db-mj0123AB9CD"), "x").unwrap();
    let report = place.check();
    assert_eq!(report.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::HotJournal]);
    std::fs::remove_file(place.dir.path().join("all.db-mj0123AB9CD")).unwrap();
    assert!(!integrity(&place.db).is_empty(), "the control: SQLite does not roll it back either");
}

#[test]
fn a_journal_that_was_left_with_nothing_in_it_is_not_hot() {
    for mode in ["PERSIST", "TRUNCATE"] {
        let place = Place::new(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES(1);"));
        assert!(side(&place.db, "-journal").exists());
        assert!(place.check().is_clean(), "{mode}");
    }
}

#[test]
fn of_a_database_that_was_emptied_the_journal_is_left() {
    let place = cut_off();
    File::create(&place.db).unwrap();
    let before = place.contents();
    let report = place.check();
    assert_eq!(place.contents(), before);
    assert!(report.rows_at_risk());
    assert!(report.findings.iter().any(|f| f.what.contains("what is left of the database is in its -journal")));
    // SQLite takes it for that of an earlier database, and deletes it.
    integrity(&place.db);
    assert!(!side(&place.db, "-journal").exists());
    let error = check(&place.db, &CheckOptions::default(), &place.cancel, &Silent).unwrap_err();
    assert!(matches!(error, SqliteError::Empty { .. }), "{error}");
}

#[test]
fn the_journal_of_the_first_transaction_is_of_no_database() {
    let place = cut_off();
    File::create(&place.db).unwrap();
    let journal = side(&place.db, "-journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    // The length of the database before the transaction, in pages.
    bytes[16..20].fill(0);
    std::fs::write(&journal, bytes).unwrap();
    let error = check(&place.db, &CheckOptions::default(), &place.cancel, &Silent).unwrap_err();
    assert!(matches!(error, SqliteError::Empty { .. }), "{error}");
}
