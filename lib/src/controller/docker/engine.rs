//! The connection to one Docker engine, from synchronous code, with a deadline for every exchange.
//!
//! What is asked of the engine is all that a filtering proxy must let through: `GET /version`, `/events`,
//! `/containers/json`, `/containers/ID/json`, `/containers/ID/logs`, and `POST /containers/ID/stop`, `start`,
//! `unpause`, `update`. For dumps also `POST /containers/ID/exec`, `/exec/ID/start`, `GET /exec/ID/json`; for a restore
//! test `GET /images/NAME/json`, `POST /containers/create`, `DELETE /containers/ID`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, EventMessage, ExecConfig,
    ExecInspectResponse,
};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, LogsOptions, RemoveContainerOptions,
    StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_core::Stream;
use tokio::task::JoinHandle;

use super::exec::Program;
use super::tls::{self, TlsProblem};
use crate::controller::endpoint::Endpoint;
use crate::controller::worker::{TimedOut, Worker};
use crate::failure::with_causes;

/// For the connection, the version of the API included: an engine that accepts and says nothing is frozen.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For one request. Engines answer in milliseconds, on a busy disk in seconds.
const CALL_MAX: Duration = Duration::from_secs(10);
/// For a start: the engine mounts, makes networks, runs hooks.
const START_MAX: Duration = Duration::from_secs(120);
/// The client's own bound is that of a stop, which the engine answers when the container has ended.
const CLIENT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The engine sends at most 32 KiB at a time.
const EXEC_BUFFER: usize = 64 << 10;
/// A log that is read for readiness is not longer.
const LOG_LINES_MAX: usize = 10_000;

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    #[error("{0}")]
    Unreachable(String),
    #[error("{message} (status {status})")]
    Refused { status: u16, message: String },
    #[error("an answer that can't be read: {0}")]
    Malformed(String),
    #[error("{}", .0.reason)]
    Tls(TlsProblem),
}

impl EngineError {
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// A connection, and the thread that drives it.
#[derive(Debug)]
pub(super) struct Engine {
    endpoint: Endpoint,
    docker: Docker,
    worker: Arc<Worker>,
}

/// A client for that version of the API; nothing is asked yet.
fn client_of(endpoint: &Endpoint, version: &ClientVersion) -> Result<Docker, EngineError> {
    let seconds = CLIENT_MAX.as_secs();
    let client = match endpoint {
        Endpoint::Unix(path) => {
            let text = path.to_str().ok_or_else(|| unreachable(endpoint, "its path is not UTF-8".to_owned()))?;
            Docker::connect_with_unix(text, seconds, version)
        }
        Endpoint::Tcp(address) => Docker::connect_with_http(address, seconds, version),
        Endpoint::Tls { address, files } => tls::connect(address, files, seconds, version).map_err(EngineError::Tls)?,
    };
    client.map_err(|error| unreachable(endpoint, error.to_string()))
}

fn unreachable(endpoint: &Endpoint, error: String) -> EngineError {
    EngineError::Unreachable(format!("{endpoint}: {error}"))
}

/// The version of the API that the engine speaks, where that is older than ours; an engine takes older ones than its own.
fn older(spoken: &str, ours: &ClientVersion) -> Result<Option<ClientVersion>, EngineError> {
    let number = |text: &str| text.parse().ok();
    let Some((Some(major_version), Some(minor_version))) =
        spoken.split_once('.').map(|(major, minor)| (number(major), number(minor)))
    else {
        return Err(EngineError::Malformed(format!("its version of the API is {spoken:?}")));
    };
    let spoken = ClientVersion { major_version, minor_version };
    Ok((spoken < *ours).then_some(spoken))
}

impl Engine {
    /// Connects, agrees on a version of the API, and refuses what is no Docker engine.
    pub(super) fn connect(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let unreachable = |error: String| unreachable(endpoint, error);
        let worker = Worker::new("svckit-docker").map_err(|e| unreachable(format!("no thread: {e}")))?;
        let client = client_of(endpoint, API_DEFAULT_VERSION)?;
        // Asked once: the engine runs three programs for the answer.
        let asked = client.clone();
        let version = match worker.run(CONNECT_MAX, async move { asked.version().await }) {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => {
                return Err(match (translated(error), endpoint) {
                    (EngineError::Unreachable(reason), _) => unreachable(reason),
                    (EngineError::Tls(problem), Endpoint::Tls { files, .. }) => {
                        EngineError::Tls(tls::explained(problem, files))
                    }
                    (other, _) => other,
                });
            }
            Err(TimedOut) => {
                return Err(unreachable(format!(
                    "it accepts connections and does not answer within {} s",
                    CONNECT_MAX.as_secs()
                )));
            }
        };
        let spoken = version.api_version.as_deref().unwrap_or_default();
        let docker = match older(spoken, API_DEFAULT_VERSION)? {
            Some(older) => client_of(endpoint, &older)?,
            None => client,
        };
        let is_podman = version.components.unwrap_or_default().iter().any(|part| part.name.contains("Podman"));
        if is_podman {
            return Err(EngineError::Refused {
                status: PODMAN,
                message: "this is Podman, where a stop without a time limit kills at once in some versions".to_owned(),
            });
        }
        Ok(Self { endpoint: endpoint.clone(), docker, worker: Arc::new(worker) })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn call<F, T>(&self, what: &str, max: Duration, future: F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        match self.worker.run(max, future) {
            Ok(answer) => answer.map_err(translated),
            Err(TimedOut) => {
                let reason = format!("{}: {what} was not answered within {} s", self.endpoint, max.as_secs());
                Err(EngineError::Unreachable(reason))
            }
        }
    }

    pub(super) fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, EngineError> {
        let (docker, name) = (self.docker.clone(), name.to_owned());
        self.call("the look at a container", CALL_MAX, async move { docker.inspect_container(&name, None).await })
    }

    /// The containers that have all of these labels (`name` or `name=value`), stopped ones too where asked for.
    pub(super) fn list(&self, labels: Vec<String>, all: bool) -> Result<Vec<ContainerSummary>, EngineError> {
        let docker = self.docker.clone();
        let filters = (!labels.is_empty()).then(|| [("label".to_owned(), labels)].into());
        let options = ListContainersOptions { all, filters, ..Default::default() };
        self.call("the list of containers", CALL_MAX, async move { docker.list_containers(Some(options)).await })
    }

    pub(super) fn start(&self, id: &str) -> Result<(), EngineError> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        self.call("a start", START_MAX, async move { docker.start_container(&id, None).await })
    }

    pub(super) fn unpause(&self, id: &str) -> Result<(), EngineError> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        self.call("the end of a pause", CALL_MAX, async move { docker.unpause_container(&id).await })
    }

    pub(super) fn update(&self, id: &str, change: ContainerUpdateBody) -> Result<(), EngineError> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        self.call("a change of the restart policy", CALL_MAX, async move { docker.update_container(&id, change).await })
    }

    /// Prepares a program; it is not started yet.
    pub(super) fn exec_create(&self, id: &str, program: &Program) -> Result<String, EngineError> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        let config = ExecConfig {
            cmd: Some(program.argv.clone()),
            user: program.user.clone(),
            env: (!program.env.is_empty()).then(|| program.env.clone()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            ..Default::default()
        };
        self.call("a program", CALL_MAX, async move { docker.create_exec(&id, config).await.map(|made| made.id) })
    }

    pub(super) fn exec_start(&self, exec: &str) -> Result<StartExecResults, EngineError> {
        let (docker, exec) = (self.docker.clone(), exec.to_owned());
        let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(EXEC_BUFFER) };
        self.call("the start of a program", START_MAX, async move { docker.start_exec(&exec, Some(options)).await })
    }

    pub(super) fn exec_inspect(&self, exec: &str) -> Result<ExecInspectResponse, EngineError> {
        let (docker, exec) = (self.docker.clone(), exec.to_owned());
        self.call("the look at a program", CALL_MAX, async move { docker.inspect_exec(&exec).await })
    }

    /// The exit code of a program whose output has ended. The engine may learn of its end a moment later.
    pub(super) async fn exec_code(&self, container: &str, exec: &str) -> Result<i64, Error> {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(CALL_MAX).as_secs();
        let look = || async { tokio::time::timeout(CALL_MAX, self.docker.inspect_exec(exec)).await.map_err(late)? };
        let mut found = look().await?;
        if found.running == Some(true) {
            let filters = [("type", "container"), ("container", container), ("event", "exec_die")];
            let filters = filters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).into();
            let options = EventsOptions { since: Some(at.to_string()), until: None, filters: Some(filters) };
            let mut events = Box::pin(self.docker.events(Some(options)));
            let told = async {
                while let Some(event) = next(&mut events).await {
                    let attributes = event?.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                    if attributes.get("execID").is_some_and(|id| id == exec) {
                        break;
                    }
                }
                Ok::<_, Error>(())
            };
            tokio::time::timeout(CALL_MAX, told).await.map_err(late)??;
            found = look().await?;
        }
        match (found.running, found.exit_code) {
            (Some(false), Some(code)) => Ok(code),
            _ => Err(late("the engine does not say how the program ended")),
        }
    }

    pub(super) fn has_image(&self, name: &str) -> Result<(), EngineError> {
        let (docker, name) = (self.docker.clone(), name.to_owned());
        self.call("the look at an image", CALL_MAX, async move { docker.inspect_image(&name).await.map(drop) })
    }

    /// Makes a container; it is not started yet.
    pub(super) fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let docker = self.docker.clone();
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        self.call("a new container", START_MAX, async move {
            docker.create_container(Some(options), body).await.map(|made| made.id)
        })
    }

    /// Removes a container of our own, running or not, with the volumes that nobody named.
    pub(super) fn remove(&self, id: &str) -> Result<(), EngineError> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        self.call(
            "the removal of a container",
            START_MAX,
            async move { docker.remove_container(&id, Some(options)).await },
        )
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.worker.spawn(future)
    }

    /// The last lines of the log since `since` (seconds since 1970).
    pub(super) fn log(&self, id: &str, since: i32, lines_max: usize) -> Result<Vec<String>, EngineError> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            since,
            tail: lines_max.min(LOG_LINES_MAX).to_string(),
            ..Default::default()
        };
        let (docker, id) = (self.docker.clone(), id.to_owned());
        self.call("a log", CALL_MAX, async move {
            let mut text = Vec::new();
            let mut stream = Box::pin(docker.logs(&id, Some(options)));
            while let Some(part) = next(&mut stream).await {
                text.extend_from_slice(match part? {
                    LogOutput::StdOut { ref message }
                    | LogOutput::StdErr { ref message }
                    | LogOutput::Console { ref message }
                    | LogOutput::StdIn { ref message } => message,
                });
            }
            Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
        })
    }

    /// Asks for a stop without a time limit; `ended` hears the answer, which comes when the container has ended.
    /// The engine goes on with it when nobody waits for that answer any more.
    pub(super) fn stop(
        &self,
        id: &str,
        ended: impl FnOnce(Result<(), EngineError>) + Send + 'static,
    ) -> JoinHandle<()> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        self.worker.spawn(async move {
            // `t=-1` never kills; a `signal` would let a policy of `always` start the container again.
            let options = StopContainerOptions { t: Some(-1), signal: None };
            let answer = docker.stop_container(&id, Some(options)).await.map_err(translated);
            ended(match answer {
                // It had ended already.
                Err(EngineError::Refused { status: 304, .. }) => Ok(()),
                other => other,
            });
        })
    }

    /// Hands every event of a container since `since` to `seen`; `None` once the stream has ended.
    pub(super) fn on_event(
        &self,
        id: &str,
        since: String,
        mut seen: impl FnMut(Option<&EventMessage>) + Send + 'static,
    ) -> JoinHandle<()> {
        let filters = [("type", "container"), ("container", id)];
        let filters = filters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).into();
        let docker = self.docker.clone();
        self.worker.spawn(async move {
            let options = EventsOptions { since: Some(since), until: None, filters: Some(filters) };
            let mut stream = Box::pin(docker.events(Some(options)));
            while let Some(Ok(event)) = next(&mut stream).await {
                seen(Some(&event));
            }
            seen(None);
        })
    }
}

fn late(why: impl ToString) -> Error {
    Error::from(std::io::Error::other(why.to_string()))
}

/// No status of HTTP's: what is refused for being another engine.
pub(super) const PODMAN: u16 = 0;

pub(super) async fn next<S: Stream + ?Sized>(stream: &mut Pin<Box<S>>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}

pub(super) fn translated(error: Error) -> EngineError {
    if let Some(problem) = tls::problem(&error) {
        return EngineError::Tls(problem);
    }
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { status: status_code, message: message.trim().to_owned() }
        }
        Error::JsonDataError { message, .. } => EngineError::Malformed(message),
        Error::JsonSerdeError { err } => EngineError::Malformed(err.to_string()),
        // The outermost of a client's errors says only that it is one.
        other => EngineError::Unreachable(with_causes(other.to_string(), std::error::Error::source(&other))),
    }
}

#[test]
fn an_engine_is_spoken_to_in_a_version_that_it_knows() {
    let of = |spoken| older(spoken, &ClientVersion { major_version: 1, minor_version: 47 });
    let told = |version: ClientVersion| version.to_string();
    assert_eq!(of("1.41").unwrap().map(told).as_deref(), Some("1.41"));
    assert_eq!(of("1.9").unwrap().map(told).as_deref(), Some("1.9"), "no decimal fraction");
    for newer in ["1.47", "1.52", "2.0"] {
        assert_eq!(of(newer).unwrap().map(told), None, "{newer}");
    }
    for odd in ["", "1", "1.x", "-1.41", "1.41.2"] {
        assert!(matches!(of(odd), Err(EngineError::Malformed(_))), "{odd}");
    }
}
