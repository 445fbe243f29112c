//! What the locks of a service's databases say while it stops.

use std::path::{Path, PathBuf};

use crate::sqlite_locks::{self, Watch, WriteState};

/// Looks at the databases of one stop.
pub(super) struct Writes {
    databases: Vec<PathBuf>,
    /// Those that every look so far found locked as a whole.
    never_free: Vec<PathBuf>,
    /// The evidence that a fence needs.
    pub(super) watch: Watch,
}

impl Writes {
    pub(super) fn new(databases: &[PathBuf]) -> Self {
        let all = databases.to_vec();
        Self { databases: all.clone(), never_free: all.clone(), watch: Watch::new(all) }
    }

    /// What is not seen is no evidence: the fence refuses then, later.
    pub(super) fn observe(&self) {
        if let Err(error) = self.watch.observe() {
            tracing::debug!(%error, "the locks of the service's databases could not be observed");
        }
    }

    /// The worst of all. `whole` stands only where one database was never found otherwise.
    pub(super) fn look(&mut self) -> WriteState {
        let mut worst = WriteState::Idle;
        for database in &self.databases {
            let state = look_at(database);
            if !matches!(state, WriteState::Writing { whole: true, .. }) {
                self.never_free.retain(|path| path != database);
            }
            worst = match (worst, state) {
                (worst @ WriteState::Writing { .. }, _) | (worst, WriteState::Idle) => worst,
                (_, state) => state,
            };
        }
        match worst {
            WriteState::Writing { pid, .. } => WriteState::Writing { pid, whole: !self.never_free.is_empty() },
            other => other,
        }
    }

    /// Why a kill is refused where one was never free.
    pub(super) fn why_no_fence(&self) -> String {
        let which = self.never_free.first().map(PathBuf::as_path).unwrap_or(Path::new("a database"));
        format!(
            "{} was locked as a whole for as long as we waited (locking_mode=EXCLUSIVE, the VFS unix-excl, or a write \
             without an end), so it can't be known that no write is in flight",
            which.display()
        )
    }
}

/// Whether whoever had the database open last did not close it: an orderly close leaves no log and no journal. (One
/// that keeps its log on purpose, SQLITE_FCNTL_PERSIST_WAL, looks the same.)
pub(super) fn was_left_open(database: &Path) -> bool {
    let log = std::fs::metadata(sqlite_locks::side_file(database, "-wal"));
    log.is_ok_and(|log| log.len() > 0)
        || sqlite_locks::has_content(&sqlite_locks::side_file(database, "-journal")).unwrap_or(false)
}

fn look_at(database: &Path) -> WriteState {
    match sqlite_locks::probe(database) {
        Ok(state) => state,
        // A database that is not there any more is not being written.
        Err(_) if !database.exists() => WriteState::Idle,
        Err(error) => WriteState::Unknown { reason: error.to_string() },
    }
}
