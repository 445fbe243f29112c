//! What was seen of locks while a service stops: the evidence that a rollback database needs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::held::posix_locks_of;
use crate::world::ProcessId;
use crate::world::disk::FileId;

/// Remembers which processes were seen to hold a POSIX lock on which of some databases. In a rollback mode an idle
/// connection holds none, so it must have been looked at while it was not idle.
#[derive(Debug)]
pub struct Watch {
    databases: Vec<PathBuf>,
    seen: Mutex<BTreeSet<(FileId, ProcessId)>>,
}

impl Watch {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(databases: impl Into<Vec<PathBuf>>) -> Self {
        Self { databases: databases.into(), seen: Mutex::default() }
    }

    /// Looks at the kernel's locks once, and remembers what it sees of the databases. Takes
    /// ten milliseconds and more: the kernel waits for every processor before it shows /proc/locks.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn observe(&self) -> std::io::Result<()> {
        let ids: Vec<FileId> = self.databases.iter().filter_map(|path| FileId::of(path).ok()).collect();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let text = std::fs::read_to_string("/proc/locks")?;
        let mut candidates = BTreeSet::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // A lock that is only waited for has `->` in second place.
            if let [_, "POSIX", _, _, pid, file, ..] = words[..]
                && let Ok(pid) = pid.parse::<i32>()
                && let Some(inode) = file.rsplit(':').next().and_then(|inode| inode.parse::<u64>().ok())
                && pid > 0
                && pid != own
            {
                candidates.extend(ids.iter().filter(|id| id.inode == inode).map(|id| (pid, *id)));
            }
        }
        for (pid, id) in candidates {
            // The inode's number alone is not the file: the process must have this very file open.
            if let Some(process) = ProcessId::of(pid)?
                && posix_locks_of(&process).is_ok_and(|(opened, _)| opened.contains(&id))
            {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert((id, process));
            }
        }
        Ok(())
    }

    /// Whether this process was seen to lock this file.
    #[must_use]
    pub fn has_seen(&self, file: FileId, process: &ProcessId) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&(file, process.clone()))
    }
}
