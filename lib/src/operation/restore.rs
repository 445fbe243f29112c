//! Restore: choose, extract and check beside the target, quiesce, keep what is replaced, roll forward, resume.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::common::{begin, lock_keys, milliseconds, real_path, refused};
use super::error::{During, OperationError};
use super::lifecycle::stop_plan;
use super::request::{RestoreReport, RestoreRequest, ServiceOptions};
use super::resume::{replay_entry, resumed};
use super::staging;
use crate::archive::{Backup, Payload, PayloadKind, Store};
use crate::controller::{ServiceController, ServiceSpec};
use crate::database::sqlite::{self, replace};
use crate::failure::FailureKind;
use crate::journal::{Entry, JOURNAL_VERSION, Journal, OpenEntry, Replacement};
use crate::lock::OperationLock;
use crate::name::BackupId;
use crate::quiesce::{Context, Quiesced, ResumeMode, quiesce};
use crate::sqlite_locks;
use crate::world::disk::{AtPath, parent_of};
use crate::world::raw_path::RawPath;
use crate::world::{ProcessId, clock};

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
        restored: items.iter().map(|item| RawPath(item.target.clone())).collect(),
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
    let done = staged.and_then(|()| match service {
        Some(service) => with_service(context, &lock, service, request, &items, &mut staging, &mut report, &what),
        None => without_service(context, &lock, &items, &mut report, &what),
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

fn prepare(items: &[Item], id: &BackupId, what: &str) -> Result<Vec<Replacement>, OperationError> {
    let mut prepared = Vec::new();
    for item in items {
        prepared.push(replace::prepare(&item.target, &item.staged, &kept_dir(item, id)).during(what)?);
    }
    Ok(prepared)
}

#[allow(clippy::too_many_arguments, reason = "one step of one story, cut out of it")]
fn with_service(
    context: &Context,
    lock: &OperationLock,
    service: &dyn ServiceController,
    request: &RestoreRequest,
    items: &[Item],
    staging: &mut Option<OpenEntry>,
    report: &mut RestoreReport,
    what: &str,
) -> Result<(), OperationError> {
    let databases = items.iter().map(|item| item.target.clone()).collect();
    let options = ServiceOptions { databases, ..request.service.clone() };
    let mut plan = stop_plan("restore", &options);
    plan.persistent_hold = matches!(service.spec(), ServiceSpec::Unit { .. });
    let mut quiesced = quiesce(lock, context, service, &plan).during(what)?;
    let mut prepared = Vec::new();
    let replaced = (|| {
        prepared = prepare(items, &report.backup, what)?;
        quiesced.record_replacements(prepared.clone()).during(what)?;
        for replacement in &prepared {
            replace::roll_forward(replacement).during(what)?;
        }
        quiesced.record_replacements(Vec::new()).during(what)
    })();
    let replaced = match replaced {
        Ok(()) => prepared,
        Err(error) if quiesced.has_replacements() && !taken_back(&mut quiesced, &prepared) => {
            // Half replaced: nobody may start it on that. The journal keeps the intent, and resume finishes it.
            let service = service.label();
            quiesced.leave_to_guard();
            let reason = format!("the replacement of its database was interrupted: {error}");
            return Err(OperationError::NotBack { service, reason, work: None });
        }
        Err(error) => {
            clear(staging);
            return Err(match quiesced.resume() {
                Ok(_) => error,
                Err(not_back) => OperationError::NotBack {
                    service: not_back.service,
                    reason: not_back.reason,
                    work: Some(error.to_string()),
                },
            });
        }
    };
    report.kept = kept(&replaced);
    // Before the service's own entry goes, and the guard with it: one of both is always there to clear it.
    clear(staging);
    let (since, was_up) = (quiesced.since(), quiesced.was_up());
    let returned = quiesced.resume();
    report.downtime_ms = was_up.then(|| milliseconds(since.elapsed()));
    match returned {
        Ok(returned) => {
            report.service = Some(resumed(returned));
            Ok(())
        }
        Err(not_back) => Err(OperationError::NotBack {
            service: not_back.service,
            reason: not_back.reason,
            work: Some(format!("{} is in place; what it replaced is in {}", report.backup, shown(&report.kept))),
        }),
    }
}

fn clear(staging: &mut Option<OpenEntry>) {
    if let Some(entry) = staging.take()
        && let Err(error) = staging::clear(entry)
    {
        tracing::warn!(%error, "the staging could not be cleared; the next resume does");
    }
}

/// Takes back what has begun, the last first, and says whether all of it is as it was.
fn taken_back(quiesced: &mut Quiesced<'_>, prepared: &[Replacement]) -> bool {
    for replacement in prepared.iter().rev() {
        if let Err(error) = replace::roll_back(replacement) {
            tracing::warn!(%error, target = %replacement.target.0.display(), "the replacement could not be taken back");
            return false;
        }
    }
    quiesced.record_replacements(Vec::new()).is_ok()
}

fn without_service(
    context: &Context,
    lock: &OperationLock,
    items: &[Item],
    report: &mut RestoreReport,
    what: &str,
) -> Result<(), OperationError> {
    for item in items.iter().filter(|item| item.target.exists()) {
        let openers = sqlite_locks::openers(&item.target)
            .map_err(|e| refused(what, format!("can't see who has it open: {e}"), FailureKind::WriteInFlight))?;
        if let Some(opener) = openers.first() {
            return Err(OperationError::Refused {
                what: what.to_owned(),
                reason: format!("process {} has {} open", opener.process.pid, item.target.display()),
                kind: FailureKind::WriteInFlight,
                hint: Some(
                    "name the service (--unit, --pid-file), so that it can be stopped for the restore".to_owned(),
                ),
            });
        }
    }
    let prepared = prepare(items, &report.backup, what)?;
    let owner = ProcessId::own().map_err(|e| refused(what, e.to_string(), FailureKind::Failed))?;
    let entry = Journal::at(context.dirs.journal())
        .create(Entry {
            version: JOURNAL_VERSION,
            id: BackupId::fresh(),
            operation: "restore".to_owned(),
            owner,
            created: clock::now_rfc3339(),
            lock_keys: lock.keys().cloned().collect(),
            services: Vec::new(),
            replacements: prepared.clone(),
            staging: Vec::new(),
        })
        .during(what)?;
    replay_entry(entry, ResumeMode::Now)?;
    report.kept = kept(&prepared);
    Ok(())
}

fn kept(replaced: &[Replacement]) -> Vec<RawPath> {
    replaced.iter().filter(|replacement| !replacement.old.is_empty()).map(|r| r.kept.clone()).collect()
}

fn shown(paths: &[RawPath]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| path.0.display().to_string()).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
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
