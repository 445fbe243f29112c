//! Undo: a preserved original is put back, byte for byte, as safely as it was replaced.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::check::need_space;
use super::common::{begin, lock_keys, real_path, refused};
use super::error::{During, OperationError};
use super::held::{Held, clear};
use super::repair::REPORT;
use super::repair_report::{ListedSet, RepairOutcome, UndoReport, UndoRequest};
use super::staging;
use crate::controller::ServiceController;
use crate::database::sqlite::{self, Preserved, Untouched, replace};
use crate::failure::FailureKind;
use crate::name::BackupId;
use crate::quiesce::Context;
use crate::world::disk::{AtPath, parent_of};
use crate::world::raw_path::RawPath;

/// Puts a preserved original back: the database with its log or journal. What stands there now is preserved first.
///
/// # Errors
/// Those of the parts; until the replacement begins nothing is changed. [`OperationError::NotBack`] outranks them.
pub fn undo(
    context: &Context,
    service: Option<&dyn ServiceController>,
    request: &UndoRequest,
) -> Result<UndoReport, OperationError> {
    let database = real_path(&request.database);
    let what = format!("undo the repair of {}", request.database.display());
    let keys = lock_keys(service, std::slice::from_ref(&database))?;
    let label = service.map_or_else(|| database.display().to_string(), |service| service.label());
    let lock = begin(context, "undo", &label, &keys, request.service.wait)?;
    let (cancel, observer) = (&context.cancel, context.observer.as_ref());
    let set = choose(&database, request.set.as_ref(), &what)?;
    let mut report = UndoReport {
        database: RawPath(database.clone()),
        set: set.manifest.id.clone(),
        done: false,
        preserved: None,
        downtime_ms: None,
        service: None,
        plan: plan(service, &database, &set),
        notices: Vec::new(),
    };
    if request.dry_run {
        set.verify(cancel, observer).during(what.as_str())?;
        return Ok(report);
    }
    let directory = staging::directory_for(&database, &BackupId::fresh());
    staging::sweep(&database);
    let bytes: u64 = set.manifest.files.iter().map(|file| file.bytes).sum();
    let now = std::fs::metadata(&database).map_or(0, |metadata| metadata.len());
    need_space(parent_of(&database), bytes + now, &what)?;
    let mut staging = Some(staging::announce_for("undo", context, &lock, std::slice::from_ref(&directory), &what)?);
    let held = Held {
        context,
        lock: &lock,
        service,
        options: &request.service,
        operation: "undo",
        databases: std::slice::from_ref(&database),
        what: &what,
    };
    let made = DirBuilder::new().mode(0o700).create(&directory).at("create the directory", &directory);
    let mut replaced: Option<(Preserved, std::path::PathBuf)> = None;
    let changed = made.during(what.as_str()).and_then(|()| {
        // While the service still runs.
        let copies = set.copy_to(&directory, cancel, observer).during(what.as_str())?;
        let Some(((staged, _), beside)) = copies.split_first() else {
            return Err(refused(&what, "the preserved set has no database", FailureKind::Unverified));
        };
        held.change(&mut staging, &mut || {
            let untouched = Untouched::now(&database).during(what.as_str())?;
            let before = sqlite::preserve(&database, "undo", &directory, cancel, observer);
            let before = before.map_err(|error| untouched.verify().err().unwrap_or(error)).during(what.as_str())?;
            report.preserved = Some(RawPath(before.directory.clone()));
            untouched.verify().during(what.as_str())?;
            let kept = before.directory.join(format!("replaced-{}", BackupId::fresh()));
            let replacement = replace::prepare_with(&database, staged, beside, &kept).during(what.as_str())?;
            replaced = Some((before, kept));
            Ok(Some(replacement))
        })
    });
    clear(&mut staging);
    let changed = changed?;
    (report.downtime_ms, report.service, report.done) = (changed.milliseconds, changed.service, true);
    report.notices.extend(changed.notices);
    if let Some((before, kept)) = replaced
        && let Err(error) = before.take_in(&kept, cancel, observer)
    {
        report.notices.push(format!("what was replaced is also in {}: {error}", kept.display()));
    }
    Ok(report)
}

fn choose(database: &Path, wanted: Option<&BackupId>, what: &str) -> Result<Preserved, OperationError> {
    let sets = sqlite::preserved_sets(database).during(what)?;
    let found = sets.into_iter().rev().find(|set| match wanted {
        Some(id) => set.manifest.id == *id,
        None => set.manifest.before == "repair",
    });
    let which = wanted.map_or_else(String::new, |id| format!(" {id}"));
    found.ok_or_else(|| OperationError::Refused {
        what: what.to_owned(),
        reason: format!("there is no preserved original{which} of it"),
        kind: FailureKind::No,
        hint: Some(format!("see: svc-repair list {}", super::check::quoted(database))),
    })
}

fn plan(service: Option<&dyn ServiceController>, database: &Path, set: &Preserved) -> Vec<String> {
    let mut steps = vec![format!("copy {} and verify the copy", set.directory.display())];
    if let Some(service) = service {
        steps.push(format!("stop {}, prove that it is stopped, and hold it", service.label()));
    }
    steps.push(format!("preserve what is at {} now", database.display()));
    steps.push(format!("put the original of {} back, with its side files", set.manifest.created));
    if let Some(service) = service {
        steps.push(format!("start {} if it was running, and wait until it is ready", service.label()));
    }
    steps
}

/// The preserved sets of a database, or of all databases in a directory, the oldest first.
///
/// # Errors
/// When the directory can't be listed.
pub fn preserved(path: &Path) -> Result<Vec<ListedSet>, OperationError> {
    let what = format!("list what is preserved of {}", path.display());
    let path = real_path(path);
    let sets = if path.is_dir() { sqlite::preserved_in(&path) } else { sqlite::preserved_sets(&path) };
    Ok(sets.during(what)?.into_iter().map(listed).collect())
}

fn listed(set: Preserved) -> ListedSet {
    #[derive(serde::Deserialize)]
    struct Decision {
        outcome: RepairOutcome,
    }
    let report = std::fs::read(set.directory.join(REPORT)).ok();
    let decision = report.and_then(|text| serde_json::from_slice::<Decision>(&text).ok());
    ListedSet {
        bytes: set.manifest.files.iter().map(|file| file.bytes).sum(),
        directory: RawPath(set.directory),
        id: set.manifest.id,
        database: set.manifest.database,
        created: set.manifest.created,
        before: set.manifest.before,
        outcome: decision.map(|decision| decision.outcome),
    }
}
