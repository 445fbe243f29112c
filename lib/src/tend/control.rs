//! The bounds of a pass, and what others may see of it while it runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::Cancel;

/// How much, and how long, a pass may work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Items of one unit; from 1.
    pub unit_items: usize,
    /// How long a unit goes on taking items: about as long a transaction is open.
    pub unit_time: Duration,
    /// The pause behind a unit, in which others have their turn.
    pub pause: Duration,
    /// Items of one pass. What is behind them is for the next one.
    pub pass_items: u64,
    /// How long a pass may take. Then it ends behind its unit.
    pub pass_time: Duration,
    /// How long one item may take. Then it is interrupted, where the task can be.
    pub item_time: Duration,
}

impl Default for Limits {
    /// Short units, so that a service beside us hardly waits: 200 items or 20 ms, then 20 ms for others.
    fn default() -> Self {
        Self {
            unit_items: 200,
            unit_time: Duration::from_millis(20),
            pause: Duration::from_millis(20),
            pass_items: 100_000,
            pass_time: Duration::from_secs(300),
            item_time: Duration::from_secs(5),
        }
    }
}

/// One pass as others see it, and by which they end it. Clones are of the same pass.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    stop: Cancel,
    since: Instant,
    now: Mutex<Doing>,
}

#[derive(Debug, Clone)]
struct Doing {
    unit: Instant,
    item: Option<(String, Instant)>,
    progress: Instant,
    abandoned: bool,
    pause: Duration,
}

impl Control {
    /// A pass that begins now.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(limits: &Limits) -> std::io::Result<Self> {
        Ok(Self::stopped_by(limits, Cancel::new()?))
    }

    /// The same, ended in order by `stop`.
    #[must_use]
    pub fn stopped_by(limits: &Limits, stop: Cancel) -> Self {
        let now = Instant::now();
        let doing = Doing { unit: now, item: None, progress: now, abandoned: false, pause: Duration::ZERO };
        Self(Arc::new(Inner { limits: limits.clone(), stop, since: now, now: Mutex::new(doing) }))
    }

    fn doing(&self) -> std::sync::MutexGuard<'_, Doing> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_requested()
    }

    /// The request to end.
    #[must_use]
    pub fn stop(&self) -> &Cancel {
        &self.0.stop
    }

    /// Whether what runs has to be interrupted in the middle: the item or the pass takes too long, or it was abandoned.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        let doing = self.doing();
        let late = |since: Instant, most: Duration| since.elapsed() > most;
        doing.abandoned
            || doing.item.as_ref().is_some_and(|(_, since)| late(*since, self.0.limits.item_time))
            // A unit that has begun may end, within the time of one item.
            || late(self.0.since, self.0.limits.pass_time.saturating_add(self.0.limits.item_time))
    }

    /// Whether no further unit begins.
    #[must_use]
    pub fn pass_is_over(&self) -> bool {
        self.is_stopping() || self.0.since.elapsed() > self.0.limits.pass_time || self.doing().abandoned
    }

    pub(super) fn unit_is_over(&self) -> bool {
        let since = self.doing().unit;
        since.elapsed() > self.0.limits.unit_time || self.pass_is_over()
    }

    pub(super) fn begin_unit(&self) {
        self.doing().unit = Instant::now();
    }

    pub(super) fn begin_item(&self, item: &str) {
        self.doing().item = Some((item.to_owned(), Instant::now()));
    }

    pub(super) fn end_item(&self) {
        let mut doing = self.doing();
        doing.item = None;
        doing.progress = Instant::now();
    }

    /// Something was achieved beside an item: a look for items, a commit.
    pub fn note_progress(&self) {
        self.doing().progress = Instant::now();
    }

    /// Gives the pass up: it is interrupted where it can be, and nothing more of it is taken up.
    pub fn abandon(&self) {
        self.doing().abandoned = true;
    }

    /// Asks for a pause behind this unit that is longer than usual: somebody else is busy with what we work on.
    pub fn ask_for_pause(&self, pause: Duration) {
        self.doing().pause = pause;
    }

    pub(super) fn take_pause(&self) -> Duration {
        std::mem::take(&mut self.doing().pause)
    }

    /// Since when nothing was achieved.
    #[must_use]
    pub fn last_progress(&self) -> Instant {
        self.doing().progress
    }

    /// The item in work, and since when.
    #[must_use]
    pub fn item(&self) -> Option<(String, Instant)> {
        self.doing().item.clone()
    }

    /// Since when the pass runs.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.0.since
    }
}
