//! What is known, and refused, before a backup begins.

use std::path::{Path, PathBuf};

use super::super::common::{real_path, refused};
use super::super::error::{During, OperationError};
use super::super::request::{BackupMode, BackupReport, BackupRequest};
use crate::archive::{PayloadKind, Store};
use crate::controller::ServiceController;
use crate::database::sqlite;
use crate::failure::FailureKind;
use crate::name::TargetName;
use crate::plan;
use crate::sqlite_locks;
use crate::world::raw_path::RawPath;

/// Before the store is created: one inside what it backs up would grow with every backup.
pub(in crate::operation) fn refuse_store_inside(
    store: &Path,
    includes: &[PathBuf],
    what: &str,
) -> Result<(), OperationError> {
    let store = real_path(store);
    match includes.iter().find(|include| store.starts_with(real_path(include))) {
        Some(include) => Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("the store {} lies inside the source {}", store.display(), include.display()),
            kind: FailureKind::Usage,
            hint: Some("choose a store outside of it, or include less".to_owned()),
        }),
        None => Ok(()),
    }
}

/// How large each of them is, with its log; and that it is one.
pub(in crate::operation) fn identify(databases: &[PathBuf], what: &str) -> Result<Vec<u64>, OperationError> {
    let mut sizes = Vec::new();
    for path in databases {
        let identity = sqlite::identify(path).during(what)?;
        let wal = std::fs::metadata(sqlite_locks::side_file(path, "-wal")).map_or(0, |wal| wal.len());
        sizes.push(identity.bytes + wal);
    }
    Ok(sizes)
}

/// A cold backup without a service is one of a database that nobody has open.
pub(in crate::operation) fn refuse_live(databases: &[PathBuf], what: &str) -> Result<(), OperationError> {
    for path in databases {
        let openers = sqlite_locks::openers(path).map_err(|e| {
            refused(what, format!("can't see who has {} open: {e}", path.display()), FailureKind::WriteInFlight)
        })?;
        if let Some(opener) = openers.first() {
            return Err(OperationError::Refused {
                what: what.to_owned(),
                reason: format!("process {} has {} open", opener.process.pid, path.display()),
                kind: FailureKind::WriteInFlight,
                hint: Some("name the service, so that it can be stopped for the copy, or use --mode hot".to_owned()),
            });
        }
    }
    Ok(())
}

pub(super) fn facts(
    service: Option<&dyn ServiceController>,
    request: &BackupRequest,
    databases: &[PathBuf],
    sizes: &[u64],
    name: &TargetName,
) -> Result<plan::BackupFacts, OperationError> {
    let mut dependants = Vec::new();
    let mut described = None;
    if let Some(service) = service {
        let label = service.label();
        let running = service.state().during(format!("look at {label}"))?.activity.is_up();
        for dependant in service.dependants().during(format!("look at {label}"))? {
            if dependant.state().during(format!("look at {label}"))?.activity.is_up() {
                dependants.push(dependant.label());
            }
        }
        described = Some((label, running));
    }
    Ok(plan::BackupFacts {
        databases: databases.iter().cloned().zip(sizes.iter().copied()).collect(),
        includes: request.includes.patterns.clone(),
        mode: mode_word(request.mode),
        service: described,
        dependants,
        store: request.store.clone(),
        target: name.to_string(),
    })
}

pub(super) fn target_name(
    service: Option<&dyn ServiceController>,
    request: &BackupRequest,
) -> Result<TargetName, OperationError> {
    if let Some(name) = &request.name {
        return Ok(name.clone());
    }
    let text = match (service.map(|service| service.spec()), request.databases.first()) {
        (Some(crate::controller::ServiceSpec::Unit { name, .. }), _) => name.trim_end_matches(".service").to_owned(),
        (Some(crate::controller::ServiceSpec::Command { name, .. }), _) => name.to_string(),
        (Some(crate::controller::ServiceSpec::Container(container)), _) => container.name,
        (_, Some(first)) => first.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        (_, None) => {
            return Err(refused("back up", "neither a database nor a service is named", FailureKind::Usage));
        }
    };
    plan::name_from(&text).parse().during("name the target")
}

/// A name that nobody gave is one that another database may have, too: two files `db.sqlite3`, say. Under one name the
/// backups of one would be expired, and restored, as those of the other.
pub(super) fn refuse_other_sources(
    store: &Store,
    name: &TargetName,
    databases: &[PathBuf],
    what: &str,
) -> Result<(), OperationError> {
    let newest = store.backups(name).during(what)?.into_iter().rev().find_map(|found| found.backup.ok());
    let Some(newest) = newest else { return Ok(()) };
    let mut of_databases = newest.manifest().payloads.iter().filter(|payload| payload.kind != PayloadKind::Files);
    // More of them than before are an addition; one that is left out would lose its backups in time.
    match of_databases.find(|payload| !databases.contains(&payload.source)) {
        Some(payload) => Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!(
                "the newest backup of {name} in {} is of {}, which this one would not have",
                store.root().display(),
                payload.source.display()
            ),
            kind: FailureKind::Usage,
            hint: Some(format!(
                "give this one a name of its own: --name OTHER; or, where it takes the place of that one: --name {name}"
            )),
        }),
        None => Ok(()),
    }
}

pub(super) fn report(
    name: &TargetName,
    request: &BackupRequest,
    databases: &[PathBuf],
    plan: Vec<String>,
) -> BackupReport {
    BackupReport {
        target: name.clone(),
        backup: None,
        path: None,
        mode: request.mode,
        databases: databases.iter().cloned().map(RawPath).collect(),
        stored_bytes: 0,
        content_bytes: 0,
        rungs: Vec::new(),
        writer_stall_ms: None,
        downtime_ms: None,
        service: None,
        plan,
        notices: Vec::new(),
    }
}

pub(in crate::operation) fn mode_word(mode: BackupMode) -> &'static str {
    match mode {
        BackupMode::Hot => "hot",
        BackupMode::Fenced => "fenced",
        BackupMode::Cold => "cold",
    }
}
