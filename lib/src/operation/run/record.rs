//! What became of targets and runs, on disk: for a person who asks later, and for the next run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind, hint_of_io, kind_of_io};
use crate::name::{BackupId, TargetName};
use crate::world::clock;
use crate::world::disk::{self, DiskError};

/// So many runs are kept.
const RUNS_MAX: usize = 100;
/// A record is not longer, in bytes.
const RECORD_LEN_MAX: u64 = 4 << 20;

/// The last good backup of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Succeeded {
    /// When it was done (RFC 3339, UTC).
    pub at: String,
    /// Which one it is in its store.
    pub backup: Option<BackupId>,
    /// What it takes in the store, in bytes.
    pub stored_bytes: u64,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// The last failure of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// When it failed for good (RFC 3339, UTC).
    pub at: String,
    /// The outcome in a word, as `--json` has it.
    pub kind: String,
    /// What happened.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What is known of a target's past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its name.
    pub target: TargetName,
    /// The container whose labels named it, the last time it was seen.
    pub container: Option<String>,
    /// Its last good backup.
    pub succeeded: Option<Succeeded>,
    /// Its last failure, an old one perhaps.
    pub failed: Option<Failed>,
    /// How often it has failed since its last good backup.
    pub failures: u32,
}

impl TargetRecord {
    fn new(target: TargetName) -> Self {
        Self { target, container: None, succeeded: None, failed: None, failures: 0 }
    }

    /// Whether its last attempt was a good one.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures == 0 && self.succeeded.is_some()
    }
}

/// One target in the record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetOfRun {
    /// Its name.
    pub target: String,
    /// The outcome in a word, as `--json` has it.
    pub kind: String,
    /// What failed.
    pub error: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// When it began (RFC 3339, UTC).
    pub began: String,
    /// When it ended; `None`: it runs, or was killed.
    pub ended: Option<String>,
    /// Which process it is or was.
    pub pid: u32,
    /// What became of each target, in the order of their ends.
    pub targets: Vec<TargetOfRun>,
}

impl RunRecord {
    /// One that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: clock::now_rfc3339(), ended: None, pid: std::process::id(), targets: Vec::new() }
    }
}

/// A record that can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system's word.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// Its content.
    #[error("the record {path:?} can't be read: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure for RecordError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => kind_of_io(&error.source),
            Self::Malformed { .. } => FailureKind::Failed,
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => hint_of_io(&error.source),
            Self::Malformed { .. } => Some("remove it: the next backup of its target writes it anew".to_owned()),
        }
    }
}

/// The directory of all records: `targets/NAME.json`, and `runs/TIME-PID.json`.
#[derive(Debug, Clone)]
pub struct Records {
    targets: PathBuf,
    runs: PathBuf,
}

impl Records {
    /// Those below this directory, which need not be there yet.
    #[must_use]
    pub fn below(state: &Path) -> Self {
        Self { targets: state.join("targets"), runs: state.join("runs") }
    }

    /// What is known of every target, by name. One whose record can't be read is an error of its own.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn targets(&self) -> Result<Vec<Result<TargetRecord, RecordError>>, RecordError> {
        Ok(names_in(&self.targets)?.into_iter().map(|path| read(&path)).collect())
    }

    /// What is known of this target; `None`: nothing.
    ///
    /// # Errors
    /// When its record can't be read.
    pub fn target(&self, name: &TargetName) -> Result<Option<TargetRecord>, RecordError> {
        let path = self.path_of(name);
        match path.try_exists() {
            Ok(false) => Ok(None),
            _ => read(&path).map(Some),
        }
    }

    /// Notes a good backup.
    ///
    /// # Errors
    /// When it can't be written: the backup is there all the same.
    pub fn succeeded(&self, name: &TargetName, container: Option<&str>, done: Succeeded) -> Result<(), RecordError> {
        self.change(name, container, |record| {
            record.succeeded = Some(done);
            record.failures = 0;
        })
    }

    /// Notes a failure.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn failed(&self, name: &TargetName, container: Option<&str>, failed: Failed) -> Result<(), RecordError> {
        self.change(name, container, |record| {
            record.failed = Some(failed);
            record.failures = record.failures.saturating_add(1);
        })
    }

    /// Forgets a target, whose backups stay where they are. Answers whether it was known.
    ///
    /// # Errors
    /// When its record can't be removed.
    pub fn forget(&self, name: &TargetName) -> Result<bool, RecordError> {
        let path = self.path_of(name);
        let known = path.exists();
        disk::remove_durably(&path)?;
        Ok(known)
    }

    fn change(
        &self,
        name: &TargetName,
        container: Option<&str>,
        change: impl FnOnce(&mut TargetRecord),
    ) -> Result<(), RecordError> {
        // One that can't be read is written anew: what it said is older than what is known now.
        let mut record = self.target(name).ok().flatten().unwrap_or_else(|| TargetRecord::new(name.clone()));
        record.container = container.map(str::to_owned);
        change(&mut record);
        disk::create_private_dir(&self.targets)?;
        write(&self.path_of(name), &record)
    }

    fn path_of(&self, name: &TargetName) -> PathBuf {
        self.targets.join(format!("{name}.json"))
    }

    /// Writes the record of a run, again at each of its steps; of old runs the last hundred are kept.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_run(&self, run: &RunRecord) -> Result<(), RecordError> {
        disk::create_private_dir(&self.runs)?;
        let began: String = run.began.chars().filter(char::is_ascii_alphanumeric).collect();
        write(&self.runs.join(format!("{began}-{}.json", run.pid)), run)?;
        let all = names_in(&self.runs)?;
        for old in &all[..all.len().saturating_sub(RUNS_MAX)] {
            disk::remove_durably(old)?;
        }
        Ok(())
    }

    /// The last run; `None`: there was none.
    ///
    /// # Errors
    /// When its record can't be read.
    pub fn last_run(&self) -> Result<Option<RunRecord>, RecordError> {
        names_in(&self.runs)?.last().map(|path| read(path)).transpose()
    }
}

/// The records of a directory, by name.
fn names_in(directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let at = |source| DiskError { action: "list", path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(at)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), RecordError> {
    let malformed = |e: serde_json::Error| RecordError::Malformed { path: path.to_owned(), reason: e.to_string() };
    let bytes = serde_json::to_vec_pretty(record).map_err(malformed)?;
    Ok(disk::write_durably(path, &bytes, 0o600)?)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let malformed = |reason: String| RecordError::Malformed { path: path.to_owned(), reason };
    let at = |source| DiskError { action: "read", path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(at)?.len();
    if length > RECORD_LEN_MAX {
        return Err(malformed(format!("it is longer than {RECORD_LEN_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(at)?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
}
