//! Dump: lock, look at the server, stream each part into the draft, prove its end, verify what was written, publish.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::common::{begin, milliseconds, refused};
use super::error::{During, OperationError};
use super::server::{Attached, ServerPlace, attach};
use super::verification::{boxed, common_rungs};
use crate::archive::{ArchiveError, Backup, Checked, Content, Draft, Payload, Store};
use crate::compression::Compression;
use crate::database::server::{DumpFacts, Looked, Part, SecretFile, ServerSpec};
use crate::failure::{Failure, FailureKind};
use crate::lock::{Holder, Wait};
use crate::name::{BackupId, TargetName};
use crate::plan;
use crate::quiesce::Context;
use crate::world::raw_path::RawPath;

/// A dump of a server.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// Where the server is.
    pub place: ServerPlace,
    /// What is dumped, and as whom.
    pub server: ServerSpec,
    /// How it is stored.
    pub compression: Compression,
    /// The store's directory; created where its parent exists.
    pub store: PathBuf,
    /// The name in the store; `None`: the container's, or the engine's with its host's.
    pub name: Option<TargetName>,
    /// The directory in which systemd hands credentials over, where it does (`CREDENTIALS_DIRECTORY`).
    pub credentials: Option<PathBuf>,
    /// What to do when another operation holds the lock.
    pub wait: Wait,
    /// Only plan.
    pub dry_run: bool,
}

/// What one database of a dump holds.
#[derive(Debug, Clone, Serialize)]
pub struct DumpedDatabase {
    /// Its name.
    pub name: String,
    /// How many tables it has.
    pub tables: usize,
    /// How many rows they have, as far as the engine tells.
    pub rows: u64,
}

/// What a dump did. `Serialize` is the `--json` form.
#[derive(Debug, Clone, Serialize)]
pub struct DumpReport {
    /// The name in the store.
    pub target: TargetName,
    /// The backup; `None` for a dry run.
    pub backup: Option<BackupId>,
    /// Where it is.
    pub path: Option<RawPath>,
    /// Where the server is: `container shop-db`, `server db.example:5432`.
    pub place: String,
    /// The engine's word.
    pub engine: String,
    /// The server's version.
    pub server_version: String,
    /// What is in it.
    pub databases: Vec<DumpedDatabase>,
    /// Where the server's log of changes stood at the instant of the dump.
    pub position: Option<String>,
    /// What it takes in the store, in bytes.
    pub stored_bytes: u64,
    /// What it holds, in bytes.
    pub content_bytes: u64,
    /// How long the dump itself took, all parts together: each from the start of its programs until their output was compressed and
    /// on the disk. What is counted beside, and the verification, come on top.
    pub dump_ms: Option<f64>,
    /// The rungs of verification that every part passed.
    pub rungs: Vec<String>,
    /// The plan, a line each; the whole answer of a dry run.
    pub plan: Vec<String>,
    /// What the person should know beside.
    pub notices: Vec<String>,
}

/// Dumps the databases of a server. A dump that is not whole never becomes a backup.
///
/// # Errors
/// Those of the parts. The store is as it was then.
pub fn dump(context: &Context, request: &DumpRequest) -> Result<DumpReport, OperationError> {
    let what = format!("back up the databases of {}", request.place);
    let attached = attach(context, &request.place, &request.server, request.credentials.as_deref(), &what)?;
    if request.dry_run {
        return planned(request, &attached, &what).map(|(report, ..)| report);
    }
    let label = attached.label();
    let keys = attached.lock_keys()?;
    let _lock = begin(context, "backup", &label, &keys, request.wait)?;
    SecretFile::sweep(&attached.session).during(what.as_str())?;
    take(context, request, &attached, &what)
}

/// What would be done: nothing is changed.
fn planned(
    request: &DumpRequest,
    attached: &Attached,
    what: &str,
) -> Result<(DumpReport, Looked, Vec<Part>), OperationError> {
    let Attached { engine, session, .. } = attached;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => plan::name_from(attached.name()).parse().during(what)?,
    };
    let looked = engine.look(session, request.server.databases.named()).during(what)?;
    let parts = engine.parts(&looked);
    if parts.is_empty() {
        return Err(refused(what, "the server has no database of its own", FailureKind::No));
    }
    let report = report(request, &attached.label(), &name, &looked, &parts);
    Ok((report, looked, parts))
}

/// Under the server's lock.
pub(super) fn take(
    context: &Context,
    request: &DumpRequest,
    attached: &Attached,
    what: &str,
) -> Result<DumpReport, OperationError> {
    let (mut report, looked, parts) = planned(request, attached, what)?;
    let Attached { engine, session, .. } = attached;
    let label = attached.label();
    let store = Store::create(&request.store).during(what)?;
    let holder = Holder::own("backup", &label).map_err(|e| refused(what, e.to_string(), FailureKind::Failed))?;
    let mut draft = store.begin(&report.target, &holder, &context.cancel).during(what)?;
    draft.describe("hot", Some(&label));
    draft.pack(request.compression, None);
    looked.notes.iter().for_each(|note| draft.note(note.clone()));
    let image = session.image().during(what)?;

    let mut taken: BTreeMap<String, DumpFacts> = BTreeMap::new();
    let mut streamed = Duration::ZERO;
    for part in &parts {
        let began = Instant::now();
        let mut stream = engine.dump(session, &looked, part).during(what)?;
        let added = add(context, &mut draft, part, &label, &mut *stream);
        streamed += began.elapsed();
        // How the program ended explains a stream that broke, and a stream that did not break proves nothing.
        let mut facts = match added {
            Ok(()) => stream.finish().during(what)?,
            Err(error) if is_of_stream(&error) => {
                stream.finish().during(what)?;
                return Err(error).during(what);
            }
            Err(error) => return Err(error).during(what),
        };
        (facts.image, facts.image_id) = image.clone();
        taken.insert(part.name.clone(), facts);
    }

    context.observer.step("verifying what was written");
    let mut check = |payload: &Payload, content: Content<'_>| -> Result<Checked, Box<dyn Failure + Send + Sync>> {
        let (Some(facts), Content::Stream(content)) = (taken.get_mut(&payload.name), content) else {
            return Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null });
        };
        let mut rungs = vec!["exit status".to_owned(), "trailer".to_owned()];
        rungs.extend(engine.check(session, facts, content).map_err(boxed)?);
        Ok(Checked { rungs, facts: serde_json::to_value(facts).unwrap_or_default() })
    };
    let verified = draft.verify(&mut check, context.observer.as_ref()).during(what)?;
    let backup = store.publish(verified).during(what)?;
    report.dump_ms = Some(milliseconds(streamed));
    complete(&mut report, &backup, taken.values());
    Ok(report)
}

fn add(
    context: &Context,
    draft: &mut Draft,
    part: &Part,
    label: &str,
    stream: &mut dyn std::io::Read,
) -> Result<(), ArchiveError> {
    let source = PathBuf::from(format!("{label}: {}", part.name));
    draft.add_stream(&part.name, &source, stream, context.observer.as_ref()).map(drop)
}

/// Whether it was the reading that failed: the archive names what it reads by the words of [`Draft::add_stream`].
pub(super) fn is_of_stream(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Disk(error) if error.action == "read the dump of")
}

fn report(request: &DumpRequest, label: &str, name: &TargetName, looked: &Looked, parts: &[Part]) -> DumpReport {
    let mut plan: Vec<String> = parts
        .iter()
        .map(|part| format!("dump {} of {label} by {} {}", part.name, whose(request), program_name(&looked.program)))
        .collect();
    plan.push("write it into the store while it is dumped, read back what was written, and verify that".to_owned());
    plan.push(format!("publish as a new backup of {name} in {}", request.store.display()));
    let databases = looked.databases.iter().map(|name| DumpedDatabase { name: name.to_string(), tables: 0, rows: 0 });
    DumpReport {
        target: name.clone(),
        backup: None,
        path: None,
        place: label.to_owned(),
        engine: request.server.engine.word().to_owned(),
        server_version: looked.version.clone(),
        databases: databases.collect(),
        position: None,
        stored_bytes: 0,
        content_bytes: 0,
        dump_ms: None,
        rungs: Vec::new(),
        plan,
        notices: looked.notes.clone(),
    }
}

fn whose(request: &DumpRequest) -> &'static str {
    match request.place {
        ServerPlace::Container(_) => "its own",
        ServerPlace::Address(_) => "this host's",
    }
}

fn program_name(program: &str) -> &str {
    program.split(' ').next().unwrap_or(program)
}

fn complete<'a>(report: &mut DumpReport, backup: &Backup, taken: impl Iterator<Item = &'a DumpFacts>) {
    let manifest = backup.manifest();
    report.backup = Some(manifest.id.clone());
    report.path = Some(RawPath(backup.dir().to_owned()));
    report.stored_bytes = manifest.stored_bytes();
    report.content_bytes = manifest.content_bytes();
    report.rungs = common_rungs(manifest.payloads.iter().map(|payload| (payload.kind, &payload.rungs[..])));
    let mut databases = Vec::new();
    for facts in taken {
        report.position = facts.position.clone().or(report.position.take());
        databases.extend(facts.databases.iter().map(|(name, facts)| DumpedDatabase {
            name: name.clone(),
            tables: facts.tables.len(),
            rows: facts.rows(),
        }));
    }
    if !databases.is_empty() {
        report.databases = databases;
    }
}

/// The facts that a dump's payload was published with.
pub(super) fn facts_of(payload: &Payload, dir: &Path) -> Result<DumpFacts, ArchiveError> {
    serde_json::from_value(payload.facts.clone()).map_err(|error| ArchiveError::Unverified {
        path: dir.join(&payload.file),
        reason: format!("what the manifest says of the dump can't be read: {error}"),
    })
}
