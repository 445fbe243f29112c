//! Where svckit keeps its own state. The programs choose the paths; the library only uses them.

use std::path::PathBuf;

/// The directories of svckit's own state: one set for root and one per user, so that everybody who may operate
/// on the same service meets in the same place.
#[derive(Debug, Clone)]
pub struct StateDirs {
    /// Locks. May be emptied by a reboot (`/run/svckit/lock`).
    pub lock: PathBuf,
    /// What must survive a power cut: the journal, holds (`/var/lib/svckit`).
    pub state: PathBuf,
    /// What must not survive a reboot: runtime holds, records of started commands (`/run/svckit`).
    pub runtime: PathBuf,
}

impl StateDirs {
    /// The directories of the super-user.
    #[must_use]
    pub fn for_root() -> Self {
        Self { lock: "/run/svckit/lock".into(), state: "/var/lib/svckit".into(), runtime: "/run/svckit".into() }
    }

    /// All three below one directory: for a user without a runtime directory, for tests and for the demonstration.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { lock: root.join("lock"), state: root.join("state"), runtime: root.join("run") }
    }

    /// The directory of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal")
    }
}
