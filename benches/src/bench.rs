//! What every measure needs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Outcome, data};

/// The settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// Where databases and copies lie.
    pub(crate) dir: PathBuf,
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    /// This program.
    pub(crate) own: PathBuf,
    /// Of the large database, in bytes.
    pub(crate) size: u64,
    /// Of the small one, in bytes.
    pub(crate) small: u64,
    /// Measured runs per contestant.
    pub(crate) runs: usize,
    /// No single wait lasts longer.
    pub(crate) wait_max: Duration,
}

impl Bench {
    /// The large database.
    pub(crate) fn large(&self) -> Outcome<PathBuf> {
        data::database(&self.dir, self.size)
    }

    /// An empty directory for one measure, removed with the guard.
    pub(crate) fn scratch(&self) -> Outcome<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix("run-").tempdir_in(&self.dir)?)
    }

    /// One of the programs.
    pub(crate) fn program(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.programs.join(name);
        if !path.is_file() {
            return Err(format!("{} is missing: cargo build --release", path.display()).into());
        }
        Ok(path)
    }
}

/// The same state for each: nothing waits to be written, and the database is in the page cache.
pub(crate) fn level(database: &Path) -> Outcome<()> {
    rustix::fs::sync();
    let mut file = File::open(database)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// The same, with nothing of the database in the page cache: every page comes from the disk, or from what the disk keeps.
pub(crate) fn cold(database: &Path) -> Outcome<()> {
    rustix::fs::sync();
    let file = File::open(database)?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// A size for people.
pub(crate) fn megabytes(bytes: u64) -> String {
    if bytes >= 1_000_000_000 { format!("{:.1} GB", bytes as f64 / 1e9) } else { format!("{} MB", bytes / 1_000_000) }
}
