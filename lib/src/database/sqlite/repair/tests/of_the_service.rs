//! What only the service's own SQLite has: never built with a stand-in, and told where it is missing.

use super::*;

/// An index in the order of a collation that is not here, among others.
fn patient() -> Patient {
    let mut patient = Patient::new("", 1024);
    let connection = Connection::open(&patient.db).unwrap();
    connection.create_collation("icu_root", |a, b| b.cmp(a)).unwrap();
    connection.execute_batch("CREATE INDEX items_icu ON items(title COLLATE icu_root)").unwrap();
    connection.close().unwrap();
    (patient.truth, patient.bytes) = (rows(&patient.db), std::fs::read(&patient.db).unwrap());
    patient
}

#[test]
fn an_index_that_can_not_be_ordered_here_is_kept_where_it_is_whole() {
    let mut patient = patient();
    let leaves = patient.of("items_title", "leaf");
    for page in patient.some(&leaves, 8) {
        patient.page(page).fill(0);
    }
    let repaired = patient.repair().unwrap();
    assert_eq!(repaired.accounting.losses(), Vec::<String>::new());
    assert_eq!(repaired.accounting.step, Step::Indices);
    let connection = Connection::open(&repaired.file).unwrap();
    connection.create_collation("icu_root", |a, b| b.cmp(a)).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    assert!(rows(&repaired.file) == patient.truth);
}

#[test]
fn an_index_that_can_not_be_built_here_is_told_as_missing() {
    let mut patient = patient();
    let root = patient.root("items");
    patient.page(root).fill(0);
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    assert!(!account.complete);
    assert_eq!(account.missing_objects, ["index items_icu (no such collation sequence: icu_root)"]);
    assert_eq!(account.losses(), ["missing: index items_icu (no such collation sequence: icu_root)"]);
    assert!(rows(&repaired.file) == patient.truth);
}
