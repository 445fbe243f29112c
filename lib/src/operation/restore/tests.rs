//! What a restore says, and what is in place then.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::super::request::{BackupMode, BackupRequest, Includes, RestoreReport, RestoreRequest, ServiceOptions};
use super::super::{OperationError, backup, restore};
use crate::failure::{Failure, FailureKind};
use crate::lock::{LockRules, Wait};
use crate::progress::{Cancel, Observer};
use crate::quiesce::{Context, StopPolicy};
use crate::world::StateDirs;

/// Something happens when a step begins: what a disk, or somebody else, does to a restore.
struct Meanwhile<F>(&'static str, F);

impl<F: Fn() + Send + Sync> Observer for Meanwhile<F> {
    fn step(&self, what: &str) {
        if what.starts_with("replacing") && what.ends_with(self.0) {
            (self.1)();
        }
    }
}

/// A store with a backup of `a.db` and `b.db`, and both changed since, with what a crash left beside them.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with_mode(0o644)
    }

    fn with_mode(mode: u32) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["a.db", "b.db"] {
            let connection = Connection::open(place.path(name)).unwrap();
            connection.execute_batch("CREATE TABLE t(v); INSERT INTO t VALUES('backed up')").unwrap();
            std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let request = BackupRequest {
            compression: Default::default(),
            databases: ["a.db", "b.db"].map(|name| place.path(name)).to_vec(),
            includes: Includes::default(),
            store: place.path("store"),
            name: Some("t".parse().unwrap()),
            mode: BackupMode::Hot,
            fence_hold_max: Duration::from_secs(2),
            service: options(),
            dry_run: false,
        };
        backup(&place.context("", || ()), None, &request).unwrap();
        for name in ["a.db", "b.db"] {
            let connection = Connection::open(place.path(name)).unwrap();
            connection.execute_batch("INSERT INTO t VALUES('since')").unwrap();
            drop(connection);
            // An empty log, as one that was truncated: SQLite has nothing to take from it.
            std::fs::write(place.path(&format!("{name}-wal")), b"").unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn context(&self, step: &'static str, then: impl Fn() + Send + Sync + 'static) -> Context {
        let state = self.path("state");
        Context {
            dirs: StateDirs { state: state.join("state"), lock: state.join("lock"), runtime: state },
            locks: LockRules::default(),
            guard_argv: Vec::new(),
            cancel: Cancel::new().unwrap(),
            observer: Arc::new(Meanwhile(step, then)),
        }
    }

    fn restore(
        &self,
        step: &'static str,
        then: impl Fn() + Send + Sync + 'static,
    ) -> Result<RestoreReport, OperationError> {
        restore(&self.context(step, then), None, &self.request())
    }

    fn request(&self) -> RestoreRequest {
        RestoreRequest {
            member: None,
            store: self.path("store"),
            target: "t".parse().unwrap(),
            backup: None,
            to: self.dir.path().to_owned(),
            service: options(),
            dry_run: false,
        }
    }

    /// What lies beside the databases, besides them, the store and our state.
    fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> = names.map(|item| item.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["store", "state"].contains(&name.as_str()));
        names.sort();
        names
    }

    fn rows(&self, name: &str) -> i64 {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    fn journal(&self) -> Vec<PathBuf> {
        entries(&self.path("state/state/journal"))
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|item| item.unwrap().path()).collect()
}

fn options() -> ServiceOptions {
    ServiceOptions { databases: Vec::new(), policy: StopPolicy::default(), ready: Vec::new(), wait: Wait::No }
}

const AS_BEFORE: [&str; 4] = ["a.db", "a.db-wal", "b.db", "b.db-wal"];

#[test]
fn a_dry_run_has_nothing_in_place() {
    let place = Place::new();
    let request = RestoreRequest { dry_run: true, ..place.request() };
    let report = restore(&place.context("", || ()), None, &request).unwrap();
    assert_eq!((report.restored.len(), report.kept.len()), (0, 0));
    assert!(!report.plan.is_empty());
    assert_eq!(place.names(), AS_BEFORE);
}

#[test]
fn a_set_is_in_place_as_a_whole_and_what_it_replaced_is_kept() {
    let place = Place::new();
    let report = place.restore("", || ()).unwrap();
    assert_eq!((report.restored.len(), report.kept.len(), report.notices.len()), (2, 2, 0), "{report:?}");
    assert_eq!((place.rows("a.db"), place.rows("b.db")), (1, 1));
    assert_eq!(place.names().len(), 4, "{:?}", place.names());
    assert!(place.journal().is_empty());
}

#[test]
fn a_database_that_is_gone_gets_its_own_mode_back_in_its_own_place_alone() {
    let place = Place::with_mode(0o664);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for name in AS_BEFORE {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    place.restore("", || ()).unwrap();
    assert_eq!((mode(&place.path("a.db")), mode(&place.path("b.db"))), (0o664, 0o664));
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let request = RestoreRequest { to: elsewhere.clone(), ..place.request() };
    restore(&place.context("", || ()), None, &request).unwrap();
    assert_eq!(mode(&elsewhere.join("a.db")), 0o660);
}

#[test]
fn a_replacement_that_fails_is_taken_back_and_the_answer_is_that_it_failed() {
    let place = Place::new();
    let dir = place.dir.path().to_owned();
    // The first of the set is in place by then; the second has nowhere to go.
    let error = place
        .restore("b.db", move || {
            let kept = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("b.db.svckit-kept");
            std::fs::remove_dir(entries(&dir).into_iter().find(kept).unwrap()).unwrap();
        })
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::Failed, "{error}");
    assert_eq!(place.names(), AS_BEFORE);
    assert_eq!((place.rows("a.db"), place.rows("b.db")), (2, 2));
    assert!(place.journal().is_empty());
}

#[test]
fn a_replacement_that_can_not_be_taken_back_is_not_called_as_it_was() {
    let place = Place::new();
    let dir = place.dir.path().to_owned();
    // Somebody uses the new one of two at once, and the second can't be put in place.
    let error = place
        .restore("b.db", move || {
            std::fs::write(dir.join("a.db-wal"), b"somebody's").unwrap();
            std::fs::write(dir.join("b.db-journal"), b"somebody's").unwrap();
        })
        .unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotBack, "{error}");
    assert!(error.to_string().contains("svc-ctl resume"), "{error}");
    assert_eq!(std::fs::read(place.path("a.db-wal")).unwrap(), b"somebody's");
    assert!(!place.journal().is_empty(), "nothing tells resume what to finish");
}

#[test]
fn a_journal_that_fails_after_the_last_move_makes_no_failure_of_a_success() {
    let place = Place::new();
    let journal = place.path("state/state/journal");
    let report = place.restore("b.db", move || {
        // The entry can't be removed any more.
        for entry in entries(&journal) {
            if std::fs::read_to_string(&entry).unwrap().contains("svckit-kept") {
                std::fs::remove_file(&entry).unwrap();
                std::fs::create_dir(&entry).unwrap();
            }
        }
    });
    let report = report.unwrap();
    assert_eq!(report.restored.len(), 2);
    assert!(report.notices.iter().any(|notice| notice.contains("svc-ctl resume")), "{:?}", report.notices);
    assert_eq!((place.rows("a.db"), place.rows("b.db")), (1, 1));
}
