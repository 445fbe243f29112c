//! Maintenance loops that do not die: periodic work on items, each of which is on its own.
//!
//! A [`Task`] says which items are due and deals with them. Everything else is here: a [`Schedule`], a [`Worker`] that
//! catches what goes wrong with one item or one pass and goes on, a [`State`] on disk that remembers failures and times,
//! and a [`Supervisor`] that runs several workers, each in a thread of its own, and tells which of them is stuck.
//!
//! Invariants:
//! - An error or a panic of an item is that item's: it is told, counted, tried again after a growing pause, and then set
//!   aside. The others are dealt with in the same pass.
//! - What is no item's fault (a locked or missing database, a full disk) blames no item: the pass ends and comes again.
//! - A pass is bounded in items and in time, and the next one goes on behind where it stopped: the first items starve nobody.
//! - A unit of work counts when [`Task::work`] has returned, never before: what we remember changes after its commit.
//! - A state that can't be written ends no loop. It is kept in memory and written the next time.
//!
//! Files that are older than a week, one by one:
//!
//! ```
//! use std::time::Duration;
//! use svckit::tend::{Control, Limits, Policy, State, Task, TaskError, Unit, Worker};
//!
//! struct OldFiles(std::path::PathBuf);
//!
//! impl Task for OldFiles {
//!     fn due(&mut self, now: jiff::Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError> {
//!         let away = |error: std::io::Error| TaskError::Unavailable(error.to_string());
//!         let mut names = Vec::new();
//!         for entry in std::fs::read_dir(&self.0).map_err(away)? {
//!             let entry = entry.map_err(away)?;
//!             let modified = entry.metadata().and_then(|data| data.modified()).map_err(away)?;
//!             let modified = jiff::Timestamp::try_from(modified).map_err(|e| TaskError::Broken(e.to_string()))?;
//!             if now.duration_since(modified).as_secs() > 7 * 86_400 {
//!                 names.extend(entry.file_name().into_string());
//!             }
//!         }
//!         names.sort();
//!         names.retain(|name| after.is_none_or(|after| name.as_str() > after));
//!         names.truncate(limit);
//!         Ok(names)
//!     }
//!
//!     fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
//!         unit.each(|name| std::fs::remove_file(self.0.join(name)).map_err(|e| TaskError::Item(e.to_string())))
//!     }
//! }
//!
//! # let (directory, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! std::fs::write(directory.path().join("old"), "")?;
//! let state = State::open(state.path(), "old-files")?;
//! let mut worker = Worker::new(Box::new(OldFiles(directory.path().to_owned())), state, Policy::default());
//! let in_eight_days = jiff::Timestamp::now() + Duration::from_secs(8 * 86_400);
//! let report = worker.pass(in_eight_days, &Control::new(&Limits::default())?);
//! assert_eq!((report.done, report.failed), (1, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod control;
mod in_use;
mod remembered;
mod retry;
pub mod rule;
mod schedule;
mod state;
mod supervisor;
mod task;
mod worker;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use clock::{ClockWatch, Instants};
pub use control::{Control, Limits};
pub use in_use::{InUse, InUseGuard};
pub use remembered::{Counters, Failing, StateError, Times};
pub use retry::Backoff;
pub use schedule::{Schedule, ScheduleError};
pub use state::State;
pub use supervisor::{Gate, Health, Supervised, Supervisor, TaskHealth};
pub use task::{Task, TaskError, Unit};
pub use worker::{PassEnd, PassReport, Policy, Worker};
