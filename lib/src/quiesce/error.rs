//! Why a stop was not made, or not finished.

use std::path::PathBuf;

use crate::controller::ControllerError;
use crate::failure::{Failure, FailureKind};
use crate::journal::JournalError;
use crate::sqlite_locks::LocksError;

/// The failure of a stop. Unless it says otherwise, the service is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The manager did not do its part.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The journal could not be written: nothing is stopped without it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The locks of a database could not be looked at.
    #[error(transparent)]
    Locks(#[from] LocksError),
    /// The guard could not be started: nothing is stopped without it.
    #[error("can't start the guard that would bring {service} back: {reason}")]
    Guard {
        /// The service.
        service: String,
        /// What happened.
        reason: String,
    },
    /// Someone could SIGKILL the service during the stop.
    #[error("refused to stop {service}: {}", .sources.join("; "))]
    KillSource {
        /// The service.
        service: String,
        /// Who, each with its setting.
        sources: Vec<String>,
    },
    /// It is on its way down already, by somebody else's request.
    #[error("{service} is being stopped by somebody else")]
    AlreadyStopping {
        /// The service.
        service: String,
    },
    /// It did not stop. It still runs its stop, and is started after it.
    #[error(
        "{service} did not stop within {waited_s} s: {why}; it runs on unharmed and is started when its stop has ended"
    )]
    TimedOut {
        /// The service.
        service: String,
        /// How long we waited, in seconds.
        waited_s: u64,
        /// What the ladder said.
        why: String,
    },
    /// It did not stop, and is up again.
    #[error("{service} did not stop within {waited_s} s: {why}; it is up again")]
    BackAgain {
        /// The service.
        service: String,
        /// How long we waited, in seconds.
        waited_s: u64,
        /// What the ladder said.
        why: String,
    },
    /// Somebody killed it.
    #[error("{service} was ended by SIGKILL from somebody else during the stop ({cause}); it was started again")]
    KilledByAnother {
        /// The service.
        service: String,
        /// How it ended.
        cause: String,
    },
    /// A process that is none of the service's has a database open.
    #[error("{} is still open in process {pid} ({name}), which is not part of {service}", database.display())]
    StillOpen {
        /// The database.
        database: PathBuf,
        /// The process.
        pid: i32,
        /// Its name.
        name: String,
        /// The service.
        service: String,
    },
    /// A fenced kill was asked for, and is not safe.
    #[error("refused to kill {service}: {reason}; it runs on and is started when its stop has ended")]
    NoFence {
        /// The service.
        service: String,
        /// Why it is not known to be safe.
        reason: String,
    },
    /// We were asked to end.
    #[error("the stop of {service} was cancelled")]
    Cancelled {
        /// The service.
        service: String,
    },
    /// The stop failed, and the service did not come back.
    #[error("{stop}; and {back}")]
    NotBack {
        /// Why the stop failed.
        stop: String,
        /// Why it is not back.
        back: Box<NotBack>,
    },
}

impl Failure for StopError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Controller(error) => error.kind(),
            Self::Journal(error) => error.kind(),
            Self::Locks(error) => error.kind(),
            Self::Guard { .. } | Self::BackAgain { .. } | Self::KilledByAnother { .. } | Self::Cancelled { .. } => {
                FailureKind::Failed
            }
            Self::AlreadyStopping { .. } => FailureKind::Unsafe,
            Self::KillSource { .. } | Self::StillOpen { .. } | Self::NoFence { .. } => FailureKind::Unsafe,
            Self::TimedOut { .. } => FailureKind::StopTimedOut,
            Self::NotBack { .. } => FailureKind::NotBack,
        }
    }
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Controller(error) => return error.hint(),
            Self::Journal(error) => return error.hint(),
            Self::Locks(error) => return error.hint(),
            Self::KillSource { .. } => "change the setting that is named, or look at: svc-ctl audit",
            Self::TimedOut { .. } | Self::BackAgain { .. } => "give it more time with --stop-timeout",
            Self::StillOpen { .. } => "end that process, or name its service too",
            Self::AlreadyStopping { .. } => "wait for that stop to end",
            Self::NotBack { .. } => "look at the service's log, then run: svc-ctl resume",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// A service that is not back, and why.
#[derive(Debug, thiserror::Error)]
#[error("{service} is not back: {reason}")]
pub struct NotBack {
    /// The service.
    pub service: String,
    /// Why.
    pub reason: String,
}

impl Failure for NotBack {
    fn kind(&self) -> FailureKind {
        FailureKind::NotBack
    }
    fn hint(&self) -> Option<String> {
        Some("look at the service's log, then run: svc-ctl resume".to_owned())
    }
}
