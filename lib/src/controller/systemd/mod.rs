//! systemd units, over D-Bus: the system manager and the user's own.
//!
//! Order is what makes this right: the match for signals, then `Subscribe`, then everything else; a job is known by
//! its path; a finished stop job proves nothing, an empty control group does. Nothing here sends a signal through
//! systemd (`KillUnit` lets `Restart=` start the unit again), and nothing changes a file of the administrator's:
//! shield and hold are drop-ins of our own, proved by reading the properties back.

mod at_boot;
mod audit;
mod bus;
mod dropin;
mod errors;
mod graph;
mod log;
mod name;
mod properties;
mod protect;
mod shield;
mod state;
mod transient;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zbus::OwnedObjectPath;

pub(in crate::controller) use self::at_boot::{not_enabled, resumes_at_boot};
pub use self::transient::{is_available, start_transient};

use self::bus::{Bus, BusError, MANAGER, MANAGER_PATH};
use self::dropin::{Life, Paths};
use self::errors::{failed, job_result_for_people, label_of, refuse_unusable};
use self::properties::Properties;
use self::watch::Watch;
use super::cgroup::{self, Hierarchies};
use super::main_process::signal_main;
use super::{Activity, ControllerError, KillSource, Scope, ServiceController, ServiceSpec, ServiceState, Trigger};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::progress::Cancel;
use crate::world::{Pidfd, ProcessId, StopSignal, clock, wait};

/// Processes that are watched one by one where the kernel does not tell when a group empties (cgroup v1).
const WATCHED_PROCESSES_MAX: usize = 256;
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// One systemd unit.
///
/// Holds a connection to its bus and a reference to the unit, so that systemd does not forget how its last run ended.
#[derive(Debug)]
pub struct SystemdUnit {
    bus: Arc<Bus>,
    /// The unit's Id: an alias is resolved.
    id: String,
    /// Its object on the bus.
    path: String,
    watch: Watch,
    paths: Paths,
    memory: Mutex<Memory>,
}

/// What systemd forgets once a unit has stopped.
#[derive(Debug, Default)]
struct Memory {
    run: Option<String>,
    group: Option<String>,
    /// When it last went up or down, by the last look.
    changed_at: Option<u64>,
    /// The job of our last start, until a stop.
    start_job: Option<String>,
    /// Triggers that are to stop right behind the unit, and those that do, with their jobs.
    stops_along: Vec<String>,
    stopping_along: Vec<(String, String)>,
    /// Whether there were processes when they were last listed.
    had_processes: bool,
}

impl SystemdUnit {
    /// Finds the unit. `name` may be an alias and may lack `.service`.
    ///
    /// # Errors
    /// [`ControllerError::Invalid`] for what can't be a unit's name, [`ControllerError::NotFound`] for a unit that
    /// does not exist, [`ControllerError::Unreachable`] within seconds when no systemd answers.
    pub fn open(name: &str, scope: Scope) -> Result<Self, ControllerError> {
        let full = name::full_name(name)
            .map_err(|reason| ControllerError::Invalid { service: label_of(name, scope), reason })?;
        let bus = Bus::connect(scope).map_err(|error| failed("find", &label_of(&full, scope), scope, error))?;
        Self::open_on(Arc::new(bus), &full)
    }

    /// Finds a unit over a connection that is there.
    fn open_on(bus: Arc<Bus>, full_name: &str) -> Result<Self, ControllerError> {
        let scope = bus.scope();
        let label = label_of(full_name, scope);
        let context = |error| failed("find", &label, scope, error);
        let watch = Watch::start(&bus).map_err(context)?;
        let named = load_unit(&bus, full_name).map_err(context)?;
        let unit = bus.properties(&named).map_err(context)?;
        let id = unit.word("Id").unwrap_or(full_name).to_owned();
        refuse_unusable(&unit, &label)?;
        let path = if id == full_name { named } else { load_unit(&bus, &id).map_err(context)? };
        watch.add_unit(&bus, &path).map_err(context)?;
        // Without a reference systemd drops a unit that has stopped, and with it how it ended. Needs the right to
        // manage units; whoever lacks it is told so by the first request that matters.
        if let Err(error) = bus.manager("RefUnit", (id.clone(),)) {
            tracing::debug!(unit = %id, %error, "no reference to the unit");
        }
        let paths = Paths::new(&id, scope);
        let found = Self { bus, id, path, watch, paths, memory: Mutex::default() };
        found.remember(&unit);
        Ok(found)
    }

    /// The unit's canonical name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its properties now.
    fn unit(&self, action: &'static str) -> Result<Properties, ControllerError> {
        let unit = self.bus.properties(&self.path).map_err(|error| self.failed(action, error))?;
        self.remember(&unit);
        Ok(unit)
    }

    fn remember(&self, unit: &Properties) {
        let mut memory = self.memory();
        if let Some(run) = unit.hex("InvocationID") {
            memory.run = Some(run);
        }
        if let Some(group) = unit.word("ControlGroup") {
            memory.group = Some(group.to_owned());
        }
        memory.changed_at = state::changed_at(unit);
    }

    fn failed(&self, action: &'static str, error: BusError) -> ControllerError {
        failed(action, &self.label(), self.bus.scope(), error)
    }

    fn failed_io(&self, action: &'static str, error: &std::io::Error) -> ControllerError {
        ControllerError::Failed { action, service: self.label(), reason: error.to_string() }
    }

    /// Asks for a job of the unit and returns the job's path.
    fn request(&self, action: &'static str, method: &'static str) -> Result<String, ControllerError> {
        let answer = self.bus.manager(method, (self.id.clone(), "replace"));
        let answer = answer.and_then(|message| bus::parsed::<OwnedObjectPath>(&message));
        Ok(answer.map_err(|error| self.failed(action, error))?.to_string())
    }

    /// The directories of its control group, the remembered one or those that its name gives. `slice` is asked for
    /// where it matters: each look at the unit takes systemd about a millisecond.
    fn cgroups(
        &self,
        slice: impl FnOnce() -> Result<Option<String>, ControllerError>,
    ) -> Result<Vec<PathBuf>, ControllerError> {
        const ACTION: &str = "list the processes of";
        let hierarchies = Hierarchies::visible().map_err(|error| self.failed_io(ACTION, &error))?;
        let mut groups: Vec<String> = self.memory().group.clone().into_iter().collect();
        if groups.is_empty() {
            // systemd forgets the group when the unit stops, whether or not processes are left in it.
            let manager = self.bus.property(MANAGER_PATH, MANAGER, "ControlGroup");
            let manager = manager.map_err(|error| self.failed(ACTION, error))?;
            let manager = <&str>::try_from(&manager).unwrap_or_default().to_owned();
            groups = cgroup::groups_by_name(&manager, slice()?.as_deref(), &self.id);
        }
        Ok(groups.iter().flat_map(|group| hierarchies.directories(group)).collect())
    }

    fn processes_of(&self, unit: &Properties) -> Result<Vec<ProcessId>, ControllerError> {
        self.processes_with(unit.small("MainPID"), || Ok(slice_of(unit)))
    }

    /// `main` and `slice` are what systemd says now.
    fn processes_with(
        &self,
        main: Option<i32>,
        slice: impl FnOnce() -> Result<Option<String>, ControllerError>,
    ) -> Result<Vec<ProcessId>, ControllerError> {
        const ACTION: &str = "list the processes of";
        let directories = self.cgroups(slice)?;
        self.watch.watch_cgroups(&directories);
        let found = cgroup::processes_below(&directories).map_err(|error| self.failed_io(ACTION, &error))?;
        self.memory().had_processes = !found.is_empty();
        // systemd knows a process that we don't see: then an empty list would not mean that there is none. Its pid
        // exists, as a zombie at least, until systemd has taken the end in; a container with the host's bus and
        // namespaces of its own has no such pid.
        if let Some(pid) = main.filter(|pid| *pid > 0)
            && found.iter().all(|process| process.pid != pid)
        {
            let main = ProcessId::of(pid).map_err(|error| self.failed_io(ACTION, &error))?;
            let is_foreign = main.is_some() || !Path::new("/proc").join(pid.to_string()).exists();
            let is_still_main = || self.unit(ACTION).map(|unit| unit.small("MainPID") == Some(pid));
            let has_ended = match main {
                Some(main) => !main.is_alive().map_err(|error| self.failed_io(ACTION, &error))?,
                None => false,
            };
            if is_foreign && is_still_main()? && !has_ended {
                return Err(ControllerError::Failed {
                    action: ACTION,
                    service: self.label(),
                    reason: format!("its control group does not show its main process {pid} here"),
                });
            }
        }
        Ok(found)
    }
}

fn slice_of(unit: &Properties) -> Option<String> {
    unit.word("Slice").map(str::to_owned)
}

impl ServiceController for SystemdUnit {
    fn spec(&self) -> ServiceSpec {
        ServiceSpec::Unit { name: self.id.clone(), scope: self.bus.scope() }
    }

    fn label(&self) -> String {
        label_of(&self.id, self.bus.scope())
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        Ok(vec![match self.bus.scope() {
            Scope::System => LockKey::service("unit", &self.id),
            // Two users' units of one name are two services.
            Scope::User => {
                let user = rustix::process::geteuid().as_raw();
                LockKey::service("user-unit", &format!("{user}/{}", self.id))
            }
        }])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        const ACTION: &str = "look at";
        // Before the unit is looked at: what a job that ends in between did is seen only at the next look.
        let start_job = self.memory().start_job.clone();
        let start_result = start_job.as_deref().and_then(|job| self.watch.job_result(job));
        let unit = self.unit(ACTION)?;
        let mut state = state::state_of(&unit).map_err(|error| self.failed_io(ACTION, &error))?;
        let mut memory = self.memory();
        if state.run.is_none() {
            state.run.clone_from(&memory.run);
        }
        match (state.activity, start_result.as_deref()) {
            (_, Some("done" | "canceled")) => memory.start_job = None,
            // Accepted, and not begun yet: the unit looks as if nobody had asked.
            (Activity::Down, None) if start_job.is_some() => state.activity = Activity::Starting,
            // Accepted and then refused: the same.
            (Activity::Down, Some(result)) => {
                state.activity = Activity::Failed;
                state.detail = format!("{}, its start was refused: {}", state.detail, job_result_for_people(result));
            }
            _ => {}
        }
        Ok(state)
    }

    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        const ACTION: &str = "list the processes of";
        // One property where that is enough, of a unit that is down: all of them take two milliseconds.
        match self.bus.property(&self.path, SERVICE, "MainPID").map(|pid| u32::try_from(&pid)) {
            Ok(Ok(0)) => self.processes_with(None, || self.unit(ACTION).map(|unit| slice_of(&unit))),
            _ => self.processes_of(&self.unit(ACTION)?),
        }
    }

    fn request_stop(&self) -> Result<(), ControllerError> {
        // What the run was called is forgotten by systemd when it ends.
        let unit = self.unit("stop")?;
        self.watch.watch_cgroups(&self.cgroups(|| Ok(slice_of(&unit)))?);
        self.memory().start_job = None;
        self.request("stop", "StopUnit")?;
        self.stop_along()
    }

    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        signal_main(&self.label(), signal, || self.unit("signal").map(|unit| unit.small("MainPID")))
    }

    fn start(&self) -> Result<(), ControllerError> {
        let unit = self.unit("start")?;
        // Starts of the last seconds, its own restarts among them, count against StartLimitBurst=: a service that we
        // stopped is not to stay down for that. Not while it stops: that would erase how it ends.
        if matches!(unit.text("ActiveState"), Some("inactive" | "failed"))
            && let Err(error) = self.bus.manager("ResetFailedUnit", (self.id.clone(),))
        {
            tracing::debug!(unit = %self.id, %error, "the start limit is not reset");
        }
        self.keep_along();
        let job = self.request("start", "StartUnit")?;
        self.memory().start_job = Some(job);
        Ok(())
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        use std::os::fd::AsFd;
        const ACTION: &str = "watch";
        let directories = self.cgroups(|| self.unit(ACTION).map(|unit| slice_of(&unit)))?;
        self.watch.watch_cgroups(&directories);
        // On cgroup v1 nobody says that a group has emptied: its processes are watched.
        let mut pidfds = Vec::new();
        if !directories.iter().any(|directory| directory.join("cgroup.events").exists()) {
            let processes = cgroup::processes_below(&directories).map_err(|error| self.failed_io(ACTION, &error))?;
            if processes.is_empty() && self.memory().had_processes {
                self.memory().had_processes = false;
                return Ok(());
            }
            for process in processes.iter().take(WATCHED_PROCESSES_MAX) {
                pidfds.extend(Pidfd::open(process).map_err(|error| self.failed_io(ACTION, &error))?);
            }
        }
        let mut descriptors = self.watch.descriptors().to_vec();
        descriptors.push(cancel.as_fd());
        descriptors.extend(pidfds.iter().map(AsFd::as_fd));
        wait::readable(&descriptors, until).map_err(|error| self.failed_io(ACTION, &error))?;
        self.watch.drain();
        if self.watch.has_ended() {
            let reason = "the connection ended while the unit was watched".to_owned();
            return Err(self.failed(ACTION, BusError::Unreachable(reason)));
        }
        Ok(())
    }

    fn hold(&self, persistent: bool) -> Result<(), ControllerError> {
        self.put_hold_on(if persistent { Life::Persistent } else { Life::UntilReboot })
    }

    fn release(&self) -> Result<(), ControllerError> {
        self.take_hold_off()
    }

    fn shield(&self, stop_wait_max: Duration) -> Result<(), ControllerError> {
        self.put_shield_on(stop_wait_max)
    }

    fn unshield(&self) -> Result<(), ControllerError> {
        self.take_shield_off()
    }

    fn leave_stopped(&self) -> Result<(), ControllerError> {
        self.take_both_off()
    }

    fn kill_sources(&self, stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        let mut sources = self.kill_sources_of(&self.unit("audit")?, stop_wait_max)?;
        sources.extend(self.edits_that_a_reload_applies()?);
        Ok(sources)
    }

    fn dependants(&self) -> Result<Vec<Box<dyn ServiceController>>, ControllerError> {
        self.dependant_units()
    }

    fn triggers(&self) -> Result<Vec<Trigger>, ControllerError> {
        self.trigger_list()
    }

    fn set_trigger(&self, name: &str, active: bool) -> Result<(), ControllerError> {
        self.switch_trigger(name, active)
    }

    fn log_since_start(&self, lines_max: usize) -> Result<Vec<String>, ControllerError> {
        self.journal_of_run(lines_max)
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        const ACTION: &str = "look at";
        self.finish_stops_along()?;
        let boot_id = clock::boot_id().map_err(|error| self.failed_io(ACTION, &error))?;
        let memory = self.memory();
        Ok(StopMark { run: memory.run.clone(), changed_at: memory.changed_at, boot_id })
    }
}

fn load_unit(bus: &Bus, name: &str) -> Result<String, BusError> {
    let message = bus.manager("LoadUnit", (name.to_owned(),))?;
    Ok(bus::parsed::<OwnedObjectPath>(&message)?.to_string())
}
