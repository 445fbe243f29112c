//! Stop, hold, start: the promises of the library live here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::{Cancel, Observer};
use crate::world::StateDirs;

/// What every operation needs from the program that runs it.
#[derive(Clone)]
pub struct Context {
    /// Where svckit keeps its state.
    pub dirs: StateDirs,
    /// The command that becomes the guard: the program's own `guard` entry. It is started with two more arguments,
    /// the owner as `PID:START_TICKS:BOOT_ID` and the path of the journal entry.
    pub guard_argv: Vec<PathBuf>,
    /// Ends waits early.
    pub cancel: Cancel,
    /// Hears of progress.
    pub observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("dirs", &self.dirs)
            .field("guard_argv", &self.guard_argv)
            .finish_non_exhaustive()
    }
}

/// Proof, for as long as it lives, that the service is stopped and held, and that nobody has its databases open.
/// Lent by [`Quiesced`]; it can't be made otherwise.
#[derive(Debug)]
pub struct AtRest<'a> {
    databases: &'a [PathBuf],
}

impl<'a> AtRest<'a> {
    /// The databases that are at rest.
    #[must_use]
    pub fn databases(&self) -> &'a [PathBuf] {
        self.databases
    }

    /// The path, if this very database is at rest.
    #[must_use]
    pub fn path(&self, database: &Path) -> Option<&'a Path> {
        self.databases.iter().map(PathBuf::as_path).find(|path| *path == database)
    }
}
