//! What every plain service has: its processes, what is known of its last run, and the watch on the directory of the
//! file that names its main process. Who that is, each kind finds out in its own way and passes in as `main`.

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::failed;
use super::family::{Family, send};
use crate::controller::{Activity, ControllerError, ExitCause, ServiceState};
use crate::journal::StopMark;
use crate::progress::Cancel;
use crate::world::{ProcessId, StopSignal, clock};

#[derive(Debug)]
pub(super) struct Running {
    label: String,
    family: Family,
    last_run: RefCell<Option<ProcessId>>,
    exit: Cell<Option<ExitCause>>,
    stop_requested: Cell<bool>,
    watch: Inotify,
}

impl Running {
    /// Nothing is known yet; changes of files in `directory` are noticed from now on.
    pub(super) fn new(label: String, directory: &Path) -> Result<Self, ControllerError> {
        let watched = || -> nix::Result<Inotify> {
            let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
            watch.add_watch(directory, events)?;
            Ok(watch)
        };
        let watch = watched().map_err(|e| failed("watch", &label, e))?;
        Ok(Self {
            label,
            family: Family::default(),
            last_run: RefCell::new(None),
            exit: Cell::new(None),
            stop_requested: Cell::new(false),
            watch,
        })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Remembers the latest main process, dead or alive.
    pub(super) fn note_run(&self, main: &ProcessId) {
        *self.last_run.borrow_mut() = Some(main.clone());
    }

    /// How our own child ended, if it has; a process that another program started keeps that to itself.
    pub(super) fn end_of(child: Option<&mut Child>) -> Option<ExitCause> {
        let Some(Ok(Some(status))) = child.map(Child::try_wait) else { return None };
        status.signal().map(ExitCause::Signalled).or(status.code().map(ExitCause::Exited))
    }

    pub(super) fn note_end(&self, cause: ExitCause) {
        self.exit.set(Some(cause));
    }

    pub(super) fn is_stop_requested(&self) -> bool {
        self.stop_requested.get()
    }

    /// A new run begins: what was said of the last one is over.
    pub(super) fn begin(&self) {
        self.exit.set(None);
        self.stop_requested.set(false);
    }

    pub(super) fn processes(&self, main: Option<&ProcessId>) -> Result<Vec<ProcessId>, ControllerError> {
        self.family.alive(main, &self.label)
    }

    /// `is_starting`: a start of ours has not shown its main process yet.
    pub(super) fn state(&self, main: Option<&ProcessId>, is_starting: bool) -> Result<ServiceState, ControllerError> {
        let left = self.processes(main)?;
        let activity = match (main, left.is_empty()) {
            (Some(_), _) if self.stop_requested.get() => Activity::Stopping,
            (Some(_), _) => Activity::Up,
            (None, _) if is_starting && !self.stop_requested.get() => Activity::Starting,
            (None, false) => Activity::Stopping,
            (None, true) if self.has_failed() => Activity::Failed,
            (None, true) => Activity::Down,
        };
        let detail = match (main, activity) {
            (Some(main), Activity::Up) => format!("running as process {}", main.pid),
            (_, Activity::Starting) => "starting".to_owned(),
            (_, Activity::Stopping) => "stopping".to_owned(),
            (_, Activity::Failed) => "failed".to_owned(),
            _ => "not running".to_owned(),
        };
        Ok(ServiceState {
            activity,
            run: main.or(self.last_run.borrow().as_ref()).map(run_of),
            main: main.cloned(),
            exit: self.exit.get(),
            result: None,
            start_state: None,
            detail,
        })
    }

    /// A service that ends by the very signal that asked it to has obeyed.
    fn has_failed(&self) -> bool {
        match self.exit.get() {
            None | Some(ExitCause::Exited(0)) => false,
            Some(ExitCause::Signalled(signal)) if signal != 9 => !self.stop_requested.get(),
            Some(_) => true,
        }
    }

    /// The main process is asked; where it is gone, whoever it left behind.
    pub(super) fn request_stop(&self, main: Option<&ProcessId>) -> Result<(), ControllerError> {
        self.stop_requested.set(true);
        match main {
            Some(main) => send(main, StopSignal::Term, &self.label),
            None => self.processes(None)?.iter().try_for_each(|process| send(process, StopSignal::Term, &self.label)),
        }
    }

    /// A program before this one requested the stop.
    pub(super) fn note_stop_request(&self) {
        self.stop_requested.set(true);
    }

    pub(super) fn signal(&self, main: Option<&ProcessId>, signal: StopSignal) -> Result<(), ControllerError> {
        main.map_or(Ok(()), |main| send(main, signal, &self.label))
    }

    pub(super) fn wait_change(
        &self,
        main: Option<&ProcessId>,
        until: Instant,
        cancel: &Cancel,
    ) -> Result<(), ControllerError> {
        self.processes(main)?;
        self.family.wait(&[self.watch.as_fd()], until, cancel, &self.label)?;
        // Drained, or the next wait would return at once for the same event.
        drop(self.watch.read_events());
        Ok(())
    }

    pub(super) fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        let boot_id = clock::boot_id().map_err(|e| failed("look at", &self.label, e))?;
        Ok(StopMark { run: self.last_run.borrow().as_ref().map(run_of), changed_at: None, boot_id })
    }
}

fn run_of(process: &ProcessId) -> String {
    format!("{}:{}", process.pid, process.start_ticks)
}
