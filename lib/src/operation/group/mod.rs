//! A group: members that belong together, taken under one manifest, as a whole or not at all.
//!
//! What 'together' means:
//! - Every member that is taken cold is stopped before the first byte of any member is copied, and none of them is started
//!   before the last copy and the last dump have ended.
//! - Dumps of servers are begun while all of those are down, one right after the other. Each is of one instant of its own
//!   server (of each database, for PostgreSQL); nothing makes the instants of two servers the same. Where what writes to
//!   them is among the stopped members, there is nothing between them.
//! - SQLite databases of members that run are taken while the cold ones are down, all of them at one instant.
//! - The manifest is one: nothing is visible before all members are in the store and verified.

mod take;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use self::take::{Prepared, Taken, prepare, take};
use super::backup::{mode_word, refuse_store_inside};
use super::common::{begin, lock_keys, milliseconds, refused, tell};
use super::dump::DumpedDatabase;
use super::error::{During, OperationError};
use super::lifecycle::stop_plan;
use super::request::{BackupMode, Includes, Resumed, ServiceOptions};
use super::resume::resumed;
use super::server::ServerPlace;
use super::verification::{Judged, boxed, check_payload, common_rungs};
use crate::archive::{Backup, Checked, Content, Draft, Estimate, Payload, PayloadKind, Store, TreeRequest};
use crate::compression::Compression;
use crate::controller::ServiceController;
use crate::database::server::{SecretFile, ServerSpec};
use crate::failure::{Failure, FailureKind};
use crate::lock::{Holder, OperationLock, Wait};
use crate::name::{BackupId, TargetName};
use crate::quiesce::{Context, NotBack, Quiesced, quiesce};
use crate::world::raw_path::RawPath;

/// A backup of several targets that belong together.
pub struct GroupRequest {
    /// The group's name: its directory in the store.
    pub name: TargetName,
    /// Its members, in the order in which they are started again; they are stopped in the other.
    pub members: Vec<GroupMember>,
    /// The store's directory; created where its parent exists.
    pub store: PathBuf,
    /// The directory in which systemd hands credentials over, where it does.
    pub credentials: Option<PathBuf>,
    /// The longest time that writers may be made to wait for databases that are taken hot or fenced.
    pub fence_hold_max: Duration,
    /// What to do when another operation holds a lock of a member.
    pub wait: Wait,
    /// Only plan.
    pub dry_run: bool,
}

/// One of them.
pub struct GroupMember {
    /// Its name within the group.
    pub name: TargetName,
    /// How it is compressed.
    pub compression: Compression,
    /// What it has.
    pub data: MemberData,
}

/// What a member has.
pub enum MemberData {
    /// Databases and files, and perhaps a service.
    Files(Box<MemberFiles>),
    /// The databases of a server.
    Server(Box<(ServerPlace, ServerSpec)>),
}

/// Databases and files of a member.
pub struct MemberFiles {
    /// The SQLite databases.
    pub databases: Vec<PathBuf>,
    /// The files beside them.
    pub includes: Includes,
    /// How they are taken.
    pub mode: BackupMode,
    /// The service that uses them.
    pub controller: Option<Box<dyn ServiceController>>,
    /// How that is treated.
    pub service: ServiceOptions,
}

/// What became of a member.
#[derive(Debug, Clone, Serialize)]
pub struct GroupedMember {
    /// Its name.
    pub member: TargetName,
    /// How it was taken: `hot`, `fenced`, `cold`, or `dump`.
    pub mode: String,
    /// How long its service was away.
    pub downtime_ms: Option<f64>,
    /// How its service is now, where it was stopped.
    pub service: Option<Resumed>,
    /// Its SQLite databases.
    pub databases: Vec<RawPath>,
    /// The databases of its server.
    pub dumped: Vec<DumpedDatabase>,
}

/// What a group's backup did. `Serialize` is the `--json` form.
#[derive(Debug, Clone, Serialize)]
pub struct GroupReport {
    /// The group's name in the store.
    pub target: TargetName,
    /// The backup; `None` for a dry run.
    pub backup: Option<BackupId>,
    /// Where it is.
    pub path: Option<RawPath>,
    /// Its members.
    pub members: Vec<GroupedMember>,
    /// What it takes in the store, in bytes.
    pub stored_bytes: u64,
    /// What it holds, in bytes.
    pub content_bytes: u64,
    /// The rungs of verification that all of it passed.
    pub rungs: Vec<String>,
    /// The plan, a line each; the whole answer of a dry run.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// Backs a group up. Its services are back before anything is verified or published.
///
/// # Errors
/// Those of the parts: then nothing of any member is in the store. [`OperationError::NotBack`] outranks them.
pub fn backup_group(context: &Context, request: &GroupRequest) -> Result<GroupReport, OperationError> {
    let what = format!("back up the group {}", request.name);
    if request.members.is_empty() {
        return Err(refused(&what, "it has no members", FailureKind::Usage));
    }
    let prepared = prepare(context, request, &what)?;
    let mut report = report(request, &prepared);
    if request.dry_run {
        return Ok(report);
    }
    let mut keys = Vec::new();
    for member in &prepared {
        keys.extend(match member.attached() {
            Some(attached) => attached.lock_keys()?,
            None => lock_keys(member.service(), member.databases())?,
        });
    }
    let label = format!("group {}", request.name);
    let lock = begin(context, "backup", &label, &keys, request.wait)?;
    for attached in prepared.iter().filter_map(Prepared::attached) {
        SecretFile::sweep(&attached.session).during(what.as_str())?;
    }
    for files in prepared.iter().filter_map(Prepared::files) {
        refuse_store_inside(&request.store, &files.includes.patterns, &what)?;
    }
    let is_new = std::fs::symlink_metadata(&request.store).is_err();
    let store = Store::create(&request.store).during(what.as_str())?;
    if let Err(error) = check_room(context, &store, request, &prepared, &what) {
        if is_new {
            // Nothing is in it yet.
            drop(std::fs::remove_dir(&request.store));
        }
        return Err(error);
    }
    let holder = Holder::own("backup", &label).map_err(|e| refused(&what, e.to_string(), FailureKind::Failed))?;
    let mut draft = store.begin(&request.name, &holder, &context.cancel).during(what.as_str())?;
    draft.describe("group", None);
    let (taken, not_back) = while_stopped(context, &lock, request, &prepared, &mut draft, &what, &mut report);
    let stored = taken.and_then(|taken| publish(context, &store, draft, &prepared, taken, &what, &mut report));
    match (stored, not_back) {
        (Ok(()), None) => Ok(report),
        (Err(error), None) => Err(error),
        (stored, Some(not_back)) => {
            let work = match stored {
                Ok(()) => "the backup was stored and verified".to_owned(),
                Err(error) => error.to_string(),
            };
            Err(OperationError::NotBack { service: not_back.service, reason: not_back.reason, work: Some(work) })
        }
    }
}

/// Stops every cold member, takes all, and brings every one back, whatever happened.
fn while_stopped(
    context: &Context,
    lock: &OperationLock,
    request: &GroupRequest,
    prepared: &[Prepared<'_>],
    draft: &mut Draft,
    what: &str,
    report: &mut GroupReport,
) -> (Result<Taken, OperationError>, Option<NotBack>) {
    let mut stopped: Vec<(usize, Quiesced<'_>)> = Vec::new();
    let mut failed = None;
    for index in stop_order(prepared) {
        let Some(files) = prepared[index].files().filter(|files| files.mode == BackupMode::Cold) else { continue };
        let Some(service) = files.controller.as_deref() else { continue };
        let options = ServiceOptions { databases: prepared[index].databases().to_vec(), ..files.service.clone() };
        match quiesce(lock, context, service, &stop_plan("backup", &options)) {
            Ok(quiesced) => stopped.push((index, quiesced)),
            Err(error) => {
                failed = Some(Err(error).during(what));
                break;
            }
        }
    }
    let taken = match failed {
        Some(failed) => failed,
        None => take(context, request, prepared, &stopped, draft, what),
    };
    let mut not_back = None;
    while let Some((index, quiesced)) = stopped.pop() {
        let (since, was_up) = (quiesced.since(), quiesced.was_up());
        match quiesced.resume() {
            Ok(returned) => report.members[index].service = Some(resumed(returned)),
            Err(error) => not_back = not_back.or(Some(error)),
        }
        report.members[index].downtime_ms = was_up.then(|| milliseconds(since.elapsed()));
    }
    (taken, not_back)
}

/// Who needs another of the group before that one, and else the last that is named first: the way back is the order in
/// which they are named.
fn stop_order(prepared: &[Prepared<'_>]) -> Vec<usize> {
    let labels: Vec<Option<String>> = prepared.iter().map(|member| member.service().map(|one| one.label())).collect();
    let dependants: Vec<Vec<String>> = prepared
        .iter()
        .map(|member| {
            let found = member.service().and_then(|service| service.dependants().ok()).unwrap_or_default();
            found.iter().map(|dependant| dependant.label()).collect()
        })
        .collect();
    let mut left: Vec<usize> = (0..prepared.len()).rev().collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let waits = |index: &usize| {
            left.iter().any(|other| labels[*other].as_ref().is_some_and(|label| dependants[*index].contains(label)))
        };
        // A circle is cut where it is met: a stop of one then stops the others as its dependants.
        let at = left.iter().position(|index| !waits(index)).unwrap_or(0);
        order.push(left.remove(at));
    }
    order
}

fn check_room(
    context: &Context,
    store: &Store,
    request: &GroupRequest,
    prepared: &[Prepared<'_>],
    what: &str,
) -> Result<(), OperationError> {
    let (mut sizes, mut tree) = (Vec::new(), None);
    for member in prepared {
        sizes.extend_from_slice(member.sizes());
        if let Some(files) = member.files().filter(|files| !files.includes.patterns.is_empty()) {
            let wanted = TreeRequest { includes: &files.includes.patterns, databases: member.databases() };
            let measured = store.measure_tree(&wanted, &context.cancel).during(what)?;
            let sum: &mut crate::archive::TreeSize = tree.get_or_insert_default();
            sum.entries += measured.entries;
            sum.bytes += measured.bytes;
        }
    }
    store.check_space(&request.name, &Estimate::of(&sizes, tree)).during(what)
}

/// Everything that was taken into the store, verified, and made a backup by one rename.
fn publish(
    context: &Context,
    store: &Store,
    mut draft: Draft,
    prepared: &[Prepared<'_>],
    taken: Taken,
    what: &str,
    report: &mut GroupReport,
) -> Result<(), OperationError> {
    let observer = context.observer.as_ref();
    let Taken { mut dumps, snapshots, raw } = taken;
    let mut all = snapshots;
    for (index, raw) in raw {
        let recovered = crate::database::sqlite::finish_cold(raw).during(what)?;
        all.extend(recovered.into_iter().map(|snapshot| (index, snapshot)));
    }
    for (index, snapshot) in &all {
        let member = &prepared[*index];
        let name = super::backup::payload_name(&snapshot.source, draft.payloads(), Some(member.name()));
        draft.pack(member.compression(), Some(member.name()));
        draft.add_file(PayloadKind::Sqlite, &name, &snapshot.source, &snapshot.file, observer).during(what)?;
        if let Err(error) = std::fs::remove_file(&snapshot.file) {
            tracing::warn!(%error, file = %snapshot.file.display(), "a scratch copy could not be removed");
        }
    }
    observer.step("verifying what was written");
    let mut of_files = check_payload(Judged::Source, &context.cancel, observer);
    let mut check = |payload: &Payload, content: Content<'_>| -> Result<Checked, Box<dyn Failure + Send + Sync>> {
        let Some((index, facts)) = dumps.get_mut(&payload.name) else { return of_files(payload, content) };
        let (Some(attached), Content::Stream(content)) = (prepared[*index].attached(), content) else {
            return Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null });
        };
        let mut rungs = vec!["exit status".to_owned(), "trailer".to_owned()];
        rungs.extend(attached.engine.check(&attached.session, facts, content).map_err(boxed)?);
        Ok(Checked { rungs, facts: serde_json::to_value(facts).unwrap_or_default() })
    };
    let verified = draft.verify(&mut check, observer).during(what)?;
    let backup = store.publish(verified).during(what)?;
    for (index, facts) in dumps.values() {
        let databases = facts.databases.iter().map(|(name, of)| DumpedDatabase {
            name: name.clone(),
            tables: of.tables.len(),
            rows: of.rows(),
        });
        report.members[*index].dumped.extend(databases);
    }
    complete(report, &backup);
    Ok(())
}

fn complete(report: &mut GroupReport, backup: &Backup) {
    let manifest = backup.manifest();
    report.backup = Some(manifest.id.clone());
    report.path = Some(RawPath(backup.dir().to_owned()));
    report.stored_bytes = manifest.stored_bytes();
    report.content_bytes = manifest.content_bytes();
    report.rungs = common_rungs(manifest.payloads.iter().map(|payload| (payload.kind, &payload.rungs[..])));
    tell(&mut report.notices, &manifest.notes);
}

fn report(request: &GroupRequest, prepared: &[Prepared<'_>]) -> GroupReport {
    let mode = |member: &Prepared<'_>| member.files().map_or("dump", |files| mode_word(files.mode)).to_owned();
    let members = prepared.iter().map(|member| GroupedMember {
        member: member.name().clone(),
        mode: mode(member),
        downtime_ms: None,
        service: None,
        databases: member.databases().iter().cloned().map(RawPath).collect(),
        dumped: Vec::new(),
    });
    let mut plan = Vec::new();
    let cold = |index: &usize| prepared[*index].files().is_some_and(|files| files.mode == BackupMode::Cold);
    let services = |order: Vec<usize>| -> Vec<String> {
        order.into_iter().filter(cold).filter_map(|index| Some(prepared[index].service()?.label())).collect()
    };
    let order = services(stop_order(prepared));
    plan.extend(order.iter().map(|label| format!("stop and hold {label}")));
    for member in prepared {
        plan.push(format!("take {} ({})", member.name(), mode(member)));
    }
    plan.extend(order.iter().rev().map(|label| format!("start {label} and wait until it is ready")));
    plan.push("read back what was written, and verify that".to_owned());
    plan.push(format!("publish all of it as one new backup of {} in {}", request.name, request.store.display()));
    GroupReport {
        target: request.name.clone(),
        backup: None,
        path: None,
        members: members.collect(),
        stored_bytes: 0,
        content_bytes: 0,
        rungs: Vec::new(),
        plan,
        notices: prepared.iter().flat_map(Prepared::notes).collect(),
    }
}
