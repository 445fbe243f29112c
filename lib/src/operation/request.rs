//! What is asked of an operation, and what it reports.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::compression::Compression;
use crate::controller::{KillSource, ServiceState};
use crate::lock::Wait;
use crate::name::{BackupId, TargetName};
use crate::quiesce::StopPolicy;
use crate::ready::ReadyCheck;
use crate::world::raw_path::RawPath;

/// How a service is to be treated by any operation on it.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Its databases, beside those that are found open in its processes.
    pub databases: Vec<PathBuf>,
    /// How it is stopped.
    pub policy: StopPolicy,
    /// When it counts as back. Empty: when its manager says that it is up.
    pub ready: Vec<ReadyCheck>,
    /// What to do when another operation holds the lock.
    pub wait: Wait,
}

/// How the data is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupMode {
    /// A consistent snapshot; the service runs on.
    Hot,
    /// Writers wait for as long as the copying lasts; the service runs on.
    Fenced,
    /// The service is stopped for as long as the copying lasts.
    Cold,
}

/// Files beside the databases.
#[derive(Debug, Clone, Default)]
pub struct Includes {
    /// Paths, directories, and globs.
    pub patterns: Vec<PathBuf>,
}

/// A backup.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The databases; taken at one instant.
    pub databases: Vec<PathBuf>,
    /// The files that belong to the service.
    pub includes: Includes,
    /// The store's directory; created where its parent exists.
    pub store: PathBuf,
    /// The name in the store; `None`: made from the service or the first database.
    pub name: Option<TargetName>,
    /// How.
    pub mode: BackupMode,
    /// How it is stored.
    pub compression: Compression,
    /// The longest time that writers may be made to wait in hot and fenced mode.
    pub fence_hold_max: Duration,
    /// How the service is treated.
    pub service: ServiceOptions,
    /// Only plan.
    pub dry_run: bool,
}

/// What a backup did. `Serialize` is the `--json` form.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The name in the store.
    pub target: TargetName,
    /// The backup; `None` for a dry run.
    pub backup: Option<BackupId>,
    /// Where it is.
    pub path: Option<RawPath>,
    /// How it was taken.
    pub mode: BackupMode,
    /// The databases in it.
    pub databases: Vec<RawPath>,
    /// What it takes in the store, in bytes.
    pub stored_bytes: u64,
    /// What it holds, in bytes.
    pub content_bytes: u64,
    /// The rungs of verification that every payload of its kind (database, files) passed.
    pub rungs: Vec<String>,
    /// The longest time that a writer was made to wait, in milliseconds (hot and fenced).
    pub writer_stall_ms: Option<f64>,
    /// How long the service was down, in milliseconds, from the request to stop until it was ready again (cold).
    pub downtime_ms: Option<f64>,
    /// Whether the service is back, where it was stopped.
    pub service: Option<Resumed>,
    /// The plan, a line each; the whole answer of a dry run.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// A restore.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The store's directory.
    pub store: PathBuf,
    /// The name in the store.
    pub target: TargetName,
    /// Of a group's backup: which member.
    pub member: Option<TargetName>,
    /// Which backup; `None`: the latest that verifies.
    pub backup: Option<BackupId>,
    /// A file for one database, a directory for a set or for files beside it. What does not exist is made, below an
    /// existing directory: a directory where several things go, or where the path ends in `/`.
    pub to: PathBuf,
    /// How the service is treated.
    pub service: ServiceOptions,
    /// Only plan.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The name in the store.
    pub target: TargetName,
    /// The backup that was restored.
    pub backup: BackupId,
    /// The databases that are in place now, and the directory of the backup's files; none in a dry run.
    pub restored: Vec<RawPath>,
    /// Where the files that were replaced are kept.
    pub kept: Vec<RawPath>,
    /// How long the service was down, in milliseconds.
    pub downtime_ms: Option<f64>,
    /// Whether the service is back, where it was stopped.
    pub service: Option<Resumed>,
    /// The plan, a line each; the whole answer of a dry run.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// How a service came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resumed {
    /// Started, and ready.
    Started,
    /// It had not been running, and was not started.
    WasNotRunning,
    /// It never stopped.
    StillUp,
    /// Somebody acted on it meanwhile (started, masked or disabled it): nothing of ours is left on it.
    LeftToItsOwner,
    /// Its old process still runs its stop; it is started afterwards.
    AfterItsStop,
}

/// What a lifecycle operation on a service says.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceReport {
    /// For people: `unit plex.service`.
    pub service: String,
    /// What its manager says now.
    pub state: ServiceState,
    /// The outcome in a word, for scripts: `stopped`, `was-not-running`, `started`, `ready`, `running`, `not-running`...
    pub outcome: String,
    /// How the stop ended: `clean`, `end-not-seen`, `unclean`, `fenced-kill`; where one was made.
    pub stop: Option<String>,
    /// From the request to the proof, in milliseconds.
    pub took_ms: Option<f64>,
    /// The processes of the service.
    pub processes: Vec<i32>,
    /// The databases that are found open in it or were named.
    pub databases: Vec<RawPath>,
    /// Who could SIGKILL it during a stop (audit).
    pub kill_sources: Vec<KillSource>,
    /// Services that are stopped first and started last.
    pub dependants: Vec<String>,
    /// What starts it when something happens.
    pub triggers: Vec<String>,
    /// The plan, a line each (dry run).
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// What `resume` did, service by service.
#[derive(Debug, Clone, Serialize)]
pub struct ResumeReport {
    /// Service and outcome.
    pub services: Vec<(String, Resumed)>,
    /// Replacements of databases that were brought to their end.
    pub replaced: Vec<RawPath>,
    /// Entries that were left alone, and why: their owner is alive, or they can't be read.
    pub left: Vec<String>,
}
