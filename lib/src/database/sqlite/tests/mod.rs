//! Against real SQLite writers in other processes.

mod fenced_and_cold;
mod hot;
mod input;
mod per_request;
pub(super) mod random;
mod replace;
mod replace_set;
mod service_schema;
mod together;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::{Snapshot, SnapshotRequest, SqliteError, validate};
use crate::progress::{Cancel, Silent};

/// Two directories: one for the service, one for the copies.
struct Place {
    _root: tempfile::TempDir,
    service: PathBuf,
    copies: PathBuf,
    cancel: Cancel,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (service, copies) = (root.path().join("service"), root.path().join("copies"));
        std::fs::create_dir(&service).unwrap();
        std::fs::create_dir(&copies).unwrap();
        Self { _root: root, service, copies, cancel: Cancel::new().unwrap() }
    }

    fn request<'a>(&'a self, databases: &'a [PathBuf]) -> SnapshotRequest<'a> {
        SnapshotRequest {
            databases,
            into: &self.copies,
            fence_hold_max: Duration::from_secs(20),
            cancel: &self.cancel,
            observer: &Silent,
        }
    }

    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.service).unwrap();
        let mut names: Vec<_> = names.map(|item| item.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// Proves the copy by our own ladder and by SQLite's word, and counts its rows.
fn rows_of(snapshot: &Snapshot) -> u64 {
    let cancel = Cancel::new().unwrap();
    let validation = validate(&snapshot.file, &cancel, &Silent).unwrap();
    assert_eq!(validation.rungs, ["header", "pages", "structure", "integrity", "foreign-keys", "counts"]);
    let counted = validation.facts.tables.iter().find(|t| t.name == "t").unwrap().rows;
    let (rows, last) = ask(&snapshot.file);
    assert_eq!((counted, rows), (rows, last), "rows are missing within");
    assert_eq!(std::fs::metadata(&snapshot.file).unwrap().len(), snapshot.bytes);
    rows
}

/// Count and highest id of a copy, as SQLite reads them; and its integrity.
fn ask(copy: &Path) -> (u64, u64) {
    let connection = Connection::open(copy).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let sql = "SELECT count(*), coalesce(max(id), 0) FROM t";
    let (rows, last): (i64, i64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    (u64::try_from(rows).unwrap(), u64::try_from(last).unwrap())
}

fn empty(dir: &Path) {
    for item in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(item.unwrap().path()).unwrap();
    }
}

fn in_flight(error: &SqliteError) -> bool {
    crate::failure::Failure::kind(error) == crate::failure::FailureKind::WriteInFlight
}
