//! Load: choose, look at what is in the way, keep that, replace it, compare.
//!
//! A database that is not empty is replaced only where that was asked for, and only after a dump of it is a verified
//! backup of its own, unless that was asked not to be. A load that fails leaves its databases incomplete: the error says
//! so, and which backup has what was there.

use std::path::PathBuf;

use serde::Serialize;

use super::common::{begin, refused};
use super::dump::{DumpRequest, facts_of, take};
use super::error::{During, OperationError};
use super::restore::{choose, of_member};
use super::server::{Attached, ServerPlace, attach};
use super::verification::boxed;
use crate::archive::{Backup, Payload, PayloadKind, Store};
use crate::compression::Compression;
use crate::database::server::{
    Databases, DumpFacts, EngineKind, PartOf, SecretFile, SecretSource, ServerSpec, UserName,
};
use crate::failure::{Failure, FailureKind};
use crate::lock::Wait;
use crate::name::{BackupId, TargetName};
use crate::quiesce::Context;

/// A restore of a dump into a server.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The store's directory.
    pub store: PathBuf,
    /// The name in the store.
    pub target: TargetName,
    /// Of a group's backup: which member.
    pub member: Option<TargetName>,
    /// Which backup; `None`: the latest that verifies.
    pub backup: Option<BackupId>,
    /// Where the server is that gets the databases.
    pub place: ServerPlace,
    /// As whom.
    pub user: Option<UserName>,
    /// Where that user's password is found.
    pub secret: SecretSource,
    /// The directory in which systemd hands credentials over.
    pub credentials: Option<PathBuf>,
    /// Whether databases that are there and not empty are replaced.
    pub overwrite: bool,
    /// Whether what is replaced is dumped first, as a backup of `TARGET.replaced`.
    pub keep: bool,
    /// What to do when another operation holds the lock.
    pub wait: Wait,
    /// Only plan.
    pub dry_run: bool,
}

/// What a load did.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// The name in the store.
    pub target: TargetName,
    /// The backup that was loaded.
    pub backup: BackupId,
    /// Where the server is.
    pub place: String,
    /// The parts that were loaded; none in a dry run.
    pub loaded: Vec<String>,
    /// What was there and is replaced.
    pub replaced: Vec<String>,
    /// The backup of what was replaced: target and identity.
    pub kept: Option<(TargetName, BackupId)>,
    /// What was compared with the backup afterwards.
    pub rungs: Vec<String>,
    /// The plan, a line each; the whole answer of a dry run.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// Loads a dump into a server that runs.
///
/// # Errors
/// Those of the parts. Until the first database is removed or made, nothing is changed; the message says where one was.
pub fn load(context: &Context, request: &LoadRequest) -> Result<LoadReport, OperationError> {
    let what = format!("restore {} into {}", request.target, request.place);
    let store = Store::open(&request.store).during(what.as_str())?;
    let mut notices = Vec::new();
    let backup = choose(context, &store, (&request.target, request.backup.as_ref()), &mut notices, &what)?;
    let backup = of_member(backup, request.member.as_ref(), &what)?;
    let parts = dumps_of(&backup, &what)?;
    let Some(kind) = parts.first().map(|(_, facts)| facts.engine) else {
        return Err(OperationError::Refused {
            what,
            reason: format!("{} has no dump of a server", backup.manifest().id),
            kind: FailureKind::Usage,
            hint: Some("restore it to a path: --to PATH".to_owned()),
        });
    };
    let spec = login(request, kind);
    let attached = attach(context, &request.place, &spec, request.credentials.as_deref(), &what)?;
    let label = attached.label();
    let mut in_the_way = Vec::new();
    for (_, facts) in &parts {
        in_the_way.extend(attached.engine.in_the_way(&attached.session, facts).during(what.as_str())?);
    }
    if !in_the_way.is_empty() && !request.overwrite {
        return Err(OperationError::Refused {
            what,
            reason: format!("{label} has: {}", in_the_way.join(", ")),
            kind: FailureKind::Unsafe,
            hint: Some("nothing was changed; --overwrite replaces them, and dumps them first".to_owned()),
        });
    }
    let mut report = LoadReport {
        target: request.target.clone(),
        backup: backup.manifest().id.clone(),
        place: label.clone(),
        loaded: Vec::new(),
        replaced: in_the_way,
        kept: None,
        rungs: Vec::new(),
        plan: Vec::new(),
        notices,
    };
    report.plan = plan(request, &report, &parts);
    if request.dry_run {
        return Ok(report);
    }
    let keys = attached.lock_keys()?;
    let _lock = begin(context, "restore", &label, &keys, request.wait)?;
    SecretFile::sweep(&attached.session).during(what.as_str())?;
    if !report.replaced.is_empty() && request.keep {
        report.kept = Some(keep(context, request, &attached, &spec, &parts)?);
    }
    put(context, &backup, &attached, &parts, &what, &mut report)?;
    Ok(report)
}

fn dumps_of<'a>(backup: &'a Backup, what: &str) -> Result<Vec<(&'a Payload, DumpFacts)>, OperationError> {
    let dumps = backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Dump);
    dumps.map(|payload| Ok((payload, facts_of(payload, backup.dir()).during(what)?))).collect()
}

fn login(request: &LoadRequest, kind: EngineKind) -> ServerSpec {
    ServerSpec { user: request.user.clone(), secret: request.secret.clone(), ..ServerSpec::new(kind) }
}

/// Dumps what will be replaced, so that it can come back.
fn keep(
    context: &Context,
    request: &LoadRequest,
    attached: &Attached,
    spec: &ServerSpec,
    parts: &[(&Payload, DumpFacts)],
) -> Result<(TargetName, BackupId), OperationError> {
    let what = format!("keep what {} has", attached.label());
    let name: TargetName = format!("{}.replaced", request.target).parse().during(what.as_str())?;
    let there = attached.engine.look(&attached.session, None).during(what.as_str())?;
    let wanted: Vec<_> = parts.iter().flat_map(|(_, facts)| facts.of.names()).collect();
    let databases: Vec<_> = there.databases.into_iter().filter(|name| wanted.contains(name)).collect();
    let databases = if databases.is_empty() { Databases::All } else { Databases::Named(databases) };
    let dump = DumpRequest {
        place: request.place.clone(),
        server: ServerSpec { databases, ..spec.clone() },
        compression: Compression::default(),
        store: request.store.clone(),
        name: Some(name.clone()),
        credentials: request.credentials.clone(),
        wait: request.wait,
        dry_run: false,
    };
    let report = take(context, &dump, attached, &what)?;
    match report.backup {
        Some(id) => Ok((name, id)),
        None => Err(refused(&what, "it was not dumped", FailureKind::Failed)),
    }
}

fn put(
    context: &Context,
    backup: &Backup,
    attached: &Attached,
    parts: &[(&Payload, DumpFacts)],
    what: &str,
    report: &mut LoadReport,
) -> Result<(), OperationError> {
    let Attached { engine, session, .. } = attached;
    let mut done = || -> Result<(), Box<dyn Failure + Send + Sync>> {
        if !report.replaced.is_empty() {
            context.observer.step("removing what is replaced");
            for (_, facts) in parts {
                engine.clear(session, facts).map_err(boxed)?;
            }
        }
        for (payload, facts) in parts {
            context.observer.step(&format!("loading {}", payload.name));
            let mut reader = backup.open_dump(payload).map_err(boxed)?;
            let loaded = engine.load(session, facts, &mut reader);
            reader.finish().map_err(boxed)?;
            loaded.map_err(boxed)?;
            report.loaded.push(payload.name.clone());
            context.observer.step(&format!("comparing {}", payload.name));
            match engine.compare(session, facts) {
                Ok(rungs) => {
                    let new: Vec<String> = rungs.into_iter().filter(|rung| !report.rungs.contains(rung)).collect();
                    report.rungs.extend(new);
                }
                // Its clients may write already.
                Err(error) => report.notices.push(format!("loaded, and not the same as in the backup: {error}")),
            }
            if facts.of == PartOf::Users {
                report
                    .notices
                    .push("users that were there kept their passwords; new ones have those of the backup".to_owned());
            }
        }
        Ok(())
    };
    if let Err(cause) = done() {
        let kept = report.kept.as_ref();
        let kept = kept.map_or_else(String::new, |(target, id)| format!("; what was there is backup {id} of {target}"));
        return Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("{cause}; the databases may be incomplete now{kept}"),
            kind: cause.kind(),
            hint: cause.hint().or_else(|| Some("restore again with --overwrite".to_owned())),
        });
    }
    Ok(())
}

fn plan(request: &LoadRequest, report: &LoadReport, parts: &[(&Payload, DumpFacts)]) -> Vec<String> {
    let mut steps = Vec::new();
    if !report.replaced.is_empty() {
        let list = report.replaced.join(", ");
        if request.keep {
            steps.push(format!("dump {list} as a backup of {}.replaced", request.target));
        }
        steps.push(format!("remove {list} from {}", report.place));
    }
    for (payload, _) in parts {
        steps.push(format!("load {} of {} into {}", payload.name, report.backup, report.place));
    }
    steps.push("compare what is there with what was recorded".to_owned());
    steps
}
