//! One task, pass by pass.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::control::{Control, Limits};
use super::retry::Backoff;
use super::state::State;
use super::task::{Dealt, Task, TaskError, Unit, message_of};
use crate::world::wait;

/// How a worker goes about its task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The bounds of a pass.
    pub limits: Limits,
    /// What becomes of items that fail.
    pub backoff: Backoff,
}

/// So many items failing one after the other, none of a pass having been done, are not the items' fault.
const FAILURES_IN_A_ROW_MAX: u64 = 100;

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassEnd {
    /// All that was due was looked at.
    Complete,
    /// A bound was reached, or the end was asked for: the next pass goes on there.
    Bounded,
    /// Something was locked, away or full.
    Unavailable(String),
    /// A person has to change something.
    Broken(String),
    /// It was given up.
    Abandoned,
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassReport {
    /// Items that were dealt with.
    pub done: u64,
    /// Items that failed.
    pub failed: u64,
    /// Items that were left alone: in quarantine, or waiting for their next attempt.
    pub held: u64,
    /// How it ended.
    pub end: PassEnd,
}

/// A task with its state.
pub struct Worker {
    task: Box<dyn Task>,
    state: State,
    policy: Policy,
    /// The failing items that were met since the look at the items began anew: what was not met is not due any more.
    met: Option<BTreeSet<String>>,
    /// Failures of a pass in which nothing was done yet: they count as soon as it is clear that the items are to blame.
    doubtful: Vec<(String, String)>,
    /// When the pass began, by a clock that nobody sets.
    began: Instant,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("state", &self.state).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that goes on where its state says that it was.
    #[must_use]
    pub fn new(task: Box<dyn Task>, state: State, policy: Policy) -> Self {
        Self { task, state, policy, met: None, doubtful: Vec::new(), began: Instant::now() }
    }

    /// What is remembered.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The bounds of its passes.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A pass did not begin, and why.
    pub fn deferred(&mut self, why: &str) {
        tracing::info!(task = self.state.task(), why, "the pass is put off");
        self.state.refresh();
        self.state.counters.passes_deferred += 1;
        self.state.last_error = Some(why.to_owned());
        self.state.save();
    }

    /// When the last pass began. A time in the future is a clock that was set back: it is corrected to `now`, once, or
    /// nothing would run before that time comes again.
    pub(super) fn last_start(&mut self, now: Timestamp) -> Option<Timestamp> {
        let last = self.state.times.start?;
        if last > now {
            tracing::warn!(task = self.state.task(), %last, %now, "the clock was set back: the last pass counts as begun now");
            self.state.set_back(now, &self.policy.backoff);
        }
        self.state.times.start
    }

    /// One pass. It returns, whatever the task does but never return.
    pub fn pass(&mut self, now: Timestamp, control: &Control) -> PassReport {
        self.began = Instant::now();
        self.state.refresh();
        self.state.counters.passes += 1;
        self.state.times.start = Some(now);
        self.state.save();
        let mut report = PassReport { done: 0, failed: 0, held: 0, end: PassEnd::Complete };
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let end = self.units(now, control, &mut report);
            self.task.end();
            end
        }));
        report.end = caught.unwrap_or_else(|panic| PassEnd::Broken(message_of(panic.as_ref())));
        self.blame_the_doubtful(now);
        self.end(now, &report);
        report
    }

    /// How late it is, in a pass that began at `now`.
    fn by_now(&self, now: Timestamp) -> Timestamp {
        let took = SignedDuration::try_from(self.began.elapsed()).unwrap_or_default();
        now.checked_add(took).unwrap_or(now)
    }

    fn end(&mut self, began: Timestamp, report: &PassReport) {
        let task = self.state.task().to_owned();
        let now = self.by_now(began);
        self.state.times.end = Some(now);
        match &report.end {
            PassEnd::Complete | PassEnd::Bounded => {
                self.state.times.success = Some(now);
                self.state.last_error = None;
            }
            PassEnd::Unavailable(why) | PassEnd::Broken(why) => {
                tracing::warn!(task, why, "the pass ended early");
                self.state.counters.passes_failed += 1;
                self.state.last_error = Some(why.clone());
            }
            PassEnd::Abandoned => {
                self.state.counters.passes_abandoned += 1;
                self.state.last_error = Some("the pass took too long and was given up".to_owned());
            }
        }
        let (done, failed, held) = (report.done, report.failed, report.held);
        tracing::info!(task, done, failed, held, end = ?report.end, "a pass has ended");
        self.state.save();
    }

    fn units(&mut self, now: Timestamp, control: &Control, report: &mut PassReport) -> PassEnd {
        self.task.begin(control);
        if self.state.cursor.is_none() {
            self.met = Some(BTreeSet::new());
        }
        // From the cursor to the end, and, where it did not begin at the beginning, from there to the cursor.
        let begun_at = self.state.cursor.clone();
        let mut wrapped = begun_at.is_none();
        loop {
            if control.pass_is_over() {
                return if control.is_stopping() || !control.is_overdue() {
                    PassEnd::Bounded
                } else {
                    PassEnd::Abandoned
                };
            }
            if report.done + report.failed >= self.policy.limits.pass_items {
                return PassEnd::Bounded;
            }
            let items = match self.task.due(now, self.state.cursor.as_deref(), self.policy.limits.unit_items.max(1)) {
                Ok(items) => items,
                Err(error) => return not_an_items_fault(error),
            };
            control.note_progress();
            if items
                .first()
                .is_some_and(|first| self.state.cursor.as_ref().is_some_and(|at| self.task.compare(first, at).is_le()))
            {
                return PassEnd::Broken(
                    "the task names items that lie before the place where it was asked to go on".into(),
                );
            }
            let Some(last) = items.last().cloned() else {
                self.forget_the_unmet();
                self.state.cursor = None;
                self.met = Some(BTreeSet::new());
                if std::mem::replace(&mut wrapped, true) {
                    return PassEnd::Complete;
                }
                continue;
            };
            let (held, due): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| self.state.is_held(item, now));
            report.held += held.len() as u64;
            self.meet(&held);
            if due.is_empty() {
                self.state.cursor = Some(last);
            } else if let Err(end) = self.unit(due, &last, now, control, report) {
                return end;
            }
            let is_round =
                |begun: &String| self.state.cursor.as_ref().is_some_and(|at| self.task.compare(at, begun).is_ge());
            if wrapped && begun_at.as_ref().is_some_and(is_round) {
                return PassEnd::Complete;
            }
        }
    }

    /// A unit, and item by item where it failed as a whole: then one of them is to blame, a constraint at the commit say.
    fn unit(
        &mut self,
        items: Vec<String>,
        last: &str,
        now: Timestamp,
        control: &Control,
        report: &mut PassReport,
    ) -> Result<(), PassEnd> {
        let whole = match self.work(items.clone(), now, control) {
            Ok(dealt) => dealt,
            Err(TaskError::Item(reason)) if items.len() == 1 => blame(items[0].clone(), reason),
            Err(TaskError::Item(_)) => {
                for item in items {
                    if control.pass_is_over() {
                        return Ok(());
                    }
                    let dealt = match self.work(vec![item.clone()], now, control) {
                        Ok(dealt) => dealt,
                        Err(TaskError::Item(reason)) => blame(item, reason),
                        Err(error) => return Err(not_an_items_fault(error)),
                    };
                    self.account(dealt, now, report)?;
                }
                self.state.cursor = Some(last.to_owned());
                return Ok(());
            }
            Err(error) => return Err(not_an_items_fault(error)),
        };
        let all = whole.len() == items.len();
        self.account(whole, now, report)?;
        if all {
            self.state.cursor = Some(last.to_owned());
        }
        // Others have their turn. An end that is asked for ends this too.
        let until = Instant::now() + self.policy.limits.pause.max(control.take_pause());
        let _asked_to_end = wait::readable(&[std::os::fd::AsFd::as_fd(control.stop())], until);
        Ok(())
    }

    fn work(
        &mut self,
        items: Vec<String>,
        now: Timestamp,
        control: &Control,
    ) -> Result<Vec<(String, Dealt)>, TaskError> {
        let mut unit = Unit::new(items, now, control);
        let task = &mut self.task;
        match catch_unwind(AssertUnwindSafe(|| task.work(&mut unit))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(panic) => return Err(TaskError::Item(message_of(panic.as_ref()))),
        }
        control.note_progress();
        let dealt = unit.into_dealt();
        if dealt.is_empty() {
            return Err(TaskError::Broken("the task dealt with none of the items that it was given".to_owned()));
        }
        Ok(dealt)
    }

    /// Remembers what became of items, after their commit.
    fn account(&mut self, dealt: Vec<(String, Dealt)>, now: Timestamp, report: &mut PassReport) -> Result<(), PassEnd> {
        for (item, what) in dealt {
            match what {
                Dealt::Done => {
                    report.done += 1;
                    self.state.counters.done += 1;
                    self.state.forget(&item);
                }
                Dealt::Failed { reason, panicked } => {
                    report.failed += 1;
                    self.state.counters.failed += 1;
                    self.state.counters.panics += u64::from(panicked);
                    self.meet(std::slice::from_ref(&item));
                    if report.done == 0 && report.failed >= FAILURES_IN_A_ROW_MAX {
                        self.doubtful.clear();
                        return Err(PassEnd::Broken(format!(
                            "the first {FAILURES_IN_A_ROW_MAX} items all failed: that is not their fault; the last: {reason}"
                        )));
                    }
                    self.doubtful.push((item.clone(), reason));
                }
            }
            self.state.cursor = Some(item);
        }
        if report.done > 0 {
            self.blame_the_doubtful(now);
        }
        self.state.times.progress = Some(self.by_now(now));
        self.state.save();
        Ok(())
    }

    fn blame_the_doubtful(&mut self, now: Timestamp) {
        for (item, reason) in std::mem::take(&mut self.doubtful) {
            let next = self.state.failed(&item, &reason, now, &self.policy.backoff);
            let task = self.state.task();
            match next {
                Some(next) => tracing::warn!(task, item, reason, %next, "an item failed and will be tried again"),
                None => tracing::error!(task, item, reason, "an item failed too often and is set aside"),
            }
        }
    }

    fn meet(&mut self, items: &[String]) {
        if let Some(met) = &mut self.met {
            met.extend(items.iter().cloned());
        }
    }

    /// A look at all items from the first to the last has ended: what failed before and was not met is gone.
    fn forget_the_unmet(&mut self) {
        let Some(met) = self.met.take() else { return };
        let gone: Vec<String> =
            self.state.failing().map(|one| one.item.clone()).filter(|item| !met.contains(item)).collect();
        for item in gone {
            tracing::info!(task = self.state.task(), item, "an item that failed before is not due any more");
            self.state.forget(&item);
        }
    }
}

fn blame(item: String, reason: String) -> Vec<(String, Dealt)> {
    vec![(item, Dealt::Failed { reason, panicked: false })]
}

fn not_an_items_fault(error: TaskError) -> PassEnd {
    match error {
        TaskError::Unavailable(why) => PassEnd::Unavailable(why),
        TaskError::Broken(why) | TaskError::Item(why) => PassEnd::Broken(why),
    }
}
