//! What every plain service has: its processes, what is known of its last run, and the watch on the file that names its
//! main process. Who that is, each kind finds out in its own way and passes in as `main`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::capture::why_not_from_here;
use super::family::{Family, send};
use super::launch;
use super::watch::FileWatch;
use super::{failed, foreign_unit, of_unit};
use crate::controller::{Activity, ControllerError, ExitCause, ServiceState};
use crate::journal::StopMark;
use crate::progress::Cancel;
use crate::world::{ProcessId, StopSignal, clock};

/// So long a process that we started must run before it counts as up: most that can't work end at once.
const SETTLE_TIME: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Running {
    label: String,
    family: Family,
    last_run: RefCell<Option<ProcessId>>,
    exit: Cell<Option<ExitCause>>,
    stop_requested: Cell<bool>,
    /// When a start of ours counts as made: what fails at once has failed to start.
    settled: Cell<Option<Instant>>,
    /// A start of ours was made: what stands at a gate is that.
    has_begun: Cell<bool>,
    /// What the last look said of the service holds until then without any event: time alone ends a start.
    holds_until: Cell<Option<Instant>>,
    /// The signals that were sent to this run by us.
    sent: RefCell<BTreeSet<i32>>,
    watch: FileWatch,
    /// The last process ended during a look, or between two: no pidfd is held any more, so nothing else would end the
    /// wait of who has the earlier look in mind.
    ended_meanwhile: Cell<bool>,
    had_processes: Cell<bool>,
}

impl Running {
    /// Nothing is known yet; changes of `file` are noticed from now on.
    pub(super) fn new(label: String, file: &Path) -> Result<Self, ControllerError> {
        let watch = FileWatch::new(file).map_err(|e| failed("watch", &label, e))?;
        Ok(Self {
            label,
            family: Family::default(),
            last_run: RefCell::default(),
            exit: Cell::default(),
            stop_requested: Cell::default(),
            settled: Cell::default(),
            has_begun: Cell::default(),
            holds_until: Cell::default(),
            sent: RefCell::default(),
            watch,
            ended_meanwhile: Cell::default(),
            had_processes: Cell::default(),
        })
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Remembers the latest main process, dead or alive.
    pub(super) fn note_run(&self, main: &ProcessId) {
        // Left at its gate by a program that died: in a moment it ends, or is the service if the gate was opened just
        // before. Until then it is neither a run nor the proof of one, however often it is looked at: a run that differs
        // from the one that was stopped is taken for somebody else's doing, and left alone.
        let is_known = self.last_run.borrow().as_ref() == Some(main);
        if !is_known && !self.has_begun.get() && launch::is_at_gate(main) {
            if !self.is_settling() {
                self.settled.set(Some(Instant::now() + SETTLE_TIME));
            }
            return;
        }
        *self.last_run.borrow_mut() = Some(main.clone());
    }

    pub(super) fn last_run(&self) -> Option<ProcessId> {
        self.last_run.borrow().clone()
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
        self.sent.borrow_mut().clear();
        self.settled.set(Some(Instant::now() + SETTLE_TIME));
        self.has_begun.set(true);
    }

    pub(super) fn remember(&self, seen: &[ProcessId]) -> Result<(), ControllerError> {
        self.family.remember(seen, &self.label)
    }

    pub(super) fn seen(&self) -> Vec<ProcessId> {
        self.family.seen()
    }

    pub(super) fn processes(&self, main: Option<&ProcessId>) -> Result<Vec<ProcessId>, ControllerError> {
        let alive = self.family.alive(main, &self.label)?;
        let had_some = self.had_processes.replace(!alive.is_empty());
        if main.is_some_and(|main| !alive.contains(main)) || had_some && alive.is_empty() {
            self.ended_meanwhile.set(true);
        }
        Ok(alive)
    }

    /// `starting_until`: a start of ours that has not shown its main process yet has so long to do so.
    pub(super) fn state(
        &self,
        main: Option<&ProcessId>,
        starting_until: Option<Instant>,
    ) -> Result<ServiceState, ControllerError> {
        let left = self.processes(main)?;
        // One that ended since it was found is no sign of life: whoever brings it back would leave it at that.
        let main = main.filter(|main| left.contains(main));
        let now = Instant::now();
        let settling_until = self.settled.get().filter(|settled| now < *settled);
        let starting_until = starting_until.filter(|until| now < *until);
        // One look at the clock: were the wait to look again, it could find the time over that this look found running,
        // and wait for an event that never comes.
        self.holds_until.set(settling_until.into_iter().chain(starting_until).min());
        let activity = match (main, left.is_empty()) {
            (Some(_), _) if self.stop_requested.get() => Activity::Stopping,
            (Some(_), _) if settling_until.is_some() => Activity::Starting,
            (Some(_), _) => Activity::Up,
            (None, _) if starting_until.is_some() && !self.stop_requested.get() => Activity::Starting,
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

    fn is_settling(&self) -> bool {
        self.settled.get().is_some_and(|settled| Instant::now() < settled)
    }

    /// A service that ends by a signal that we sent it has obeyed, also where a shell around it reports that.
    fn has_failed(&self) -> bool {
        match self.exit.get() {
            None | Some(ExitCause::Exited(0)) => false,
            Some(ExitCause::Signalled(signal)) => !self.sent.borrow().contains(&signal),
            Some(ExitCause::Exited(status)) => !self.sent.borrow().contains(&(status - 128)),
        }
    }

    /// The main process is asked; where it is gone, whoever it left behind. Refused where the service is a manager's, or
    /// could not be started again from here as it was.
    pub(super) fn request_stop(&self, main: Option<&ProcessId>) -> Result<(), ControllerError> {
        let like_us =
            |why: String| format!("{why}, and would be started again like this program: run it outside of that");
        let unit = foreign_unit(main, &self.label)?.map(of_unit);
        let reason = unit.or_else(|| main.and_then(why_not_from_here).map(like_us));
        if let Some(reason) = reason {
            return Err(ControllerError::Unsafe { action: "stop", service: self.label.clone(), reason });
        }
        match main {
            Some(main) => send(main, StopSignal::Term, &self.label)?,
            None => self.processes(None)?.iter().try_for_each(|left| send(left, StopSignal::Term, &self.label))?,
        }
        // Not before: whoever brings it back would wait for the end of a stop that nobody was told of.
        self.note_stop_request();
        Ok(())
    }

    /// We request the stop now, or a program before this one did.
    pub(super) fn note_stop_request(&self) {
        self.stop_requested.set(true);
        self.sent.borrow_mut().insert(StopSignal::Term.number());
    }

    pub(super) fn signal(&self, main: Option<&ProcessId>, signal: StopSignal) -> Result<(), ControllerError> {
        self.sent.borrow_mut().insert(signal.number());
        main.map_or(Ok(()), |main| send(main, signal, &self.label))
    }

    /// Waits for a change since the last look at the processes.
    pub(super) fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        if self.ended_meanwhile.take() {
            return Ok(());
        }
        let until = self.holds_until.take().map_or(until, |at| at.min(until));
        self.watch.attach().map_err(|e| failed("watch", &self.label, e))?;
        loop {
            let only_files = self.family.wait(self.watch.as_fd(), until, cancel, &self.label)?;
            let concerns_us = self.watch.drain();
            if !only_files || concerns_us {
                return Ok(());
            }
        }
    }

    pub(super) fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        let boot_id = clock::boot_id().map_err(|e| failed("look at", &self.label, e))?;
        Ok(StopMark { run: self.last_run.borrow().as_ref().map(run_of), changed_at: None, boot_id })
    }
}

fn run_of(process: &ProcessId) -> String {
    format!("{}:{}", process.pid, process.start_ticks)
}
