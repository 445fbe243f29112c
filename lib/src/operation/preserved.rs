//! The preserved sets of a database: which one an undo takes, what a list shows, and what an interrupted run left in them.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;

use super::check::quoted;
use super::common::{real_path, refused};
use super::error::{During, OperationError};
use super::repair_report::{ListedSet, Listing, Placed, RepairOutcome, UnreadableSet};
use crate::database::sqlite::{self, Preserved, SqliteError, Unreadable};
use crate::failure::FailureKind;
use crate::journal::Replacement;
use crate::name::BackupId;
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, FileId, parent_of, remove_durably};
use crate::world::raw_path::RawPath;

/// What a repair leaves beside the preserved original.
pub(super) const REPORT: &str = "report.json";
/// What a replacement moved aside, until it is compared with what was preserved: `replaced-ID` in the set.
pub(super) const ASIDE: &str = "replaced-";
/// A report has a line for each loss.
const REPORT_MAX: u64 = 256 << 20;
/// The longest name that a file may have: on Linux every file system's limit is this or less.
const NAME_MAX: usize = 255;

/// Of `report.json`, what matters here.
#[derive(Deserialize)]
struct Decision {
    outcome: RepairOutcome,
    #[serde(default)]
    placed: Option<Placed>,
}

/// What the report of a set says. One that announces a replacement which did not come to pass is none.
fn decision_of(set: &Preserved, now: Option<FileId>) -> Option<Decision> {
    let text = sqlite::read_small(&set.directory.join(REPORT), REPORT_MAX).ok()?;
    serde_json::from_slice::<Decision>(&text).ok().filter(|decision| !is_void(decision, now))
}

/// The report is written before the database is put in place: the original is still there where that was never done.
fn is_void(decision: &Decision, now: Option<FileId>) -> bool {
    let instead_of = decision.placed.as_ref().and_then(|placed| placed.instead_of);
    instead_of.is_some() && instead_of == now
}

fn replaced(outcome: RepairOutcome) -> bool {
    matches!(outcome, RepairOutcome::Complete | RepairOutcome::PartialReplaced)
}

impl Placed {
    /// What is about to be put in place of a set's original.
    pub(super) fn of(replacement: &Replacement, set: &Preserved) -> Result<Self, SqliteError> {
        let path = &replacement.staged.0;
        let metadata = std::fs::metadata(path).at("look at", path)?;
        let old = replacement.old.iter().find(|old| old.path == replacement.target);
        Ok(Self {
            sequence: set.manifest.sequence,
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            instead_of: old.map(|old| old.id),
        })
    }

    fn is_changed(&self, database: &Path) -> bool {
        let is_same = std::fs::metadata(database).is_ok_and(|metadata| {
            metadata.len() == self.bytes && (metadata.mtime(), metadata.mtime_nsec()) == self.modified
        });
        let in_log = |suffix: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            std::fs::metadata(name).is_ok_and(|metadata| metadata.len() > 0)
        };
        !is_same || in_log("-wal") || in_log("-journal")
    }
}

/// The set that an undo takes.
pub(super) struct Chosen {
    pub(super) set: Preserved,
    /// For people.
    pub(super) notices: Vec<String>,
}

/// The set that is named, else that of the latest repair which replaced something.
pub(super) fn choose(
    database: &Path,
    sets: &[Preserved],
    unreadable: &[Unreadable],
    wanted: Option<&BackupId>,
    what: &str,
) -> Result<Chosen, OperationError> {
    let now = FileId::of(database).ok();
    let with_decision = |set: &Preserved| (set.clone(), decision_of(set, now));
    let of_repairs = || sets.iter().filter(|set| set.manifest.before == "repair").map(with_decision);
    let found = match wanted {
        Some(id) => sets.iter().find(|set| set.manifest.id == *id).map(with_decision),
        // A set that was taken again has the report of the time before until it is replaced.
        None => of_repairs()
            .filter(|(_, decision)| decision.as_ref().is_some_and(|decision| replaced(decision.outcome)))
            .max_by_key(|(set, decision)| {
                let placed = decision.as_ref().and_then(|decision| decision.placed.as_ref());
                placed.map_or(set.manifest.sequence, |placed| placed.sequence)
            }),
    };
    let mut notices: Vec<String> = unreadable.iter().map(told).collect();
    if let Some((set, decision)) = found {
        let placed = decision.filter(|decision| replaced(decision.outcome)).and_then(|decision| decision.placed);
        if placed.is_some_and(|placed| database.exists() && placed.is_changed(database)) {
            notices.push(
                "the database was written since that repair: the original has nothing of it, and an undo preserves what \
                 it replaces"
                    .to_owned(),
            );
        }
        return Ok(Chosen { set, notices });
    }
    let is_wanted = |it: &&Unreadable| {
        wanted.is_none_or(|id| it.directory.as_os_str().as_bytes().ends_with(id.to_string().as_bytes()))
    };
    let (reason, kind) = match (unreadable.iter().find(is_wanted), wanted) {
        (Some(damaged), _) => (told(damaged), FailureKind::Unverified),
        (None, Some(id)) => (format!("there is no preserved original {id} of it"), FailureKind::No),
        (None, None) if of_repairs().next().is_some() => (
            "no repair replaced anything: what is preserved is what was in place (--set takes it all the same)"
                .to_owned(),
            FailureKind::No,
        ),
        (None, None) => ("there is no preserved original of it".to_owned(), FailureKind::No),
    };
    Err(OperationError::Refused {
        what: what.to_owned(),
        reason,
        kind,
        hint: Some(format!("see: svc-repair list {}", quoted(database))),
    })
}

fn told(unreadable: &Unreadable) -> String {
    format!("what is preserved in {} can't be used: {}", unreadable.directory.display(), unreadable.reason)
}

/// Removes what was moved aside where it is what was preserved. The answer is what a person should know.
pub(super) fn settled(set: &Preserved, aside: &Path, cancel: &Cancel, observer: &dyn Observer) -> Option<String> {
    let aside_in = aside.display();
    match set.settle(aside, cancel, observer) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "what was replaced is in use, or was written after it was preserved: it is kept in {aside_in}, and what it has \
             beside the preserved original is not in the new database"
        )),
        Err(error) => Some(format!("what was replaced is also in {aside_in}: {error}")),
    }
}

/// What an interrupted run left in the sets: files that were moved aside, and reports of what never came to pass. The
/// lock of the database is held, and no replacement of it is in the journal.
pub(super) fn finish(database: &Path, sets: &[Preserved], cancel: &Cancel, observer: &dyn Observer) {
    let now = FileId::of(database).ok();
    for set in sets {
        for entry in std::fs::read_dir(&set.directory).into_iter().flatten().flatten() {
            if !entry.file_name().as_bytes().starts_with(ASIDE.as_bytes()) {
                continue;
            }
            if let Err(error) = set.settle(&entry.path(), cancel, observer) {
                tracing::warn!(%error, path = %entry.path().display(), "what was moved aside stays there");
            }
        }
        let report = set.directory.join(REPORT);
        let text = sqlite::read_small(&report, REPORT_MAX).ok();
        let decision = text.and_then(|text| serde_json::from_slice::<Decision>(&text).ok());
        if decision.is_some_and(|decision| is_void(&decision, now))
            && let Err(error) = remove_durably(&report)
        {
            tracing::warn!(%error, path = %report.display(), "a report of what never came to pass stays");
        }
    }
}

/// Refuses what could not be preserved and replaced, before anything is stopped for it.
pub(super) fn refuse_names(database: &Path, what: &str) -> Result<(), OperationError> {
    if std::fs::metadata(database).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() > 1) {
        return Err(OperationError::Refused {
            what: what.to_owned(),
            reason: "the file has more than one name (hard links): the others would keep the old content, and whoever \
                     opens a database by two names damages it"
                .to_owned(),
            kind: FailureKind::Unsafe,
            hint: Some(format!("find them with `find DIR -samefile {}`, and remove all but one", quoted(database))),
        });
    }
    // The longest of the names beside it.
    let added = format!("{}{}", sqlite::PRESERVED_INFIX, BackupId::fresh()).len();
    let length = database.file_name().unwrap_or_default().len();
    if length + added > NAME_MAX {
        let most = NAME_MAX - added;
        let reason =
            format!("its name has {length} bytes, and what is preserved beside it needs one of {most} at most");
        return Err(refused(what, reason, FailureKind::Unsafe));
    }
    Ok(())
}

/// The preserved sets of a database, or of all databases in a directory, the oldest of each first.
///
/// # Errors
/// When the directory can't be listed; where the path is no database, and nothing is preserved of it.
pub fn preserved(path: &Path) -> Result<Listing, OperationError> {
    let what = format!("list what is preserved of {}", path.display());
    let path = real_path(path);
    let (sets, unreadable) = if path.is_dir() {
        sqlite::preserved_in(&path).during(what.as_str())?
    } else if parent_of(&path).is_dir() {
        sqlite::preserved_of(&path).during(what.as_str())?
    } else {
        (Vec::new(), Vec::new())
    };
    if sets.is_empty() && unreadable.is_empty() && !path.is_dir() {
        // One that is damaged or in use is a database all the same.
        if let Err(
            error @ (SqliteError::Missing { .. } | SqliteError::NotAFile { .. } | SqliteError::NotSqlite { .. }),
        ) = sqlite::identify(&path)
        {
            return Err(error).during(what);
        }
    }
    let unreadable =
        unreadable.into_iter().map(|it| UnreadableSet { directory: RawPath(it.directory), reason: it.reason });
    Ok(Listing { sets: sets.into_iter().map(listed).collect(), unreadable: unreadable.collect() })
}

fn listed(set: Preserved) -> ListedSet {
    let name = set.manifest.database.0.file_name().unwrap_or_default();
    let now = FileId::of(&parent_of(&set.directory).join(name)).ok();
    ListedSet {
        outcome: decision_of(&set, now).map(|decision| decision.outcome),
        bytes: set.manifest.files.iter().map(|file| file.bytes).sum(),
        directory: RawPath(set.directory),
        id: set.manifest.id,
        database: set.manifest.database,
        created: set.manifest.created,
        before: set.manifest.before,
    }
}
