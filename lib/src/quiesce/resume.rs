//! Replaying the journal after a crash: what was running comes back, and nothing of ours stays on it.
//!
//! | stage of the record | what may be | what resume does |
//! |---|---|---|
//! | recorded | nothing done | nothing |
//! | shielding | triggers stopped, hold, shield on, partly | restores them |
//! | stopping | as above; stop requested or not | has it requested again, waits for it, starts |
//! | waiting | stop requested, finished or not | waits for it, starts |
//! | stopped | stopped, held | releases, starts |
//! | given up | hold off, start queued | waits for it, starts where it was not queued |
//! | starting | partly back | the rest |
//! | left stopped | stopped on a person's wish | nothing; the next start consumes it |
//!
//! All steps are idempotent, so an interrupted resume is resumed by the next one.

use std::time::Duration;

use super::NotBack;
use super::start::{Patience, Return, START_WAIT_MAX, bring_back};
use crate::controller::{self, ControllerError, ServiceController, ServiceSpec};
use crate::journal::{OpenEntry, ServiceRecord, ServiceStage};

/// How a replay waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeMode {
    /// A person waits for it: a stop that still runs is reported, not waited for.
    Now,
    /// The guard: it waits for a stop that still runs.
    Guard,
    /// At boot: starts are queued behind us, not waited for.
    Boot,
}

/// How long the guard waits for a stop that was given up; afterwards `resume` at hand or at boot remains.
const GIVEN_UP_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

impl ResumeMode {
    fn patience(self) -> Patience {
        let stop = match self {
            Self::Now => Duration::from_secs(5),
            Self::Guard => GIVEN_UP_WAIT_MAX,
            Self::Boot => Duration::ZERO,
        };
        Patience { stop, start: START_WAIT_MAX, queue_only: self == Self::Boot }
    }
}

/// Whether an entry is a person's stop, which resume leaves alone.
#[must_use]
pub fn is_left_stopped(entry: &OpenEntry) -> bool {
    let services = &entry.entry().services;
    !services.is_empty() && services.iter().all(|record| record.stage == ServiceStage::LeftStopped)
}

/// A manager knows that a stop runs; a process that still has not obeyed its signal looks as if it were just up.
fn tell_of_stop(controller: &dyn ServiceController, record: &ServiceRecord) -> Result<(), ControllerError> {
    let same_run = || controller.state().map(|state| record.run.is_some() && state.run == record.run);
    match record.stage {
        ServiceStage::Stopping if record.was_up && same_run()? => controller.stop_was_requested(true),
        ServiceStage::Waiting | ServiceStage::GivenUp if record.was_up && same_run()? => {
            controller.stop_was_requested(false)
        }
        _ => Ok(()),
    }
}

/// Brings one entry's services to where they were, the last first. The caller holds the entry's locks, and has
/// brought its replacements to their end. The entry is removed when nothing is left to do.
///
/// # Errors
/// The first service that is not back; the others are tried all the same, and the entry stays.
pub fn replay(mut entry: OpenEntry, mode: ResumeMode) -> Result<Vec<(String, Return)>, NotBack> {
    let mut done = Vec::new();
    let mut failed = None;
    for index in (0..entry.entry().services.len()).rev() {
        let record = entry.entry().services[index].clone();
        let not_back = |reason: String| NotBack { service: record.label.clone(), reason };
        let outcome = serde_json::from_value::<ServiceSpec>(record.spec.clone())
            .map_err(|e| not_back(e.to_string()))
            .and_then(|spec| controller::open(&spec).map_err(|e| not_back(e.to_string())))
            .and_then(|controller| {
                tell_of_stop(controller.as_ref(), &record).map_err(|e| not_back(e.to_string()))?;
                bring_back(controller.as_ref(), &record, mode.patience())
            });
        match outcome {
            Ok(Return::AfterItsStop) => {
                done.push((record.label.clone(), Return::AfterItsStop));
            }
            Ok(returned) => {
                if let Err(error) = entry.update(|e| e.services[index].stage = ServiceStage::Starting) {
                    tracing::warn!(%error, "the journal could not be written");
                }
                done.push((record.label.clone(), returned));
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    if done.iter().any(|(_, returned)| *returned == Return::AfterItsStop) {
        return Ok(done);
    }
    let label = entry.path().display().to_string();
    entry.remove().map_err(|e| NotBack { service: label, reason: e.to_string() })?;
    Ok(done)
}
