//! Entries as files.

use std::path::{Path, PathBuf};

use super::entry::{Entry, JOURNAL_VERSION};
use crate::failure::{Failure, FailureKind};
use crate::world::ProcessId;
use crate::world::disk::{AtPath, DiskError, create_private_dir, remove_durably, write_durably, write_durably_by};

/// An entry larger than this was not written by us.
const ENTRY_LEN_MAX: u64 = 4 << 20;
const TEMPORARY: &str = ".svckit-tmp";

/// Why the journal can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is no entry.
    #[error("the journal entry {} can't be read: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a newer svckit.
    #[error("the journal entry {} has version {found}; this program knows up to {JOURNAL_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Failure for JournalError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::Malformed { .. } | Self::Newer { .. } => FailureKind::Failed,
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Malformed { .. } => Some(
                "look at the file: it names the services that may need a start; remove it when they are up".to_owned(),
            ),
            Self::Newer { .. } => Some("run resume with the newer program".to_owned()),
        }
    }
}

/// The journal of one user or of root.
#[derive(Debug, Clone)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal in `directory`, which is created when the first entry is.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a new entry, durably.
    ///
    /// # Errors
    /// When it can't be written: nothing may be stopped then.
    pub fn create(&self, entry: Entry) -> Result<OpenEntry, JournalError> {
        create_private_dir(&self.directory)?;
        self.sweep();
        let open = OpenEntry { path: self.path_of(&entry), entry };
        let temporary = self.directory.join(first_temporary(&open.entry));
        // 0600: an entry may hold a service's command line and environment.
        write_durably_by(&temporary, &open.path, &open.bytes()?, 0o600)?;
        Ok(open)
    }

    /// Removes what programs left that died while they wrote their first entry. The name of such a file says whose it
    /// is; one whose owner lives is left alone. Best effort: only a whole file has the name that counts.
    pub fn sweep(&self) {
        let Ok(listing) = std::fs::read_dir(&self.directory) else { return };
        for item in listing.filter_map(Result::ok) {
            let name = item.file_name();
            let is_abandoned = owner_of_temporary(&name.to_string_lossy())
                .is_some_and(|owner| owner.is_alive().is_ok_and(|alive| !alive));
            if is_abandoned && let Err(error) = std::fs::remove_file(item.path()) {
                tracing::warn!(%error, path = %item.path().display(), "a temporary file could not be removed");
            }
        }
    }

    /// All entries, oldest first; one that can't be read is an error in its place, and hides no other.
    ///
    /// # Errors
    /// When the directory can't be listed. One that does not exist is an empty journal.
    pub fn entries(&self) -> Result<Vec<Result<OpenEntry, JournalError>>, JournalError> {
        let listing = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("list", &self.directory)?,
        };
        let mut paths = Vec::new();
        for item in listing {
            let path = item.at("list", &self.directory)?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|e| e == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        // An entry that its owner removed while we listed is not there any more.
        Ok(paths.into_iter().filter_map(|path| Self::read(&path).transpose()).collect())
    }

    /// The path that an entry has, whether it exists or not.
    #[must_use]
    pub fn path_of(&self, entry: &Entry) -> PathBuf {
        self.directory.join(format!("{}.json", entry.id))
    }

    fn read(path: &Path) -> Result<Option<OpenEntry>, JournalError> {
        let malformed = |reason: String| JournalError::Malformed { path: path.to_owned(), reason };
        let length = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("look at", path)?.len(),
        };
        if length > ENTRY_LEN_MAX {
            return Err(malformed(format!("it has {length} bytes")));
        }
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("read", path)?,
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        // The version first: a newer form may not parse as ours.
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(JOURNAL_VERSION) => {
                return Err(JournalError::Newer { path: path.to_owned(), found: version });
            }
            Some(_) => {}
            None => return Err(malformed("it has no version".to_owned())),
        }
        let entry = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
        Ok(Some(OpenEntry { path: path.to_owned(), entry }))
    }
}

/// An entry that is on disk as it is in memory.
#[derive(Debug)]
pub struct OpenEntry {
    path: PathBuf,
    entry: Entry,
}

impl OpenEntry {
    /// Its content.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes it, and returns once the change is durable.
    ///
    /// # Errors
    /// When it can't be written; the step that it announces must not be done then.
    pub fn update(&mut self, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        change(&mut self.entry);
        self.write()
    }

    /// Changes it in memory; the next [`Self::update`] makes it durable.
    pub fn amend(&mut self, change: impl FnOnce(&mut Entry)) {
        change(&mut self.entry);
    }

    /// Removes it: nothing is left to resume.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(self) -> Result<(), JournalError> {
        Ok(remove_durably(&self.path)?)
    }

    fn write(&self) -> Result<(), JournalError> {
        Ok(write_durably(&self.path, &self.bytes()?, 0o600)?)
    }

    fn bytes(&self) -> Result<Vec<u8>, JournalError> {
        serde_json::to_vec_pretty(&self.entry)
            .map_err(|e| JournalError::Malformed { path: self.path.clone(), reason: e.to_string() })
    }
}

/// Until an entry has its name, nothing else tells whose it is: what it says may be cut off. Later temporary files go
/// with the entry.
fn first_temporary(entry: &Entry) -> String {
    let ProcessId { pid, start_ticks, boot_id } = &entry.owner;
    format!(".{}.json.{pid}.{start_ticks}.{boot_id}{TEMPORARY}", entry.id)
}

fn owner_of_temporary(name: &str) -> Option<ProcessId> {
    let (entry, owner) = name.strip_prefix('.')?.strip_suffix(TEMPORARY)?.split_once(".json.")?;
    entry.parse::<super::EntryId>().ok()?;
    let mut parts = owner.splitn(3, '.');
    Some(ProcessId {
        pid: parts.next()?.parse().ok()?,
        start_ticks: parts.next()?.parse().ok()?,
        boot_id: parts.next().filter(|boot| !boot.is_empty())?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{ProcessId, clock};

    fn entry(id: &str) -> Entry {
        Entry {
            version: JOURNAL_VERSION,
            id: id.parse().unwrap(),
            operation: "stop".to_owned(),
            owner: ProcessId::own().unwrap(),
            created: clock::now_rfc3339(),
            lock_keys: Vec::new(),
            services: Vec::new(),
            replacements: Vec::new(),
            staging: Vec::new(),
        }
    }

    #[test]
    fn a_first_entry_that_was_cut_off_goes_when_its_owner_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        let alive = entry("20260101T000000Z-000003");
        let mut dead = alive.clone();
        dead.owner.start_ticks += 1;
        let others = [".20260101T000000Z-000003.json.svckit-tmp", ".20260101T000000Z-000003.json.1.x.boot.svckit-tmp"]
            .map(str::to_owned);
        for name in [first_temporary(&alive), first_temporary(&dead)].iter().chain(&others) {
            std::fs::write(dir.path().join(name), b"{").unwrap();
        }
        journal.sweep();
        assert!(dir.path().join(first_temporary(&alive)).exists());
        assert!(!dir.path().join(first_temporary(&dead)).exists());
        assert!(others.iter().all(|name| dir.path().join(name).exists()), "nobody can tell whose they are");
    }

    #[test]
    fn an_entry_is_on_disk_as_it_is_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path().join("journal"));
        assert!(journal.entries().unwrap().is_empty());
        let mut open = journal.create(entry("20260101T000000Z-000001")).unwrap();
        open.update(|e| e.operation = "backup".to_owned()).unwrap();
        let read = journal.entries().unwrap().remove(0).unwrap();
        assert_eq!(read.entry(), open.entry());
        open.remove().unwrap();
        assert!(journal.entries().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_or_newer_entry_is_said_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::at(dir.path());
        drop(journal.create(entry("20260101T000000Z-000002")).unwrap());
        std::fs::write(dir.path().join("0.json"), b"{").unwrap();
        std::fs::write(dir.path().join("1.json"), b"{\"version\": 999, \"shape\": []}").unwrap();
        std::fs::write(dir.path().join("2.json"), b"{\"version\": 1}").unwrap();
        std::fs::write(dir.path().join("10.json"), b"[]").unwrap();
        let all = journal.entries().unwrap();
        assert!(matches!(all[0], Err(JournalError::Malformed { .. })));
        assert!(matches!(all[1], Err(JournalError::Newer { found: 999, .. })));
        assert!(matches!(all[2], Err(JournalError::Malformed { .. })));
        assert!(matches!(all[3], Err(JournalError::Malformed { .. })));
        assert!(all[4].is_ok());
    }
}
