//! What every fixture begins as: a store of verified backups and a database that has moved on since. Made once, by the
//! real programs, then copied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rusqlite::Connection;
use svckit_testbed::command::{ours, run};
use tempfile::TempDir;

use super::service::QUICK;

/// Rows of this origin are in every backup and in the database.
pub(crate) const IN_THE_BACKUPS: i32 = 1;
/// Rows of this origin came after the backups: a restore takes them away, all of them or none.
pub(crate) const SINCE: i32 = 2;
/// How many rows each origin has.
pub(crate) const ROWS: i64 = 60;
/// The target in the store.
pub(crate) const TARGET: &str = "t";
/// Backups in the store.
pub(crate) const BACKUPS: usize = 4;

/// The template; it lives as long as the tests run.
pub(crate) struct Template {
    directory: TempDir,
    /// The identities of the backups, oldest first.
    pub(crate) ids: Vec<String>,
}

pub(crate) static TEMPLATE: LazyLock<Template> = LazyLock::new(Template::make);

impl Template {
    fn make() -> Self {
        let directory = super::scratch();
        let (database, store) = (directory.path().join("data.db"), directory.path().join("store"));
        add_rows(&database, IN_THE_BACKUPS);
        let state = directory.path().join("state");
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..BACKUPS {
            let args = ["backup", "--to"].map(PathBuf::from).into_iter().chain([store.clone(), "--sqlite".into()]);
            let mut command = ours("svc-backup", args.chain([database.clone(), "--name".into(), TARGET.into()]));
            command.env("SVCKIT_STATE_DIR", &state);
            run(command, QUICK).expect(0);
            // Within one second the names alone have no order.
            ids.extend(backups(&store).into_keys().find(|id| !ids.contains(id)));
        }
        add_rows(&database, SINCE);
        assert_eq!(ids.len(), BACKUPS);
        add_rows(&directory.path().join("old.db"), IN_THE_BACKUPS);
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), bin.join("setsid")).unwrap();
        Self { directory, ids }
    }

    /// Fills the directory of a fixture.
    pub(crate) fn copy_to(&self, root: &Path) {
        self.copy_store_to(&root.join("store"));
        std::fs::create_dir(super::service::directory(root)).unwrap();
        std::fs::create_dir(root.join("record")).unwrap();
        self.copy_database_to(&super::service::database(root));
    }

    /// The store with its backups.
    pub(crate) fn copy_store_to(&self, store: &Path) {
        copy_tree(&self.directory.path().join("store"), store);
    }

    /// The database at rest, with what came since the backups.
    pub(crate) fn copy_database_to(&self, database: &Path) {
        std::fs::copy(self.directory.path().join("data.db"), database).unwrap();
    }

    /// The files of one finished backup.
    pub(crate) fn backup(&self, id: &str) -> PathBuf {
        self.directory.path().join("store").join(TARGET).join(id)
    }

    /// A database as it is in the backups, and at rest.
    pub(crate) fn old_database(&self) -> PathBuf {
        self.directory.path().join("old.db")
    }

    /// A directory in which setsid(1) kills every guard that it starts.
    pub(crate) fn killing_path(&self) -> std::ffi::OsString {
        let mut path = self.directory.path().join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

pub(super) fn add_rows(database: &Path, origin: i32) {
    let mut connection = Connection::open(database).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, pid INTEGER, number INTEGER, payload TEXT);
             CREATE UNIQUE INDEX IF NOT EXISTS rows_by_origin ON rows (pid, number);",
        )
        .unwrap();
    let transaction = connection.transaction().unwrap();
    for number in 1..=ROWS {
        let payload = "y".repeat(200);
        transaction
            .execute("INSERT INTO rows (pid, number, payload) VALUES (?1, ?2, ?3)", (origin, number, payload))
            .unwrap();
    }
    transaction.commit().unwrap();
}

/// Every visible backup of the target, with the content of its files.
pub(crate) fn backups(store: &Path) -> BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(store.join(TARGET)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            all.insert(name, files(&entry.path()));
        }
    }
    all
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        all.insert(entry.path().strip_prefix(directory).unwrap().to_owned(), std::fs::read(entry.path()).unwrap());
    }
    all
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
