//! What is asked of a repair and of its undoing, and what they report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reference::{BackupOfIt, ReferenceRequest};
use super::request::{Resumed, ServiceOptions};
use crate::database::sqlite::repair::{Accounting, Repaired, Step};
use crate::name::BackupId;
use crate::world::disk::FileId;
use crate::world::raw_path::RawPath;

/// A repair.
#[derive(Debug, Clone)]
pub struct RepairRequest {
    /// The database.
    pub database: PathBuf,
    /// How its service is treated.
    pub service: ServiceOptions,
    /// Only this step of the ladder; `None`: the least invasive that gives a whole database. [`Step::Restore`] is the
    /// agreement to a database that is a backup's in part: it takes the place of the original also with losses.
    pub only: Option<Step>,
    /// Where backups of it are: where its definitions are damaged, those of the newest stand in for them. Rows of it are
    /// taken by [`Step::Restore`] alone.
    pub reference: Option<ReferenceRequest>,
    /// The service's own sqlite program, an absolute path: for what only it can build.
    pub sqlite_program: Option<PathBuf>,
    /// Also replace the original by a database that is whole and not complete.
    pub accept_loss: bool,
    /// Do it on copies, and leave service and original alone.
    pub dry_run: bool,
    /// How long writers may be kept waiting by the check before.
    pub hold_max: Duration,
}

/// What came of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairOutcome {
    /// Nothing was damaged, and nothing was done.
    Whole,
    /// A complete database is in place.
    Complete,
    /// A database with losses is in place, as was accepted.
    PartialReplaced,
    /// It could be repaired with losses only, and the original is in place.
    PartialNotReplaced,
    /// Dry run: it would be complete.
    WouldBeComplete,
    /// Dry run: there would be losses.
    WouldBePartial,
}

impl RepairOutcome {
    /// Whether something was lost, or would be.
    #[must_use]
    pub fn is_partial(self) -> bool {
        matches!(self, Self::PartialReplaced | Self::PartialNotReplaced | Self::WouldBePartial)
    }
}

/// What a repair did. `Serialize` is the `--json` form, and that of `report.json` beside the preserved original.
#[derive(Debug, Clone, Serialize)]
pub struct RepairReport {
    /// The database.
    pub database: RawPath,
    /// What came of it.
    pub outcome: RepairOutcome,
    /// Everything that is missing or doubtful, a sentence each.
    pub losses: Vec<String>,
    /// Table by table.
    pub accounting: Option<Accounting>,
    /// The newest verified backup of it: what was taken is of it, or what is lost could be.
    pub backup: Option<BackupOfIt>,
    /// The command to type next, where that backup could fill what is lost.
    pub next: Option<String>,
    /// Where the original is.
    pub preserved: Option<RawPath>,
    /// Where the rows are that fit nowhere: a database with the table `lost_and_found`.
    pub set_aside: Option<RawPath>,
    /// How long the service was down, in milliseconds.
    pub downtime_ms: Option<f64>,
    /// Whether the service is back, where it was stopped.
    pub service: Option<Resumed>,
    /// What was put in place, where anything was.
    pub placed: Option<Placed>,
    /// The plan, a line each.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// What a repair put in the place of the original: by it an undo knows which repair was the latest to replace anything,
/// and whether the database was written since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// That of the preserved original, at that time.
    pub sequence: u64,
    /// Length of the database, without a log.
    pub bytes: u64,
    /// When it was written last: seconds, and nanoseconds of them.
    pub modified: (i64, i64),
    /// Which file it replaced. While that is still in place, nothing was replaced after all.
    pub instead_of: Option<FileId>,
}

impl RepairReport {
    pub(super) fn new(database: &Path, plan: Vec<String>) -> Self {
        Self {
            database: RawPath(database.to_owned()),
            outcome: RepairOutcome::Whole,
            losses: Vec::new(),
            accounting: None,
            backup: None,
            next: None,
            preserved: None,
            set_aside: None,
            downtime_ms: None,
            service: None,
            placed: None,
            plan,
            notices: Vec::new(),
        }
    }

    pub(super) fn account(&mut self, repaired: &Repaired) {
        self.losses = repaired.accounting.losses();
        self.accounting = Some(repaired.accounting.clone());
    }
}

/// The undoing of a repair.
#[derive(Debug, Clone)]
pub struct UndoRequest {
    /// The database.
    pub database: PathBuf,
    /// Which preserved set; `None`: that of the latest repair which replaced anything.
    pub set: Option<BackupId>,
    /// How its service is treated.
    pub service: ServiceOptions,
    /// Only plan.
    pub dry_run: bool,
}

/// What an undo did.
#[derive(Debug, Clone, Serialize)]
pub struct UndoReport {
    /// The database.
    pub database: RawPath,
    /// The set that is in place again.
    pub set: BackupId,
    /// Whether it was put there: not by a dry run.
    pub done: bool,
    /// Where what it replaced is preserved.
    pub preserved: Option<RawPath>,
    /// How long the service was down, in milliseconds.
    pub downtime_ms: Option<f64>,
    /// Whether the service is back, where it was stopped.
    pub service: Option<Resumed>,
    /// The plan, a line each.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// A preserved set, as a list has it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedSet {
    /// Its identity.
    pub id: BackupId,
    /// The database.
    pub database: RawPath,
    /// Where it is.
    pub directory: RawPath,
    /// When it was preserved (RFC 3339, UTC).
    pub created: String,
    /// What was about to be done: `repair`, `undo`.
    pub before: String,
    /// All its files together.
    pub bytes: u64,
    /// What came of the repair, where that is known.
    pub outcome: Option<RepairOutcome>,
}

/// What is preserved in a place.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The sets, by database, the oldest of each first.
    pub sets: Vec<ListedSet>,
    /// What has the name of a set and can't be used.
    pub unreadable: Vec<UnreadableSet>,
}

/// A set that can't be used.
#[derive(Debug, Clone, Serialize)]
pub struct UnreadableSet {
    /// Where it is.
    pub directory: RawPath,
    /// What is wrong with it.
    pub reason: String,
}
