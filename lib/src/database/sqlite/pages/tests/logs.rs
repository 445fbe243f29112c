//! What the log tells of lost commits, which SQLite's own check calls ok.

use super::healthy::integrity;
use super::*;
use crate::database::sqlite::pages::FindingKind as Kind;
use crate::database::sqlite::pages::{Consistency, Loss};
use crate::sqlite_locks::testing::{Task, Writer};

const WAL: &str = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0";

/// A database with 100 rows, and whose writer died with 300 commits more in the log.
fn crashed() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
    let setup = format!("PRAGMA page_size=4096; {WAL}");
    Writer::start(&[&place.db], &setup, Task::Idle(100)).finish();
    Writer::start(&[&place.db], &setup, Task::Idle(300)).crash();
    place
}

/// The one finding, which SQLite does not have; nothing was changed.
fn expect(place: &Place, kind: Kind) -> Report {
    let before = place.contents();
    let report = place.check();
    assert_eq!(place.contents(), before);
    let kinds: Vec<Kind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [kind], "{:?}", report.findings);
    report
}

fn rows(report: &Report) -> u64 {
    report.trees.iter().find(|tree| tree.name == "t").map_or(0, |tree| tree.entries)
}

#[test]
fn a_whole_log_is_a_part_of_the_database() {
    let place = crashed();
    let before = place.contents();
    let report = place.check();
    assert_eq!(report.findings, []);
    assert_eq!((report.consistency, rows(&report)), (Consistency::Quiet, 400));
    assert!(report.wal.as_ref().unwrap().commits >= 300);
    assert_eq!(place.contents(), before);
}

#[test]
fn commits_behind_one_flipped_byte_are_counted() {
    let place = crashed();
    let wal = side(&place.db, "-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    let report = expect(&place, Kind::WalLostCommits);
    let found = &report.findings[0];
    assert_eq!(found.loss, Loss::Commits);
    let survived = rows(&report);
    assert!((200..300).contains(&survived), "{survived}");
    // Each row was one commit.
    let lost: u64 = found.what.split(" commits are lost").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(survived + lost, 400, "{}", found.what);
    assert_eq!(integrity(&place.db), Vec::<String>::new(), "the control: SQLite calls it whole");
}

#[test]
fn a_log_that_was_cut_or_deleted_is_missed_by_the_index_that_its_user_left() {
    let place = crashed();
    let wal = side(&place.db, "-wal");
    let len = std::fs::metadata(&wal).unwrap().len();
    std::fs::File::options().write(true).open(&wal).unwrap().set_len(len * 7 / 10).unwrap();
    let report = expect(&place, Kind::WalCut);
    assert!((100..400).contains(&rows(&report)));

    std::fs::remove_file(&wal).unwrap();
    let report = place.check();
    assert!(report.findings.iter().any(|f| f.kind == Kind::WalDeleted && f.rows_at_risk), "{:?}", report.findings);

    let place = crashed();
    std::fs::File::options().write(true).open(side(&place.db, "-wal")).unwrap().set_len(0).unwrap();
    assert!(place.check().findings.iter().any(|f| f.kind == Kind::WalDeleted));
}

#[test]
fn a_damaged_header_of_the_log_is_found() {
    let place = crashed();
    let wal = side(&place.db, "-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    bytes[13] ^= 0x40;
    std::fs::write(&wal, bytes).unwrap();
    let report = place.check();
    let found = report.findings.iter().find(|f| f.kind == Kind::WalHeader).unwrap();
    assert!(found.rows_at_risk && found.what.contains("of them commits"), "{}", found.what);
}

#[test]
fn the_log_of_another_database_is_found() {
    let place = crashed();
    let other = Place::new(&format!("PRAGMA page_size=4096; {}", super::healthy::EVERYTHING));
    std::fs::copy(&other.db, &place.db).unwrap();
    let report = place.check();
    assert!(report.findings.iter().any(|f| f.kind == Kind::WalForeign), "{:?}", report.findings);

    let other = Place::new(&format!("PRAGMA page_size=1024; {}", super::healthy::EVERYTHING));
    std::fs::copy(&other.db, &place.db).unwrap();
    expect(&place, Kind::WalForeign);
}

#[test]
fn an_old_log_and_a_transaction_that_was_rolled_back_are_no_loss() {
    let place = Place::new(&format!("{WAL}; CREATE TABLE t(x);"));
    let connection = Connection::open(&place.db).unwrap();
    batch(
        &connection,
        "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5; CREATE INDEX i ON t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i FROM n;
         PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES(0);
         BEGIN; UPDATE t SET x = x + 1; ROLLBACK;
         INSERT INTO t VALUES(-1);
         BEGIN; UPDATE t SET x = x + 2;",
    );
    // As if its process had died here: copies of the files as they are.
    let dead = tempfile::tempdir().unwrap();
    let db = dead.path().join("library.db");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(side(&place.db, suffix), side(&db, suffix)).unwrap();
    }
    drop(connection);
    let copy = Place { db, dir: dead, cancel: Cancel::new().unwrap() };
    let report = copy.check();
    assert_eq!(report.findings, []);
    let wal = report.wal.as_ref().unwrap();
    assert!(wal.room > wal.frames, "{wal:?}");
    assert_eq!(rows(&report), 3002);
}

#[test]
fn a_hot_journal_is_told_and_is_no_damage() {
    let place = Place::new(
        "PRAGMA journal_mode=DELETE; CREATE TABLE t(x); CREATE INDEX i ON t(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i FROM n;",
    );
    let connection = Connection::open(&place.db).unwrap();
    batch(&connection, "PRAGMA cache_size=5; BEGIN; UPDATE t SET x = x + 1; DELETE FROM t WHERE x % 2;");
    let dead = tempfile::tempdir().unwrap();
    let db = dead.path().join("library.db");
    for suffix in ["", "-journal"] {
        std::fs::copy(side(&place.db, suffix), side(&db, suffix)).unwrap();
    }
    drop(connection);
    let copy = Place { db, dir: dead, cancel: Cancel::new().unwrap() };
    let report = expect(&copy, Kind::HotJournal);
    assert!(!report.is_damaged() && !report.is_clean() && !report.rows_at_risk());
    assert_eq!(rows(&report), 3000);
    // Without it the half of a transaction is damage.
    std::fs::remove_file(side(&copy.db, "-journal")).unwrap();
    assert!(copy.check().rows_at_risk());
}
