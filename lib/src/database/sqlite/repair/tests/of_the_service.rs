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
    assert!(is_whole_with_its_collation(&repaired.file) && rows(&repaired.file) == patient.truth);
}

fn is_whole_with_its_collation(db: &Path) -> bool {
    let connection = Connection::open(db).unwrap();
    connection.create_collation("icu_root", |a, b| b.cmp(a)).unwrap();
    connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
}

#[test]
fn an_index_that_can_not_be_built_here_is_told_as_missing() {
    let mut patient = patient();
    let (root, leaf) = (patient.root("items"), patient.of("items_icu", "leaf")[0]);
    patient.page(root).fill(0);
    // As long as it is whole, it is taken over with the rows.
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    assert_eq!((account.step, account.losses()), (Step::Salvage, Vec::<String>::new()));
    assert!(is_whole_with_its_collation(&repaired.file) && rows(&repaired.file) == patient.truth);
    patient.page(leaf).fill(0);
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    assert!(!account.complete);
    assert_eq!(account.missing_objects, ["index items_icu (no such collation sequence: icu_root)"]);
    assert_eq!(account.losses(), ["missing: index items_icu (no such collation sequence: icu_root)"]);
    assert!(rows(&repaired.file) == patient.truth);
}

/// A constraint in the order of a collation, and a stored column by a function, that are not here.
fn with_stand_ins(form: &str) -> Patient {
    let mut patient = Patient::new(form, 1024);
    let connection = Connection::open(&patient.db).unwrap();
    connection.create_collation("icu_root", |a, b| b.cmp(a)).unwrap();
    let flags = rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("norm", 1, flags, |c| Ok(c.get::<String>(0)?.to_uppercase())).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE unlike(id INTEGER PRIMARY KEY, name TEXT COLLATE icu_root UNIQUE);
             INSERT INTO unlike SELECT id, title FROM items WHERE id <= 300;
             CREATE TABLE normal(id INTEGER PRIMARY KEY, a TEXT, n TEXT AS (norm(a)) STORED);
             INSERT INTO normal(id, a) SELECT id, title FROM items WHERE id <= 300;",
        )
        .unwrap();
    connection.close().unwrap();
    (patient.truth, patient.bytes) = (rows(&patient.db), std::fs::read(&patient.db).unwrap());
    patient
}

#[test]
fn what_was_made_with_a_stand_in_is_told_and_never_called_complete() {
    let mut patient = with_stand_ins("");
    // What stays where it is was made by the service.
    let (undamaged, root) = (patient.bytes.clone(), patient.root("items"));
    patient.page(root).fill(0);
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    assert_eq!((account.step, account.losses()), (Step::Salvage, Vec::<String>::new()));
    assert!(rows(&repaired.file) == patient.truth);
    patient.bytes = undamaged;
    let damage = |patient: &mut Patient| {
        for table in ["unlike", "normal"] {
            let root = patient.root(table);
            patient.page(root).fill(0);
        }
    };
    // And so is what is taken over page by page.
    damage(&mut patient);
    let repaired = patient.repair().unwrap();
    assert!(repaired.accounting.stand_ins.is_empty() && rows(&repaired.file) == patient.truth);
    let mut patient = with_stand_ins("PRAGMA auto_vacuum=1;");
    damage(&mut patient);
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    assert_eq!(
        account.stand_ins,
        [
            "index sqlite_autoindex_unlike_1 is in the order of a stand-in for a collation of its service",
            "generated columns of normal are computed by a stand-in for a function of its service"
        ]
    );
    assert!(!account.complete && account.notes.iter().any(|note| note.contains("--sqlite-program")));
    // A program that is none changes nothing, and the reason is told.
    patient.program = Some("/nonexistent/Plex SQLite".into());
    let repaired = patient.repair().unwrap();
    let account = &repaired.accounting;
    let told = account.notes.iter().any(|note| note.contains("/nonexistent/Plex SQLite can't be run: "));
    assert!(told && account.stand_ins.len() == 2, "{:?}", account.notes);
    // One that fails, or lies.
    for program in ["/bin/false", "/bin/true"] {
        patient.program = Some(program.into());
        let account = patient.repair().unwrap().accounting;
        assert!(!account.complete && account.stand_ins.len() == 2, "{program}: {:?}", account.notes);
    }
}
