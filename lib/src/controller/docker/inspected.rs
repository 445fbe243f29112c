//! From the engine's description of a container to what we need of it.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status, RestartPolicyNameEnum};

use crate::controller::spec::RestartPolicy;
use crate::controller::{Activity, ExitCause};

/// What a container is and does now.
#[derive(Debug, Clone, Default)]
pub(super) struct Inspected {
    pub(super) id: String,
    pub(super) name: String,
    status: Option<Status>,
    pub(super) pid: Option<i32>,
    exit_code: i32,
    out_of_memory: bool,
    pub(super) started_at: String,
    health: Option<String>,
    pub(super) restart: RestartPolicy,
    pub(super) removes_itself: bool,
    pub(super) stop_signal: Option<String>,
    pub(super) stop_timeout: Option<i64>,
    pub(super) labels: HashMap<String, String>,
    pub(super) image: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Names only: values may be secrets.
    pub(super) variables: Vec<String>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { name: "no".to_owned(), retries_max: 0 }
    }
}

impl From<ContainerInspectResponse> for Inspected {
    fn from(raw: ContainerInspectResponse) -> Self {
        let state = raw.state.unwrap_or_default();
        let host = raw.host_config.unwrap_or_default();
        let config = raw.config.unwrap_or_default();
        let policy = host.restart_policy.unwrap_or_default();
        let name_of = |variable: String| variable.split('=').next().unwrap_or_default().to_owned();
        Self {
            id: raw.id.unwrap_or_default(),
            name: raw.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            status: state.status,
            pid: state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0),
            exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default(),
            out_of_memory: state.oom_killed == Some(true),
            started_at: state.started_at.unwrap_or_default(),
            health: state.health.and_then(|health| health.status).map(|status| status.to_string()),
            restart: RestartPolicy {
                name: policy.name.map(policy_name).unwrap_or("no").to_owned(),
                retries_max: policy.maximum_retry_count.unwrap_or_default(),
            },
            removes_itself: host.auto_remove == Some(true),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            stop_timeout: config.stop_timeout,
            labels: config.labels.unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            command: raw.path.into_iter().chain(raw.args.unwrap_or_default()).collect(),
            variables: config.env.unwrap_or_default().into_iter().map(name_of).collect(),
        }
    }
}

pub(super) fn policy_name(policy: RestartPolicyNameEnum) -> &'static str {
    match policy {
        RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO => "no",
        RestartPolicyNameEnum::ALWAYS => "always",
        RestartPolicyNameEnum::UNLESS_STOPPED => "unless-stopped",
        RestartPolicyNameEnum::ON_FAILURE => "on-failure",
    }
}

impl Inspected {
    /// Whether it has processes, as the engine sees it; a paused one has.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.status, Some(Status::RUNNING | Status::PAUSED | Status::STOPPING))
    }

    pub(super) fn is_paused(&self) -> bool {
        self.status == Some(Status::PAUSED)
    }

    /// A container is started many times; each start is a run.
    pub(super) fn run(&self) -> String {
        format!("{}@{}", self.id, self.started_at)
    }

    /// As the engine sees it: it does not say that a stop runs.
    pub(super) fn activity(&self) -> Activity {
        match self.status {
            Some(Status::RUNNING | Status::PAUSED) => Activity::Up,
            Some(Status::STOPPING | Status::REMOVING) => Activity::Stopping,
            Some(Status::RESTARTING) => Activity::Starting,
            Some(Status::EXITED) if self.ended_in_order() => Activity::Down,
            Some(Status::EXITED | Status::DEAD) => Activity::Failed,
            Some(Status::CREATED | Status::EMPTY) | None => Activity::Down,
        }
    }

    /// By itself, or by the signal that stops it, as a shell tells that.
    fn ended_in_order(&self) -> bool {
        let by_signal = match self.stop_signal.as_deref().map(|signal| signal.trim_start_matches("SIG")) {
            None | Some("TERM" | "15") => 128 + 15,
            Some("INT" | "2") => 128 + 2,
            Some("QUIT" | "3") => 128 + 3,
            Some("HUP" | "1") => 128 + 1,
            Some(_) => 0,
        };
        !self.out_of_memory && (self.exit_code == 0 || self.exit_code == by_signal)
    }

    /// How its last run ended, where it is over.
    pub(super) fn exit(&self) -> Option<ExitCause> {
        match self.status {
            Some(Status::EXITED | Status::DEAD) if self.out_of_memory => Some(ExitCause::Signalled(9)),
            Some(Status::EXITED | Status::DEAD) => Some(ExitCause::Exited(self.exit_code)),
            _ => None,
        }
    }

    /// By the image's own check, where it has one.
    pub(super) fn is_healthy(&self) -> Option<bool> {
        self.health.as_deref().filter(|health| !matches!(*health, "" | "none")).map(|health| health == "healthy")
    }

    /// For people: `running (healthy)`.
    pub(super) fn detail(&self) -> String {
        let status = self.status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        match &self.health {
            Some(health) if self.is_running() && self.is_healthy().is_some() => format!("{status} ({health})"),
            _ if self.out_of_memory => format!("{status} (out of memory)"),
            _ => status,
        }
    }

    /// Project, service and number, where Compose made it.
    pub(super) fn compose(&self) -> Option<(String, String, String)> {
        let label = |name: &str| self.labels.get(&format!("com.docker.compose.{name}")).cloned();
        let number = label("container-number").unwrap_or_else(|| "1".to_owned());
        Some((label("project")?, label("service")?, number))
    }
}
