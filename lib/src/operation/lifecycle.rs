//! Status, audit, stop, start, restart, wait.

use std::path::PathBuf;
use std::time::Instant;

use super::common::{begin, lock_keys, milliseconds, refused};
use super::error::{During, OperationError};
use super::request::{ServiceOptions, ServiceReport};
use crate::controller::{Activity, ServiceController};
use crate::failure::FailureKind;
use crate::journal::{Journal, OpenEntry, ServiceStage};
use crate::lock::{LockKey, OperationLock};
use crate::quiesce::{self, Context, ResumeMode, StopOutcome, StopPlan, is_left_stopped, quiesce};
use crate::sqlite_locks;
use crate::world::raw_path::RawPath;

/// What is known of the service now. Changes nothing and takes no lock.
///
/// # Errors
/// When its manager can't say. A service that does not run is no error: the outcome is `not-running`.
pub fn status(
    _context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
) -> Result<ServiceReport, OperationError> {
    let mut report = look(service, options)?;
    report.outcome = match report.state.activity {
        Activity::Up => "running",
        Activity::Starting => "starting",
        Activity::Stopping => "stopping",
        Activity::Down if report.processes.is_empty() => "not-running",
        Activity::Failed if report.processes.is_empty() => "failed",
        Activity::Down | Activity::Failed => "processes-left",
    }
    .to_owned();
    Ok(report)
}

/// Who could SIGKILL the service during a stop under this policy, and what else a stop touches.
///
/// # Errors
/// When its manager can't say.
pub fn audit(
    _context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
) -> Result<ServiceReport, OperationError> {
    let mut report = look(service, options)?;
    let bound = options.policy.bound();
    report.kill_sources = service.kill_sources(bound).during(format!("audit {}", service.label()))?;
    for dependant in service.dependants().during(format!("audit {}", service.label()))? {
        let label = dependant.label();
        for mut source in dependant.kill_sources(bound).during(format!("audit {label}"))? {
            source.what = format!("{label}: {}", source.what);
            report.kill_sources.push(source);
        }
    }
    let unsafe_ones = report.kill_sources.iter().any(|source| source.neutralised_by.is_none());
    report.outcome = if unsafe_ones { "unsafe" } else { "safe" }.to_owned();
    Ok(report)
}

/// Stops the service, proves that it is stopped, and leaves it so.
///
/// # Errors
/// Those of the stop; the service is back then, or started after its stop.
pub fn stop(
    context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
    dry_run: bool,
) -> Result<ServiceReport, OperationError> {
    let what = format!("stop {}", service.label());
    if dry_run {
        return dry(service, options, &["stop it and prove that it is stopped", "leave it stopped"]);
    }
    let lock = lock_service(context, "stop", service, options)?;
    let before = service.state().during(what.as_str())?;
    if !before.activity.is_up() && service.processes().during(what.as_str())?.is_empty() {
        // A pid file may be stale while the daemon runs under another: whoever goes on to copy a database must not.
        quiesce::prove_closed(service, &options.databases).during(what.as_str())?;
        let mut report = look(service, options)?;
        report.outcome = "was-not-running".to_owned();
        return Ok(report);
    }
    let began = Instant::now();
    // Before the stop: what needs and what triggers it does not change by it, and afterwards its manager is busy.
    let mut report = look(service, options)?;
    let plan = StopPlan { stays_stopped: true, ..stop_plan("stop", options) };
    let quiesced = quiesce(&lock, context, service, &plan).during(what.as_str())?;
    let outcome = quiesced.outcome();
    let took = quiesced.stopped_after();
    match quiesced.stopped_as() {
        Some(state) => {
            report.state = state.clone();
            report.processes.clear();
        }
        None => report.state = service.state().during(what.as_str())?,
    }
    quiesced.leave_stopped().during(what)?;
    report.outcome = "stopped".to_owned();
    report.stop = Some(stop_word(outcome).to_owned());
    report.took_ms = Some(milliseconds(took.unwrap_or_else(|| began.elapsed())));
    Ok(report)
}

/// Starts the service, waits until it is ready, and brings back what an earlier `stop` stopped with it.
///
/// # Errors
/// When it does not start or does not become ready.
pub fn start(
    context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
    dry_run: bool,
) -> Result<ServiceReport, OperationError> {
    let what = format!("start {}", service.label());
    if dry_run {
        return dry(service, options, &["start it", "wait until it is ready"]);
    }
    let lock = lock_service(context, "start", service, options)?;
    let began = Instant::now();
    let was_up = service.state().during(what.as_str())?.activity == Activity::Up;
    let mut left = left_stopped(context, &lock).during(what.as_str())?;
    if left.is_empty() && !was_up {
        quiesce::start_service(service, &options.ready).during(what.as_str())?;
    }
    for mut entry in left.drain(..) {
        let ready: Vec<String> = options.ready.iter().map(ToString::to_string).collect();
        entry
            .update(|entry| {
                for record in &mut entry.services {
                    record.stage = ServiceStage::Starting;
                    // A person starts it now: what somebody did to it since the stop is no reason not to.
                    record.stop_mark = None;
                }
                if let Some(last) = entry.services.last_mut() {
                    last.was_up = true;
                    last.ready = ready;
                }
            })
            .during(what.as_str())?;
        quiesce::replay(entry, ResumeMode::Now).during(what.as_str())?;
    }
    if was_up {
        quiesce::wait_until_ready(service, &options.ready, &context.cancel)
            .map_err(|reason| refused(&what, reason, FailureKind::No))?;
    }
    let mut report = look(service, options)?;
    report.outcome = if was_up { "was-running" } else { "started" }.to_owned();
    report.took_ms = Some(milliseconds(began.elapsed()));
    Ok(report)
}

/// Stops the service and starts it again under one lock. One that is not running is only started.
///
/// # Errors
/// Those of the stop and of the start.
pub fn restart(
    context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
    dry_run: bool,
) -> Result<ServiceReport, OperationError> {
    let what = format!("restart {}", service.label());
    if dry_run {
        return dry(service, options, &["stop it and prove that it is stopped", "start it", "wait until it is ready"]);
    }
    if !service.state().during(what.as_str())?.activity.is_up() {
        return start(context, service, options, false);
    }
    let lock = lock_service(context, "restart", service, options)?;
    let began = Instant::now();
    let quiesced = quiesce(&lock, context, service, &stop_plan("restart", options)).during(what.as_str())?;
    let outcome = quiesced.outcome();
    quiesced.resume().during(what)?;
    let mut report = look(service, options)?;
    report.outcome = "restarted".to_owned();
    report.stop = Some(stop_word(outcome).to_owned());
    report.took_ms = Some(milliseconds(began.elapsed()));
    Ok(report)
}

/// Waits until the service is up and every readiness check passes. Takes no lock: it changes nothing.
///
/// # Errors
/// Of the kind 'no' when it is not ready in time.
pub fn wait(
    context: &Context,
    service: &dyn ServiceController,
    options: &ServiceOptions,
) -> Result<ServiceReport, OperationError> {
    let what = format!("wait for {}", service.label());
    let began = Instant::now();
    quiesce::wait_until_ready(service, &options.ready, &context.cancel)
        .map_err(|reason| refused(&what, reason, FailureKind::No))?;
    let mut report = look(service, options)?;
    report.outcome = "ready".to_owned();
    report.took_ms = Some(milliseconds(began.elapsed()));
    Ok(report)
}

pub(super) fn stop_plan<'a>(operation: &'a str, options: &'a ServiceOptions) -> StopPlan<'a> {
    StopPlan {
        operation,
        databases: &options.databases,
        policy: &options.policy,
        ready: &options.ready,
        persistent_hold: false,
        stays_stopped: false,
    }
}

pub(super) fn stop_word(outcome: StopOutcome) -> &'static str {
    match outcome {
        StopOutcome::Clean => "clean",
        StopOutcome::EndNotSeen => "end-not-seen",
        StopOutcome::Unclean => "unclean",
        StopOutcome::FencedKill => "fenced-kill",
    }
}

fn lock_service(
    context: &Context,
    operation: &str,
    service: &dyn ServiceController,
    options: &ServiceOptions,
) -> Result<OperationLock, OperationError> {
    // A database that is not there can't be locked by its place; the stop itself will say what is wrong with it.
    let databases: Vec<PathBuf> = options.databases.iter().filter(|path| path.exists()).cloned().collect();
    let keys = lock_keys(Some(service), &databases)?;
    begin(context, operation, &service.label(), &keys, options.wait)
}

/// The entries of a person's earlier stops of what we have locked.
fn left_stopped(context: &Context, lock: &OperationLock) -> Result<Vec<OpenEntry>, crate::journal::JournalError> {
    let ours: Vec<&LockKey> = lock.keys().collect();
    let entries = Journal::at(context.dirs.journal()).entries()?;
    Ok(entries
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| is_left_stopped(entry) && entry.entry().lock_keys.iter().any(|key| ours.contains(&key)))
        .collect())
}

fn dry(
    service: &dyn ServiceController,
    options: &ServiceOptions,
    steps: &[&str],
) -> Result<ServiceReport, OperationError> {
    let mut report = look(service, options)?;
    report.outcome = "planned".to_owned();
    report.plan.extend(report.triggers.iter().map(|trigger| format!("stop {trigger}, and start it again afterwards")));
    report.plan.extend(report.dependants.iter().map(|unit| format!("first of all the same for {unit}, where it runs")));
    report.plan.extend(steps.iter().map(|step| format!("{}: {step}", report.service)));
    Ok(report)
}

pub(super) fn look(service: &dyn ServiceController, options: &ServiceOptions) -> Result<ServiceReport, OperationError> {
    let what = format!("look at {}", service.label());
    let processes = service.processes().during(what.as_str())?;
    let mut databases: Vec<RawPath> = options.databases.iter().cloned().map(RawPath).collect();
    if let Ok(open) = sqlite_locks::databases_open_in(&processes) {
        databases.extend(open.into_iter().map(|database| RawPath(database.path)));
    }
    databases.sort();
    databases.dedup();
    Ok(ServiceReport {
        service: service.label(),
        state: service.state().during(what.as_str())?,
        outcome: String::new(),
        stop: None,
        took_ms: None,
        processes: processes.iter().map(|process| process.pid).collect(),
        databases,
        kill_sources: Vec::new(),
        dependants: service.dependants().during(what.as_str())?.iter().map(|unit| unit.label()).collect(),
        triggers: service.triggers().during(what.as_str())?.into_iter().map(|trigger| trigger.name).collect(),
        plan: Vec::new(),
        notices: Vec::new(),
    })
}
