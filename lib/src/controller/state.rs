//! What a manager says of a service.

use serde::{Deserialize, Serialize};

use crate::world::ProcessId;

/// Whether a service is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Up, as far as its manager knows; not necessarily ready.
    Up,
    /// On its way up, an automatic restart included.
    Starting,
    /// On its way down.
    Stopping,
    /// Down, after an orderly end.
    Down,
    /// Down, after a failure. Processes may be left all the same.
    Failed,
}

impl Activity {
    /// Whether the manager means it to run: [`Self::Up`] or [`Self::Starting`].
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Starting)
    }
}

/// How the main process of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCause {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl ExitCause {
    /// Whether SIGKILL ended it, also as a shell or a container reports that (137). Never a success.
    #[must_use]
    pub fn is_kill(self) -> bool {
        matches!(self, Self::Signalled(9) | Self::Exited(137))
    }
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// The state of a service at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Whether it is up.
    pub activity: Activity,
    /// The identity of the current or the last run: systemd's InvocationID, or `PID:START_TICKS`.
    pub run: Option<String>,
    /// The main process, while there is one.
    pub main: Option<ProcessId>,
    /// How the last run ended, once it has.
    pub exit: Option<ExitCause>,
    /// The manager's own word for the result of the last run (systemd: `success`, `timeout`, `signal`, ...).
    pub result: Option<String>,
    /// Whether it may be started, in the manager's words (`enabled`, `static`, `masked`, ...).
    pub start_state: Option<String>,
    /// The manager's own words for the state, for people: `active (running)`.
    pub detail: String,
}

impl ServiceState {
    /// Whether somebody made it impossible to start.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.start_state.as_deref().is_some_and(|s| s.starts_with("masked"))
    }
}

/// Someone who could send SIGKILL to the service while it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSource {
    /// A stable word for it, for scripts: `stop-timeout`, `kill-mode-mixed`, `exec-stop-kill`, ...
    pub id: String,
    /// What it is, on which setting it rests: `TimeoutStopSec=4s, then SIGKILL`.
    pub what: String,
    /// How the shield neutralises it; `None`: it remains, and a stop is refused.
    pub neutralised_by: Option<String>,
}

/// A unit that starts the service when something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// Whether it is active now.
    pub active: bool,
}
