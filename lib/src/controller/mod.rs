//! Service managers behind one small trait. A controller only translates: waiting, deadlines, ladders and
//! escalation live once, in `quiesce`.
//!
//! The trait is public and object-safe: another tool can write a controller of its own (`examples/` has one).

mod cgroup;
pub mod docker;
mod endpoint;
mod main_process;
pub mod process;
mod spec;
mod state;
pub mod systemd;
mod worker;

use std::time::{Duration, Instant};

pub use endpoint::{ClientFiles, Endpoint, EndpointError, TlsFiles};
pub use spec::{CommandLine, ContainerSpec, RestartPolicy, Scope, ServiceSpec};
pub use state::{Activity, ExitCause, KillSource, ServiceState, Trigger};

use crate::failure::{Failure, FailureKind};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::progress::Cancel;
use crate::world::{ProcessId, StopSignal};

/// Why a service manager did not do or say what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// There is no such service.
    #[error("{service} does not exist: {reason}")]
    NotFound {
        /// The service, as `unit plex.service`.
        service: String,
        /// What the manager said.
        reason: String,
    },
    /// The manager can't be reached.
    #[error("can't reach {manager}: {reason}")]
    Unreachable {
        /// The manager: `systemd on the system bus`.
        manager: String,
        /// What happened.
        reason: String,
    },
    /// We may not.
    #[error("not allowed to {action} {service}: {reason}")]
    Permission {
        /// What was attempted.
        action: &'static str,
        /// The service.
        service: String,
        /// What the manager said.
        reason: String,
    },
    /// It would be unsafe.
    #[error("refused to {action} {service}: {reason}")]
    Unsafe {
        /// What was attempted.
        action: &'static str,
        /// The service.
        service: String,
        /// Why it is unsafe.
        reason: String,
    },
    /// Anything else that failed.
    #[error("can't {action} {service}: {reason}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// The service.
        service: String,
        /// What happened.
        reason: String,
    },
    /// The request was wrong: a pid file that is none, a malformed unit name.
    #[error("{service} can't be meant: {reason}")]
    Invalid {
        /// What was named.
        service: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The encrypted connection to the manager can't be made, or is not with whom it should be.
    #[error("no trusted connection to {manager}: {reason}")]
    Tls {
        /// The manager.
        manager: String,
        /// What is wrong.
        reason: String,
        /// What that means: the settings, the rights of a file, whom we would talk to.
        kind: FailureKind,
        /// What a person can do.
        hint: String,
    },
    /// The wait was cancelled.
    #[error("cancelled while waiting for {service}")]
    Cancelled {
        /// The service.
        service: String,
    },
}

impl Failure for ControllerError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::NotFound { .. } | Self::Unreachable { .. } | Self::Failed { .. } | Self::Cancelled { .. } => {
                FailureKind::Failed
            }
            Self::Permission { .. } => FailureKind::Permission,
            Self::Unsafe { .. } => FailureKind::Unsafe,
            Self::Invalid { .. } => FailureKind::Usage,
            Self::Tls { kind, .. } => *kind,
        }
    }
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotFound { .. } => "check the name, or reload the manager if the service is new",
            Self::Unreachable { .. } => "check that the service manager runs and that its socket is reachable",
            Self::Permission { .. } => "run it as root, or let polkit allow the action to this user",
            Self::Tls { hint, .. } => hint,
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Finds the service that a description names, in this process or in a later one.
///
/// # Errors
/// When it is not there, and [`ControllerError::Invalid`] for the controller of another tool.
pub fn open(spec: &ServiceSpec) -> Result<Box<dyn ServiceController>, ControllerError> {
    match spec {
        ServiceSpec::Unit { name, scope } => Ok(Box::new(systemd::SystemdUnit::open(name, *scope)?)),
        ServiceSpec::PidFile { path, command, seen } => {
            let service = process::PidFileService::open(path, command.clone())?;
            service.remember(seen)?;
            Ok(Box::new(service))
        }
        ServiceSpec::Command { name, command, record_dir, seen } => {
            let service = process::CommandService::open(name.clone(), command.clone(), record_dir)?;
            service.remember(seen)?;
            Ok(Box::new(service))
        }
        ServiceSpec::Container(container) => Ok(Box::new(docker::DockerContainer::find(container)?)),
        other @ ServiceSpec::Custom { .. } => Err(ControllerError::Invalid {
            service: format!("{other:?}"),
            reason: "only the tool that described it can open it".to_owned(),
        }),
    }
}

/// One service under one manager.
///
/// Every method is bounded in time by the controller itself (a manager that does not answer is
/// [`ControllerError::Unreachable`]); none waits for the service except [`Self::wait_change`].
pub trait ServiceController: Send {
    /// What is needed to find this service again after our process has died.
    fn spec(&self) -> ServiceSpec;

    /// For people: `unit plex.service`, `process 4711 (plexd)`.
    fn label(&self) -> String;

    /// The canonical identities that an operation on this service locks.
    ///
    /// # Errors
    /// When the manager can't say which service is meant.
    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError>;

    /// What the manager says of it now.
    ///
    /// # Errors
    /// When it can't say.
    fn state(&self) -> Result<ServiceState, ControllerError>;

    /// Whether it is healthy, where its manager checks that; `None`: it does not.
    ///
    /// # Errors
    /// When the manager can't say.
    fn is_healthy(&self) -> Result<Option<bool>, ControllerError> {
        Ok(None)
    }

    /// Every process of the service, its descendants and those it left behind included; empty when it is stopped.
    /// This, not the manager's word, is the proof of a stop.
    ///
    /// # Errors
    /// When they can't be listed.
    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError>;

    /// Asks the manager for an orderly stop; returns once the request is accepted. Must never lead to SIGKILL while
    /// the shield is on.
    ///
    /// # Errors
    /// When it is not accepted.
    fn request_stop(&self) -> Result<(), ControllerError>;

    /// Tells a new controller that the program before it requested the stop, or, where `again`, may have died just
    /// before it did: then the request is repeated. For managers that remember it themselves there is nothing to do.
    ///
    /// # Errors
    /// When the repeated request is not accepted.
    fn stop_was_requested(&self, _again: bool) -> Result<(), ControllerError> {
        Ok(())
    }

    /// Sends a signal to the main process, by its identity. A process that is gone is no error.
    ///
    /// # Errors
    /// Mostly a lack of permission.
    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError>;

    /// Asks the manager to start it; returns once the request is accepted. Where its stop still runs, the start
    /// follows it (systemd: job mode `replace`).
    ///
    /// # Errors
    /// When it is not accepted.
    fn start(&self) -> Result<(), ControllerError>;

    /// Returns when the service may have changed, or at `until`, or when `cancel` is requested. Spurious returns are
    /// allowed; a missed change is not: changes are noticed from the creation of the controller on.
    ///
    /// # Errors
    /// When changes can't be watched any more.
    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError>;

    /// Keeps everybody from starting the service until [`Self::release`]. `persistent`: also over a reboot.
    /// Idempotent.
    ///
    /// # Errors
    /// When it can't be held: then it must not be stopped for work on its data.
    fn hold(&self, _persistent: bool) -> Result<(), ControllerError> {
        Ok(())
    }

    /// Lifts the hold. Idempotent; no error when there is none.
    ///
    /// # Errors
    /// When it is still held.
    fn release(&self) -> Result<(), ControllerError> {
        Ok(())
    }

    /// Takes from the manager every way to SIGKILL the service during a stop that lasts at most `stop_wait_max`, and
    /// proves it by reading back. Idempotent.
    ///
    /// # Errors
    /// [`ControllerError::Unsafe`] when one remains.
    fn shield(&self, _stop_wait_max: Duration) -> Result<(), ControllerError> {
        Ok(())
    }

    /// Takes the shield off. Callers do so only when the service has no process that is still stopping. Idempotent.
    ///
    /// # Errors
    /// When it is still on.
    fn unshield(&self) -> Result<(), ControllerError> {
        Ok(())
    }

    /// Takes hold and shield off a service that stays stopped, and may return before its manager has taken note: what
    /// is asked of the manager after that is done after it. Idempotent.
    ///
    /// # Errors
    /// When one of them is still on.
    fn leave_stopped(&self) -> Result<(), ControllerError> {
        self.release()?;
        self.unshield()
    }

    /// Everyone who could SIGKILL the service during a stop of at most `stop_wait_max`, and whether the shield
    /// neutralises it.
    ///
    /// # Errors
    /// When it can't be known.
    fn kill_sources(&self, _stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        Ok(Vec::new())
    }

    /// The services that need this one and must be stopped first, in stop order, running or not.
    ///
    /// # Errors
    /// When they can't be listed.
    fn dependants(&self) -> Result<Vec<Box<dyn ServiceController>>, ControllerError> {
        Ok(Vec::new())
    }

    /// What starts the service when something happens: sockets, paths, timers.
    ///
    /// # Errors
    /// When they can't be listed.
    fn triggers(&self) -> Result<Vec<Trigger>, ControllerError> {
        Ok(Vec::new())
    }

    /// Stops or starts a trigger by name, and returns when it is so. One that can't be stopped before the service (a
    /// systemd socket could not be started again while its service runs) is stopped with it: from [`Self::request_stop`]
    /// on it starts nothing, and [`Self::stop_mark`] returns after its end.
    ///
    /// # Errors
    /// When it does not become so.
    fn set_trigger(&self, _name: &str, _active: bool) -> Result<(), ControllerError> {
        Ok(())
    }

    /// What to remember of the stopped service as the last look at its state saw it, so that a later change by somebody
    /// else is noticed.
    ///
    /// # Errors
    /// When the manager can't say.
    fn stop_mark(&self) -> Result<StopMark, ControllerError>;

    /// The lines that the service logged since its current run began, newest last, at most `lines_max`; for readiness by log line.
    ///
    /// # Errors
    /// When there is no log to read.
    fn log_since_start(&self, _lines_max: usize) -> Result<Vec<String>, ControllerError> {
        Err(ControllerError::Failed {
            action: "read the log of",
            service: self.label(),
            reason: "this kind of service has no log that we know of: name a file".to_owned(),
        })
    }
}
