//! A transaction over several databases whose process died in its commit: all of them, or none.

use rusqlite::Connection;

use super::*;
use crate::database::sqlite::cold::{finish_cold, take_raw};
use crate::database::sqlite::own::beside;
use crate::database::sqlite::snapshot_hot;

const SUPER: &str = "a.db-mj0123AB9CD";

/// Two databases with 1000 rows each that say `old`, as they lie while a transaction writes `new` into them, and their journals
/// name the super-journal `name`.
fn cut_off(place: &Place, name: &Path) -> [PathBuf; 2] {
    ["a.db", "b.db"].map(|file| {
        let path = place.service.join(file);
        let connection = Connection::open(&path).unwrap();
        let fill = "PRAGMA page_size=1024; PRAGMA cache_size=5; CREATE TABLE t(id INTEGER PRIMARY KEY, what TEXT);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT i, 'old' FROM n;
            BEGIN; UPDATE t SET what = 'new';";
        connection.execute_batch(fill).unwrap();
        let [db, journal] = [path.clone(), beside(&path, "-journal")].map(|path| std::fs::read(path).unwrap());
        drop(connection);
        std::fs::write(&path, db).unwrap();
        let name = name.as_os_str().as_encoded_bytes();
        let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
        let page = 0x4000_0000_u32 / 1024 + 1;
        let len = u32::try_from(name.len()).unwrap();
        let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
        let end = [&page.to_be_bytes()[..], name, &len.to_be_bytes(), &sum.to_be_bytes(), &magic].concat();
        std::fs::write(beside(&path, "-journal"), [journal, end].concat()).unwrap();
        path
    })
}

fn write_super(place: &Place) {
    let children =
        ["a.db-journal\0", "b.db-journal\0"].map(|name| place.service.join(name).into_os_string().into_encoded_bytes());
    std::fs::write(place.service.join(SUPER), children.concat()).unwrap();
}

/// Rows that say `old`.
fn old_rows(file: &Path) -> i64 {
    let connection = Connection::open(file).unwrap();
    connection.query_row("SELECT count(*) FROM t WHERE what = 'old'", [], |row| row.get(0)).unwrap()
}

#[test]
fn what_a_service_settles_after_a_cold_copy_was_taken_does_not_change_the_copy() {
    let place = Place::new();
    let databases = cut_off(&place, &place.service.join(SUPER));
    write_super(&place);
    let raw = take_raw(&place.request(&databases)).unwrap();
    // The service starts again: it rolls both back, and the super-journal goes with the last of them.
    assert_eq!(databases.each_ref().map(|path| old_rows(path)), [1000, 1000]);
    assert!(!place.service.join(SUPER).exists());
    let taken = finish_cold(raw).unwrap();
    assert_eq!([old_rows(&taken[0].file), old_rows(&taken[1].file)], [1000, 1000]);
}

#[test]
fn a_journal_counts_for_as_long_as_its_super_journal_is_there() {
    for is_there in [true, false] {
        let place = Place::new();
        let databases = cut_off(&place, &place.service.join(SUPER));
        if is_there {
            write_super(&place);
        }
        // As the files are without their journals: half of it is there, since nobody has committed really.
        let as_written = databases.each_ref().map(|path| {
            let alone = place.copies.join("alone.db");
            std::fs::copy(path, &alone).unwrap();
            old_rows(&alone)
        });
        empty(&place.copies);
        let expected = if is_there { [1000, 1000] } else { as_written };
        let cold = |request: &SnapshotRequest<'_>| take_raw(request).and_then(finish_cold);
        for take in [&snapshot_hot as &dyn Fn(&SnapshotRequest<'_>) -> Result<Vec<Snapshot>, SqliteError>, &cold] {
            let taken = take(&place.request(&databases)).unwrap();
            assert_eq!([old_rows(&taken[0].file), old_rows(&taken[1].file)], expected);
            empty(&place.copies);
        }
    }
}

#[test]
fn a_super_journal_is_looked_for_where_the_service_has_its_directory_too() {
    let place = Place::new();
    // As a container names it.
    let databases = cut_off(&place, &Path::new("/nowhere-on-this-host").join(SUPER));
    let error = snapshot_hot(&place.request(&databases)).unwrap_err();
    assert!(matches!(&error, SqliteError::InFlight { reason, .. } if reason.contains(SUPER)), "{error}");
    assert!(matches!(take_raw(&place.request(&databases)).unwrap_err(), SqliteError::InFlight { .. }));
    empty(&place.copies);
    write_super(&place);
    let taken = snapshot_hot(&place.request(&databases)).unwrap();
    assert_eq!([old_rows(&taken[0].file), old_rows(&taken[1].file)], [1000, 1000]);
}
