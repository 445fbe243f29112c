//! Stopping one service after the other: audit, journal, guard, hold, shield, ladder, proof.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::StopError;
use super::fenced_kill::fenced_kill;
use super::guard::Guard;
use super::member::{Member, members, wait_for};
use super::policy::{Step, StopPolicy, next_step};
use super::quiesced::Quiesced;
use super::start::START_WAIT_MAX;
use super::writes::{Writes, was_left_open};
use super::{Context, StopOutcome, StopPlan};
use crate::controller::{Activity, ServiceController, ServiceState};
use crate::journal::{Entry, JOURNAL_VERSION, Journal, JournalError, OpenEntry, ServiceStage};
use crate::lock::OperationLock;
use crate::sqlite_locks::{self, Fence};
use crate::world::{ProcessId, clock};

/// So often the locks of what a main process left behind are looked at.
const OBSERVED_EVERY: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone.
const KILL_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a service that we gave up on may take to come up again before we leave it to the guard.
const BACK_AGAIN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Stops a service, and first the running services that need it; holds them until the result is finished.
///
/// On an error everything that was stopped is back, unless the error says otherwise.
///
/// # Errors
/// See [`StopError`].
pub fn quiesce<'a>(
    lock: &'a OperationLock,
    context: &Context,
    service: &'a dyn ServiceController,
    plan: &StopPlan<'_>,
) -> Result<Quiesced<'a>, StopError> {
    let members = members(service)?;
    let label = service.label();
    if members.iter().any(|member| member.before.activity == Activity::Stopping) {
        return Err(StopError::AlreadyStopping { service: label });
    }
    audit(&members, plan.policy)?;
    let databases = databases_of(&members, plan.databases)?;
    let entry = record(lock, context, &members, plan)?;
    let guard = match Guard::start(context, entry.entry(), entry.path()) {
        Ok(guard) => guard,
        Err(reason) => {
            entry.remove()?;
            return Err(StopError::Guard { service: label, reason });
        }
    };
    let mut quiesced = Quiesced::new(lock, context, members, entry, guard, databases, Instant::now());
    match stop_all(&mut quiesced, context, plan) {
        Ok(()) => Ok(quiesced),
        // It still runs its stop: hold released, start queued where that is possible; the guard does the rest.
        Err(error @ (StopError::TimedOut { .. } | StopError::NoFence { .. })) => {
            quiesced.leave_to_guard();
            Err(error)
        }
        Err(error) => match quiesced.resume() {
            Ok(_) => Err(error),
            Err(back) => Err(StopError::NotBack { stop: error.to_string(), back: Box::new(back) }),
        },
    }
}

fn audit(members: &[Member<'_>], policy: &StopPolicy) -> Result<(), StopError> {
    for member in members.iter().filter(|member| member.before.activity.is_up()) {
        let sources = member.handle.kill_sources(policy.bound())?;
        let left: Vec<String> =
            sources.into_iter().filter(|source| source.neutralised_by.is_none()).map(|source| source.what).collect();
        if !left.is_empty() {
            return Err(StopError::KillSource { service: member.handle.label(), sources: left });
        }
    }
    Ok(())
}

/// Those that were named, and those that the processes of the service have open.
fn databases_of(members: &[Member<'_>], named: &[PathBuf]) -> Result<Vec<PathBuf>, StopError> {
    let mut databases = named.to_vec();
    for member in members {
        let processes = member.handle.processes()?;
        let Ok(open) = sqlite_locks::databases_open_in(&processes) else { continue };
        databases.extend(open.into_iter().map(|database| database.path));
    }
    let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let mut seen = std::collections::BTreeSet::new();
    databases.retain(|path| seen.insert(real(path)));
    Ok(databases)
}

fn record(
    lock: &OperationLock,
    context: &Context,
    members: &[Member<'_>],
    plan: &StopPlan<'_>,
) -> Result<OpenEntry, StopError> {
    let journal = Journal::at(context.dirs.journal());
    let malformed = |reason: String| JournalError::Malformed { path: journal.directory().to_owned(), reason };
    let mut services = Vec::new();
    for (index, member) in members.iter().enumerate() {
        // The checks are those of the service itself; its dependants count as back when they are up.
        let ready = if index + 1 == members.len() { plan.ready } else { &[] };
        services.push(member.record(ready).map_err(|e| malformed(e.to_string()))?);
    }
    let entry = Entry {
        version: JOURNAL_VERSION,
        id: crate::name::BackupId::fresh(),
        operation: plan.operation.to_owned(),
        owner: ProcessId::own().map_err(|e| malformed(e.to_string()))?,
        created: clock::now_rfc3339(),
        lock_keys: lock.keys().cloned().collect(),
        services,
        replacements: Vec::new(),
        staging: Vec::new(),
    };
    Ok(journal.create(entry)?)
}

fn stop_all(quiesced: &mut Quiesced<'_>, context: &Context, plan: &StopPlan<'_>) -> Result<(), StopError> {
    let count = quiesced.members.len();
    quiesced.set_stages(0..count, ServiceStage::Shielding)?;
    for member in &quiesced.members {
        for trigger in member.triggers.iter().filter(|t| t.was_active) {
            member.handle.set_trigger(&trigger.name, false)?;
        }
        // In this order: the shield of a unit brings what its hold needs along, and saves a reload.
        if member.before.activity.is_up() {
            member.handle.shield(plan.policy.bound())?;
        }
        member.handle.hold(plan.persistent_hold)?;
    }
    for index in 0..count {
        if quiesced.members[index].before.activity.is_up() {
            context.observer.step(&format!("stopping {}", quiesced.members[index].handle.label()));
            quiesced.set_stages(index..index + 1, ServiceStage::Stopping)?;
            let mut outcome = stop_one(quiesced, index, context, plan)?;
            if outcome == StopOutcome::EndNotSeen && quiesced.databases.iter().any(|path| was_left_open(path)) {
                outcome = StopOutcome::Unclean;
            }
            quiesced.outcome = quiesced.outcome.max(outcome);
        }
        let mark = quiesced.members[index].handle.stop_mark()?;
        let stopped = |entry: &mut Entry| {
            entry.services[index].stage = ServiceStage::Stopped;
            entry.services[index].stop_mark = Some(mark);
        };
        // Without it a resume finds a stop that it waits for, and starts the service: as it would with it.
        match quiesced.entry.as_mut().filter(|_| plan.stays_stopped && index + 1 == count) {
            Some(entry) => entry.amend(stopped),
            None => quiesced.entry_mut(stopped)?,
        }
    }
    quiesced.stopped_after = Some(quiesced.since.elapsed());
    match quiesced.members.last() {
        Some(service) => prove_closed(&*service.handle, &quiesced.databases),
        None => Ok(()),
    }
}

fn stop_one(
    quiesced: &mut Quiesced<'_>,
    index: usize,
    context: &Context,
    plan: &StopPlan<'_>,
) -> Result<StopOutcome, StopError> {
    let member = &quiesced.members[index];
    let controller = &*member.handle;
    let mut writes = Writes::new(&quiesced.databases);
    writes.observe();
    controller.request_stop()?;
    let began = Instant::now();
    quiesced.set_stages(index..index + 1, ServiceStage::Waiting)?;
    let controller = &*quiesced.members[index].handle;
    let mut sent = 0;
    let mut fence: Option<Fence> = None;
    let mut observed = Instant::now();
    let why = loop {
        let state = controller.state()?;
        if !matches!(state.activity, Activity::Up | Activity::Stopping | Activity::Starting)
            && controller.processes()?.is_empty()
        {
            drop(fence.take());
            // Read before the last process was seen to be gone, and final since it is down.
            let outcome = judge(controller, &state)?;
            quiesced.members[index].after = Some(state);
            return Ok(outcome);
        }
        // Less often once the main process is gone: it would hold up the end of the stop.
        if state.main.is_some() || observed.elapsed() > OBSERVED_EVERY {
            writes.observe();
            observed = Instant::now();
        }
        if context.cancel.is_requested() {
            break Err("it was asked to end".to_owned());
        }
        match next_step(began.elapsed(), sent, plan.policy, || writes.look()) {
            Step::WaitUntil(elapsed) => controller.wait_change(began + elapsed, &context.cancel)?,
            Step::Signal(signal) => {
                controller.signal(signal)?;
                sent += 1;
            }
            Step::FencedKill if fence.is_some() => break Ok("it did not end after the kill"),
            Step::FencedKill => {
                match fenced_kill(controller, &quiesced.databases, &writes.watch, plan.policy, &context.cancel) {
                    Ok(held) => {
                        fence = Some(held);
                        wait_for(controller, KILL_WAIT_MAX, &context.cancel, |_| {
                            Ok(controller.processes()?.is_empty().then_some(()))
                        })?;
                        if controller.processes()?.is_empty() {
                            drop(fence.take());
                            return Ok(StopOutcome::FencedKill);
                        }
                    }
                    Err(reason) => break Err(reason),
                }
            }
            Step::RefuseKill => break Err(writes.why_no_fence()),
            Step::GiveUp(why) => break Ok(why),
        }
    };
    drop(fence);
    give_up(quiesced, index, began, why, context.cancel.is_requested())
}

/// A sent SIGTERM can't be recalled: the service ends when it ends, and is started then.
fn give_up(
    quiesced: &mut Quiesced<'_>,
    index: usize,
    began: Instant,
    why: Result<&'static str, String>,
    cancelled: bool,
) -> Result<StopOutcome, StopError> {
    let service = quiesced.members[index].handle.label();
    let waited_s = began.elapsed().as_secs();
    let controller = &*quiesced.members[index].handle;
    // The hold first: a start that is queued under a hold would fail.
    controller.release()?;
    let _refused_where_it_can_not_be_queued = controller.start();
    let cancel = crate::progress::Cancel::new()
        .map_err(|e| StopError::Guard { service: service.clone(), reason: e.to_string() })?;
    let moved = wait_for(controller, BACK_AGAIN_WAIT_MAX, &cancel, |state| Ok(state.activity.is_up().then_some(())))?;
    // On its way: its old process has ended after all.
    let is_up = moved.is_some()
        && wait_for(controller, START_WAIT_MAX, &cancel, |state| {
            Ok((state.activity != Activity::Starting).then_some(state.activity))
        })? == Some(Activity::Up);
    if is_up {
        return Err(match why {
            Ok(why) => StopError::BackAgain { service, waited_s, why: why.to_owned() },
            Err(_) if cancelled => StopError::Cancelled { service },
            Err(reason) => StopError::BackAgain { service, waited_s, why: reason },
        });
    }
    // With what is left of it now: whoever starts it again must not do so beside a child.
    let spec = serde_json::to_value(quiesced.members[index].handle.spec());
    quiesced.entry_mut(|entry| {
        if let Ok(spec) = spec {
            entry.services[index].spec = spec;
        }
        entry.services[index].stage = ServiceStage::GivenUp;
    })?;
    Err(match why {
        Ok(why) => StopError::TimedOut { service, waited_s, why: why.to_owned() },
        Err(reason) if cancelled => StopError::TimedOut { service, waited_s, why: reason },
        Err(reason) => StopError::NoFence { service, reason },
    })
}

fn judge(controller: &(dyn ServiceController + '_), state: &ServiceState) -> Result<StopOutcome, StopError> {
    Ok(match &state.exit {
        Some(cause) if cause.is_kill() => {
            return Err(StopError::KilledByAnother { service: controller.label(), cause: cause.to_string() });
        }
        _ if state.activity == Activity::Failed => StopOutcome::Unclean,
        None if state.result.is_none() => StopOutcome::EndNotSeen,
        _ => StopOutcome::Clean,
    })
}

/// No other process has one of these open: only then are they at rest.
pub(crate) fn prove_closed(service: &dyn ServiceController, databases: &[PathBuf]) -> Result<(), StopError> {
    let openers = sqlite_locks::openers_of(databases)
        .map_err(|e| StopError::Guard { service: service.label(), reason: e.to_string() })?;
    match openers.first() {
        None => Ok(()),
        Some((index, opener)) => Err(StopError::StillOpen {
            database: databases[*index].clone(),
            pid: opener.process.pid,
            name: process_name(opener.process.pid),
            service: service.label(),
        }),
    }
}

fn process_name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "gone".to_owned(), |name| name.trim().to_owned())
}
