//! A daemon that writes its pid to a file.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::capture::{capture, complete};
use super::launch::{launch, reap_later};
use super::named::{self, Named};
use super::running::Running;
use super::{alive, failed, io_failed, manager_of};
use crate::controller::{
    Activity, CommandLine, ControllerError, ExitCause, KillSource, ServiceController, ServiceSpec, ServiceState,
};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::progress::Cancel;
use crate::world::disk::{parent_of, write_durably};
use crate::world::{Pidfd, ProcessId, StopSignal, wait};

/// A started daemon that forks has so long to write its pid file.
const PID_FILE_WAIT_MAX: Duration = Duration::from_secs(30);
/// A shell whose input has ended takes milliseconds to end.
const UNOPENED_END_MAX: Duration = Duration::from_secs(5);

/// A service that is known by its pid file.
#[derive(Debug)]
pub struct PidFileService {
    path: PathBuf,
    command: Option<CommandLine>,
    /// Why the command of the live process could not be read.
    uncaptured: Option<std::io::Error>,
    running: Running,
    started: RefCell<Option<Started>>,
    /// What the last look found wrong with the file.
    wrong: RefCell<Option<Wrong>>,
}

/// A start of ours that the pid file does not confirm yet.
#[derive(Debug)]
struct Started {
    child: Option<Child>,
    process: Option<ProcessId>,
    /// When it began, in the kernel's ticks: what started after it may be what it started.
    begun: u64,
    until: Instant,
}

/// Why the process that the file names is not taken for the service.
#[derive(Debug, Clone)]
enum Wrong {
    Stale(String),
    Doubtful(String),
}

impl PidFileService {
    /// The service whose pid is in `path`. Where no command is given, that of the live process is read from /proc
    /// now, so that it can be started again as it was; its output then goes to /dev/null.
    ///
    /// A file that names a dead process or somebody else's is a service that does not run.
    ///
    /// # Errors
    /// [`ControllerError::Invalid`] for what is no pid file, [`ControllerError::NotFound`] where there is none and no
    /// command is known.
    pub fn open(path: &Path, command: Option<CommandLine>) -> Result<Self, ControllerError> {
        let label = format!("pid file {}", path.display());
        let name = path.file_name().ok_or_else(|| invalid(&label, "it has no file name"))?;
        // After a boot the directory may be missing until the daemon's own script makes it.
        let parent = match std::fs::canonicalize(parent_of(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound && command.is_some() && path.is_absolute() => {
                parent_of(path).to_owned()
            }
            other => other.map_err(|e| not_found(&label, format!("its directory can't be reached: {e}")))?,
        };
        let path = parent.join(name);
        let label = format!("pid file {}", path.display());
        let running = Running::new(label.clone(), &path)?;
        let mut service =
            Self { path, command, uncaptured: None, running, started: RefCell::default(), wrong: RefCell::default() };
        let main = service.main()?;
        match (&main, &mut service.command) {
            (Some(main), Some(command)) => complete(command, main),
            (Some(main), None) => match capture(main) {
                Ok(command) => service.command = Some(command),
                Err(error) => service.uncaptured = Some(error),
            },
            (None, None) if service.wrong.borrow().is_none() => {
                let reason = "there is none, or it is empty, and no command that starts the service is known";
                return Err(not_found(&label, reason.to_owned()));
            }
            _ => {}
        }
        service.processes()?;
        Ok(service)
    }

    /// The live process that the pid file names, or that we started and that is about to write it.
    fn main(&self) -> Result<Option<ProcessId>, ControllerError> {
        self.reap();
        let known = self.running.last_run();
        let named = named::read(&self.path, self.command.as_ref(), known.as_ref(), self.running.label())?;
        let (named, wrong) = match named {
            Named::Service(process) => (Some(process), None),
            Named::Nobody => (None, None),
            Named::Stale(why) => (None, Some(Wrong::Stale(why))),
            Named::Doubtful(process, why) => match self.started.borrow().as_ref() {
                Some(started) if process.start_ticks >= started.begun => (Some(process), None),
                _ => (None, Some(Wrong::Doubtful(why))),
            },
        };
        *self.wrong.borrow_mut() = wrong;
        let main = match named {
            Some(named) => Some(named),
            None => alive(self.started.borrow().as_ref().and_then(|started| started.process.clone()), &self.label())?,
        };
        if let Some(main) = &main {
            self.running.note_run(main);
        }
        Ok(main)
    }

    /// What another program saw of it.
    pub(in crate::controller) fn remember(&self, seen: &[ProcessId]) -> Result<(), ControllerError> {
        self.running.remember(seen)
    }

    /// Refuses while it is doubtful whether the file names the service.
    fn refuse_doubt(&self, action: &'static str) -> Result<(), ControllerError> {
        self.main()?;
        let Some(Wrong::Doubtful(why)) = self.wrong.borrow().clone() else { return Ok(()) };
        let what_to_do =
            "remove the file if the service does not run; if it does, name the command that its process shows";
        let reason = format!("{why}; {what_to_do}");
        Err(ControllerError::Unsafe { action, service: self.label(), reason })
    }

    fn reap(&self) {
        let mut started = self.started.borrow_mut();
        let Some(begun) = started.as_mut() else { return };
        if let Some(cause) = Running::end_of(begun.child.as_mut()) {
            begun.child = None;
            begun.process = None;
            // A daemon's first process ends at once; its end is the service's only when it is no success.
            if cause != ExitCause::Exited(0) || self.running.is_stop_requested() {
                self.running.note_end(cause);
                *started = None;
            }
        }
    }

    /// Writes the pid file as a launcher does. A full disk keeps no service down: then the file is overwritten where it
    /// stands, which needs no new block. Where that fails too, the service may not run yet: nobody would find it again,
    /// and the guard, or a later resume, would start a second one beside it.
    fn take_launchers_part(&self, pid: i32) -> Result<(), String> {
        let content = format!("{pid}\n");
        let mode = std::fs::metadata(&self.path).map_or(0o644, |metadata| metadata.mode() & 0o777);
        let owner = std::fs::metadata(&self.path).map(|metadata| (metadata.uid(), metadata.gid()));
        let Err(error) = write_durably(&self.path, content.as_bytes(), mode) else {
            // A daemon that writes it itself must still be able to.
            if let Ok((user, group)) = owner
                && let Err(error) = std::os::unix::fs::lchown(&self.path, Some(user), Some(group))
            {
                tracing::warn!(%error, "the pid file could not be given back to its owner");
            }
            return Ok(());
        };
        tracing::warn!(%error, "the pid file could not be replaced");
        match overwrite(&self.path, content.as_bytes()) {
            Ok(()) => Ok(()),
            // No later attempt would do better, and the service must not stay down for it.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                tracing::warn!(%error, "the pid file could not be overwritten: it does not name the service");
                Ok(())
            }
            Err(error) => Err(format!(
                "its pid can't be kept in the pid file ({error}), and without it a second one could be started; \
                 once the disk takes writes again, run: svc-ctl resume"
            )),
        }
    }

    /// The child whose gate stays closed ends without having been the service. Until it has, it would look like one.
    fn end_unopened(&self) {
        let Some(Started { child: Some(child), process, .. }) = self.started.take() else { return };
        let until = Instant::now() + UNOPENED_END_MAX;
        if let Some(Ok(Some(pidfd))) = process.as_ref().map(Pidfd::open)
            && let Err(error) = wait::readable(&[pidfd.as_fd()], until)
        {
            tracing::debug!(%error, "the child at the gate could not be waited for");
        }
        reap_later(child);
    }

    fn starting_until(&self) -> Option<Instant> {
        self.started.borrow().as_ref().map(|started| started.until)
    }
}

impl ServiceController for PidFileService {
    fn spec(&self) -> ServiceSpec {
        ServiceSpec::PidFile { path: self.path.clone(), command: self.command.clone(), seen: self.running.seen() }
    }

    fn label(&self) -> String {
        self.running.label().to_owned()
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        self.refuse_doubt("work on")?;
        Ok(vec![LockKey::service("process", &self.path.to_string_lossy())])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        let mut state = self.running.state(self.main()?.as_ref(), self.starting_until())?;
        state.detail = match (state.activity, &*self.wrong.borrow()) {
            (Activity::Down, Some(Wrong::Stale(why))) => format!("the pid file is stale: {why}"),
            (Activity::Down, Some(Wrong::Doubtful(why))) => format!("the pid file is doubtful: {why}"),
            _ => state.detail,
        };
        Ok(state)
    }

    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        self.running.processes(self.main()?.as_ref())
    }

    fn request_stop(&self) -> Result<(), ControllerError> {
        if let Some(error) = &self.uncaptured {
            return Err(io_failed("read how to start again", &self.label(), error));
        }
        self.running.request_stop(self.main()?.as_ref())
    }

    fn stop_was_requested(&self, again: bool) -> Result<(), ControllerError> {
        self.running.note_stop_request();
        if again { self.request_stop() } else { Ok(()) }
    }

    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        self.running.signal(self.main()?.as_ref(), signal)
    }

    fn start(&self) -> Result<(), ControllerError> {
        let label = self.label();
        self.refuse_doubt("start")?;
        if !self.processes()?.is_empty() {
            return Err(failed("start", &label, "its old process still runs"));
        }
        let Some(command) = &self.command else {
            return Err(failed("start", &label, "no command is known: name the one that starts it"));
        };
        // A daemon that keeps its own pid file removes it at its end; one that is left was written by a launcher,
        // whose part we take.
        let by_launcher = self.path.exists();
        let (child, gate) = launch(command, None).map_err(|e| failed("start", &label, e))?;
        let pid = i32::try_from(child.id()).map_err(|e| failed("start", &label, e))?;
        let process = ProcessId::of(pid).map_err(|e| failed("start", &label, e))?;
        self.running.begin();
        let begun = process.as_ref().map_or(u64::MAX, |process| process.start_ticks);
        let until = Instant::now() + PID_FILE_WAIT_MAX;
        *self.started.borrow_mut() = Some(Started { child: Some(child), process, begun, until });
        let recorded = if by_launcher { self.take_launchers_part(pid) } else { Ok(()) };
        // A gate that is dropped stays shut.
        if let Err(error) = recorded.and_then(|()| gate.open()) {
            self.end_unopened();
            return Err(failed("start", &label, error));
        }
        // Its end is noticed from here on.
        self.processes().map(drop)
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        self.running.wait_change(until, cancel)
    }

    fn kill_sources(&self, _stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        manager_of(self.main()?.as_ref(), &self.label())
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        self.main()?;
        self.running.stop_mark()
    }
}

impl Drop for PidFileService {
    fn drop(&mut self) {
        if let Some(child) = self.started.take().and_then(|started| started.child) {
            reap_later(child);
        }
    }
}

/// Not truncated before: that would free the block which a full disk does not give back.
fn overwrite(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

fn invalid(label: &str, reason: impl Into<String>) -> ControllerError {
    ControllerError::Invalid { service: label.to_owned(), reason: reason.into() }
}

fn not_found(label: &str, reason: String) -> ControllerError {
    ControllerError::NotFound { service: label.to_owned(), reason }
}
