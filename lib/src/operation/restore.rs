//! Restore: choose, extract and check beside the target, quiesce, keep what is replaced, roll forward, resume.

mod in_place;
#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use self::in_place::Job;
use super::common::{begin, lock_keys, real_path, refused};
use super::error::{During, OperationError};
use super::request::{RestoreReport, RestoreRequest};
use super::staging;
use crate::archive::{Backup, Payload, PayloadKind, Store};
use crate::controller::ServiceController;
use crate::database::sqlite;
use crate::failure::FailureKind;
use crate::journal::OpenEntry;
use crate::name::BackupId;
use crate::quiesce::Context;
use crate::world::disk::{AtPath, parent_of};
use crate::world::raw_path::RawPath;

/// One database of the backup and where it goes.
struct Item {
    payload: Payload,
    target: PathBuf,
    staging: PathBuf,
    staged: PathBuf,
}

/// Restores a backup's databases, and unpacks its files where the destination is a directory.
///
/// # Errors
/// Those of the parts; until the roll-forward begins nothing is changed. [`OperationError::NotBack`] outranks them.
pub fn restore(
    context: &Context,
    service: Option<&dyn ServiceController>,
    request: &RestoreRequest,
) -> Result<RestoreReport, OperationError> {
    let what = format!("restore {} to {}", request.target, request.to.display());
    let store = Store::open(&request.store).during(what.as_str())?;
    let mut notices = Vec::new();
    let backup = choose(context, &store, request, &mut notices, &what)?;
    let items = items(&backup, request, &what)?;
    let mut report = RestoreReport {
        target: request.target.clone(),
        backup: backup.manifest().id.clone(),
        restored: Vec::new(),
        kept: Vec::new(),
        downtime_ms: None,
        service: None,
        plan: plan(service, &backup, &items),
        notices,
    };
    if request.dry_run {
        return Ok(report);
    }
    let targets: Vec<PathBuf> = items.iter().map(|item| item.target.clone()).collect();
    let keys = lock_keys(service, &targets)?;
    let label = service.map_or_else(|| request.target.to_string(), |service| service.label());
    let lock = begin(context, "restore", &label, &keys, request.service.wait)?;
    items.iter().for_each(|item| staging::sweep(&item.target));
    let directories: Vec<PathBuf> = items.iter().map(|item| item.staging.clone()).collect();
    let mut staging = Some(staging::announce(context, &lock, &directories, &what)?);
    let staged = stage(context, &backup, &items, &what);
    let job = Job { context, lock: &lock, request, items: &items, what: &what };
    let done = staged.and_then(|()| match service {
        Some(service) => job.with_service(service, &mut staging, &mut report),
        None => job.without_service(&mut report),
    });
    // What an interrupted replacement still needs stays: resume finishes that first.
    clear(&mut staging);
    done?;
    unpack_files(context, &backup, request, &mut report, &what)?;
    Ok(report)
}

/// The named backup, or the newest whose bytes are as they were written.
fn choose(
    context: &Context,
    store: &Store,
    request: &RestoreRequest,
    notices: &mut Vec<String>,
    what: &str,
) -> Result<Backup, OperationError> {
    if let Some(id) = &request.backup {
        let backup = store.backup(&request.target, id).during(what)?;
        backup.verify_hashes(&context.cancel).during(what)?;
        return Ok(backup);
    }
    let mut last_error = None;
    for found in store.backups(&request.target).during(what)?.into_iter().rev() {
        let checked = found.backup.and_then(|backup| backup.verify_hashes(&context.cancel).map(|()| backup));
        match checked {
            Ok(backup) => return Ok(backup),
            Err(error) => {
                notices.push(format!("passed over: {error}"));
                last_error = last_error.or(Some(error));
            }
        }
    }
    match last_error {
        Some(error) => Err(error).during(what),
        None => Err(refused(what, format!("the store has no backup of {}", request.target), FailureKind::No)),
    }
}

fn items(backup: &Backup, request: &RestoreRequest, what: &str) -> Result<Vec<Item>, OperationError> {
    let payloads: Vec<&Payload> =
        backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Sqlite).collect();
    let to_directory = request.to.is_dir();
    if payloads.len() > 1 && !to_directory {
        let reason = format!(
            "the backup holds {} databases that belong together, and {} is no directory",
            payloads.len(),
            request.to.display()
        );
        return Err(refused(what, reason, FailureKind::Usage));
    }
    let mut items = Vec::new();
    for payload in payloads {
        let target = if to_directory {
            let name = payload.source.file_name();
            let name =
                name.ok_or_else(|| refused(what, "a database in the backup has no name", FailureKind::Unverified))?;
            request.to.join(name)
        } else {
            request.to.clone()
        };
        let target = real_path(&target);
        if target.is_dir() {
            return Err(refused(what, format!("{} is a directory", target.display()), FailureKind::Usage));
        }
        if items.iter().any(|item: &Item| item.target == target) {
            let reason = format!("two databases of the backup have the name {}", target.display());
            return Err(refused(what, reason, FailureKind::Usage));
        }
        let staging = staging::directory_for(&target, &backup.manifest().id);
        let staged = staging.join(Backup::extracted_name(payload));
        items.push(Item { payload: payload.clone(), target, staging, staged });
    }
    Ok(items)
}

/// Extracts every database beside its target and checks it there, while the service still runs.
fn stage(context: &Context, backup: &Backup, items: &[Item], what: &str) -> Result<(), OperationError> {
    for item in items {
        context.observer.step(&format!("extracting {}", item.target.display()));
        DirBuilder::new().mode(0o700).create(&item.staging).at("create the directory", &item.staging).during(what)?;
        backup.extract(&item.payload, &item.staging, &context.cancel, context.observer.as_ref()).during(what)?;
        sqlite::validate(&item.staged, &context.cancel, context.observer.as_ref()).during(what)?;
    }
    Ok(())
}

/// With random digits: two restores of one backup within a second must not keep two databases in one place.
fn kept_dir(item: &Item, id: &BackupId) -> PathBuf {
    let mut name = item.target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".svckit-kept-{}-{id}", BackupId::fresh()));
    parent_of(&item.target).join(name)
}

fn clear(staging: &mut Option<OpenEntry>) {
    if let Some(entry) = staging.take()
        && let Err(error) = staging::clear(entry)
    {
        tracing::warn!(%error, "the staging could not be cleared; the next resume does");
    }
}

/// The files of the backup, into a directory of their own: they never overwrite what is there.
fn unpack_files(
    context: &Context,
    backup: &Backup,
    request: &RestoreRequest,
    report: &mut RestoreReport,
    what: &str,
) -> Result<(), OperationError> {
    for payload in backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Files) {
        if !request.to.is_dir() {
            report.notices.push("the backup also holds files: restore to a directory to get them".to_owned());
            continue;
        }
        let into = request.to.join(format!("files-{}", report.backup));
        std::fs::create_dir(&into).at("create the directory", &into).during(what)?;
        backup.extract(payload, &into, &context.cancel, context.observer.as_ref()).during(what)?;
        report.restored.push(RawPath(into));
    }
    Ok(())
}

fn plan(service: Option<&dyn ServiceController>, backup: &Backup, items: &[Item]) -> Vec<String> {
    let mut steps = Vec::new();
    for item in items {
        steps.push(format!("extract {} beside {} and check it", backup.manifest().id, item.target.display()));
    }
    if let Some(service) = service {
        steps.push(format!("stop {}, prove that it is stopped, and hold it", service.label()));
    }
    for item in items {
        steps.push(format!("keep {} and its side files aside, and put the backup in its place", item.target.display()));
    }
    if let Some(service) = service {
        steps.push(format!("start {} if it was running, and wait until it is ready", service.label()));
    }
    steps
}
