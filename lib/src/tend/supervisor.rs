//! Several workers, each in a thread of its own, and an eye on all of them.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::clock::{ClockWatch, Instants};
use super::control::Control;
use super::schedule::Schedule;
use super::state::State;
use super::task::message_of;
use super::worker::{PassEnd, PassReport, Worker};
use crate::progress::Cancel;
use crate::world::wait;
use crate::world::wake::Wake;

/// See [`Supervisor::with_grace`].
const GRACE: Duration = Duration::from_secs(10);
/// A pass that could not work comes again this soon, where its schedule is slower.
const SOON: Duration = Duration::from_secs(60);
/// How long a clock that jumped forward has to go on steadily.
const SETTLE: Duration = Duration::from_secs(600);

/// What has to be held while a pass runs, a lock mostly, or why the pass does not begin.
pub type Gate = Box<dyn FnMut() -> Result<Box<dyn Any>, String> + Send>;

/// A worker, and when it works.
pub struct Supervised {
    /// The worker.
    pub worker: Worker,
    /// When its passes begin.
    pub schedule: Schedule,
    /// Asked before each pass.
    pub gate: Gate,
}

impl std::fmt::Debug for Supervised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervised").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// How a task is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It waits for its time; `None`: for none.
    Waiting(Option<Timestamp>),
    /// It works, since then.
    Working(Instant),
    /// It has not moved for longer than it may, at this item, and does not end although it was told to.
    Stuck(Option<String>),
    /// It has ended, as it was asked to.
    Ended,
}

/// A task and its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskHealth {
    /// Its name.
    pub task: String,
    /// How it is doing.
    pub health: Health,
}

#[derive(Debug)]
struct Seen {
    name: String,
    control: Option<Control>,
    next: Option<Timestamp>,
    ended: bool,
    last: Option<PassReport>,
    /// It was given up at this time.
    abandoned: Option<Instant>,
    told: bool,
}

type Shared = Arc<Mutex<Seen>>;

fn seen(shared: &Shared) -> std::sync::MutexGuard<'_, Seen> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All tasks of a program.
#[derive(Debug)]
pub struct Supervisor {
    state: PathBuf,
    stop: Cancel,
    wake: Arc<Wake>,
    tasks: Vec<(Shared, JoinHandle<()>)>,
    grace: Duration,
}

impl Supervisor {
    /// Keeps states in this directory; ends in order when `stop` asks for it.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(state: impl Into<PathBuf>, stop: Cancel) -> std::io::Result<Self> {
        Ok(Self { state: state.into(), stop, wake: Arc::new(Wake::new()?), tasks: Vec::new(), grace: GRACE })
    }

    /// How long a pass may show no progress beyond the time of one item before it is given up, and how long one that was
    /// given up may take to end; ten seconds where nothing is said.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Starts a task.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn start(&mut self, task: Supervised) -> std::io::Result<()> {
        let name = task.worker.state().task().to_owned();
        let shared = Arc::new(Mutex::new(Seen {
            name: name.clone(),
            control: None,
            next: None,
            ended: false,
            last: None,
            abandoned: None,
            told: false,
        }));
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let (of_thread, wake, stop) = (Arc::clone(&shared), Arc::clone(&self.wake), self.stop.clone());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let mut loops =
                Loop { task, shared: of_thread, wake, stop, timer, clock: ClockWatch::new(SETTLE, Instants::now()) };
            loops.run();
        })?;
        self.tasks.push((shared, thread));
        Ok(())
    }

    /// Looks after the tasks until the end is asked for and they have ended. `tell` hears how each of them is doing, at
    /// least every `interval`; a watchdog is fed there, where none is stuck.
    pub fn watch(&mut self, interval: Duration, tell: &mut dyn FnMut(&[TaskHealth])) {
        let mut stopping: Option<Instant> = None;
        loop {
            let healths: Vec<TaskHealth> = self.tasks.iter().map(|(shared, _)| self.look(shared)).collect();
            tell(&healths);
            if self.stop.is_requested() {
                let since = *stopping.get_or_insert_with(Instant::now);
                let all = healths.iter().all(|one| one.health == Health::Ended);
                // A stuck one keeps nobody: what it had open is taken back by its database.
                let longest = self.tasks.iter().filter_map(|(shared, _)| seen(shared).control.clone());
                let most = longest.map(|control| control.limits().item_time).max().unwrap_or_default() + self.grace * 2;
                if all || since.elapsed() > most {
                    return;
                }
            }
            let until =
                Instant::now() + if stopping.is_some() { interval.min(Duration::from_millis(200)) } else { interval };
            let fds = [self.wake.as_fd(), self.stop.as_fd()];
            // The request to end stays readable: from then on only the tasks wake us.
            let waited = wait::readable(if stopping.is_some() { &fds[..1] } else { &fds }, until);
            if let Err(error) = waited {
                tracing::error!(%error, "can't wait for the tasks");
            }
            self.wake.drain();
        }
    }

    fn look(&self, shared: &Shared) -> TaskHealth {
        let mut seen = seen(shared);
        let name = seen.name.clone();
        let Some(control) = seen.control.clone() else {
            let health = if seen.ended { Health::Ended } else { Health::Waiting(seen.next) };
            return TaskHealth { task: name, health };
        };
        let bound = control.limits().item_time.saturating_add(self.grace);
        let idle =
            control.last_progress().elapsed().min(control.item().map_or(Duration::MAX, |(_, since)| since.elapsed()));
        if seen.abandoned.is_none() && idle > bound {
            let item = control.item().map(|(item, _)| item);
            tracing::error!(task = name, ?item, "nothing has moved for {idle:.0?}: the pass is given up");
            control.abandon();
            seen.abandoned = Some(Instant::now());
        }
        let health = match seen.abandoned {
            Some(at) if at.elapsed() > self.grace => {
                let item = control.item().map(|(item, _)| item);
                if !seen.told {
                    tracing::error!(task = name, ?item, "the pass does not end although it was given up");
                    State::note_abandoned(&self.state, &name);
                    seen.told = true;
                }
                Health::Stuck(item)
            }
            _ => Health::Working(control.since()),
        };
        TaskHealth { task: name, health }
    }
}

/// The thread of one task.
struct Loop {
    task: Supervised,
    shared: Shared,
    wake: Arc<Wake>,
    stop: Cancel,
    timer: OwnedFd,
    clock: ClockWatch,
}

impl Loop {
    fn run(&mut self) {
        while !self.stop.is_requested() {
            // Nothing in here is expected to panic; if it does, the next round comes all the same.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.round())) {
                let task = self.task.worker.state().task();
                tracing::error!(task, reason = message_of(panic.as_ref()), "a round of the loop failed");
                self.rest(Timestamp::now() + SOON);
            }
        }
        seen(&self.shared).ended = true;
        self.wake.wake();
    }

    fn round(&mut self) {
        let now = Timestamp::now();
        let last = self.task.worker.last_start(now);
        let soon = self.soon().and_then(|soon| Some(last?.saturating_add(soon).unwrap_or(Timestamp::MAX).max(now)));
        let next = match (self.task.schedule.next(last, now), soon) {
            (Some(next), Some(soon)) => Some(next.min(soon)),
            (next, _) => next,
        };
        seen(&self.shared).next = next;
        if next.is_none_or(|next| next > now) {
            self.rest(next.unwrap_or(Timestamp::MAX));
            return;
        }
        if let Some(left) = self.clock.look(Instants::now()) {
            self.put_off(&format!("the clock jumped forward: nothing is pruned for {left:.0?}"), left);
            return;
        }
        let held = match (self.task.gate)() {
            Ok(held) => held,
            Err(why) => return self.put_off(&why, SOON),
        };
        let control = Control::stopped_by(&self.task.worker.policy().limits, self.stop.clone());
        {
            let mut seen = seen(&self.shared);
            (seen.control, seen.abandoned, seen.told) = (Some(control.clone()), None, false);
        }
        self.wake.wake();
        let report = self.task.worker.pass(now, &control);
        drop(held);
        let mut seen = seen(&self.shared);
        (seen.control, seen.last) = (None, Some(report));
        drop(seen);
        self.wake.wake();
    }

    fn soon(&self) -> Option<Duration> {
        let seen = seen(&self.shared);
        match seen.last.as_ref()?.end {
            PassEnd::Complete => None,
            // There is more to do.
            PassEnd::Bounded => Some(self.task.worker.policy().limits.pass_time / 10),
            _ => Some(SOON),
        }
    }

    fn put_off(&mut self, why: &str, pause: Duration) {
        self.task.worker.deferred(why);
        seen(&self.shared).next = Timestamp::now().saturating_add(pause).ok();
        self.rest(Timestamp::now().saturating_add(pause).unwrap_or(Timestamp::MAX));
    }

    /// Until then, by the clock that people see: a clock that is set ends it early (TFD_TIMER_CANCEL_ON_SET,
    /// timerfd_create(2)), and so does the end of the program.
    fn rest(&self, until: Timestamp) {
        let value = Timespec { tv_sec: until.as_second(), tv_nsec: i64::from(until.subsec_nanosecond()).max(1) };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let set = timerfd_settime(&self.timer, flags, &Itimerspec { it_interval: zero, it_value: value });
        // A day, where there is no timer, and as a bound.
        let most = Instant::now() + if set.is_ok() { Duration::from_secs(86_400) } else { Duration::from_secs(1) };
        if let Err(error) = wait::readable(&[self.timer.as_fd(), self.stop.as_fd()], most) {
            tracing::error!(%error, "can't wait");
        }
        let mut count = [0_u8; 8];
        let _expirations = rustix::io::read(&self.timer, &mut count);
    }
}
