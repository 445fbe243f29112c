//! An earlier copy of a database, from the backups in a store: for a repair that needs its definitions.

use std::path::{Path, PathBuf};

use super::common::real_path;
use super::error::{During, OperationError};
use crate::archive::{Backup, Payload, PayloadKind, Store};
use crate::failure::FailureKind;
use crate::name::TargetName;
use crate::quiesce::Context;

/// Where backups of a database are.
#[derive(Debug, Clone)]
pub struct ReferenceRequest {
    /// The store's directory.
    pub store: PathBuf,
    /// The name in the store; `None`: whichever has backups of this very path.
    pub target: Option<TargetName>,
}

/// Takes the database out of its newest backup whose bytes are as they were written, into a directory of ours.
pub(super) fn extract(
    context: &Context,
    request: &ReferenceRequest,
    database: &Path,
    into: &Path,
    what: &str,
) -> Result<PathBuf, OperationError> {
    let store = Store::open(&request.store).during(what)?;
    let targets = match &request.target {
        Some(target) => vec![target.clone()],
        None => store.targets().during(what)?,
    };
    let mut found: Vec<Backup> = Vec::new();
    for target in targets {
        let backups = store.backups(&target).during(what)?;
        found.extend(backups.into_iter().filter_map(|found| found.backup.ok()).filter(|b| of(b, database).is_some()));
    }
    found.sort_by(|a, b| a.manifest().id.cmp(&b.manifest().id));
    let mut last_error = None;
    for backup in found.iter().rev() {
        let Some(payload) = of(backup, database) else { continue };
        context.observer.step(&format!("extracting {}", backup.manifest().id));
        // It is hashed on the way out.
        match backup.extract(payload, into, &context.cancel, context.observer.as_ref()) {
            Ok(path) => return Ok(path),
            Err(error) => last_error = last_error.or(Some(error)),
        }
    }
    match last_error {
        Some(error) => Err(error).during(what),
        None => Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("{} has no backup of {}", request.store.display(), database.display()),
            kind: FailureKind::No,
            hint: Some(format!("`svc-backup list --from {}` shows what it has", request.store.display())),
        }),
    }
}

fn of<'a>(backup: &'a Backup, database: &Path) -> Option<&'a Payload> {
    let mut databases = backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Sqlite);
    databases.find(|payload| payload.source == database || real_path(&payload.source) == database)
}
