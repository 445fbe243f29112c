//! A damaged database: what the sweeps of a repair and of its undoing begin with, and what must hold of it afterwards.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rusqlite::Connection;
use svckit::database::sqlite::{Preserved, preserved_sets};
use svckit::progress::{Cancel, Silent};
use svckit::world::disk::parent_of;
use svckit_testbed::command::{ours, run};
use tempfile::TempDir;

use super::data::{InPlace, Rows, copy_of, entries, is_preserved, open, verdict};
use super::fixture::Work;
use super::service::QUICK;
use super::template::{IN_THE_BACKUPS, ROWS, SINCE, add_rows, copy_tree};

/// Rows of this origin were only in the log when the database was preserved.
const LOGGED: i32 = 3;
const LOGGED_ROWS: i64 = 10;
/// Rows of a table that the service has no business with, and whose index is damaged.
const NOTES: i64 = 400;
/// What a note says, for SQL.
const NOTE: &str = "printf('some title, long enough for a page, of note %d', i)";

/// The databases; they live as long as the tests run.
pub(crate) struct Patient {
    directory: TempDir,
}

pub(crate) static PATIENT: LazyLock<Patient> = LazyLock::new(Patient::make);

impl Patient {
    fn make() -> Self {
        let patient = Self { directory: super::scratch() };
        for name in ["damaged", "repaired"] {
            std::fs::create_dir(patient.path(name)).unwrap();
        }
        let database = patient.path("first.db");
        add_rows(&database, IN_THE_BACKUPS);
        let connection = Connection::open(&database).unwrap();
        connection
            .execute_batch(&format!(
                "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT); CREATE INDEX notes_title ON notes(title);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {NOTES})
                 INSERT INTO notes SELECT i, {NOTE} FROM n;"
            ))
            .unwrap();
        connection.close().unwrap();
        damage(&database);
        let connection = Connection::open(&database).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        for number in 1..=LOGGED_ROWS {
            connection.execute("INSERT INTO rows(pid, number) VALUES(?1, ?2)", (LOGGED, number)).unwrap();
        }
        // As a crash leaves it.
        for suffix in ["", "-wal", "-shm"] {
            for name in ["damaged", "repaired"] {
                let to = patient.path(&format!("{name}/data.db{suffix}"));
                std::fs::copy(patient.path(&format!("first.db{suffix}")), to).unwrap();
            }
        }
        drop(connection);
        let mut repair = ours("svc-repair", ["repair".into(), patient.path("repaired/data.db"), "--no-service".into()]);
        repair.env("SVCKIT_STATE_DIR", patient.path("state"));
        run(repair, QUICK).expect(0);
        add_rows(&patient.path("damaged/data.db"), SINCE);
        add_rows(&patient.path("repaired/data.db"), SINCE);
        patient
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts the database, and what is preserved of it, where the fixture's is.
    pub(crate) fn copy_to(&self, work: Work, directory: &Path) {
        std::fs::remove_dir_all(directory).unwrap();
        copy_tree(&self.path(if work == Work::Undo { "repaired" } else { "damaged" }), directory);
    }
}

/// Zeroes some leaves of the index.
fn damage(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = 'notes_title' AND pagetype = 'leaf' ORDER BY pageno";
    let mut statement = connection.prepare(sql).unwrap();
    let leaves: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    drop(statement);
    connection.close().unwrap();
    let mut bytes = std::fs::read(database).unwrap();
    for leaf in leaves.iter().skip(1).step_by(2) {
        let (from, to) = ((leaf - 1) * size, leaf * size);
        bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].fill(0);
    }
    std::fs::write(database, bytes).unwrap();
}

/// Every row is there that was acknowledged, and every preserved set is whole. Which one is in place, is told by its
/// index: a repair's new database has it, and so has what an undo replaces.
pub(crate) fn check(
    work: Work,
    database: &Path,
    first_pid: i32,
    acknowledged: Vec<(i32, i64)>,
) -> Result<InPlace, String> {
    let (is_whole, rows) = read(database)?;
    let sets = sets(database)?;
    let in_place = if is_whole == (work == Work::Undo) { InPlace::Old } else { InPlace::New };
    let (before, after): (Vec<_>, Vec<_>) = acknowledged.into_iter().partition(|(pid, _)| *pid == first_pid);
    rows.require("from the database", &after)?;
    if work != Work::Undo || in_place == InPlace::Old {
        all_of(&rows, "the database")?;
        rows.require("from the database", &before)?;
    } else if rows.count(SINCE) != 0 || rows.count(first_pid) != 0 {
        return Err("a mixture: rows of the repaired database in the original".to_owned());
    }
    let of_repair = sets.iter().any(|set| set.manifest.before == "repair");
    if work == Work::Undo && !of_repair {
        return Err("the preserved original is gone".to_owned());
    }
    if in_place == InPlace::New {
        let word = if work == Work::Undo { "undo" } else { "repair" };
        let set = sets.iter().find(|set| set.manifest.before == word).ok_or("what was replaced is not preserved")?;
        let copy = copy_of(&set.directory)?;
        let (_, preserved) = read(&copy.path().join("data.db")).map_err(|e| format!("what is preserved: {e}"))?;
        all_of(&preserved, "what is preserved")?;
        preserved.require("from what is preserved", &before)?;
    }
    Ok(in_place)
}

fn all_of(rows: &Rows, what: &str) -> Result<(), String> {
    match rows.count(SINCE) {
        ROWS => Ok(()),
        some => Err(format!("{some} of {ROWS} rows since the repair are in {what}")),
    }
}

/// Whether the damaged index is whole, and the service's rows. Everything but that index must be whole.
fn read(database: &Path) -> Result<(bool, Rows), String> {
    let connection = open(database)?;
    let is_whole = verdict(&connection, "")? == "ok";
    let of_rows = verdict(&connection, "(rows)")?;
    if of_rows != "ok" {
        return Err(format!("{}: integrity_check says {of_rows}", database.display()));
    }
    let sql = format!("SELECT count(*) FROM (SELECT id AS i, title FROM notes NOT INDEXED) WHERE title = {NOTE}");
    let notes: i64 = connection.query_row(&sql, (), |row| row.get(0)).map_err(|e| e.to_string())?;
    let rows = Rows::of(&connection)?;
    let (first, logged) = (rows.count(IN_THE_BACKUPS), rows.count(LOGGED));
    if (notes, first, logged) != (NOTES, ROWS, LOGGED_ROWS) {
        let name = database.display();
        return Err(format!("{name} has {notes} of {NOTES} notes, {first} of {ROWS} rows, {logged} of the log's"));
    }
    Ok((is_whole, rows))
}

/// The preserved sets, all of them whole.
fn sets(database: &Path) -> Result<Vec<Preserved>, String> {
    let sets = preserved_sets(database).map_err(|e| e.to_string())?;
    let there = entries(parent_of(database)).into_iter().filter(|path| is_preserved(path)).count();
    if sets.len() != there {
        return Err(format!("{} of {there} preserved sets are complete", sets.len()));
    }
    let cancel = Cancel::new().map_err(|e| e.to_string())?;
    for set in &sets {
        set.verify(&cancel, &Silent).map_err(|e| format!("a preserved set is not whole: {e}"))?;
    }
    Ok(sets)
}
