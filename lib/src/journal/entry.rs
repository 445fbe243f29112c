//! The form of an entry.

use serde::{Deserialize, Serialize};

use crate::lock::LockKey;
use crate::world::ProcessId;
use crate::world::disk::FileId;
use crate::world::raw_path::RawPath;

/// The version of the form. A reader refuses a newer one: it would not know what it must undo.
pub const JOURNAL_VERSION: u32 = 1;

/// The name of an entry: time and random digits, as a backup's identity.
pub type EntryId = crate::name::BackupId;

/// One operation's intent and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`JOURNAL_VERSION`] of the writer.
    pub version: u32,
    /// Its name, and the name of its file.
    pub id: EntryId,
    /// What is being done: `backup`, `restore`, `stop`.
    pub operation: String,
    /// Who does it.
    pub owner: ProcessId,
    /// When it began (RFC 3339, UTC).
    pub created: String,
    /// The locks of the operation; `resume` takes the same.
    pub lock_keys: Vec<LockKey>,
    /// The services in the order in which they are stopped: dependants first, the service itself last.
    pub services: Vec<ServiceRecord>,
    /// Databases that are being replaced.
    #[serde(default)]
    pub replacements: Vec<Replacement>,
    /// Directories of ours beside the databases, with copies that nobody needs once the operation is over. An entry
    /// that has them has nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staging: Vec<RawPath>,
}

/// How far we are with one service. Each stage is recorded *before* the step it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceStage {
    /// Nothing has been done to it yet.
    Recorded,
    /// Shield and hold are being put on; nothing was stopped.
    Shielding,
    /// Its stop is being requested.
    Stopping,
    /// Its stop was requested, and is waited for. The one stage that is recorded after its step: until then it is not
    /// known whether the request was made.
    Waiting,
    /// It is proved to be stopped.
    Stopped,
    /// The stop timed out: it is started again as soon as its old process ends.
    GivenUp,
    /// It is being started; shield and hold come off.
    Starting,
    /// A person asked for it to be stopped, and it is: nothing starts it but a person's start, which also brings back
    /// the dependants and triggers that are recorded here.
    LeftStopped,
}

/// One service of the operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// How to find it again: the controller's own description (`controller::ServiceSpec`), as JSON.
    pub spec: serde_json::Value,
    /// For people: `unit plex.service`.
    pub label: String,
    /// Whether it was up when we came. One that was not is never started.
    pub was_up: bool,
    /// The identity of the run that we stop (InvocationID, or pid and start time).
    pub run: Option<String>,
    /// Whether starting it was allowed then (`enabled`, `masked`, ... as its manager says).
    pub start_state: Option<String>,
    /// What triggers it (sockets, paths, timers), and whether each was active.
    #[serde(default)]
    pub triggers: Vec<TriggerRecord>,
    /// How far we are.
    pub stage: ServiceStage,
    /// What its manager said once it was stopped; a different answer later means that somebody acted on it since.
    pub stop_mark: Option<StopMark>,
    /// Readiness checks to pass after the start, as text (`ready::ReadyCheck`).
    #[serde(default)]
    pub ready: Vec<String>,
}

/// A unit that starts the service when something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRecord {
    /// Its name.
    pub name: String,
    /// Whether it was active when we came.
    pub was_active: bool,
}

/// The state of a stopped service, to be compared later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopMark {
    /// The run that ended.
    pub run: Option<String>,
    /// When the manager last changed its state, in its own unit (systemd: µs, CLOCK_MONOTONIC).
    pub changed_at: Option<u64>,
    /// The boot in which it was stopped.
    pub boot_id: String,
}

/// One database that is being replaced by a journalled roll-forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The path of the database.
    pub target: RawPath,
    /// The complete new database, in the target's directory, synced.
    pub staged: RawPath,
    /// The identity of the staged file: once `target` has it, the replacement is done.
    pub staged_id: FileId,
    /// The directory, on the same file system, that receives what is replaced.
    pub kept: RawPath,
    /// What stood there: the database and its side files.
    pub old: Vec<KeptFile>,
    /// Side files that belong to the new database, and are put in place before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<StagedSide>,
}

/// A side file that a replacement puts in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedSide {
    /// Where it lies, in the target's file system, synced.
    pub staged: RawPath,
    /// Which file it is.
    pub id: FileId,
    /// Where it belongs.
    pub path: RawPath,
}

/// One file that a replacement moves aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Where it stood.
    pub path: RawPath,
    /// Which file it was: a file of that name with another identity is not moved.
    pub id: FileId,
}
