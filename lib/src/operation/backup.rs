//! Backup: lock, plan, take, bring the service back, verify what was written, publish.

mod facts;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::facts::{facts, refuse_other_sources, report, target_name};
pub(super) use self::facts::{identify, mode_word, refuse_live, refuse_store_inside};
use super::common::{begin, lock_keys, milliseconds, real_path, refused, tell};
use super::error::{During, OperationError};
use super::lifecycle::{stop_plan, stop_word};
use super::request::{BackupMode, BackupReport, BackupRequest};
use super::resume::resumed;
use super::verification::{Judged, check_payload, common_rungs};
use crate::archive::{ArchiveError, Backup, Draft, Estimate, Payload, PayloadKind, Store, TreeRequest};
use crate::controller::ServiceController;
use crate::database::sqlite::{self, Snapshot, SnapshotRequest};
use crate::failure::FailureKind;
use crate::lock::{Holder, OperationLock};
use crate::name::TargetName;
use crate::plan;
use crate::quiesce::{Context, NotBack, Return, StopOutcome, quiesce};
use crate::world::raw_path::RawPath;

/// What was taken while the service was away or held, and how it is now.
struct Taken {
    snapshots: Vec<Snapshot>,
    downtime: Option<Duration>,
    returned: Option<Return>,
    stop: StopOutcome,
}

/// Backs databases and files up. The service is brought back before anything is verified or published.
///
/// # Errors
/// Those of the parts, and [`OperationError::NotBack`], which outranks them.
pub fn backup(
    context: &Context,
    service: Option<&dyn ServiceController>,
    request: &BackupRequest,
) -> Result<BackupReport, OperationError> {
    let databases: Vec<PathBuf> = request.databases.iter().map(|path| real_path(path)).collect();
    let name = target_name(service, request)?;
    let label = service.map_or_else(|| name.to_string(), |service| service.label());
    let what = format!("back up {label}");
    let sizes = identify(&databases, &what)?;
    let facts = facts(service, request, &databases, &sizes, &name)?;
    let mut report = report(&name, request, &databases, plan::backup_steps(&facts));
    if request.dry_run {
        if let Ok(store) = Store::open(&request.store)
            && request.name.is_none()
        {
            refuse_other_sources(&store, &name, &databases, &what)?;
        }
        return Ok(report);
    }
    let keys = lock_keys(service, &databases)?;
    let lock = begin(context, "backup", &label, &keys, request.service.wait)?;
    refuse_store_inside(&request.store, &request.includes.patterns, &what)?;
    let is_new = std::fs::symlink_metadata(&request.store).is_err();
    let store = Store::create(&request.store).during(what.as_str())?;
    // All that can be known is known before anything is stopped.
    if request.name.is_none() {
        refuse_other_sources(&store, &name, &databases, &what)?;
    }
    if let Err(error) = check_room(context, &store, &name, request, &databases, &sizes).during(what.as_str()) {
        if is_new {
            // Nothing is in it yet.
            drop(std::fs::remove_dir(&request.store));
        }
        return Err(error);
    }
    let holder = Holder::own("backup", &label).map_err(|e| refused(&what, e.to_string(), FailureKind::Failed))?;
    let mut draft = store.begin(&name, &holder, &context.cancel).during(what.as_str())?;
    draft.describe(mode_word(request.mode), service.map(|service| service.label()).as_deref());
    draft.pack(request.compression, None);

    let job = Job { context, request, databases: &databases, what: &what };
    let (taken, not_back) = job.take(&lock, service, &mut draft)?;
    let stored = taken.and_then(|taken| job.store(&store, draft, taken, &mut report));
    settle(stored, not_back, report)
}

/// That the includes are there and the store is not among them, and that all of it finds room.
fn check_room(
    context: &Context,
    store: &Store,
    name: &TargetName,
    request: &BackupRequest,
    databases: &[PathBuf],
    sizes: &[u64],
) -> Result<(), ArchiveError> {
    let tree = TreeRequest { includes: &request.includes.patterns, databases };
    let measured = match tree.includes {
        [] => None,
        _ => Some(store.measure_tree(&tree, &context.cancel)?),
    };
    store.check_space(name, &Estimate::of(sizes, measured))
}

/// Both results survive: 'not back' outranks, and says beside what became of the backup.
fn settle(
    stored: Result<Backup, OperationError>,
    not_back: Option<NotBack>,
    mut report: BackupReport,
) -> Result<BackupReport, OperationError> {
    if let Some(not_back) = not_back {
        let work = match &stored {
            Ok(backup) => format!("the backup {} was stored and verified", backup.manifest().id),
            Err(error) => error.to_string(),
        };
        return Err(OperationError::NotBack { service: not_back.service, reason: not_back.reason, work: Some(work) });
    }
    let backup = stored?;
    let manifest = backup.manifest();
    report.backup = Some(manifest.id.clone());
    report.path = Some(RawPath(backup.dir().to_owned()));
    report.stored_bytes = manifest.payloads.iter().map(|payload| payload.stored_bytes).sum();
    report.content_bytes = manifest.payloads.iter().map(|payload| payload.content_bytes).sum();
    report.rungs = common_rungs(manifest.payloads.iter().map(|payload| (payload.kind, &payload.rungs[..])));
    tell(&mut report.notices, &manifest.notes);
    Ok(report)
}

/// The parts of one backup.
struct Job<'a> {
    context: &'a Context,
    request: &'a BackupRequest,
    databases: &'a [PathBuf],
    what: &'a str,
}

impl Job<'_> {
    /// The snapshots, and whether a service that was stopped for them is back. The outer error: nothing was stopped,
    /// or the stop itself failed.
    #[allow(clippy::type_complexity)]
    fn take(
        &self,
        lock: &OperationLock,
        service: Option<&dyn ServiceController>,
        draft: &mut Draft,
    ) -> Result<(Result<Taken, OperationError>, Option<NotBack>), OperationError> {
        match (self.request.mode, service) {
            (BackupMode::Cold, Some(service)) => self.take_cold(lock, service, draft),
            (BackupMode::Cold, None) => {
                refuse_live(self.databases, self.what)?;
                // Nobody has them open: the snapshot of a database at rest is its copy, checked against a late comer.
                Ok((self.take_running(draft, sqlite::snapshot_hot), None))
            }
            (BackupMode::Hot, _) => Ok((self.take_running(draft, sqlite::snapshot_hot), None)),
            (BackupMode::Fenced, _) => Ok((self.take_running(draft, sqlite::snapshot_fenced), None)),
        }
    }

    fn take_running(
        &self,
        draft: &mut Draft,
        snapshot: fn(&SnapshotRequest<'_>) -> Result<Vec<Snapshot>, sqlite::SqliteError>,
    ) -> Result<Taken, OperationError> {
        self.context.observer.step("taking the snapshot");
        let snapshots = snapshot(&self.snapshot_request(draft.scratch())).during(self.what)?;
        self.add_includes(draft)?;
        Ok(Taken { snapshots, downtime: None, returned: None, stop: StopOutcome::Clean })
    }

    fn take_cold(
        &self,
        lock: &OperationLock,
        service: &dyn ServiceController,
        draft: &mut Draft,
    ) -> Result<(Result<Taken, OperationError>, Option<NotBack>), OperationError> {
        let options =
            super::request::ServiceOptions { databases: self.databases.to_vec(), ..self.request.service.clone() };
        let quiesced = quiesce(lock, self.context, service, &stop_plan("backup", &options)).during(self.what)?;
        self.context.observer.step("copying at rest");
        let copied = sqlite::take_cold(&self.snapshot_request(draft.scratch()), &quiesced.at_rest()).during(self.what);
        // Files that belong to a cold backup are of the same instant as its databases.
        let copied = copied.and_then(|copied| self.add_includes(draft).map(|()| copied));
        let (since, was_up, stop) = (quiesced.since(), quiesced.was_up(), quiesced.outcome());
        let returned = quiesced.resume();
        let downtime = was_up.then(|| since.elapsed());
        let (returned, not_back) = match returned {
            Ok(returned) => (Some(returned), None),
            Err(not_back) => (None, Some(not_back)),
        };
        // Recovery of the copy (a WAL, a hot journal) comes after the service is back.
        let taken = copied.and_then(|copied| {
            let snapshots = sqlite::finish_cold(copied).during(self.what)?;
            Ok(Taken { snapshots, downtime, returned, stop })
        });
        Ok((taken, not_back))
    }

    fn snapshot_request<'b>(&'b self, into: &'b Path) -> SnapshotRequest<'b> {
        SnapshotRequest {
            databases: self.databases,
            into,
            fence_hold_max: self.request.fence_hold_max,
            cancel: &self.context.cancel,
            observer: self.context.observer.as_ref(),
        }
    }

    fn add_includes(&self, draft: &mut Draft) -> Result<(), OperationError> {
        let patterns = &self.request.includes.patterns;
        if patterns.is_empty() {
            return Ok(());
        }
        self.context.observer.step("packing the files");
        let request = TreeRequest { includes: patterns, databases: self.databases };
        draft.add_tree("files", &request, self.context.observer.as_ref()).during(self.what).map(|_| ())
    }

    fn store(
        &self,
        store: &Store,
        mut draft: Draft,
        taken: Taken,
        report: &mut BackupReport,
    ) -> Result<Backup, OperationError> {
        let observer = self.context.observer.as_ref();
        for snapshot in &taken.snapshots {
            let name = payload_name(&snapshot.source, draft.payloads(), None);
            draft.add_file(PayloadKind::Sqlite, &name, &snapshot.source, &snapshot.file, observer).during(self.what)?;
            // Its bytes are in the store now, and the verification needs the room.
            if let Err(error) = std::fs::remove_file(&snapshot.file) {
                tracing::warn!(%error, file = %snapshot.file.display(), "a scratch copy could not be removed");
            }
        }
        observer.step("verifying what was written");
        let mut check = check_payload(Judged::Source, &self.context.cancel, observer);
        let verified = draft.verify(&mut check, observer).during(self.what)?;
        let backup = store.publish(verified).during(self.what)?;
        let longest = taken.snapshots.iter().map(|snapshot| snapshot.stall).max();
        report.writer_stall_ms = longest.filter(|_| self.request.mode != BackupMode::Cold).map(milliseconds);
        report.downtime_ms = taken.downtime.map(milliseconds);
        report.service = taken.returned.map(resumed);
        match taken.stop {
            StopOutcome::Clean => {}
            StopOutcome::EndNotSeen => {
                report
                    .notices
                    .push("the service ended, and nobody could say how: svckit had not started it".to_owned());
            }
            worse => report.notices.push(format!("the stop of the service was {}", stop_word(worse))),
        }
        Ok(backup)
    }
}

/// The file's name; where two databases share one, numbered. Of a group's member with its name before it.
pub(super) fn payload_name(source: &Path, taken: &[Payload], member: Option<&TargetName>) -> String {
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let name = member.map_or_else(|| name.to_string(), |member| format!("{member}/{name}"));
    let is_free = |name: &String| !taken.iter().any(|payload| payload.name == *name);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
}
