//! Readiness: up is not ready. Probes, and N passes in a row on one run of the service.
//!
//! A check in text form is a probe and its options, separated by `;`:
//!
//! ```text
//! unit | pid | health | tcp:HOST:PORT | http:URL[=STATUS] | exec:COMMAND | log:REGEX   [;file=/path]
//! [;timeout=90s] [;interval=500ms] [;passes=1]
//! ```

mod parse;
mod probe;
mod waiting;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::failure::{Failure, FailureKind};
use crate::progress::Cancel;

pub use parse::ReadyParseError;
pub use waiting::{NotReady, Ready, wait_ready};

/// What is asked to find out whether a service is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Its manager says that it is up.
    Unit,
    /// It is up and has a process.
    Pid,
    /// Its manager checks its health, and says that it is healthy (Docker's HEALTHCHECK).
    Health,
    /// A TCP connection is accepted.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// An HTTP GET is answered. Redirects are not followed: theirs is the status that counts.
    Http {
        /// `http://...`
        url: String,
        /// The status that means ready; `None`: any from 200 to 299.
        status: Option<u16>,
    },
    /// A command exits with status 0. It is an argument vector: no shell reads it.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// A line that was logged in the current run matches.
    Log {
        /// The regular expression, unanchored.
        pattern: String,
        /// A log file, of which the lines that are appended from the beginning of the wait on count; `None`: the
        /// service manager's own log of the current run.
        file: Option<PathBuf>,
    },
}

/// A probe with its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyCheck {
    /// The probe.
    pub probe: Probe,
    /// How long it may take until it has passed often enough.
    pub timeout: Duration,
    /// The time between two attempts, cut short when the service changes.
    pub interval: Duration,
    /// How often it must pass in a row, on one run of the service.
    pub passes: u32,
}

impl ReadyCheck {
    /// A check with the usual bounds: 90 s, every 500 ms, one pass.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self { probe, timeout: Duration::from_secs(90), interval: Duration::from_millis(500), passes: 1 }
    }
}

/// The service that is to become ready, as far as readiness needs to know it.
pub trait Subject {
    /// The identity of its current run while it is up, else `None`.
    ///
    /// # Errors
    /// When its manager can't say.
    fn is_up(&self) -> Result<Option<String>, String>;

    /// Whether its manager, which checks that, calls it healthy; `None`: nobody checks.
    ///
    /// # Errors
    /// When its manager can't say.
    fn is_healthy(&self) -> Result<Option<bool>, String> {
        Ok(None)
    }

    /// What it logged in its current run, at most `lines_max` lines, the newest last.
    ///
    /// # Errors
    /// When there is no log to read.
    fn log(&self, lines_max: usize) -> Result<Vec<String>, String>;

    /// Returns when the service may have changed, at `until`, or when `cancel` is requested.
    ///
    /// # Errors
    /// When it can't be watched.
    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), String>;
}

impl Failure for NotReady {
    fn kind(&self) -> FailureKind {
        FailureKind::No
    }
    fn hint(&self) -> Option<String> {
        Some("look at the service's log, or give the check more time: SPEC;timeout=5m".to_owned())
    }
}
