//! A controller of one's own: a service that is a child of this very program, told to end by the end of its input.
//!
//! A controller only translates. Locking, waiting, the journal, the proof of the stop and the return are the library's.
//! Run it with `cargo run --example custom_controller`.
#![allow(clippy::print_stdout, missing_docs)]

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use svckit::controller::{Activity, ControllerError, ExitCause, ServiceController, ServiceSpec, ServiceState};
use svckit::journal::StopMark;
use svckit::lock::{Holder, LockKey, LockRules, OperationLock, Wait};
use svckit::progress::{Cancel, Silent};
use svckit::quiesce::{Context, StopPlan, StopPolicy, quiesce, start_service};
use svckit::world::{Pidfd, ProcessId, StateDirs, StopSignal, clock, process, wait};

/// `cat` with a pipe: it ends when the pipe is closed.
#[derive(Default)]
struct Piped {
    child: Mutex<Option<Child>>,
    last: Mutex<Option<(ProcessId, Option<ExitCause>)>>,
}

impl Piped {
    fn failed(&self, action: &'static str, error: impl std::fmt::Display) -> ControllerError {
        ControllerError::Failed { action, service: self.label(), reason: error.to_string() }
    }

    fn main(&self) -> Result<Option<ProcessId>, ControllerError> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
            *child = None;
            if let Some((_, exit)) = last.as_mut() {
                *exit = status.code().map(ExitCause::Exited);
            }
        }
        let process = last.as_ref().map(|(process, _)| process.clone());
        process.map_or(Ok(None), ProcessId::if_alive).map_err(|error| self.failed("look at", error))
    }
}

impl ServiceController for Piped {
    fn spec(&self) -> ServiceSpec {
        // Only this tool can bring it back after a crash: its own resume would read this.
        ServiceSpec::Custom { kind: "piped".to_owned(), description: serde_json::Value::Null }
    }

    fn label(&self) -> String {
        "piped cat".to_owned()
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        Ok(vec![LockKey::service("piped", "cat")])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        let main = self.main()?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stopping =
            self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|c| c.stdin.is_none());
        let activity = match (&main, stopping) {
            (Some(_), false) => Activity::Up,
            (Some(_), true) => Activity::Stopping,
            (None, _) => Activity::Down,
        };
        Ok(ServiceState {
            activity,
            run: last.as_ref().map(|(process, _)| format!("{}:{}", process.pid, process.start_ticks)),
            main,
            exit: last.and_then(|(_, exit)| exit),
            result: None,
            start_state: None,
            detail: format!("{activity:?}").to_lowercase(),
        })
    }

    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        let Some(main) = self.main()? else { return Ok(Vec::new()) };
        process::tree_of(main.pid).map_err(|e| self.failed("list the processes of", e))
    }

    fn request_stop(&self) -> Result<(), ControllerError> {
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            drop(child.stdin.take());
        }
        Ok(())
    }

    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        let Some(main) = self.main()? else { return Ok(()) };
        let pidfd = Pidfd::open(&main).map_err(|e| self.failed("signal", e))?;
        let sent = pidfd.map_or(Ok(false), |pidfd| pidfd.signal(signal));
        sent.map(|_alive| ()).map_err(|e| self.failed("signal", e))
    }

    fn start(&self) -> Result<(), ControllerError> {
        if self.main()?.is_some() {
            return Err(self.failed("start", "it still runs"));
        }
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().map_err(|e| self.failed("start", e))?;
        let pid = i32::try_from(child.id()).map_err(|e| self.failed("start", e))?;
        let process = ProcessId::of(pid).map_err(|e| self.failed("start", e))?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = process.map(|process| (process, None));
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        let watch = |e| self.failed("watch", e);
        let pidfd = match self.main()? {
            Some(main) => Pidfd::open(&main).map_err(watch)?,
            None => return Ok(()),
        };
        // It ended just now: that is a change.
        let Some(pidfd) = pidfd else { return Ok(()) };
        wait::readable(&[pidfd.as_fd(), cancel.as_fd()], until).map(|_ready| ()).map_err(watch)
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        let boot_id = clock::boot_id().map_err(|e| self.failed("look at", e))?;
        Ok(StopMark { run: self.state()?.run, changed_at: None, boot_id })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let context = Context {
        dirs: StateDirs::below(root.path()),
        locks: LockRules::default(),
        // A service that dies with this program needs no guard that outlives it: one that only says that it waits.
        guard_argv: ["sh", "-c", "echo waiting"].map(Into::into).to_vec(),
        cancel: Cancel::new()?,
        observer: Arc::new(Silent),
    };
    let service = Piped::default();
    start_service(&service, &[])?;
    println!("started: {}", service.state()?.detail);
    let holder = Holder::own("example", &service.label())?;
    let lock = OperationLock::acquire(
        &context.dirs.lock,
        &context.locks,
        &service.lock_keys()?,
        &holder,
        Wait::No,
        &context.cancel,
    )?;
    let plan = StopPlan {
        operation: "example",
        databases: &[],
        policy: &StopPolicy::default(),
        ready: &[],
        persistent_hold: false,
        stays_stopped: false,
    };
    let stopped = quiesce(&lock, &context, &service, &plan)?;
    println!("stopped: {}, {:?}", service.state()?.detail, stopped.outcome());
    stopped.resume()?;
    println!("back: {}", service.state()?.detail);
    service.request_stop()?;
    Ok(())
}
