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

/// The one finding; nothing was changed.
pub(super) fn expect(place: &Place, kind: Kind) -> Report {
    let before = place.contents();
    let report = place.check();
    assert_eq!(place.contents(), before);
    let kinds: Vec<Kind> = report.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [kind], "{:?}", report.findings);
    report
}

pub(super) fn rows(report: &Report) -> u64 {
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
fn whatever_happens_to_a_log_we_see_what_sqlite_sees_and_say_what_it_does_not() {
    let original = crashed();
    let (wal, shm) = (side(&original.db, "-wal"), side(&original.db, "-shm"));
    let (wal_bytes, shm_bytes) = (std::fs::read(&wal).unwrap(), std::fs::read(&shm).unwrap());
    let db_bytes = std::fs::read(&original.db).unwrap();
    let mut random = crate::database::sqlite::tests::random::Random(11);
    let mut found = 0;
    for _ in 0..60 {
        let place =
            Place { dir: tempfile::tempdir().unwrap(), db: original.db.clone(), cancel: Cancel::new().unwrap() };
        let place = Place { db: place.dir.path().join("library.db"), ..place };
        let mut wal = wal_bytes.clone();
        let what = match random.below(5) {
            0 => {
                let at = random.below(wal.len());
                wal[at] ^= 1 << random.below(8);
                format!("a bit of byte {at}")
            }
            1 => {
                let len = random.below(wal.len());
                wal.truncate(len);
                format!("cut to {len}")
            }
            2 => {
                let at = random.below(wal.len() / 512) * 512;
                let end = (at + 512).min(wal.len());
                wal[at..end].fill(0);
                format!("zeroed at {at}")
            }
            3 => {
                let at = random.below(32);
                wal[at] = random.next() as u8;
                format!("byte {at} of the header")
            }
            _ => {
                let frame = 32 + random.below((wal.len() - 32) / 4120) * 4120;
                let at = frame + random.below(24);
                wal[at] = random.next() as u8;
                format!("byte {at}, in the header of a frame")
            }
        };
        let same = wal == wal_bytes;
        for (suffix, bytes) in [("", &db_bytes), ("-wal", &wal), ("-shm", &shm_bytes)] {
            std::fs::write(side(&place.db, suffix), bytes).unwrap();
        }
        let report = place.check_own();
        let connection = Connection::open(&place.db).unwrap();
        let theirs: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows(&report) as i64, theirs, "{what}");
        let lost = theirs < 400;
        assert!(!(lost && report.is_clean()), "{what}: {theirs} rows, and nothing is said of it");
        assert!(lost || same || report.is_clean() || what.contains("header"), "{what}: {:?}", report.findings);
        found += u32::from(lost);
    }
    assert!(found > 25, "{found}");
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
fn a_transaction_that_is_open_is_not_a_part_of_the_view() {
    for mode in ["WAL", "DELETE"] {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
        let setup = format!("PRAGMA journal_mode={mode}");
        Writer::start(&[&place.db], &setup, Task::Idle(50)).finish();
        let writer = Writer::start(&[&place.db], &setup, Task::InTransaction);
        let report = place.check();
        assert_eq!((report.findings.len(), rows(&report)), (0, 50), "{mode}: {:?}", report.findings);
        writer.finish();
        assert_eq!(rows(&place.check()), 51);
    }
}

#[test]
fn pages_that_were_made_and_freed_in_one_transaction_are_no_damage() {
    for vacuum in [0, 1] {
        let place =
            Place::new(&format!("PRAGMA auto_vacuum={vacuum}; {WAL}; CREATE TABLE t(x); INSERT INTO t VALUES(1);"));
        let connection = Connection::open(&place.db).unwrap();
        batch(
            &connection,
            "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=9000; BEGIN; CREATE TABLE g(x); CREATE TABLE h(x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO g SELECT zeroblob(3000) FROM n;
             INSERT INTO h VALUES(2); DELETE FROM g; COMMIT;",
        );
        let dead = tempfile::tempdir().unwrap();
        let db = dead.path().join("library.db");
        for suffix in ["", "-wal", "-shm"] {
            std::fs::copy(side(&place.db, suffix), side(&db, suffix)).unwrap();
        }
        drop(connection);
        let copy = Place { db, dir: dead, cancel: Cancel::new().unwrap() };
        let report = copy.check();
        assert_eq!(report.findings, [], "{vacuum}");
        assert_eq!(integrity(&copy.db), Vec::<String>::new());
    }
}

#[test]
fn a_log_that_is_damaged_under_a_service_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
    let writer = Writer::start(&[&place.db], WAL, Task::Idle(100));
    assert!(place.check().is_clean());
    let wal = side(&place.db, "-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    let report = place.check();
    assert!(report.findings.iter().any(|f| f.kind == Kind::WalDamaged && f.rows_at_risk), "{:?}", report.findings);
    writer.finish();
}

/// As it lies if its processes had died here: copies of the files as they are.
fn dead(db: &Path) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let copy = Place { db: dir.path().join("library.db"), dir, cancel: Cancel::new().unwrap() };
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(side(db, suffix), side(&copy.db, suffix)).unwrap();
    }
    copy
}

#[test]
fn what_a_killed_writer_left_behind_a_shorter_commit_is_no_loss() {
    let place = Place::new("PRAGMA page_size=4096");
    let connection = Connection::open(&place.db).unwrap();
    batch(
        &connection,
        &format!(
            "{WAL}; CREATE TABLE t(x, y); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
             INSERT INTO t SELECT i, hex(zeroblob(200)) FROM n;"
        ),
    );
    // What another process would write now, and be killed before anybody knows of it.
    let other = dead(&place.db);
    let killed = Connection::open(&other.db).unwrap();
    batch(&killed, "PRAGMA wal_autocheckpoint=0; UPDATE t SET y = y || 1;");
    let long = std::fs::read(side(&other.db, "-wal")).unwrap();
    batch(&connection, "INSERT INTO t VALUES(0, 'short')");
    let copy = dead(&place.db);
    let mut wal = std::fs::read(side(&copy.db, "-wal")).unwrap();
    assert!(wal.len() < long.len() && wal[..32] == long[..32]);
    let end = wal.len();
    wal.extend_from_slice(&long[end..]);
    std::fs::write(side(&copy.db, "-wal"), &wal).unwrap();
    let report = copy.check();
    assert_eq!(report.findings, []);
    assert_eq!(rows(&report), 301);

    // The last commit itself is damaged, of which the -shm knows: that is a loss.
    wal[end - 100] ^= 1;
    std::fs::write(side(&copy.db, "-wal"), &wal).unwrap();
    let report = expect(&copy, Kind::WalLostCommits);
    assert_eq!((rows(&report), report.findings[0].loss), (300, Loss::Commits));
}

#[test]
fn who_reads_a_damaged_log_anew_is_no_witness_for_it() {
    let place = crashed();
    let wal = side(&place.db, "-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let connection = Connection::open(&place.db).unwrap();
    batch(&connection, "PRAGMA wal_autocheckpoint=0; SELECT count(*) FROM t");
    expect(&dead(&place.db), Kind::WalLostCommits);
    batch(&connection, "INSERT INTO t(v) VALUES('after')");
    expect(&dead(&place.db), Kind::WalLostCommits);
}

#[test]
fn a_log_whose_every_frame_is_in_the_database_can_lose_nothing() {
    let place = Place::new("PRAGMA page_size=4096");
    let connection = Connection::open(&place.db).unwrap();
    batch(&connection, &format!("{WAL}; BEGIN; CREATE TABLE t(x); CREATE TABLE u(x); INSERT INTO t VALUES(1); COMMIT"));
    for row in 0..40 {
        batch(&connection, &format!("INSERT INTO t VALUES({row})"));
    }
    let before = dead(&place.db);
    batch(&connection, "PRAGMA wal_checkpoint(FULL)");
    let after = dead(&place.db);
    for (at, copy, found) in [
        (5000, &before, Some(Kind::WalLostCommits)),
        (5000, &after, None),
        (13, &before, Some(Kind::WalHeader)),
        (13, &after, None),
        // With commits before it SQLite puts their older pages over the newer ones.
        (100_000, &after, Some(Kind::WalLostCommits)),
    ] {
        let mut bytes = std::fs::read(side(&place.db, "-wal")).unwrap();
        bytes[at] ^= 1;
        std::fs::write(side(&copy.db, "-wal"), bytes).unwrap();
        let report = copy.check();
        let kinds: Vec<Kind> = report.findings.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, found.into_iter().collect::<Vec<_>>(), "{at}: {:?}", report.findings);
        if found.is_none() {
            assert_eq!(rows(&report), 41);
            let control = dead(&copy.db);
            let connection = Connection::open(&control.db).unwrap();
            let theirs: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
            assert_eq!(theirs, 41, "the control");
        }
    }
}

#[test]
fn a_log_without_any_frame_says_what_can_be_told_of_it() {
    let bytes = [vec![0x37; 20], vec![0; 20_000]];
    for (bytes, reason) in bytes.into_iter().zip(["only 20 bytes", "magic number is 0x0"]) {
        let place = Place::new("CREATE TABLE t(x)");
        std::fs::write(side(&place.db, "-wal"), &bytes).unwrap();
        let report = expect(&place, Kind::WalHeader);
        let found = &report.findings[0];
        assert_eq!(found.loss, Loss::Unknown);
        assert!(found.what.contains(reason) && found.what.contains("can't be told"), "{}", found.what);

        let place = crashed();
        std::fs::write(side(&place.db, "-wal"), bytes).unwrap();
        let report = place.check();
        let found = &report.findings[0];
        assert_eq!((found.kind, found.loss), (Kind::WalHeader, Loss::Commits));
        assert!(found.what.contains("the -shm knows of "), "{}", found.what);
    }
}
