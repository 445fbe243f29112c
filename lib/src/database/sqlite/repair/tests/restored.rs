//! A backup, and the rows salvaged since: what is taken from where, and that nothing is called complete that is not.

use super::*;

/// A backup, after which rows were changed, added and deleted.
fn patient() -> (Patient, PathBuf) {
    let mut patient = Patient::new("", 1024);
    let backup = patient.dir.path().join("backup.db");
    std::fs::copy(&patient.db, &backup).unwrap();
    patient.change(
        "UPDATE items SET size = size + 1000 WHERE id % 5 = 0; DELETE FROM items WHERE id % 50 = 7;
         INSERT INTO items(id, title, size) VALUES(7001, 'since', 1); DELETE FROM settings WHERE key = 'key 9';
         UPDATE counted SET t = 'changed ' || id WHERE id % 100 = 3;",
    );
    (patient, backup)
}

impl Patient {
    fn restore(&self, backup: &Path) -> Repaired {
        std::fs::write(&self.db, &self.bytes).unwrap();
        self.repair_with(Some(backup), Some(Step::Restore)).unwrap()
    }
}

#[test]
fn what_is_lost_comes_from_the_backup_and_what_was_deleted_since_does_not() {
    let (mut patient, backup) = patient();
    let leaves = patient.of("items", "leaf");
    let pages = patient.some(&leaves, 10);
    for page in pages {
        patient.page(page).fill(0);
    }
    let repaired = patient.restore(&backup);
    let account = &repaired.accounting;
    let items = of(account, "items");
    assert_eq!((account.step, account.complete), (Step::Restore, false), "{:?}", account.losses());
    // The index on the title is whole: it says which rows there were.
    assert!(items.from_backup > 50 && items.lost == Some(0) && items.proved == 0, "{items:?}");
    assert!(account.notes.iter().any(|note| note.contains("deleted since")), "{:?}", account.notes);
    assert_eq!(integrity(&repaired.file), "ok");
    let back = rows(&repaired.file);
    let ids = |rows: &Rows| rows["items"].iter().map(|row| row[..20].to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&back), ids(&patient.truth), "the rows are those that there were");
    let wrong = patient.truth["items"].difference(&back["items"]).count() as u64;
    assert!(wrong > 0 && wrong <= items.from_backup - items.proved, "{wrong} are of an older time: {items:?}");
    for (table, rows) in patient.truth.iter().filter(|(table, _)| *table != "items") {
        assert!(back[table] == *rows, "{table} was not touched");
    }
}

#[test]
fn where_indices_have_every_column_a_restored_row_is_proved() {
    let (mut patient, backup) = patient();
    let leaves = patient.of("counted", "leaf");
    let lost = patient.some(&leaves, 3);
    // Rows that were not changed since: the indices prove each of them.
    for page in &lost {
        patient.page(*page).fill(0);
    }
    let repaired = patient.restore(&backup);
    let account = &repaired.accounting;
    let counted = of(account, "counted");
    let back = rows(&repaired.file);
    let wrong = patient.truth["counted"].difference(&back["counted"]).count() as u64;
    assert_eq!(counted.from_backup - counted.proved, wrong, "{counted:?}");
    assert!(counted.proved > 20 && counted.lost == Some(0), "{counted:?}");
    assert_eq!(account.complete, wrong == 0, "{:?}", account.losses());

    // Without a change in between, it is whole again, and is called so.
    let mut patient = Patient::new("", 1024);
    let backup = patient.dir.path().join("backup.db");
    std::fs::copy(&patient.db, &backup).unwrap();
    patient.change("INSERT INTO items(id, title) VALUES(7001, 'since'); DELETE FROM counted WHERE id = 40;");
    for page in lost {
        patient.page(page).fill(0);
    }
    let repaired = patient.restore(&backup);
    patient.judge(&repaired, Step::Restore, true);
}

#[test]
fn where_commits_are_lost_the_backup_fills_what_is_missing_anywhere() {
    // A copy of a database in use: nothing of it is damaged, and it does not tell what its log has lost.
    let (mut patient, backup) = patient();
    let whole = patient.restore(&backup);
    assert_eq!(of(&whole.accounting, "items").from_backup, 0);
    patient.log_losses = vec!["commits are lost".to_owned()];
    let account = patient.restore(&backup).accounting;
    // Each of those that were deleted since may be one that was lost.
    assert_eq!(of(&account, "items").from_backup, 120, "{:?}", account.losses());
    assert_eq!((account.complete, account.log_losses), (false, vec!["commits are lost".to_owned()]));
}

#[test]
fn a_row_in_doubt_is_decided_by_the_index_or_set_aside() {
    let (mut patient, backup) = patient();
    // A title of a row that was not changed since, turned into another: the index knows the old one.
    let at = patient.bytes.windows(10).position(|window| window == b"Title 5443").unwrap();
    let in_index = patient.of("items_title", "leaf").contains(&(at / patient.page_size + 1));
    let at = if in_index {
        at + 10 + patient.bytes[at + 10..].windows(10).position(|window| window == b"Title 5443").unwrap()
    } else {
        at
    };
    patient.bytes[at] = b't';
    let repaired = patient.restore(&backup);
    let account = &repaired.accounting;
    let items = of(account, "items");
    assert_eq!((items.from_backup, items.conflicts, items.doubtful), (1, 0, 0), "{items:?} {:?}", account.notes);
    let back = rows(&repaired.file);
    assert!(back == patient.truth || !account.complete, "{:?}", account.losses());
    let aside = Connection::open(repaired.set_aside.as_ref().unwrap()).unwrap();
    let said: String = aside.query_row("SELECT c1 FROM lost_and_found", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "title 5443");
}

#[test]
fn of_a_table_without_rowid_what_can_not_be_told_is_told() {
    let (mut patient, backup) = patient();
    let leaves = patient.of("settings", "leaf");
    for page in patient.some(&leaves, 4) {
        patient.page(page).fill(0);
    }
    let repaired = patient.restore(&backup);
    let settings = of(&repaired.accounting, "settings");
    assert!(settings.from_backup > 20 && !repaired.accounting.complete, "{settings:?}");
    let back = rows(&repaired.file);
    assert!(patient.truth["settings"].is_subset(&back["settings"]));
    // The deleted one may have been on one of those pages.
    assert!(back["settings"].len() <= patient.truth["settings"].len() + 1);
    assert_eq!(integrity(&repaired.file), "ok");
}

#[test]
fn nothing_but_the_backup_is_better_than_nothing_and_is_called_what_it_is() {
    let (mut patient, backup) = patient();
    patient.bytes.clear();
    let repaired = patient.restore(&backup);
    let account = &repaired.accounting;
    let told = account.notes.iter().any(|note| note.contains("nothing could be salvaged"));
    assert!(told && !account.complete, "{:?} {:?}", account.losses(), account.notes);
    assert_eq!((of(account, "items").lost, of(account, "items").from_backup), (None, 6000));
    assert!(rows(&repaired.file) == rows(&backup));
    // Zeros in their place are as much of a database.
    let (mut patient, backup) = self::patient();
    patient.bytes.fill(0);
    let repaired = patient.restore(&backup);
    assert!(!repaired.accounting.complete);
    assert_eq!(of(&repaired.accounting, "items").lost, None);
    assert_eq!(rows(&repaired.file)["items"], rows(&backup)["items"]);
    // Without page 1, the definitions are the backup's, and the rows are those of now.
    let (mut patient, backup) = self::patient();
    patient.page(1).fill(0);
    let repaired = patient.restore(&backup);
    let back = rows(&repaired.file);
    assert!(patient.truth["items"].is_subset(&back["items"]), "{:?}", repaired.accounting.losses());
}

#[test]
fn what_the_ladder_repairs_takes_nothing_from_a_backup() {
    let (mut patient, backup) = patient();
    let root = patient.root("items");
    patient.page(root).fill(0);
    patient.judge(&patient.restore(&backup), Step::Salvage, true);
}

#[test]
fn commits_that_a_log_has_lost_stay_lost_whatever_a_backup_has() {
    let (mut patient, _) = patient();
    let backup = patient.dir.path().join("later.db");
    // The backup was taken while the last commits were in the log only.
    let connection = Connection::open(&patient.db).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for id in 10_000..10_040 {
        connection.execute("INSERT INTO items(id, title, size) VALUES(?1, 'late ' || ?1, 5)", [id]).unwrap();
    }
    connection.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    connection.execute("UPDATE items SET size = -1 WHERE id = 10003", []).unwrap();
    let dead = patient.dir.path().join("dead.db");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::copy(side(&patient.db, suffix), side(&dead, suffix)).unwrap();
    }
    drop(connection);
    std::fs::remove_file(side(&dead, "-wal")).unwrap();
    (patient.truth, patient.db) = (rows(&patient.db), dead);
    let repaired = patient.repair_with(Some(&backup), Some(Step::Restore)).unwrap();
    let account = &repaired.accounting;
    assert!(!account.complete && account.log_losses.len() == 1, "{:?}", account.losses());
    assert_eq!(of(account, "items").from_backup, 40);
    let back = rows(&repaired.file);
    assert_eq!(patient.truth["items"].difference(&back["items"]).count(), 1);
}

#[test]
fn random_damage_is_never_restored_to_something_that_is_called_complete_and_is_not() {
    let (mut patient, backup) = patient();
    let (original, mut complete, mut filled) = (patient.bytes.clone(), 0, 0);
    for seed in 0..60 {
        patient.bytes.clone_from(&original);
        patient.random = Random(900 + seed);
        let what = mutated::damage(&mut patient);
        std::fs::write(&patient.db, &patient.bytes).unwrap();
        match crate::database::sqlite::repair::check(&patient.db, &Cancel::new().unwrap(), &Silent) {
            Ok(report) if report.is_damaged() => {}
            _ => continue,
        }
        let repaired = patient.restore(&backup);
        let account = &repaired.accounting;
        let back = rows(&repaired.file);
        let different: Vec<_> =
            patient.truth.iter().filter(|(t, rows)| back.get(*t) != Some(rows)).map(|(t, _)| t).collect();
        assert!(!account.complete || different.is_empty(), "{seed} {what}: {different:?} by {:?}", account.step);
        let verdict = integrity(&repaired.file);
        assert!(verdict == "ok" || !account.full_text.is_empty(), "{seed} {what}: {verdict}");
        // Every row that there was is there, or a loss is told of its table.
        for table in &account.tables {
            let (Some(truth), Some(now)) = (patient.truth.get(&table.table), back.get(&table.table)) else { continue };
            let told = account.losses().iter().any(|loss| loss.starts_with(&format!("{}: ", table.table)));
            assert!(truth.is_subset(now) || told || !account.log_losses.is_empty(), "{seed} {what}: {table:?}");
        }
        complete += usize::from(account.complete);
        filled += usize::from(account.tables.iter().any(|table| table.from_backup > 0));
    }
    assert!(complete > 8 && filled > 8, "{complete} {filled}");
}
