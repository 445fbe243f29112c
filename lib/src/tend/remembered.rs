//! What a state has of a task.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::failure::{Failure, FailureKind};
use crate::world::disk::DiskError;

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its directory can't be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The database can't be used.
    #[error("can't use the state of the maintenance tasks, {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// There is nothing of this name in quarantine.
    #[error("{item:?} of {task} is not in quarantine")]
    NotThere {
        /// The task.
        task: String,
        /// The item.
        item: String,
    },
}

impl Failure for StateError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::Database { .. } => FailureKind::Failed,
            Self::NotThere { .. } => FailureKind::No,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Database { .. } => None,
            Self::NotThere { .. } => Some("`svc-tend quarantine list` shows what is".to_owned()),
        }
    }
}

/// When what happened last; each on its own, so that one which stands still tells what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// A pass began.
    pub start: Option<Timestamp>,
    /// A pass ended, however.
    pub end: Option<Timestamp>,
    /// A pass ended and nothing but single items had failed.
    pub success: Option<Timestamp>,
    /// Something was dealt with: moves in the same transaction as what it brings to the state.
    pub progress: Option<Timestamp>,
}

/// Sums since the state was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Passes that began.
    pub passes: u64,
    /// Items that were dealt with.
    pub done: u64,
    /// Failures of items, panics included.
    pub failed: u64,
    /// Panics.
    pub panics: u64,
    /// Passes that ended because something was away, or was wrong with more than items.
    pub passes_failed: u64,
    /// Passes that did not begin because somebody else held the lock, or the clock could not be trusted.
    pub passes_deferred: u64,
    /// Passes that were given up because they were stuck.
    pub passes_abandoned: u64,
}

/// An item that failed and is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Its name.
    pub item: String,
    /// How often.
    pub failures: u32,
    /// When first.
    pub first: Timestamp,
    /// When it is tried again; `None`: it is in quarantine.
    pub next: Option<Timestamp>,
    /// Why, the last time.
    pub reason: String,
}

impl Failing {
    /// Whether it is to be left alone at `now`.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.next.is_none_or(|next| next > now)
    }
}
