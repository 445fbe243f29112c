//! Against what SQLite itself writes and says.

mod definitions;
mod healthy;
mod journals;
mod large;
mod logs;
mod matrix;
mod mends;
mod mutated;
mod reading;
mod shapes;
mod writers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;

use super::{CheckOptions, Report, View, check};
use crate::progress::{Cancel, Silent};

/// Longer than any test waits for a lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with one database in it.
struct Place {
    dir: tempfile::TempDir,
    db: PathBuf,
    cancel: Cancel,
}

impl Place {
    /// As `sql` makes it; closed.
    fn new(sql: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("library.db");
        let place = Self { dir, db, cancel: Cancel::new().unwrap() };
        place.run(sql);
        place
    }

    fn run(&self, sql: &str) {
        let connection = Connection::open(&self.db).unwrap();
        batch(&connection, sql);
        connection.close().unwrap();
    }

    /// As it lies after its process died in a transaction that had spilled into the file: copies of both while it is open.
    fn died_in(&self, sql: &str) -> Self {
        let connection = Connection::open(&self.db).unwrap();
        batch(&connection, &format!("PRAGMA cache_size=5; PRAGMA cache_spill=5; BEGIN; {sql}"));
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("library.db");
        std::fs::copy(&self.db, &db).unwrap();
        std::fs::copy(side(&self.db, "-journal"), side(&db, "-journal")).unwrap();
        Self { dir, db, cancel: Cancel::new().unwrap() }
    }

    fn view(&self) -> View {
        View::open(&self.db, None, PATIENCE, &self.cancel).unwrap()
    }

    fn check(&self) -> Report {
        let options = CheckOptions { hold_max: PATIENCE, ..CheckOptions::default() };
        check(&self.db, &options, &self.cancel, &Silent).unwrap()
    }

    /// As a copy that nobody else knows.
    fn check_own(&self) -> Report {
        let options = CheckOptions { own: true, ..CheckOptions::default() };
        check(&self.db, &options, &self.cancel, &Silent).unwrap()
    }

    /// Names and contents of everything in the directory.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let items = std::fs::read_dir(self.dir.path()).unwrap().map(|item| item.unwrap().path());
        let mut all: Vec<_> = items.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
        all.sort();
        all
    }
}

/// Statements with or without rows.
fn batch(connection: &Connection, sql: &str) {
    let mut batch = rusqlite::Batch::new(connection, sql);
    while let Some(mut statement) = batch.next().unwrap() {
        let mut rows = statement.query([]).unwrap();
        while rows.next().unwrap().is_some() {}
    }
}

fn side(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
