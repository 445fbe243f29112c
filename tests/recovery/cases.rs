//! The cases.

use rusqlite::Connection;
use svckit_testbed::stories::Story;

use crate::patient::{Back, Patient};

pub(crate) const STORIES: &[Story] = &[
    ("control: .recover gives a whole database back, and ours loses none either", whole),
    ("random headers of leaves", random_headers),
    ("a hot journal that is lost", lost_journal),
    ("definitions that can't be read, without a backup", lost_definitions),
    ("zeroed and torn pages, and a file that was cut", lost_pages),
];

/// The pragmas and page sizes of the databases: the first only, but where everything is run.
fn forms() -> &'static [(&'static str, usize)] {
    const ALL: &[(&str, usize)] =
        &[("", 1024), ("", 4096), ("PRAGMA encoding='UTF-16be';", 4096), ("PRAGMA auto_vacuum=1;", 512)];
    if std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1") { ALL } else { &ALL[..1] }
}

/// With how many bytes of header a b-tree's page begins.
const HEADER: usize = 8;

fn whole() {
    let mut patient = Patient::new("", 1024);
    let back = patient.compare("a whole database");
    assert_eq!((back.ours, back.theirs), (back.all, back.all));
    // By a wrong page size in the header both are not misled.
    patient.bytes[16..18].copy_from_slice(&[0x10, 0]);
    let back = patient.compare("a wrong page size");
    assert_eq!(back.theirs, back.all);
}

fn random_headers() {
    for (form, size) in forms() {
        for table in ["items", "plays", "settings"] {
            for (count, whole) in [(1, true), (10, false), (20, true)] {
                let mut patient = Patient::new(form, *size);
                let leaves = patient.of(table, "leaf");
                for at in 0..count {
                    let leaf = leaves[patient.random.below(leaves.len())];
                    let bytes = patient.random.bits().to_le_bytes();
                    let end = if whole { HEADER } else { 1 + at % HEADER };
                    patient.page(leaf)[..end].copy_from_slice(&bytes[..end]);
                }
                patient.compare(&format!("{size} {form} {count} headers of {table}"));
            }
        }
    }
}

/// A transaction is cut off after its pages went into the file, and what would undo it is gone.
fn lost_journal() {
    let patient = Patient::new("", 1024);
    let connection = Connection::open(&patient.db).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size=10; BEGIN; UPDATE items SET size = size + 1 WHERE id % 3 = 0;
             DELETE FROM plays WHERE item < 2000; INSERT INTO settings SELECT 'new ' || id, title FROM items;",
        )
        .unwrap();
    let dead = patient.db.with_file_name("dead.db");
    std::fs::copy(&patient.db, &dead).unwrap();
    let journal = std::fs::read(patient.db.with_file_name("library.db-journal")).unwrap();
    assert!(journal.len() > 100 * 1024, "the transaction has reached the file");
    // With its journal it is nothing but an interrupted transaction.
    let beside = patient.db.with_file_name("dead.db-journal");
    std::fs::write(&beside, &journal).unwrap();
    let back = patient.compare_at(&dead, "a hot journal");
    assert_eq!(back.ours, back.all);
    // Cut, as a power cut leaves it, and gone.
    std::fs::write(&beside, &journal[..journal.len() / 2]).unwrap();
    let back = patient.compare_at(&dead, "half a hot journal");
    assert!(!back.repaired.unwrap().accounting.complete);
    std::fs::remove_file(&beside).unwrap();
    patient.compare_at(&dead, "no journal");
}

fn lost_definitions() {
    for (form, size) in forms() {
        let garbled = |text: &str, by: &[u8], what: &str| -> Back {
            let mut patient = Patient::new(form, *size);
            let wide = form.contains("UTF-16");
            let find: Vec<u8> = text.bytes().flat_map(|b| if wide { vec![0, b] } else { vec![b] }).collect();
            let at = patient.bytes.windows(find.len()).position(|window| window == find).unwrap();
            let len = by.len().min(find.len());
            patient.bytes[at..at + len].copy_from_slice(&by[..len]);
            patient.compare(&format!("{size} {form} {what}"))
        };
        garbled("CREATE TABLE items", b"????????????", "CREATE of items");
        garbled("CREATE TABLE plays", b"\0\0\0\0\0\0", "CREATE of plays");
        garbled("items(id INTEGER PRIMARY", b"items(##", "a column of items");
        garbled("settings(key TEXT", b"settings)key", "a bracket of settings");
        garbled("WITHOUT ROWID", b"WITHQUT", "WITHOUT of settings");
        garbled("CREATE INDEX items_title", b"CREATE ?????", "CREATE of an index");
        garbled("tableitems", b"tabl!", "the type of items");
        garbled("counted(id INTEGER PRIMARY KEY AUTO", b"\xff\xfe\xfd\xfc\xfb\xfa", "the name of counted");
        let mut patient = Patient::new(form, *size);
        let end = patient.page_size;
        patient.page(1)[end / 2..].fill(0);
        patient.compare(&format!("{size} {form} half of page 1"));
        let mut patient = Patient::new(form, *size);
        patient.page(1)[100..].fill(0);
        patient.compare(&format!("{size} {form} page 1 but its header"));
        let mut patient = Patient::new(form, *size);
        patient.page(1)[100..108].fill(0xff);
        patient.compare(&format!("{size} {form} the header of the schema's page"));
        let mut patient = Patient::new(form, *size);
        patient.page(1).fill(0);
        patient.compare(&format!("{size} {form} all of page 1"));
    }
}

fn lost_pages() {
    let mut patient = Patient::new("", 1024);
    let leaves = patient.of("items", "leaf");
    for _ in 0..20 {
        let leaf = leaves[patient.random.below(leaves.len())];
        patient.page(leaf).fill(0);
    }
    patient.compare("20 leaves zeroed");
    let mut patient = Patient::new("", 1024);
    for _ in 0..20 {
        let leaf = leaves[patient.random.below(leaves.len())];
        patient.page(leaf)[512..].fill(0);
    }
    patient.compare("20 leaves torn");
    let mut patient = Patient::new("", 4096);
    let len = patient.bytes.len() * 6 / 10;
    patient.bytes.truncate(len);
    patient.compare("a file that was cut");
}
