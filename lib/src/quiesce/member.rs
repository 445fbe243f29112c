//! The services of one stop, in stop order, and the events that a wait for one of them reacts to.

use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::controller::{ControllerError, ServiceController, ServiceState};
use crate::journal::{ServiceRecord, ServiceStage, TriggerRecord};
use crate::progress::Cancel;
use crate::ready::ReadyCheck;

/// A controller that the caller lent, or one that we opened ourselves.
pub(super) enum Handle<'a> {
    Lent(&'a dyn ServiceController),
    Own(Box<dyn ServiceController>),
}

impl<'a> Deref for Handle<'a> {
    type Target = dyn ServiceController + 'a;
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Lent(controller) => *controller,
            Self::Own(controller) => controller.as_ref(),
        }
    }
}

/// One service and what we found when we came.
pub(super) struct Member<'a> {
    pub(super) handle: Handle<'a>,
    pub(super) before: ServiceState,
    /// What its stop ended with, where it was stopped by us.
    pub(super) after: Option<ServiceState>,
    pub(super) triggers: Vec<TriggerRecord>,
}

impl<'a> Member<'a> {
    pub(super) fn look(handle: Handle<'a>) -> Result<Self, ControllerError> {
        let before = handle.state()?;
        let triggers = handle.triggers()?;
        let triggers = triggers.into_iter().map(|t| TriggerRecord { name: t.name, was_active: t.active }).collect();
        Ok(Self { handle, before, after: None, triggers })
    }

    pub(super) fn record(&self, ready: &[ReadyCheck]) -> Result<ServiceRecord, serde_json::Error> {
        Ok(ServiceRecord {
            spec: serde_json::to_value(self.handle.spec())?,
            label: self.handle.label(),
            was_up: self.before.activity.is_up(),
            run: self.before.run.clone(),
            start_state: self.before.start_state.clone(),
            triggers: self.triggers.clone(),
            stage: ServiceStage::Recorded,
            stop_mark: None,
            ready: ready.iter().map(ToString::to_string).collect(),
        })
    }
}

/// The dependants of a service that are running, in stop order, and the service itself last.
pub(super) fn members<'a>(service: &'a dyn ServiceController) -> Result<Vec<Member<'a>>, ControllerError> {
    let mut found = Vec::new();
    for dependant in service.dependants()? {
        let member = Member::look(Handle::Own(dependant))?;
        // Only those that were running are stopped, and so only those are started again.
        if member.before.activity.is_up() {
            found.push(member);
        }
    }
    found.push(Member::look(Handle::Lent(service))?);
    Ok(found)
}

/// Tries once more where it fails: a service must not stay down for an error that passes.
pub(super) fn twice<T>(
    controller: &(dyn ServiceController + '_),
    mut attempt: impl FnMut() -> Result<T, ControllerError>,
) -> Result<T, ControllerError> {
    attempt().or_else(|error| {
        tracing::warn!(service = controller.label(), %error, "tried once more");
        attempt()
    })
}

/// Waits until `answer` has one, looking again whenever the service may have changed. `None` when the time is over.
pub(super) fn wait_for<T>(
    controller: &(dyn ServiceController + '_),
    within: Duration,
    cancel: &Cancel,
    mut answer: impl FnMut(ServiceState) -> Result<Option<T>, ControllerError>,
) -> Result<Option<T>, ControllerError> {
    let deadline = Instant::now() + within;
    let mut is_blind = false;
    loop {
        if let Some(answer) = answer(twice(controller, || controller.state())?)? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        if cancel.is_requested() {
            return Err(ControllerError::Cancelled { service: controller.label() });
        }
        match controller.wait_change(deadline, cancel) {
            Ok(()) => is_blind = false,
            // Looked at again, not waited for again: it may have been the end of the wait that failed.
            Err(error) if !is_blind => {
                tracing::warn!(service = controller.label(), %error, "looked at once more");
                is_blind = true;
            }
            Err(error) => return Err(error),
        }
    }
}
