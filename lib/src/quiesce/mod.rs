//! Stop, hold, start: the promises of the library live here.

mod error;
mod fenced_kill;
mod guard;
mod member;
mod policy;
mod quiesced;
mod resume;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{NotBack, StopError};
pub use guard::{GuardWake, guard_wait, leave_to_guard, parse_owner, wait_for_removal};
pub use policy::{LastResort, Rung, Step, StopPolicy, next_step};
pub use quiesced::Quiesced;
pub use resume::{ResumeMode, is_left_stopped, replay};
pub use start::{Return, start_service, wait_until_ready};
pub(crate) use stop::prove_closed;
pub use stop::quiesce;

use crate::lock::LockRules;
use crate::progress::{Cancel, Observer};
use crate::ready::ReadyCheck;
use crate::world::StateDirs;

/// How a stop ended, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopOutcome {
    /// The manager calls it a success, or it had not been running.
    Clean,
    /// Every process of it ended, and nobody could say how: another program had started it, and only its parent learns
    /// its end. A SIGKILL from elsewhere is not excluded.
    EndNotSeen,
    /// It crashed or failed while stopping, or nobody saw its end and it had not closed a database: its databases may
    /// need their own recovery.
    Unclean,
    /// We killed it under the fence.
    FencedKill,
}

/// What is to be stopped, how, and when it counts as back.
#[derive(Debug, Clone, Copy)]
pub struct StopPlan<'a> {
    /// What the stop is for: `backup`, `restore`, `stop`.
    pub operation: &'a str,
    /// Databases beside those found open.
    pub databases: &'a [PathBuf],
    /// The ladder.
    pub policy: &'a StopPolicy,
    /// Readiness, after the start.
    pub ready: &'a [ReadyCheck],
    /// Whether the hold must survive a reboot: where databases are replaced.
    pub persistent_hold: bool,
    /// Whether [`Quiesced::leave_stopped`] follows at once: what it writes makes one write to the journal less.
    pub stays_stopped: bool,
}

/// What every operation needs from the program that runs it.
#[derive(Clone)]
pub struct Context {
    /// Where svckit keeps its state.
    pub dirs: StateDirs,
    /// Which locks the program was handed, and where it may lock.
    pub locks: LockRules,
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
