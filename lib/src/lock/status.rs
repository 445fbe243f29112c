//! Every lock of a directory: who holds it, who waits.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::holder::Record;
use super::table::Table;
use super::{Holder, LockKey, Party};
use crate::world::disk::{AtPath, DiskError, FileId};
use crate::world::raw_path::RawPath;

/// One lock.
#[derive(Debug, Clone, Serialize)]
pub struct LockStatus {
    /// What is locked, for people; the file's name where its record can't be read.
    pub lock: String,
    /// The lock file.
    pub file: RawPath,
    /// Who took it last, as it described itself; it holds it only where there are holders.
    pub record: Option<Holder>,
    /// The processes that hold it now. Empty: it is free, or its holders are hidden from us.
    pub holders: Vec<Party>,
    /// The processes that wait for it.
    pub waiting: Vec<Party>,
}

/// The locks of `directory` that are held or waited for, or all of them; only that of `key` where there is one.
///
/// It looks only: no lock is tried.
///
/// # Errors
/// When the directory can't be read; one that does not exist has no locks.
pub fn status(directory: &Path, key: Option<&LockKey>, with_free: bool) -> Result<Vec<LockStatus>, DiskError> {
    let table = Table::read();
    let mut all = Vec::new();
    for path in files(directory)? {
        if key.is_some_and(|key| path.file_name() != Some(key.file_name().as_ref())) {
            continue;
        }
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("open the lock", &path)?,
        };
        let id = FileId::of_open(&file).at("look at", &path)?;
        let record = Record::read_from(&mut file);
        let lock = record.as_ref().map(|record| record.lock.clone()).filter(|label| !label.is_empty());
        let by_name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let one = LockStatus {
            lock: lock.unwrap_or_else(by_name),
            file: RawPath(path.clone()),
            record: record.map(|record| record.holder),
            holders: table.holders_of(id),
            waiting: table.waiting_for(id),
        };
        if with_free || !one.holders.is_empty() || !one.waiting.is_empty() {
            all.push(one);
        }
    }
    Ok(all)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let items = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", directory)?,
    };
    let mut paths = Vec::new();
    for item in items {
        let path = item.at("list", directory)?.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
