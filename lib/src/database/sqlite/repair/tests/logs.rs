//! Logs that are cut, damaged, deleted or of another database: SQLite calls all of it ok but the last, and the commits
//! are gone. None of it is called complete.

use super::*;

/// A database whose last commits are in its log, as a crash leaves it; the truth is what all of it has.
fn patient() -> Patient {
    let mut patient = Patient::new("", 1024);
    let connection = Connection::open(&patient.db).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for id in 10_000..10_040 {
        connection.execute("INSERT INTO items(id, title, size) VALUES(?1, 'late ' || ?1, 5)", [id]).unwrap();
    }
    let dead = patient.dir.path().join("dead.db");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(side(&patient.db, suffix), side(&dead, suffix)).unwrap();
    }
    drop(connection);
    patient.truth = rows(&patient.db);
    patient.db = dead;
    patient
}

fn change_log(patient: &Patient, change: impl FnOnce(&mut Vec<u8>)) {
    let wal = side(&patient.db, "-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    change(&mut bytes);
    std::fs::write(&wal, bytes).unwrap();
}

fn is_told(patient: &Patient) -> Accounting {
    let repaired = patient.repair_as_it_lies(None).unwrap();
    let (_, account) = patient.judge(&repaired, Step::Recovery, false);
    assert_eq!(account.log_losses.len(), 1, "{:?}", account.losses());
    account
}

#[test]
fn a_whole_log_is_taken_in() {
    let patient = patient();
    let repaired = patient.repair_as_it_lies(None).unwrap();
    patient.judge(&repaired, Step::Recovery, true);
    assert_eq!(std::fs::read(&repaired.file).unwrap()[18..20], [2, 2], "it is a WAL database still");
}

#[test]
fn a_log_that_has_lost_commits_is_told_and_what_is_before_them_is_kept() {
    let patient = patient();
    change_log(&patient, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let account = is_told(&patient);
    let items = account.tables.iter().find(|t| t.table == "items").unwrap().after;
    assert!((6000..6040).contains(&items) && items > 6005, "{items}");

    let patient = self::patient();
    change_log(&patient, |bytes| bytes.truncate(bytes.len() * 7 / 10));
    is_told(&patient);

    let patient = self::patient();
    std::fs::remove_file(side(&patient.db, "-wal")).unwrap();
    is_told(&patient);
}

#[test]
fn the_log_of_another_state_is_left_aside() {
    let patient = patient();
    // An older copy of the database was put under a log of later.
    std::fs::write(&patient.db, &Patient::new("", 4096).bytes).unwrap();
    std::fs::remove_file(side(&patient.db, "-shm")).unwrap();
    let repaired = patient.repair_as_it_lies(None).unwrap();
    assert!(!repaired.accounting.complete && !repaired.accounting.log_losses.is_empty());
    assert_eq!(integrity(&repaired.file), "ok");
    assert_eq!(rows(&repaired.file)["items"].len(), 6000);
}
