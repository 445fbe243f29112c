//! How a service is found again by another process, later: the part of a controller that is written to the journal.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::name::ServiceName;
use crate::world::ProcessId;
use crate::world::raw_path::{self, RawPath};

/// Which systemd has the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The system manager.
    System,
    /// The user's own manager.
    User,
}

/// The description of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "manager", rename_all = "kebab-case")]
pub enum ServiceSpec {
    /// A systemd unit.
    Unit {
        /// Its name, an alias allowed.
        name: String,
        /// Which systemd.
        scope: Scope,
    },
    /// A daemon that writes its pid to a file.
    PidFile {
        /// The file.
        #[serde(with = "raw_path")]
        path: PathBuf,
        /// How it is started again; read from /proc before a stop where nobody said.
        command: Option<CommandLine>,
        /// Its processes at the last look: what is left of them is the service still, also after its main process.
        #[serde(default)]
        seen: Vec<ProcessId>,
    },
    /// A command that svckit starts itself.
    Command {
        /// Its name in the configuration.
        name: ServiceName,
        /// The command.
        command: CommandLine,
        /// The directory that records which process runs it.
        #[serde(with = "raw_path")]
        record_dir: PathBuf,
        /// Its processes at the last look, as above.
        #[serde(default)]
        seen: Vec<ProcessId>,
    },
    /// A container of a Docker engine.
    Container(ContainerSpec),
    /// A controller of another tool: only that tool can resume it.
    Custom {
        /// The tool's name for it.
        kind: String,
        /// Whatever the tool needs.
        description: serde_json::Value,
    },
}

/// A container, and what is needed to leave it as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Where its engine listens.
    pub endpoint: Endpoint,
    /// Its name, or its id where nobody named it.
    pub name: String,
    /// Its id; empty where it is looked for by name. One that was recreated since has another.
    #[serde(default)]
    pub id: String,
    /// Project, service and number, where Compose made it: what is recreated keeps them.
    #[serde(default)]
    pub compose: Option<(String, String, String)>,
    /// The policy that it had before we held it, and gets back; `None`: not known yet.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
}

impl ContainerSpec {
    /// A container by its name or id.
    #[must_use]
    pub fn named(name: impl Into<String>, endpoint: Endpoint) -> Self {
        Self { endpoint, name: name.into(), id: String::new(), compose: None, restart: None }
    }
}

/// A restart policy of Docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// How often, for `on-failure`; 0: without a limit.
    #[serde(default)]
    pub retries_max: i64,
}

/// Everything needed to start a process as it was started before. Owner-only wherever it is stored: the environment
/// may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The program and its arguments; never a shell line.
    pub argv: Vec<RawPath>,
    /// The working directory; `None`: `/`.
    pub directory: Option<RawPath>,
    /// The whole environment, as `NAME=value`; `None`: the one that svckit's program has.
    pub environment: Option<Vec<RawPath>>,
    /// User id, group id and supplementary groups; `None`: our own.
    pub credentials: Option<(u32, u32, Vec<u32>)>,
    /// The rights that its files are created without (umask(2)); `None`: our own. A service that runs is started again
    /// with the one that it has.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Its nice value (setpriority(2)), -20 to 19; `None`: as above.
    #[serde(default)]
    pub nice: Option<i32>,
}

impl CommandLine {
    /// A command with our own environment and credentials, in `/`.
    #[must_use]
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        let argv = argv.into_iter().map(|word| RawPath(PathBuf::from(word.into()))).collect();
        Self { argv, directory: None, environment: None, credentials: None, umask: None, nice: None }
    }
}

impl std::fmt::Debug for CommandLine {
    /// Without the environment and the arguments: they may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandLine").field("program", &self.argv.first()).finish_non_exhaustive()
    }
}
