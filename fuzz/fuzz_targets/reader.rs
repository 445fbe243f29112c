//! Everything that the page reader does with files that anybody may have written.

use std::path::{Path, PathBuf};

use svckit::database::sqlite::SqliteError;
use svckit::database::sqlite::pages::{CheckOptions, ObjectKind, Schema, Values, View, check};
use svckit::progress::{Cancel, Silent};

/// A database in memory, with its side files.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub cancel: Cancel,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        Self { directory, cancel: Cancel::new().expect("a pipe") }
    }

    pub fn path(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("fuzzed.db{suffix}"))
    }

    pub fn write(&self, suffix: &str, bytes: &[u8]) {
        std::fs::write(self.path(suffix), bytes).expect("room for a file");
    }
}

/// Checks it and reads every row of every table; whether anything is damaged. Damage is a finding, and what is no
/// database is told as such: nothing else may come of it.
pub fn read(db: &Path, cancel: &Cancel) -> bool {
    let options = CheckOptions { own: true, threads: Some(1), ..CheckOptions::default() };
    let report = match check(db, &options, cancel, &Silent) {
        Ok(report) => report,
        Err(SqliteError::NotSqlite { .. } | SqliteError::Empty { .. }) => return true,
        Err(error) => panic!("{error}"),
    };
    let view = View::open_own(db, cancel).expect("what was checked opens");
    let schema = Schema::read(view.image());
    for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
        let by_rowid = object.table_shape.as_ref().map(|shape| !shape.without_rowid);
        view.image().walk(object.root, by_rowid, usize::MAX, &mut |met| {
            if let svckit::database::sqlite::pages::Met::Row { record: Ok(record), .. } = met {
                let _values = Values::all(&record);
            }
            true
        });
    }
    report.is_damaged()
}
