//! Bringing a service back: release, triggers, start, readiness, and only then the shield.

use std::time::{Duration, Instant};

use super::NotBack;
use super::member::{twice, wait_for};
use crate::controller::{Activity, ControllerError, ServiceController, ServiceState};
use crate::journal::{ServiceRecord, ServiceStage};
use crate::progress::Cancel;
use crate::ready::{self, ReadyCheck};

/// How a service came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Started, and ready.
    Started,
    /// It had not been running, and was not started.
    WasNotRunning,
    /// It was up: it never stopped, or somebody started it.
    StillUp,
    /// Its old process still runs its stop; its start is queued, or follows when `resume` runs again.
    AfterItsStop,
    /// Its start is queued behind us (at boot).
    Queued,
    /// Somebody masked or disabled it, or changed its state, since our stop.
    LeftToItsOwner,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the old process to end its stop.
    pub(super) stop: Duration,
    /// For the manager to say that it is up.
    pub(super) start: Duration,
    /// Do not wait at all: queue the start (at boot, where the service is ordered behind us).
    pub(super) queue_only: bool,
}

/// The time that a service gets to come up, as its manager sees it; readiness checks have their own.
pub(super) const START_WAIT_MAX: Duration = Duration::from_secs(180);

/// Starts at most so often: a start that fails once may have met the end of the old run.
const START_ATTEMPTS_MAX: u32 = 2;

pub(super) fn bring_back(
    controller: &(dyn ServiceController + '_),
    record: &ServiceRecord,
    patience: Patience,
) -> Result<Return, NotBack> {
    let not_back = |reason: String| NotBack { service: controller.label(), reason };
    // Never cut short by a cancellation: what we stopped comes back first.
    let cancel = Cancel::new().map_err(|e| not_back(e.to_string()))?;
    twice(controller, || controller.release()).map_err(|e| not_back(e.to_string()))?;
    let triggers = restore_triggers(controller, record);
    let outcome = if record.was_up { start(controller, record, patience, &cancel) } else { Ok(Return::WasNotRunning) };
    let outcome = outcome.map_err(|e| not_back(e.to_string()))?;
    let waits_on = matches!(outcome, Return::AfterItsStop);
    if outcome == Return::Started && !patience.queue_only {
        let checks = parse_checks(&record.ready).map_err(&not_back)?;
        if let Err(reason) = wait_ready(controller, &checks, &cancel) {
            // It runs, and nothing of ours may stay on it; that it is not ready is what we report.
            unshield(controller);
            return Err(not_back(reason));
        }
    }
    if !waits_on {
        unshield(controller);
    }
    triggers.map_err(not_back)?;
    Ok(outcome)
}

fn unshield(controller: &(dyn ServiceController + '_)) {
    // A shield that stays is harmless (a finite time-out without a kill) and is in /run: told, no failure.
    // Once more, since what failed may be half done: nobody comes back to it once the entry is gone.
    if let Err(error) = twice(controller, || controller.unshield()) {
        tracing::warn!(service = controller.label(), %error, "the shield could not be taken off");
    }
}

fn restore_triggers(controller: &(dyn ServiceController + '_), record: &ServiceRecord) -> Result<(), String> {
    let mut failed = Vec::new();
    for trigger in record.triggers.iter().filter(|t| t.was_active) {
        if let Err(error) = twice(controller, || controller.set_trigger(&trigger.name, true)) {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn start(
    controller: &(dyn ServiceController + '_),
    record: &ServiceRecord,
    patience: Patience,
    cancel: &Cancel,
) -> Result<Return, ControllerError> {
    let state = twice(controller, || controller.state())?;
    if state.activity == Activity::Up {
        let same_run = record.run.is_some() && state.run == record.run;
        return Ok(if same_run { Return::StillUp } else { Return::Started });
    }
    if somebody_acted(&state, record, controller)? {
        return Ok(Return::LeftToItsOwner);
    }
    if patience.queue_only {
        controller.start()?;
        return Ok(Return::Queued);
    }
    let mut attempts = 0;
    let mut refused = None;
    let stop_deadline = Instant::now() + patience.stop;
    loop {
        let state = twice(controller, || controller.state())?;
        match state.activity {
            Activity::Up => return Ok(Return::Started),
            Activity::Stopping => {
                // A manager that can queue the start behind the stop does so now, also if we do not live to see it;
                // one that can't refuses, and we start it when it has ended.
                let _refused = controller.start();
                let left = stop_deadline.saturating_duration_since(Instant::now());
                let moved =
                    wait_for(controller, left, cancel, |s| Ok((s.activity != Activity::Stopping).then_some(())))?;
                if moved.is_none() {
                    return Ok(Return::AfterItsStop);
                }
            }
            Activity::Down | Activity::Failed => {
                if attempts == START_ATTEMPTS_MAX {
                    return Err(refused.unwrap_or_else(|| failed_start(controller, &state)));
                }
                attempts += 1;
                // One that failed half-way may have started it all the same: the next look tells.
                refused = controller.start().err();
                if let Some(error) = &refused {
                    tracing::warn!(service = controller.label(), %error, attempts, "the start was refused");
                } else {
                    wait_until_decided(controller, patience.start, cancel)?;
                }
            }
            Activity::Starting => {
                if wait_until_decided(controller, patience.start, cancel)?.is_none() {
                    return Err(failed_start(controller, &controller.state()?));
                }
            }
        }
    }
}

fn wait_until_decided(
    controller: &(dyn ServiceController + '_),
    within: Duration,
    cancel: &Cancel,
) -> Result<Option<()>, ControllerError> {
    wait_for(controller, within, cancel, |state| Ok((state.activity != Activity::Starting).then_some(())))
}

fn failed_start(controller: &(dyn ServiceController + '_), state: &ServiceState) -> ControllerError {
    let cause = state.exit.map_or_else(String::new, |exit| format!(", {exit}"));
    let result = state.result.as_deref().map_or_else(String::new, |result| format!(", result {result}"));
    ControllerError::Failed {
        action: "start",
        service: controller.label(),
        reason: format!("it is {}{result}{cause}", state.detail),
    }
}

/// Whether a person masked or disabled the service, or changed its state, after our recorded stop.
fn somebody_acted(
    now: &ServiceState,
    record: &ServiceRecord,
    controller: &(dyn ServiceController + '_),
) -> Result<bool, ControllerError> {
    if now.is_masked() {
        return Ok(true);
    }
    let disabled = now.start_state.as_deref() == Some("disabled");
    if disabled && record.start_state.as_deref().is_some_and(|before| before.starts_with("enabled")) {
        return Ok(true);
    }
    // Whoever wrote the entry had begun to start it: another run is that start's, and it may have died in the middle.
    if record.stage == ServiceStage::Starting {
        return Ok(false);
    }
    let Some(mark) = &record.stop_mark else { return Ok(false) };
    let current = twice(controller, || controller.stop_mark())?;
    // Another boot: every state has changed by itself.
    let comparable = mark.boot_id == current.boot_id && mark.run.is_some() && current.run.is_some();
    Ok(comparable && mark.run != current.run)
}

pub(super) fn parse_checks(texts: &[String]) -> Result<Vec<ReadyCheck>, String> {
    texts.iter().map(|text| text.parse::<ReadyCheck>().map_err(|e| e.to_string())).collect()
}

/// Waits until all checks pass.
pub(super) fn wait_ready(
    controller: &(dyn ServiceController + '_),
    checks: &[ReadyCheck],
    cancel: &Cancel,
) -> Result<(), String> {
    if checks.is_empty() {
        return Ok(());
    }
    ready::wait_ready(checks, &Watched(controller), cancel).map(|_ready| ()).map_err(|e| e.to_string())
}

/// A controller as a subject of readiness.
pub(super) struct Watched<'a>(pub(super) &'a (dyn ServiceController + 'a));

impl ready::Subject for Watched<'_> {
    fn is_up(&self) -> Result<Option<String>, String> {
        let state = self.0.state().map_err(|e| e.to_string())?;
        Ok((state.activity == Activity::Up).then(|| state.run.unwrap_or_default()))
    }

    fn is_healthy(&self) -> Result<Option<bool>, String> {
        self.0.is_healthy().map_err(|e| e.to_string())
    }

    fn log(&self, lines_max: usize) -> Result<Vec<String>, String> {
        self.0.log_since_start(lines_max).map_err(|e| e.to_string())
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), String> {
        self.0.wait_change(until, cancel).map_err(|e| e.to_string())
    }
}

/// Starts a service and waits until it is ready; for a start that follows no stop of ours.
///
/// # Errors
/// [`NotBack`] when it does not start or does not become ready.
pub fn start_service(controller: &dyn ServiceController, ready: &[ReadyCheck]) -> Result<(), NotBack> {
    let record = ServiceRecord {
        spec: serde_json::Value::Null,
        label: controller.label(),
        was_up: true,
        run: None,
        start_state: None,
        triggers: Vec::new(),
        stage: ServiceStage::Starting,
        stop_mark: None,
        ready: ready.iter().map(ToString::to_string).collect(),
    };
    let patience = Patience { stop: START_WAIT_MAX, start: START_WAIT_MAX, queue_only: false };
    let not_back = |reason: &str| NotBack { service: controller.label(), reason: reason.to_owned() };
    match bring_back(controller, &record, patience)? {
        Return::LeftToItsOwner => Err(not_back("it is masked: somebody made it impossible to start")),
        Return::AfterItsStop => Err(not_back("its old process still runs its stop")),
        _ => Ok(()),
    }
}

/// Waits until the service is up and every check passes; no check means that it is up.
///
/// # Errors
/// The reason in words: not up, or which check failed last and why.
pub fn wait_until_ready(
    controller: &dyn ServiceController,
    ready: &[ReadyCheck],
    cancel: &Cancel,
) -> Result<(), String> {
    if !ready.is_empty() {
        return wait_ready(controller, ready, cancel);
    }
    let up = wait_for(controller, START_WAIT_MAX, cancel, |state| Ok((state.activity == Activity::Up).then_some(())));
    match up.map_err(|e| e.to_string())? {
        Some(()) => Ok(()),
        None => Err(format!("{} is not up after {} s", controller.label(), START_WAIT_MAX.as_secs())),
    }
}
