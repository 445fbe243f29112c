//! A container of a Docker engine.
//!
//! - A stop is `POST /stop?t=-1`: the engine sends the stop signal and waits without a limit; it never kills. The
//!   engine goes on with it when we are gone. It does not say that a stop runs: whoever takes over is told so by the
//!   journal.
//! - The proof of a stop is the engine's word and an empty control group.
//! - Docker has no mask. The hold is the restart policy `no`, so that neither the engine nor its restart brings the
//!   container back; a person who types `docker start` is found by the looks before anything is replaced.
//! - A signal of the ladder goes to the main process by its pidfd. `POST /kill` would mark the container as stopped by
//!   hand, and is never used.

mod audit;
mod compose;
mod engine;
mod exec;
mod inspected;
mod listing;
mod scratch;
mod tls;
mod watch;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bollard::models::{ContainerUpdateBody, RestartPolicy as Policy, RestartPolicyNameEnum};

use self::engine::{Engine, EngineError};
pub(crate) use self::exec::{COLLECTED_MAX, Ended, Exec, ExecError, Inside, Program};
use self::inspected::Inspected;
pub use self::listing::{Container, Mount, containers, variables};
pub(crate) use self::scratch::Scratch;
use self::watch::Watch;
use crate::controller::cgroup::{self, Hierarchies};
use crate::controller::endpoint::Endpoint;
use crate::controller::main_process::signal_main;
use crate::controller::spec::{ContainerSpec, RestartPolicy, Scope};
use crate::controller::{
    Activity, ControllerError, KillSource, ServiceController, ServiceSpec, ServiceState, Trigger, systemd,
};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::progress::Cancel;
use crate::world::{Pidfd, ProcessId, StopSignal, clock, wait};

/// For the engine to say that it has sent the stop signal. One that is frozen does so when it goes on.
const ACCEPT_MAX: Duration = Duration::from_secs(15);

/// The policy of a container that is held.
const HELD: &str = "no";

/// A container.
#[derive(Debug)]
pub struct DockerContainer {
    engine: Arc<Engine>,
    spec: ContainerSpec,
    watch: Watch,
    memory: Mutex<Memory>,
}

/// What the engine does not say, or says only while the container runs.
#[derive(Debug, Default)]
struct Memory {
    /// The control group of the last run, below the mount points.
    group: Option<String>,
    /// The run whose stop was requested, by us or by the program before us.
    stopping: Option<String>,
    /// The policy that it has when nobody holds it: that of the journal, else the last that was seen. A hold of a dead
    /// run may be on it when it is found, and is taken off before it is looked at again.
    restart: RestartPolicy,
}

impl DockerContainer {
    /// Finds a container by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// [`ControllerError::NotFound`]; [`ControllerError::Unreachable`] within seconds when no engine answers;
    /// [`ControllerError::Unsafe`] for an engine that is not Docker.
    pub fn open(name: &str, endpoint: Endpoint) -> Result<Self, ControllerError> {
        Self::find(&ContainerSpec::named(name, endpoint))
    }

    /// Finds a container again. One that Compose has recreated since is found by project, service and number.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn find(spec: &ContainerSpec) -> Result<Self, ControllerError> {
        if spec.name.is_empty() || spec.name.contains('/') {
            let reason = "a container's name has letters, digits, `_`, `.` and `-`".to_owned();
            return Err(ControllerError::Invalid { service: label_of(&spec.name), reason });
        }
        let failed = |error| failed("find", &label_of(&spec.name), &spec.endpoint, error);
        let engine = Arc::new(Engine::connect(&spec.endpoint).map_err(failed)?);
        Self::find_on(engine, spec)
    }

    fn find_on(engine: Arc<Engine>, spec: &ContainerSpec) -> Result<Self, ControllerError> {
        const ACTION: &str = "find";
        let failed = |error| failed(ACTION, &label_of(&spec.name), &spec.endpoint, error);
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let by_id = if spec.id.is_empty() { &spec.name } else { &spec.id };
        let found = match (engine.inspect(by_id), &spec.compose) {
            (Err(error), Some(compose)) if error.is_absence() => {
                let id = compose::recreated(&engine, compose).map_err(failed)?.ok_or(error).map_err(failed)?;
                engine.inspect(&id).map_err(failed)?
            }
            (found, _) => found.map_err(failed)?,
        };
        let found = Inspected::from(found);
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let watch = Watch::start(&engine, &found.id, since)
            .map_err(|error| failed(EngineError::Unreachable(error.to_string())))?;
        let memory = Memory { restart: spec.restart.clone().unwrap_or_default(), ..Memory::default() };
        let spec = ContainerSpec {
            endpoint: spec.endpoint.clone(),
            name: found.name.clone(),
            id: found.id.clone(),
            compose: found.compose(),
            restart: None,
        };
        let container = Self { engine, spec, watch, memory: Mutex::new(memory) };
        container.remember(&found, ACTION)?;
        Ok(container)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The container as a place where programs run.
    pub(crate) fn inside(&self) -> Inside {
        Inside { engine: self.engine.clone(), id: self.spec.id.clone(), label: self.label() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, action: &'static str) -> Result<Inspected, ControllerError> {
        let found = self.engine.inspect(&self.spec.id).map_err(|error| self.failed(action, error))?;
        let found = Inspected::from(found);
        self.remember(&found, action)?;
        Ok(found)
    }

    /// The policy, and the control group while a process is in it: the engine forgets that with the run.
    fn remember(&self, found: &Inspected, action: &'static str) -> Result<(), ControllerError> {
        if found.restart.name != HELD {
            self.memory().restart = found.restart.clone();
        }
        let Some(pid) = found.pid else { return Ok(()) };
        // Another process has that pid here, where the engine is on another machine.
        if let Some(group) = own_group(pid, &self.spec.id).map_err(|error| self.failed_io(action, &error))? {
            self.memory().group = Some(group);
        }
        Ok(())
    }

    /// Its main process, where that is one of this machine.
    fn main_here(&self, found: &Inspected, action: &'static str) -> Result<Option<ProcessId>, ControllerError> {
        let look = |pid| Ok(own_group(pid, &self.spec.id)?.and(ProcessId::of(pid)?));
        found.pid.map(look).transpose().map(Option::flatten).map_err(|error| self.failed_io(action, &error))
    }

    fn failed(&self, action: &'static str, error: EngineError) -> ControllerError {
        failed(action, &self.label(), self.engine.endpoint(), error)
    }

    fn failed_io(&self, action: &'static str, error: &std::io::Error) -> ControllerError {
        ControllerError::Failed { action, service: self.label(), reason: error.to_string() }
    }

    fn refused(&self, action: &'static str, reason: String) -> ControllerError {
        ControllerError::Unsafe { action, service: self.label(), reason }
    }

    fn directories(&self, action: &'static str) -> Result<Vec<PathBuf>, ControllerError> {
        let hierarchies = Hierarchies::visible().map_err(|error| self.failed_io(action, &error))?;
        Ok(self.memory().group.iter().flat_map(|group| hierarchies.directories(group)).collect())
    }

    fn set_policy(&self, action: &'static str, policy: &RestartPolicy) -> Result<(), ControllerError> {
        let name = match policy.name.as_str() {
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            _ => RestartPolicyNameEnum::NO,
        };
        let retries = (name == RestartPolicyNameEnum::ON_FAILURE).then_some(policy.retries_max);
        let policy = Policy { name: Some(name), maximum_retry_count: retries };
        let change = ContainerUpdateBody { restart_policy: Some(policy), ..Default::default() };
        self.engine.update(&self.spec.id, change).map_err(|error| self.failed(action, error))
    }

    fn refuse_without_resume_at_boot(&self, action: &'static str) -> Result<(), ControllerError> {
        let scope = if rustix::process::geteuid().is_root() { Scope::System } else { Scope::User };
        match systemd::resumes_at_boot(scope) {
            Some(true) => Ok(()),
            Some(false) => Err(self.refused(action, systemd::not_enabled("it would stay held and stopped"))),
            None => {
                tracing::warn!(
                    "no systemd runs here: unless `svc-ctl resume --boot` is run at boot, a power cut now would leave {} stopped",
                    self.label()
                );
                Ok(())
            }
        }
    }

    /// Returns once the engine has sent the signal, or has answered.
    fn wait_accepted(&self, signals_before: u64) -> Result<(), ControllerError> {
        const ACTION: &str = "stop";
        let until = Instant::now() + ACCEPT_MAX;
        loop {
            match self.watch.stop_result() {
                Some(Ok(())) => break,
                Some(Err(error)) => {
                    // Refused: no stop runs. Where the answer was lost, one may.
                    if matches!(error, EngineError::Refused { .. }) {
                        self.memory().stopping = None;
                    }
                    return Err(self.failed(ACTION, error));
                }
                None if self.watch.signals() > signals_before => break,
                None => {}
            }
            if Instant::now() >= until {
                let reason =
                    format!("{} did not begin with the stop within {} s", self.spec.endpoint, ACCEPT_MAX.as_secs());
                return Err(self.failed(ACTION, EngineError::Unreachable(reason)));
            }
            wait::readable(&[self.watch.descriptor()], until).map_err(|error| self.failed_io(ACTION, &error))?;
            self.watch.drain();
        }
        // A wait for the container must not miss what this one has drained.
        self.watch.wake();
        Ok(())
    }
}

impl ServiceController for DockerContainer {
    fn spec(&self) -> ServiceSpec {
        ServiceSpec::Container(ContainerSpec { restart: Some(self.memory().restart.clone()), ..self.spec.clone() })
    }

    fn label(&self) -> String {
        label_of(&self.spec.name)
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        // By name, since what is recreated keeps it, and by id, which is the same by whatever socket it is reached.
        Ok(vec![LockKey::service("container", &self.spec.name), LockKey::service("container-id", &self.spec.id)])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        const ACTION: &str = "look at";
        let found = self.look(ACTION)?;
        let run = found.run();
        let mut activity = found.activity();
        let mut memory = self.memory();
        if memory.stopping.as_ref() == Some(&run) && activity == Activity::Up {
            activity = Activity::Stopping;
        } else if activity != Activity::Stopping {
            memory.stopping = None;
        }
        drop(memory);
        let main = self.main_here(&found, ACTION)?;
        Ok(ServiceState {
            activity,
            run: (!found.started_at.starts_with("0001-")).then_some(run),
            main,
            exit: found.exit(),
            result: None,
            start_state: Some(format!("restart={}", found.restart.name)),
            detail: found.detail(),
        })
    }

    fn is_healthy(&self) -> Result<Option<bool>, ControllerError> {
        self.look("look at").map(|found| found.is_healthy())
    }

    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        const ACTION: &str = "list the processes of";
        let found = self.look(ACTION)?;
        let processes = cgroup::processes_below(&self.directories(ACTION)?);
        let processes = processes.map_err(|error| self.failed_io(ACTION, &error))?;
        // An engine on another host, or in namespaces of its own: an empty list would not mean that there is none.
        if let Some(pid) = found.pid
            && processes.iter().all(|process| process.pid != pid)
            && self.look(ACTION)?.pid == Some(pid)
        {
            return Err(ControllerError::Failed {
                action: ACTION,
                service: self.label(),
                reason: format!("its control group does not show its main process {pid} here: run svckit on its host"),
            });
        }
        Ok(processes)
    }

    fn request_stop(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "stop";
        let found = self.look(ACTION)?;
        if !found.is_running() {
            return Ok(());
        }
        if found.is_paused() {
            // Frozen, it could not obey: the engine would wait for ever.
            self.engine.unpause(&self.spec.id).map_err(|error| self.failed(ACTION, error))?;
        }
        // Before it is sent: where the answer is lost, the stop may run all the same.
        self.memory().stopping = Some(found.run());
        let signals_before = self.watch.signals();
        let _the_engine_goes_on_with_it = self.engine.stop(&self.spec.id, self.watch.stop_answer());
        self.wait_accepted(signals_before)
    }

    fn stop_was_requested(&self, again: bool) -> Result<(), ControllerError> {
        let found = self.look("look at")?;
        if found.is_running() {
            self.memory().stopping = Some(found.run());
        }
        if again { self.request_stop() } else { Ok(()) }
    }

    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        const ACTION: &str = "signal";
        signal_main(&self.label(), signal, || {
            let found = self.look(ACTION)?;
            Ok(self.main_here(&found, ACTION)?.map(|main| main.pid))
        })
    }

    fn start(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "start";
        if self.state()?.activity == Activity::Stopping {
            let reason = "its stop still runs, and Docker can't queue a start behind it".to_owned();
            return Err(ControllerError::Failed { action: ACTION, service: self.label(), reason });
        }
        self.memory().stopping = None;
        self.engine.start(&self.spec.id).map_err(|error| self.failed(ACTION, error))
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        const ACTION: &str = "watch";
        let mut pidfd = None;
        let found = self.look(ACTION)?;
        if let Some(main) = self.main_here(&found, ACTION)? {
            pidfd = Pidfd::open(&main).map_err(|error| self.failed_io(ACTION, &error))?;
        }
        let mut descriptors = vec![self.watch.descriptor(), cancel.as_fd()];
        descriptors.extend(pidfd.as_ref().filter(|pidfd| !pidfd.has_ended().unwrap_or(true)).map(AsFd::as_fd));
        wait::readable(&descriptors, until).map_err(|error| self.failed_io(ACTION, &error))?;
        self.watch.drain();
        if self.watch.has_ended() {
            let reason = "the engine's events ended while the container was watched".to_owned();
            return Err(self.failed(ACTION, EngineError::Unreachable(reason)));
        }
        Ok(())
    }

    fn hold(&self, persistent: bool) -> Result<(), ControllerError> {
        const ACTION: &str = "hold";
        let held_already = self.look(ACTION)?.restart.name == HELD;
        // One that the engine starts by itself stays down after a power cut unless somebody lifts the hold; and whatever
        // its policy, nobody may start it on a database that is half replaced.
        if persistent || !held_already {
            self.refuse_without_resume_at_boot(ACTION)?;
        }
        if held_already { Ok(()) } else { self.set_policy(ACTION, &RestartPolicy::default()) }
    }

    fn release(&self) -> Result<(), ControllerError> {
        const ACTION: &str = "release";
        // Somebody may have given it another one since the hold: that is theirs, and is remembered by the look.
        if self.look(ACTION)?.restart.name != HELD {
            return Ok(());
        }
        let before = self.memory().restart.clone();
        if before.name == HELD { Ok(()) } else { self.set_policy(ACTION, &before) }
    }

    fn shield(&self, stop_wait_max: Duration) -> Result<(), ControllerError> {
        let sources = self.kill_sources(stop_wait_max)?;
        match sources.into_iter().find(|source| source.neutralised_by.is_none()) {
            None => Ok(()),
            Some(left) => Err(self.refused("stop", left.what)),
        }
    }

    fn kill_sources(&self, _stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        const ACTION: &str = "audit";
        let found = self.look(ACTION)?;
        Ok(audit::kill_sources(&found, &self.processes()?))
    }

    fn dependants(&self) -> Result<Vec<Box<dyn ServiceController>>, ControllerError> {
        let Some(compose) = &self.spec.compose else { return Ok(Vec::new()) };
        let ids = compose::dependants(&self.engine, compose);
        let ids = ids.map_err(|error| self.failed("find what depends on", error))?;
        let open = |id: String| -> Result<Box<dyn ServiceController>, ControllerError> {
            let spec = ContainerSpec::named(id, self.spec.endpoint.clone());
            Ok(Box::new(Self::find_on(self.engine.clone(), &spec)?))
        };
        ids.into_iter().map(open).collect()
    }

    fn triggers(&self) -> Result<Vec<Trigger>, ControllerError> {
        Ok(Vec::new())
    }

    fn log_since_start(&self, lines_max: usize) -> Result<Vec<String>, ControllerError> {
        const ACTION: &str = "read the log of";
        let found = self.look(ACTION)?;
        let started = found.started_at.parse::<jiff::Timestamp>().map(|at| at.as_second()).unwrap_or_default();
        let since = i32::try_from(started).unwrap_or_default();
        self.engine.log(&self.spec.id, since, lines_max).map_err(|error| self.failed(ACTION, error))
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        const ACTION: &str = "look at";
        let boot_id = clock::boot_id().map_err(|error| self.failed_io(ACTION, &error))?;
        Ok(StopMark { run: Some(self.look(ACTION)?.run()), changed_at: None, boot_id })
    }
}

/// The control group of a process, where it is one of the container's: engines name the group by the container's id.
fn own_group(pid: i32, id: &str) -> std::io::Result<Option<String>> {
    Ok(cgroup::group_of(pid)?.filter(|group| group.contains(id)))
}

fn label_of(name: &str) -> String {
    format!("container {name}")
}

fn failed(action: &'static str, label: &str, endpoint: &Endpoint, error: EngineError) -> ControllerError {
    let service = label.to_owned();
    match error {
        EngineError::Unreachable(reason) => {
            ControllerError::Unreachable { manager: format!("Docker at {endpoint}"), reason }
        }
        EngineError::Tls(problem) => ControllerError::Tls {
            manager: format!("Docker at {endpoint}"),
            reason: problem.reason,
            kind: problem.kind,
            hint: problem.hint,
        },
        EngineError::Refused { status: engine::PODMAN, message } => {
            ControllerError::Unsafe { action, service, reason: message }
        }
        EngineError::Refused { status: 404, message } => ControllerError::NotFound { service, reason: message },
        EngineError::Refused { status: 401 | 403, message } => {
            ControllerError::Permission { action, service, reason: message }
        }
        EngineError::Refused { .. } | EngineError::Malformed(_) => {
            ControllerError::Failed { action, service, reason: error.to_string() }
        }
    }
}
