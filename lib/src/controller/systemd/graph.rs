//! The units around a unit: those that a stop takes down with it, and those that start it again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use zbus::OwnedObjectPath;

use super::bus::{self, BusError};
use super::properties::Properties;
use super::{SystemdUnit, failed, label_of, load_unit, name};
use crate::controller::{ControllerError, ServiceController, Trigger};
use crate::world::wait;

/// What StopUnit propagates over. A property that this systemd does not have is empty.
const TAKEN_DOWN_BY: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];
/// A graph of units can have cycles and be large; more dependants than these are not meant to be stopped by us.
const DEPENDANTS_MAX: usize = 256;
/// For a socket, path or timer to start or stop.
const TRIGGER_MAX: Duration = Duration::from_secs(30);

impl SystemdUnit {
    /// Names in stop order: what needs a unit stands before it.
    pub(super) fn dependant_names(&self) -> Result<Vec<String>, ControllerError> {
        const ACTION: &str = "list the dependants of";
        let mut order = Vec::new();
        let mut seen = BTreeSet::from([self.id.clone()]);
        // A trigger is restored by its own rules.
        seen.extend(self.unit(ACTION)?.texts("TriggeredBy"));
        self.visit(&self.path, &mut seen, &mut order).map_err(|error| self.failed(ACTION, error))?;
        if order.len() > DEPENDANTS_MAX {
            return Err(self.refused(ACTION, format!("its stop would take down more than {DEPENDANTS_MAX} units")));
        }
        Ok(order)
    }

    /// Depth first: the dependants of a dependant come before it.
    fn visit(&self, path: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) -> Result<(), BusError> {
        let unit = self.bus.properties(path)?;
        for name in TAKEN_DOWN_BY.iter().flat_map(|property| unit.texts(property)) {
            if order.len() > DEPENDANTS_MAX {
                return Ok(());
            }
            if seen.insert(name.clone()) {
                let path = load_unit(&self.bus, &name)?;
                self.visit(&path, seen, order)?;
                order.push(name);
            }
        }
        Ok(())
    }

    pub(super) fn dependant_units(&self) -> Result<Vec<Box<dyn ServiceController>>, ControllerError> {
        let mut units: Vec<Box<dyn ServiceController>> = Vec::new();
        for name in self.dependant_names()? {
            match Self::open_on(self.bus.clone(), &name) {
                Ok(unit) => units.push(Box::new(unit)),
                // Only mentioned by another unit's file: nothing that runs.
                Err(ControllerError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(units)
    }

    pub(super) fn trigger_list(&self) -> Result<Vec<Trigger>, ControllerError> {
        const ACTION: &str = "list the triggers of";
        let mut triggers = Vec::new();
        for name in self.unit(ACTION)?.texts("TriggeredBy") {
            let trigger = load_unit(&self.bus, &name).and_then(|path| self.bus.properties(&path));
            let trigger = trigger.map_err(|error| self.failed(ACTION, error))?;
            let active = matches!(trigger.text("ActiveState"), Some("active" | "activating" | "reloading"));
            triggers.push(Trigger { name, active });
        }
        Ok(triggers)
    }

    /// Stops or starts a trigger.
    ///
    /// A socket is not stopped before its running service: systemd refuses to start a socket while its service is
    /// active, so a stop that does not come about could not be undone. It is stopped right behind the service, in one
    /// go: while its stop is queued systemd drops what arrives. The same for a trigger whose stop would take the
    /// service along, without a shield perhaps.
    pub(super) fn switch_trigger(&self, name: &str, active: bool) -> Result<(), ControllerError> {
        self.memory().stops_along.retain(|known| known != name);
        if active {
            return self.run_job("start", "StartUnit", name);
        }
        let unit = self.unit("look at")?;
        let is_down = matches!(unit.text("ActiveState"), Some("inactive" | "failed"));
        if !is_down && (name::kind_of(name) == "socket" || needs(&unit, name)) {
            self.memory().stops_along.push(name.to_owned());
            return Ok(());
        }
        self.run_job("stop", "StopUnit", name)
    }

    fn run_job(&self, action: &'static str, method: &'static str, name: &str) -> Result<(), ControllerError> {
        let job = self.queue_job(action, method, name)?;
        self.finish_job(action, name, &job)
    }

    fn queue_job(&self, action: &'static str, method: &'static str, name: &str) -> Result<String, ControllerError> {
        let job = self.bus.manager(method, (name.to_owned(), "replace"));
        let job = job.and_then(|message| bus::parsed::<OwnedObjectPath>(&message));
        let scope = self.bus.scope();
        job.map(|path| path.to_string()).map_err(|error| failed(action, &label_of(name, scope), scope, error))
    }

    fn finish_job(&self, action: &'static str, name: &str, job: &str) -> Result<(), ControllerError> {
        let scope = self.bus.scope();
        let label = label_of(name, scope);
        match self.watch.wait_job(job, Instant::now() + TRIGGER_MAX) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                Err(ControllerError::Failed { action, service: label, reason: format!("its job ended as {result}") })
            }
            Err(error) => Err(failed(action, &label, scope, error)),
        }
    }

    /// Queues the stops of the triggers that stop behind the service.
    pub(super) fn stop_along(&self) -> Result<(), ControllerError> {
        let names = std::mem::take(&mut self.memory().stops_along);
        for name in names {
            let job = self.queue_job("stop", "StopUnit", &name)?;
            self.memory().stopping_along.push((name, job));
        }
        Ok(())
    }

    /// Waits for those stops, once the service itself has stopped.
    pub(super) fn finish_stops_along(&self) -> Result<(), ControllerError> {
        let jobs = std::mem::take(&mut self.memory().stopping_along);
        jobs.iter().try_for_each(|(name, job)| self.finish_job("stop", name, job))
    }

    /// Takes back the stops of triggers that wait for a stop of the service that we gave up on: a start of the
    /// service is about to be queued, and once it is up they could not be started any more.
    pub(super) fn keep_along(&self) {
        let jobs = std::mem::take(&mut self.memory().stopping_along);
        for (name, _) in jobs {
            if let Err(error) = self.queue_job("start", "StartUnit", &name) {
                tracing::warn!(unit = name, %error, "a trigger stays stopped");
            }
        }
    }
}

/// Whether a stop of `name` is passed on to the unit.
fn needs(unit: &Properties, name: &str) -> bool {
    ["Requires", "Requisite", "BindsTo", "PartOf"].iter().any(|kind| unit.texts(kind).iter().any(|known| known == name))
}

impl super::watch::Watch {
    /// Waits for the end of a job of ours and returns its result.
    pub(super) fn wait_job(&self, job_path: &str, until: Instant) -> Result<String, BusError> {
        loop {
            if let Some(result) = self.job_result(job_path) {
                // A wait for the unit itself must not miss what this wait has drained.
                self.wake();
                return Ok(result);
            }
            if self.has_ended() {
                return Err(BusError::Unreachable("the connection ended while a job was waited for".to_owned()));
            }
            if Instant::now() >= until {
                return Err(BusError::Unreachable("a job did not end in time".to_owned()));
            }
            let [seen, _] = self.descriptors();
            wait::readable(&[seen], until).map_err(|error| BusError::Unreachable(error.to_string()))?;
            self.drain();
        }
    }
}
