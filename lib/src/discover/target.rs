//! What a configuration or a profile says of one service and its data.

use std::path::PathBuf;
use std::time::Duration;

use crate::compression::Compression;
use crate::controller::{CommandLine, ContainerSpec};
use crate::database::server::{ServerAddress, ServerSpec};
use crate::name::TargetName;
use crate::world::StopSignal;

/// How the data is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The service runs on.
    Hot,
    /// Writers wait.
    Fenced,
    /// The service is stopped.
    Cold,
}

/// Which service a target belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceRef {
    /// A unit of the system manager.
    Unit(String),
    /// A unit of the user's manager.
    UserUnit(String),
    /// The first of these units that exists: a profile's alternatives.
    FirstUnit(Vec<String>),
    /// A daemon with a pid file, and how it is started again where that is said.
    PidFile(PathBuf, Option<CommandLine>),
    /// A command that svckit starts itself.
    Command(CommandLine),
    /// A container.
    Container(ContainerSpec),
}

/// Where a target comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    Configured,
    /// A profile that nobody configured.
    Profile,
    /// Labels.
    Labels {
        /// Those of this container.
        container: String,
    },
}

/// When it is its turn in a run of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// A larger one comes earlier.
    pub priority: i32,
    /// Those that must have succeeded before.
    pub after: Vec<TargetName>,
}

/// How a service is stopped, where something is said about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopSettings {
    /// How long the stop may last.
    pub timeout: Option<Duration>,
    /// Signals beyond the manager's own, and when each is sent, counted from the request to stop.
    pub signals: Vec<(StopSignal, Duration)>,
    /// Whether the fenced kill is allowed.
    pub fenced_kill: Option<bool>,
}

/// Which backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// ... weeks.
    pub weekly: u32,
    /// ... months.
    pub monthly: u32,
    /// ... years.
    pub yearly: u32,
}

/// Who is told how a run went. The address is a secret: whoever knows it can report in our name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Alerts {
    /// A command that runs when a backup failed; its arguments follow it. Never a shell line.
    pub on_failure: Option<Vec<String>>,
    /// The address that hears of start, success and failure, as healthchecks.io has it.
    pub ping: Option<String>,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts").field("on_failure", &self.on_failure.is_some()).finish_non_exhaustive()
    }
}

/// One thing to back up.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name, and its directory in the store.
    pub name: TargetName,
    /// For people.
    pub title: String,
    /// The service, where one is known.
    pub service: Option<ServiceRef>,
    /// The database server in it, where that is what is backed up.
    pub server: Option<ServerSpec>,
    /// Where that listens, where it is in no container.
    pub address: Option<ServerAddress>,
    /// The SQLite databases; taken at one instant.
    pub sqlite: Vec<PathBuf>,
    /// Files, directories and globs beside them.
    pub include: Vec<PathBuf>,
    /// Where the backups go.
    pub store: Option<PathBuf>,
    /// How the data is taken.
    pub mode: Option<Mode>,
    /// When the service counts as back, as `ready::ReadyCheck` writes it.
    pub ready: Vec<String>,
    /// How the service is stopped.
    pub stop: StopSettings,
    /// Which backups are kept.
    pub retention: Option<Retention>,
    /// Who is told.
    pub alerts: Alerts,
    /// How it is stored, where something is said about it.
    pub compression: Option<Compression>,
    /// The service's own build of the sqlite3 program, for what only it can make in a repair. Not looked at before it is
    /// needed.
    pub sqlite_program: Option<PathBuf>,
    /// When it is its turn in a run of several.
    pub order: Order,
    /// Where it comes from.
    pub origin: Origin,
}
