//! Earlier copies of a database, from the backups in a store: for a repair that needs its definitions, or its rows.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::{quoted, unit_of};
use super::common::real_path;
use super::error::{During, OperationError};
use crate::archive::{Backup, Payload, PayloadKind, Store};
use crate::controller::{Scope, ServiceController, ServiceSpec};
use crate::failure::FailureKind;
use crate::name::{BackupId, TargetName};
use crate::quiesce::Context;
use crate::sqlite_locks;
use crate::world::raw_path::RawPath;

/// Where backups of a database are.
#[derive(Debug, Clone)]
pub struct ReferenceRequest {
    /// The store's directory.
    pub store: PathBuf,
    /// The name in the store; `None`: whichever has backups of this very path.
    pub target: Option<TargetName>,
    /// Nobody has named it: that it has none, or is not there, is no failure.
    pub optional: bool,
}

/// A verified backup of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupOfIt {
    /// The store's directory.
    pub store: RawPath,
    /// The name in the store.
    pub target: TargetName,
    /// The backup.
    pub id: BackupId,
    /// When it was begun (RFC 3339, UTC).
    pub created: String,
}

/// The verified backups of a database, the oldest first.
#[derive(Debug)]
pub(super) struct Backups<'a> {
    request: &'a ReferenceRequest,
    database: &'a Path,
    found: Vec<Backup>,
}

impl<'a> Backups<'a> {
    /// Those that manifests tell of.
    pub(super) fn find(request: &'a ReferenceRequest, database: &'a Path, what: &str) -> Result<Self, OperationError> {
        let found = match Self::look(request, database, what) {
            Err(error) if request.optional => {
                tracing::debug!(%error, "no backups are known");
                Vec::new()
            }
            other => other?,
        };
        Ok(Self { request, database, found })
    }

    fn look(request: &ReferenceRequest, database: &Path, what: &str) -> Result<Vec<Backup>, OperationError> {
        let store = Store::open(&request.store).during(what)?;
        let targets = match &request.target {
            Some(target) => vec![target.clone()],
            None => store.targets().during(what)?,
        };
        let mut found = store.backups_of(&targets).during(what)?;
        found.retain(|backup| backup.manifest().verified_at.is_some() && of(backup, database).is_some());
        Ok(found)
    }

    /// The newest.
    pub(super) fn latest(&self) -> Option<BackupOfIt> {
        self.found.last().map(|backup| self.told(backup))
    }

    /// How long the database in the newest is, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let payload = self.found.last().and_then(|backup| of(backup, self.database));
        payload.map_or(0, |payload| payload.content_bytes)
    }

    fn told(&self, backup: &Backup) -> BackupOfIt {
        let manifest = backup.manifest();
        BackupOfIt {
            store: RawPath(self.request.store.clone()),
            target: manifest.target.clone(),
            id: manifest.id.clone(),
            created: manifest.created.clone(),
        }
    }

    /// Takes the database out of the newest whose bytes are as they were written, into a directory of ours. `None`
    /// where there is none and nobody has named a store.
    pub(super) fn extract(
        &self,
        context: &Context,
        into: &Path,
        what: &str,
    ) -> Result<Option<(PathBuf, BackupOfIt)>, OperationError> {
        let mut last_error = None;
        for backup in self.found.iter().rev() {
            let Some(payload) = of(backup, self.database) else { continue };
            context.observer.step(&format!("extracting {}", backup.manifest().id));
            // It is hashed on the way out.
            let held = backup.clone().held();
            match held.and_then(|backup| backup.extract(payload, into, &context.cancel, context.observer.as_ref())) {
                Ok(path) => return Ok(Some((path, self.told(backup)))),
                Err(error) => {
                    context.observer.notice(&format!("passed over: {error}"));
                    last_error = last_error.or(Some(error));
                }
            }
        }
        match last_error {
            Some(error) => Err(error).during(what),
            None if self.request.optional => Ok(None),
            None => Err(OperationError::Refused {
                what: what.to_owned(),
                reason: format!("{} has no backup of {}", self.request.store.display(), self.database.display()),
                kind: FailureKind::No,
                hint: Some(format!("`svc-backup list --from {}` shows what it has", quoted(&self.request.store))),
            }),
        }
    }
}

/// The command that fills what is lost from a backup.
pub(super) fn to_type(database: &Path, service: Option<&dyn ServiceController>, backup: &BackupOfIt) -> String {
    let service = match service {
        Some(service) => of_service(service),
        None => of_openers(database),
    };
    let (database, store) = (quoted(database), quoted(&backup.store.0));
    format!("svc-repair repair {database} {service} --strategy restore --from {store} --target {}", backup.target)
}

fn of_service(service: &dyn ServiceController) -> String {
    match service.spec() {
        ServiceSpec::Unit { name, scope: Scope::System } => format!("--unit {name}"),
        ServiceSpec::Unit { name, scope: Scope::User } => format!("--user-unit {name}"),
        ServiceSpec::PidFile { path, .. } => format!("--pid-file {}", quoted(&path)),
        ServiceSpec::Command { name, .. } => format!("--service {name}"),
        ServiceSpec::Container(container) => format!("--container {}", container.name),
        ServiceSpec::Custom { .. } => "--service NAME".to_owned(),
    }
}

/// Of a database whose service nobody has named.
fn of_openers(database: &Path) -> String {
    let openers = sqlite_locks::openers(database).unwrap_or_default();
    match openers.first() {
        None => "--no-service".to_owned(),
        Some(opener) => unit_of(opener.process.pid).unwrap_or_else(|| "--unit NAME.service".to_owned()),
    }
}

fn of<'a>(backup: &'a Backup, database: &Path) -> Option<&'a Payload> {
    let mut databases = backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Sqlite);
    databases.find(|payload| payload.source == database || real_path(&payload.source) == database)
}
