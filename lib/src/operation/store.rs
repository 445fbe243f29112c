//! What a store holds: list, verify, expire.

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use super::common::refused;
use super::error::{During, OperationError};
use super::prove::{RestoreTest, is_dump, prove};
use super::verification::{Judged, check_payload, common_rungs};
use crate::archive::{ArchiveError, Backup, Estimate, Found, PayloadKind, Store, retention};
use crate::failure::{Failure, FailureKind};
use crate::lock::Holder;
use crate::name::BackupId;
use crate::name::TargetName;
use crate::quiesce::Context;
use crate::world::clock;
use crate::world::raw_path::RawPath;

/// One backup as a listing shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedBackup {
    /// The name in the store.
    pub target: TargetName,
    /// Its identity.
    pub backup: BackupId,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// `hot`, `fenced`, `cold`.
    pub mode: Option<String>,
    /// What it holds, in bytes.
    pub content_bytes: u64,
    /// What it takes, in bytes.
    pub stored_bytes: u64,
    /// The sources of its databases.
    pub databases: Vec<RawPath>,
    /// The members of a group; none where it is no group's.
    pub members: Vec<TargetName>,
    /// When it was verified last, before it was published.
    pub verified_at: Option<String>,
    /// When a restore of it was tried last and was right (dumps).
    pub restored_at: Option<String>,
    /// Why it can't be read.
    pub error: Option<String>,
}

/// The result of verifying one backup.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedBackup {
    /// The name in the store.
    pub target: TargetName,
    /// Its identity.
    pub backup: BackupId,
    /// Whether it verifies.
    pub ok: bool,
    /// The rungs climbed now.
    pub rungs: Vec<String>,
    /// What is wrong.
    pub error: Option<String>,
}

/// What an expiry kept and removed.
#[derive(Debug, Clone, Serialize)]
pub struct Expired {
    /// The name in the store.
    pub target: TargetName,
    /// What is kept, and why.
    pub kept: Vec<retention::Kept>,
    /// What is removed, or would be.
    pub removed: Vec<BackupId>,
}

/// The backups of a store, oldest first; one that can't be read is listed with its error.
///
/// # Errors
/// When the store can't be read, or has no such target.
pub fn list(store: &Path, target: Option<&TargetName>) -> Result<Vec<ListedBackup>, OperationError> {
    let what = format!("list {}", store.display());
    let mut listed = Vec::new();
    for (target, found) in backups(store, target, None, &what)? {
        let dir = found.backup.as_ref().ok().map(|backup| backup.dir().to_owned());
        let looked = found.backup.and_then(|backup| backup.look_at_files().map(|()| backup));
        if looked.is_err() && dir.is_some_and(|dir| !dir.exists()) {
            // It was expired meanwhile.
            continue;
        }
        listed.push(match looked {
            Ok(backup) => {
                let manifest = backup.manifest();
                ListedBackup {
                    target,
                    backup: manifest.id.clone(),
                    created: Some(manifest.created.clone()),
                    mode: Some(manifest.mode.clone()),
                    content_bytes: manifest.payloads.iter().map(|payload| payload.content_bytes).sum(),
                    stored_bytes: manifest.payloads.iter().map(|payload| payload.stored_bytes).sum(),
                    databases: manifest.payloads.iter().map(|payload| RawPath(payload.source.clone())).collect(),
                    members: backup.members(),
                    verified_at: manifest.verified_at.clone(),
                    restored_at: backup.restore_proof().map(|proof| proof.at),
                    error: None,
                }
            }
            Err(error) => ListedBackup {
                target,
                backup: found.id,
                created: None,
                mode: None,
                content_bytes: 0,
                stored_bytes: 0,
                databases: Vec::new(),
                members: Vec::new(),
                verified_at: None,
                restored_at: None,
                error: Some(error.to_string()),
            },
        });
    }
    Ok(listed)
}

/// Verifies backups (none of which is expired while it is its turn): their hashes, and with `restore_test` also everything that a new backup must pass; dumps are restored
/// into a scratch container, compared and asked.
///
/// # Errors
/// When the store can't be read, the scratch space can't be written, or on cancellation. A backup that does not verify
/// is a result, not an error.
pub fn verify(
    context: &Context,
    store: &Path,
    target: Option<&TargetName>,
    backup: Option<&BackupId>,
    restore_test: Option<&RestoreTest>,
) -> Result<Vec<VerifiedBackup>, OperationError> {
    let what = format!("verify {}", store.display());
    let opened = Store::open(store).during(what.as_str())?;
    let mut results = Vec::new();
    let all = backups(store, target, backup, &what)?;
    if restore_test.is_some_and(|test| !test.queries.is_empty()) {
        refuse_questions_to_nobody(&all, &what)?;
    }
    for (target, found) in all {
        context.observer.step(&format!("verifying {target} {}", found.id));
        let held = found.backup.and_then(Backup::held);
        let outcome = held.and_then(|backup| verify_one(context, &opened, &backup, restore_test));
        let (rungs, error) = match outcome {
            Ok(rungs) => (rungs, None),
            // It was one when they were listed. Who keeps fewer does not mean that they are damaged.
            Err(ArchiveError::Expired { .. }) => {
                context.observer.notice(&format!("{target} {} was expired before it was its turn", found.id));
                continue;
            }
            Err(error) if is_of_backup(&error) => (Vec::new(), Some(error.to_string())),
            // A disk of ours that is full says nothing about a backup.
            Err(error) => return Err(error).during(format!("{what}: {target} {}", found.id)),
        };
        let result = VerifiedBackup { target, backup: found.id, ok: error.is_none(), rungs, error };
        results.push(result);
    }
    Ok(results)
}

/// Only a server answers a query: where none of the backups is a dump of one, somebody would take it for answered.
fn refuse_questions_to_nobody(all: &[(TargetName, Found)], what: &str) -> Result<(), OperationError> {
    let mut readable = all.iter().filter_map(|(_, found)| found.backup.as_ref().ok()).peekable();
    if readable.peek().is_none() || readable.any(is_dump) {
        return Ok(());
    }
    Err(OperationError::Refused {
        what: what.to_owned(),
        reason: "--query asks a server into which a dump was restored, and no backup here is a dump".to_owned(),
        kind: FailureKind::Usage,
        hint: Some("leave it out, or ask a restored database: restore --to FILE, then sqlite3 FILE".to_owned()),
    })
}

fn verify_one(
    context: &Context,
    store: &Store,
    backup: &Backup,
    restore_test: Option<&RestoreTest>,
) -> Result<Vec<String>, ArchiveError> {
    let Some(test) = restore_test else {
        backup.verify_hashes(&context.cancel)?;
        return Ok(vec!["hashes".to_owned()]);
    };
    let observer = context.observer.as_ref();
    let scratch = store.scratch()?;
    // One database after the other is taken out there.
    let databases = backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Sqlite);
    let need = Estimate { bytes: databases.map(|payload| payload.content_bytes).max().unwrap_or(0), files: 4 };
    need.check("the verification", scratch.path())?;
    let mut check = check_payload(Judged::Backup, &context.cancel, observer);
    let checked = backup.verify(scratch.path(), &mut check, &context.cancel, observer)?;
    let kinds = backup.manifest().payloads.iter().map(|payload| payload.kind);
    let mut rungs = common_rungs(kinds.zip(checked.iter().map(|checked| &checked.rungs[..])));
    let parts = match backup.members() {
        members if members.is_empty() => vec![backup.clone()],
        members => members.iter().map(|member| backup.of_member(member)).collect::<Result<_, _>>()?,
    };
    let mut places = Vec::new();
    for part in parts.iter().filter(|part| is_dump(part)) {
        let proved = prove(context, test, part)?;
        places.push(proved.place);
        let new: Vec<String> = proved.rungs.into_iter().filter(|rung| !rungs.contains(rung)).collect();
        rungs.extend(new);
    }
    if !places.is_empty()
        && let Err(error) = backup.record_restore(clock::now_rfc3339(), places.join(", "), rungs.clone())
    {
        // A store that can only be read is verified all the same.
        tracing::info!(%error, "the restore is not recorded");
    }
    Ok(rungs)
}

/// Whether it is the backup that is wrong, or can't be read.
fn is_of_backup(error: &ArchiveError) -> bool {
    match error {
        ArchiveError::Disk(error) => matches!(error.action, "read" | "open" | "look at" | "decompress" | "list"),
        other => matches!(other.kind(), FailureKind::Unverified | FailureKind::Corrupt | FailureKind::No),
    }
}

/// Removes what the policy does not keep: never the last good backup, and nothing before the newest that is kept has
/// been hashed again.
///
/// # Errors
/// When the store can't be read or changed, or the newest backup does not verify; when there is no backup in it.
pub fn expire(
    context: &Context,
    store: &Path,
    target: Option<&TargetName>,
    policy: &retention::Policy,
    dry_run: bool,
) -> Result<Vec<Expired>, OperationError> {
    let what = format!("expire {}", store.display());
    let opened = Store::open(store).during(what.as_str())?;
    let targets = match target {
        Some(target) => vec![target.clone()],
        None => opened.targets().during(what.as_str())?,
    };
    if targets.is_empty() {
        return Err(OperationError::Refused {
            what,
            reason: "there is no backup in it".to_owned(),
            kind: FailureKind::No,
            hint: Some("name the store: the directory that was --to of the backups".to_owned()),
        });
    }
    let holder = Holder::own("expire", &store.display().to_string())
        .map_err(|e| refused(&what, e.to_string(), FailureKind::Failed))?;
    let mut all = Vec::new();
    let mut failed = None;
    for target in targets {
        context.observer.step(&format!("expiring {target}"));
        let done = if dry_run {
            opened.plan_expiry(&target, policy, &context.cancel)
        } else {
            opened.expire(&target, policy, &holder, &context.cancel)
        };
        match done {
            Ok(plan) => all.push(Expired { target, kept: plan.keep, removed: plan.remove }),
            // The other targets are not its prisoners.
            Err(error) => failed = failed.or(Some((target, error))),
        }
    }
    match failed {
        None => Ok(all),
        Some((_, error)) if all.is_empty() => Err(error).during(what),
        Some((target, error)) => Err(OperationError::Refused {
            what: format!("{what}: {target}"),
            reason: format!("{error}; {} other targets were expired", all.len()),
            kind: FailureKind::SomeFailed,
            hint: error.hint(),
        }),
    }
}

fn backups(
    store: &Path,
    target: Option<&TargetName>,
    id: Option<&BackupId>,
    what: &str,
) -> Result<Vec<(TargetName, Found)>, OperationError> {
    let store = Store::open(store).during(what)?;
    let targets = match target {
        Some(target) => vec![target.clone()],
        None => store.targets().during(what)?,
    };
    let mut all = Vec::new();
    for target in targets {
        for found in store.backups(&target).during(what)? {
            if id.is_none_or(|id| found.id == *id) {
                all.push((target.clone(), found));
            }
        }
    }
    if all.is_empty() && (target.is_some() || id.is_some()) {
        return Err(refused(what, "there is no such backup", FailureKind::No));
    }
    Ok(all)
}
