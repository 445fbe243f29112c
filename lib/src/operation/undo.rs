//! Undo: a preserved original is put back, byte for byte, as safely as it was replaced.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::check::need_space;
use super::common::{begin, lock_keys, real_path, refused};
use super::error::{During, OperationError};
use super::held::{Held, clear};
use super::preserved::{ASIDE, Chosen, choose, finish, refuse_names, settled};
use super::repair_report::{UndoReport, UndoRequest};
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
    refuse_names(&database, &what)?;
    let (sets, unreadable) = sqlite::preserved_of(&database).during(what.as_str())?;
    let Chosen { set, notices } = choose(&database, &sets, &unreadable, request.set.as_ref(), &what)?;
    let mut report = UndoReport {
        database: RawPath(database.clone()),
        set: set.manifest.id.clone(),
        done: false,
        preserved: None,
        downtime_ms: None,
        service: None,
        plan: plan(service, &database, &set),
        notices,
    };
    if request.dry_run {
        set.verify(cancel, observer).during(what.as_str())?;
        return Ok(report);
    }
    let directory = staging::directory_for(&database, &BackupId::fresh());
    staging::sweep(&database);
    finish(&database, &sets, cancel, observer);
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
    let mut replaced: Option<(Option<Preserved>, PathBuf)> = None;
    let changed = made.during(what.as_str()).and_then(|()| {
        // While the service still runs.
        let copies = set.copy_to(&directory, cancel, observer).during(what.as_str())?;
        let Some(((staged, _), beside)) = copies.split_first() else {
            return Err(refused(&what, "the preserved set has no database", FailureKind::Unverified));
        };
        held.change(&mut staging, &mut || {
            let untouched = Untouched::now(&database).during(what.as_str())?;
            // Where the database is gone, what lies beside it is none of its own any more: it is kept, if there is any.
            let before = match database.symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                _ => {
                    let before = sqlite::preserve(&database, "undo", &sets, &directory, cancel, observer);
                    let before = before.map_err(|error| untouched.verify().err().unwrap_or(error));
                    Some(before.during(what.as_str())?)
                }
            };
            report.preserved = before.as_ref().map(|before| RawPath(before.directory.clone()));
            let kept = match &before {
                Some(before) => before.directory.join(format!("{ASIDE}{}", BackupId::fresh())),
                None => kept_beside(&database),
            };
            let replacement = replace::prepare_with(&database, staged, beside, &kept).during(what.as_str())?;
            replaced = Some((before, kept));
            Ok(Some((replacement, untouched)))
        })
    });
    clear(&mut staging);
    let changed = changed?;
    (report.downtime_ms, report.service, report.done) = (changed.milliseconds, changed.service, true);
    report.notices.extend(changed.notices);
    match replaced {
        Some((Some(before), aside)) => report.notices.extend(settled(&before, &aside, cancel, observer)),
        Some((None, kept)) if kept.exists() => {
            report.notices.push(format!("the database was gone; what lay beside it is in {}", kept.display()));
        }
        _ => {}
    }
    Ok(report)
}

fn kept_beside(database: &Path) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".svckit-kept-{}", BackupId::fresh()));
    parent_of(database).join(name)
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
