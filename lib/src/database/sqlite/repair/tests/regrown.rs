//! Damaged tables that are written anew page by page: of every size, in pages of every size, whole by SQLite's word.

use super::*;
use crate::database::sqlite::repair::regrow;

/// Tables with so many rows end within a page, with its last cell, and just behind it, on several levels.
const ROWS: [usize; 9] = [3, 40, 41, 97, 130, 131, 132, 500, 1100];

/// A table with gaps between its rowids, rows that go on in other pages, and indices of short, long and equal keys; one of
/// its leaves is zeros. `None` where it has only one.
fn damaged(page_size: usize, encoding: &str, rows: usize) -> Option<Patient> {
    let form = format!("PRAGMA encoding='{encoding}';");
    let content = format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b, c REAL); CREATE INDEX t_a ON t(a);
         CREATE INDEX t_b ON t(b DESC, a COLLATE NOCASE); CREATE INDEX t_c ON t(c); CREATE UNIQUE INDEX t_u ON t(a, id);
         CREATE TABLE other(x); INSERT INTO other VALUES(zeroblob(9000)); CREATE TABLE gone(x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i * 3 + i % 7 / 5 - 700, printf('%.*c', i * 37 % min({page_size}, 700), 'x') || i,
            CASE i % 31 WHEN 0 THEN zeroblob(i * 7919 % 3000) WHEN 1 THEN NULL ELSE i % 5 END, i / 3.0 FROM n;
         INSERT INTO t(id, a) VALUES(-9223372036854775808, 'first'), (9223372036854775807, 'last');
         INSERT INTO gone SELECT zeroblob(700) FROM t; DROP TABLE gone;
         ALTER TABLE t ADD COLUMN d DEFAULT 5; CREATE INDEX t_d ON t(d); CREATE INDEX t_e ON t(length(a));"
    );
    let mut patient = Patient::with(&form, page_size, &content);
    let leaves = patient.of("t", "leaf");
    let leaf = leaves[leaves.len() / 2];
    if leaf == patient.root("t") {
        return None;
    }
    patient.page(leaf).fill(0);
    Some(patient)
}

#[test]
fn tables_and_indices_of_any_size_are_whole_trees() {
    for (number, rows) in ROWS.into_iter().enumerate() {
        for page_size in [512, 1024, 65_536] {
            let encoding = ["UTF-8", "UTF-16le", "UTF-16be"][number % 3];
            let Some(patient) = damaged(page_size, encoding, rows) else { continue };
            let repaired = patient.repair().unwrap();
            assert_eq!(repaired.file.file_name().unwrap(), regrow::FILE, "{rows} rows, pages of {page_size}");
            let (_, account) = patient.judge(&repaired, Step::Salvage, false);
            let told = of(&account, "t");
            assert_eq!(told.lost, Some(patient.truth["t"].len() as u64 - told.after), "{told:?}");
            assert!(told.doubtful + told.set_aside == 0 && told.after > 0, "{told:?}");
        }
    }
}

#[test]
fn rows_of_leaves_that_nothing_leads_to_come_back_in_their_order() {
    for page_size in [512, 1024] {
        let mut patient = damaged(page_size, "UTF-8", 900).unwrap();
        let (undamaged, interior) = (std::fs::read(&patient.db).unwrap(), patient.of("t", "internal"));
        assert!(interior.len() > 1, "{interior:?}");
        for page in interior.into_iter().take(4) {
            patient.bytes.clone_from(&undamaged);
            patient.page(page).fill(0);
            let repaired = patient.repair().unwrap();
            assert_eq!(repaired.file.file_name().unwrap(), regrow::FILE, "page {page}");
            let (share, account) = patient.judge(&repaired, Step::Salvage, true);
            assert_eq!((share, of(&account, "t").from_orphans > 0), (1.0, true), "{:?}", of(&account, "t"));
        }
    }
}

#[test]
fn an_index_that_disagrees_with_the_rows_is_built_from_them() {
    let mut patient = damaged(1024, "UTF-8", 500).unwrap();
    let leaf = patient.of("t", "leaf")[3];
    let x = patient.page(leaf).windows(2).rposition(|window| window == b"xx").unwrap();
    patient.page(leaf)[x] = b'y';
    let repaired = patient.repair().unwrap();
    assert_eq!(repaired.file.file_name().unwrap(), regrow::FILE);
    let (_, account) = patient.judge(&repaired, Step::Salvage, false);
    assert!(of(&account, "t").lost > Some(0), "{:?}", of(&account, "t"));
}
