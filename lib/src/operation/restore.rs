//! Restore: choose, extract and check beside the target, quiesce, keep what is replaced, roll forward, resume.

mod destination;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use self::destination::{Destination, Item};
use super::common::{begin, lock_keys};
use super::error::{During, OperationError};
use super::held::{Change, Held, Prepared, clear, remove_kept};
use super::prove::is_dump;
use super::request::{RestoreReport, RestoreRequest};
use super::staging;
use crate::archive::{ArchiveError, Backup, Store};
use crate::controller::ServiceController;
use crate::database::sqlite::replace;
use crate::failure::FailureKind;
use crate::journal::Replacement;
use crate::name::{BackupId, TargetName};
use crate::quiesce::Context;
use crate::world::disk::parent_of;
use crate::world::raw_path::RawPath;

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
    let wanted = (&request.target, request.backup.as_ref());
    let backup = choose(context, &store, wanted, &mut notices, &what)?;
    let backup = of_member(backup, request.member.as_ref(), &what)?;
    if is_dump(&backup) {
        return Err(OperationError::Refused {
            what,
            reason: format!("{} is a dump of a server", backup.manifest().id),
            kind: FailureKind::Usage,
            hint: Some("restore it into a server: --container NAME in place of --to".to_owned()),
        });
    }
    let destination = Destination::of(&backup, request, &what)?;
    notices.extend(destination.notices.iter().cloned());
    notices.extend(destination.of_others(&store));
    let mut report = RestoreReport {
        target: request.target.clone(),
        backup: backup.manifest().id.clone(),
        restored: Vec::new(),
        kept: Vec::new(),
        downtime_ms: None,
        service: None,
        plan: destination.plan(service, &backup),
        notices,
    };
    if request.dry_run {
        return Ok(report);
    }
    let _made = destination.make(&what)?;
    let keys = lock_keys(service, &destination.locked())?;
    let label = service.map_or_else(|| request.target.to_string(), |service| service.label());
    let lock = begin(context, "restore", &label, &keys, request.service.wait)?;
    destination.locked().iter().for_each(|path| staging::sweep(path));
    destination.check_space(&what)?;
    let mut staging = Some(staging::announce(context, &lock, &destination.staging(), &what)?);
    let staged = destination.stage(context, &backup, &what);
    let targets: Vec<PathBuf> = destination.items.iter().map(|item| item.target.clone()).collect();
    let held = Held {
        context,
        lock: &lock,
        service,
        options: &request.service,
        operation: "restore",
        databases: &targets,
        what: &what,
    };
    let done = staged.and_then(|()| {
        let mut placing = Placing { destination: &destination, what: &what, report: &mut report };
        if targets.is_empty() {
            // Files alone go beside what there is: nobody has to stop for them.
            let _told_by_the_report = placing.placed(&[]);
            return Ok(());
        }
        let changed = held.change(&mut staging, &mut placing)?;
        (report.downtime_ms, report.service) = (changed.milliseconds, changed.service);
        report.notices.extend(changed.notices);
        Ok(())
    });
    // What an interrupted replacement still needs stays: resume finishes that first.
    clear(&mut staging);
    done?;
    Ok(report)
}

/// So often the newest backup is looked for, where those that are listed are expired before they are read.
const LOOKS_MAX: usize = 20;

/// The named backup, or the newest whose bytes are as they were written; held, so that it is there until it is restored.
pub(super) fn choose(
    context: &Context,
    store: &Store,
    (target, id): (&TargetName, Option<&BackupId>),
    notices: &mut Vec<String>,
    what: &str,
) -> Result<Backup, OperationError> {
    if let Some(id) = id {
        let backup = store.backup(target, id).and_then(Backup::held).during(what)?;
        backup.verify_hashes(&context.cancel).during(what)?;
        return Ok(backup);
    }
    let mut last_error = None;
    let mut looks = 1;
    'anew: loop {
        let mut passed_over = Vec::new();
        for found in store.backups(target).during(what)?.into_iter().rev() {
            let held = found.backup.and_then(Backup::held);
            match held.and_then(|backup| backup.verify_hashes(&context.cancel).map(|()| backup)) {
                Ok(backup) => {
                    notices.append(&mut passed_over);
                    return Ok(backup);
                }
                // What has expired it keeps newer ones, which were not there when these were listed.
                Err(ArchiveError::Expired { .. }) if looks < LOOKS_MAX => {
                    (looks, last_error) = (looks + 1, None);
                    continue 'anew;
                }
                Err(error) => {
                    passed_over.push(format!("passed over: {error}"));
                    last_error = last_error.or(Some(error));
                }
            }
        }
        notices.append(&mut passed_over);
        break;
    }
    match last_error {
        Some(error) => Err(error).during(what),
        None => Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("the store has no backup of {target}"),
            kind: FailureKind::No,
            hint: Some(format!("`svc-backup list --from {}` shows what it has", store.root().display())),
        }),
    }
}

/// What it has of one member, where it is a group's.
pub(super) fn of_member(backup: Backup, member: Option<&TargetName>, what: &str) -> Result<Backup, OperationError> {
    let members: Vec<String> = backup.members().iter().map(ToString::to_string).collect();
    let refuse = |reason: String, hint: String| {
        Err(OperationError::Refused { what: what.to_owned(), reason, kind: FailureKind::Usage, hint: Some(hint) })
    };
    let id = &backup.manifest().id;
    match member {
        None if members.is_empty() => Ok(backup),
        None => refuse(
            format!("{id} is a group's: which member?"),
            format!("one at a time: --member {}", members.join(", or --member ")),
        ),
        Some(_) if members.is_empty() => refuse(format!("{id} is no group's"), "leave --member out".to_owned()),
        Some(member) if !members.iter().any(|known| known == member.as_str()) => {
            refuse(format!("{id} has no member {member}"), format!("it has: {}", members.join(", ")))
        }
        Some(member) => backup.of_member(member).during(what),
    }
}

/// The backup's databases take the place of what is there.
struct Placing<'a> {
    destination: &'a Destination,
    what: &'a str,
    report: &'a mut RestoreReport,
}

impl Change for Placing<'_> {
    fn prepare(&mut self) -> Result<Prepared, OperationError> {
        let mut prepared = Vec::new();
        for item in &self.destination.items {
            let kept = kept_dir(item, &self.report.backup);
            match replace::prepare(&item.target, &item.staged, &kept).during(self.what) {
                Ok(replacement) => prepared.push(replacement),
                Err(error) => {
                    drop(std::fs::remove_dir(&kept));
                    remove_kept(&prepared);
                    return Err(error);
                }
            }
        }
        Ok(Prepared { replacements: prepared, untouched: Vec::new() })
    }

    fn placed(&mut self, prepared: &[Replacement]) -> String {
        let report = &mut *self.report;
        report.restored = self.destination.items.iter().map(|item| RawPath(item.target.clone())).collect();
        let replaced = prepared.iter().filter(|replacement| !replacement.old.is_empty());
        report.kept = replaced.map(|replacement| replacement.kept.clone()).collect();
        self.destination.complete(report);
        format!("{} is in place; what it replaced is in {}", report.backup, shown(&report.kept))
    }
}

fn shown(paths: &[RawPath]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| path.0.display().to_string()).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

/// With random digits: two restores of one backup within a second must not keep two databases in one place.
fn kept_dir(item: &Item, id: &BackupId) -> PathBuf {
    let mut name = item.target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".svckit-kept-{}-{id}", BackupId::fresh()));
    parent_of(&item.target).join(name)
}
