//! A copy without its virtual tables, for a schema that opens in no other way.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::super::copy::{Progress, copy_bytes, create};
use super::super::error::SqliteError;
use super::super::own::{Asked, beside};
use super::damaged;
use crate::progress::{Cancel, Observer};
use crate::world::disk::AtPath;

/// A copy of the copy, for a check that must change the schema; removed with it.
pub(in super::super) struct Scratch {
    pub(in super::super) path: PathBuf,
}

impl Scratch {
    /// Virtual tables have no pages: without their rows in the schema, everything that has pages is checked.
    pub(in super::super) fn without_virtual_tables(
        copy: &Path,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Self, SqliteError> {
        let scratch = Self { path: beside(copy, ".without-virtual-tables") };
        scratch.remove();
        let from = std::fs::File::open(copy).at("open", copy)?;
        let len = from.metadata().at("look at", copy)?.len();
        let progress = Progress { observer, cancel, done_before: 0, total: len, deadline: None };
        copy_bytes(&from, copy, &create(&scratch.path)?, &scratch.path, len, progress)?;
        let change = || -> rusqlite::Result<()> {
            let connection = Connection::open(&scratch.path)?;
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
            connection.pragma_update(None, "synchronous", false)?;
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "writable_schema", true)?;
            connection.execute("DELETE FROM sqlite_schema WHERE type = 'table' AND rootpage = 0", [])?;
            connection.close().map_err(|(_, error)| error)
        };
        damaged(change().asked("take the virtual tables out of", &scratch.path))?;
        Ok(scratch)
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-journal", "-shm"] {
            // Best effort: it lies in our own scratch directory.
            drop(std::fs::remove_file(beside(&self.path, suffix)));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}
