//! Generated columns that are stored, and that another SQLite has computed: to it a number may be another text.

use super::*;

/// Values that this SQLite would compute otherwise.
fn of_another_sqlite(form: &str) -> Patient {
    let content =
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL, label TEXT AS (v || ' EUR') STORED, n REAL AS (v * 2) STORED);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO t(id, v) SELECT i, i / 8.0 FROM n; CREATE INDEX t_v ON t(v); CREATE INDEX t_label ON t(label);";
    let mut patient = Patient::with(form, 1024, content);
    let connection = Connection::open(&patient.db).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    let other = "PRAGMA writable_schema=1;
        UPDATE sqlite_schema SET sql = replace(sql, ' EUR', CASE WHEN name = 't' THEN ' eur' ELSE ' EUR' END)";
    connection.execute_batch(other).unwrap();
    connection.close().unwrap();
    (patient.truth, patient.bytes) = (rows(&patient.db), std::fs::read(&patient.db).unwrap());
    assert!(patient.truth["t"].iter().all(|row| !row.contains("eur")));
    let root = patient.root("t");
    patient.page(root).fill(0);
    patient
}

#[test]
fn stored_values_of_another_sqlite_stay_as_they_are() {
    of_another_sqlite("").expect(Step::Salvage, true);
}

#[test]
fn stored_values_that_had_to_be_computed_anew_and_differ_are_in_doubt() {
    for encoding in ["UTF-8", "UTF-16le"] {
        // Not page by page.
        let patient = of_another_sqlite(&format!("PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum=1;"));
        let (_, account) = patient.expect(Step::Salvage, false);
        assert_eq!(of(&account, "t").doubtful, 3000, "{:?}", account.losses());
    }
}

#[test]
fn stored_values_that_are_the_same_are_in_no_doubt() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let form = format!("PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum=1;");
        let content = "CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL, label TEXT AS ('é' || id) STORED, n REAL AS (v * 2) STORED,
                b BLOB AS (CAST(id AS BLOB)) STORED, empty AS (NULL) STORED);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO t(id, v) SELECT i, i / 8.0 FROM n;";
        let mut patient = Patient::with(&form, 1024, content);
        let root = patient.root("t");
        patient.page(root).fill(0);
        let (share, account) = patient.expect(Step::Salvage, false);
        assert!(share >= 1.0 && of(&account, "t").doubtful == 0, "{:?}", account.losses());
    }
}
