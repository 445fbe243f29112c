//! What monitoring is told. Each figure comes from its own source; what can't be read is unknown, and alone.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use svckit::lock::LockKey;
use svckit::tend::rule::{LastLook, Rule, RuleTask};
use svckit::tend::{State, Times};

use crate::dirs;

/// All figures of all rules together: the loop that writes them has a watchdog, and monitoring waits no longer.
const FIGURES_MAX: Duration = Duration::from_secs(5);

/// The figures of one rule.
#[derive(Debug)]
pub(super) struct OfRule {
    pub(super) name: String,
    /// `None`: it has never run, or the state can't be read.
    pub(super) state: Option<Remembered>,
    /// Of the database, by name.
    pub(super) figures: Vec<(String, Option<f64>)>,
    /// Summaries on their way; only where the rule makes some.
    pub(super) outbox: Option<Option<f64>>,
    /// Of foreign keys, when they were last looked at.
    pub(super) violations: Option<LastLook>,
}

impl OfRule {
    /// Violated foreign keys; where not all were looked at, none found means nothing.
    pub(super) fn violations(&self) -> Option<f64> {
        self.violations.filter(|look| look.complete || look.count > 0).map(|look| as_float(look.count))
    }
}

/// What the state knows.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) times: Times,
    pub(super) counters: svckit::tend::Counters,
    pub(super) waiting: u64,
    pub(super) quarantined: u64,
    pub(super) last_error: Option<String>,
}

/// Reads all of it; nothing that fails here keeps the rest from being told.
pub(super) fn read(rules: &[Rule], state: &Path) -> Vec<OfRule> {
    let mut states = State::all(state).unwrap_or_else(|error| {
        tracing::warn!("{}", super::said(&error));
        Vec::new()
    });
    let mut all = Vec::new();
    let until = Instant::now() + FIGURES_MAX;
    for rule in rules {
        let at = states.iter().position(|state| state.task() == rule.name);
        let remembered = at.map(|at| states.swap_remove(at)).map(|state| Remembered {
            times: state.times(),
            counters: state.counters(),
            waiting: state.failing().filter(|one| one.next.is_some()).count() as u64,
            quarantined: state.failing().filter(|one| one.next.is_none()).count() as u64,
            last_error: state.last_error().map(str::to_owned),
        });
        let mut task = RuleTask::new(rule.clone(), state);
        let in_work = is_in_work(rule);
        let figures = task.figures(Timestamp::now(), until).into_iter().map(|(name, figure)| {
            let known = figure.map_err(|error| tracing::info!(rule = rule.name, name, %error, "a figure is unknown"));
            (name, known.ok().filter(|_| !in_work))
        });
        let figures = figures.collect();
        // Asked only where there is one: a look makes nothing.
        let outbox = (!rule.summaries.is_empty())
            .then(|| remembered.as_ref().and_then(|_| task.outbox_len().ok()).map(as_float));
        let violations = LastLook::of(state, &rule.name).unwrap_or_else(|error| {
            tracing::info!(rule = rule.name, %error, "the number of violated foreign keys is unknown");
            None
        });
        all.push(OfRule { name: rule.name.clone(), state: remembered, figures, outbox, violations });
    }
    all
}

/// Whether another operation has the database: what is read of it meanwhile means nothing.
fn is_in_work(rule: &Rule) -> bool {
    let held = dirs::state()
        .ok()
        .zip(LockKey::database(&rule.database).ok())
        .and_then(|(dirs, key)| svckit::lock::status(&dirs.lock, Some(&key), false).ok());
    held.into_iter().flatten().any(|lock| {
        let ours = lock.record.as_ref().is_some_and(|record| record.operation == "tend");
        !lock.holders.is_empty() && !ours
    })
}

/// Counts are far below what a float tells apart.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}
