//! The proof of a dump: restored into a server of the same image, or of the same version on this host where it was dumped
//! from here, that has no network and nothing else in it, counted,
//! compared with what was recorded at the instant of the dump, and asked.

use std::path::PathBuf;

use super::dump::facts_of;
use super::verification::boxed;
use crate::archive::{ArchiveError, Backup, Checked, Content, Payload, PayloadKind};
use crate::controller::Endpoint;
use crate::controller::docker::Scratch;
use crate::database::server::{
    DatabaseName, DumpFacts, Kept, PartOf, Place, PrivateServer, ServerEngine, ServerError, Session, ValidationQuery,
    engine_of,
};
use crate::failure::{Failure, FailureKind};
use crate::quiesce::Context;

/// How a restore is tried.
#[derive(Debug, Clone)]
pub struct RestoreTest {
    /// The engine on which scratch containers are made, where the backup has dumps.
    pub endpoint: Endpoint,
    /// Where private servers are made for dumps of servers that are in no container: a directory that every user may enter.
    pub scratch: PathBuf,
    /// What the restored databases are asked beside.
    pub queries: Vec<ValidationQuery>,
}

pub(super) fn is_dump(backup: &Backup) -> bool {
    backup.manifest().payloads.iter().any(|payload| payload.kind == PayloadKind::Dump)
}

/// That a restore was right: where, and as far as these rungs say.
pub(super) struct Proved {
    pub(super) place: String,
    pub(super) rungs: Vec<String>,
}

/// Restores all dumps of a backup and compares them.
///
/// # Errors
/// [`ArchiveError::Check`] for what is not right with the backup; that kind or another where the trial itself failed.
pub(super) fn prove(context: &Context, test: &RestoreTest, backup: &Backup) -> Result<Proved, ArchiveError> {
    let mut parts = Vec::new();
    for payload in backup.manifest().payloads.iter().filter(|payload| payload.kind == PayloadKind::Dump) {
        parts.push((payload, facts_of(payload, backup.dir())?));
    }
    let Some((first, of_first)) = parts.first() else {
        return Ok(Proved { place: String::new(), rungs: Vec::new() });
    };
    let failed = |payload: &Payload, failure: Box<dyn Failure + Send + Sync>| ArchiveError::Check {
        id: backup.manifest().id.clone(),
        payload: payload.name.clone(),
        failure,
    };
    let trial = |error: ServerError| failed(first, boxed(Trial(error)));
    let engine = engine_of(of_first.engine);
    // The last to go: what has ended by then is waited for.
    let kept = Kept::default();
    let beside = Beside::make(context, test, of_first).map_err(|error| failed(first, error))?;
    let mut bare = Session::new(beside.place(), None, None, context.cancel.clone());
    bare.run_as = beside.user();
    bare.server = kept.clone();
    let session = engine.make_scratch(&bare, of_first).map_err(trial)?;
    let mut rungs = Vec::new();
    let mut all = |climbed: Vec<String>| {
        for rung in climbed {
            if !rungs.contains(&rung) {
                rungs.push(rung);
            }
        }
    };
    let mut queries = &test.queries[..];
    for (payload, facts) in &parts {
        // Users may change who may ask: they come last where the engine lets them.
        if facts.of == PartOf::Users && payload.name != first.name {
            all(ask_all(&*engine, &session, &parts, std::mem::take(&mut queries))
                .map_err(|error| failed(first, boxed(error)))?);
        }
        context.observer.step(&format!("loading {}", payload.name));
        let mut reader = backup.open_dump(payload)?;
        let loaded = engine.load(&session, facts, &mut reader);
        // Damaged bytes explain whatever the load says of them.
        reader.finish()?;
        loaded.map_err(|error| failed(payload, boxed(NotLoaded(error))))?;
        context.observer.step(&format!("comparing {}", payload.name));
        all(engine.compare(&session, facts).map_err(|error| failed(payload, boxed(error)))?);
    }
    all(ask_all(&*engine, &session, &parts, queries).map_err(|error| failed(first, boxed(error)))?);
    let place = session.place().to_owned();
    Ok(Proved { place, rungs })
}

/// What a server is made in: beside the one that was dumped, and apart from it.
enum Beside {
    Container(Scratch),
    Host(PrivateServer),
}

impl Beside {
    fn make(context: &Context, test: &RestoreTest, facts: &DumpFacts) -> Result<Self, Box<dyn Failure + Send + Sync>> {
        if facts.image_id.is_empty() && facts.image.is_empty() {
            context.observer.step(&format!("making a private server of {}", facts.engine.title()));
            return PrivateServer::create(&test.scratch, facts.engine).map(Self::Host).map_err(|e| boxed(Trial(e)));
        }
        context.observer.step(&format!("making a scratch container of {}", facts.image));
        Scratch::create(&test.endpoint, &facts.image_id, &facts.image).map(Self::Container).map_err(|e| boxed(e))
    }

    fn place(&self) -> Place {
        match self {
            Self::Container(scratch) => Place::Container(scratch.inside()),
            Self::Host(server) => Place::Host(server.host().0),
        }
    }

    /// As whom its programs run.
    fn user(&self) -> Option<String> {
        match self {
            Self::Container(_) => None,
            Self::Host(server) => server.host().1,
        }
    }
}

/// The first that has tables.
fn first_database(facts: &DumpFacts) -> Option<String> {
    let names = facts.of.names();
    let has_tables = |name: &&DatabaseName| facts.databases.get(name.as_str()).is_some_and(|of| !of.tables.is_empty());
    names.iter().find(has_tables).map(ToString::to_string)
}

fn ask_all(
    engine: &dyn ServerEngine,
    session: &Session,
    parts: &[(&Payload, DumpFacts)],
    queries: &[ValidationQuery],
) -> Result<Vec<String>, ServerError> {
    let database = parts.iter().find_map(|(_, facts)| first_database(facts));
    for query in queries {
        ask(engine, session, database.as_deref(), query)?;
    }
    Ok(if queries.is_empty() { Vec::new() } else { vec!["queries".to_owned()] })
}

fn ask(
    engine: &dyn ServerEngine,
    session: &Session,
    database: Option<&str>,
    query: &ValidationQuery,
) -> Result<(), ServerError> {
    let database = query.database.as_ref().map(|name| name.as_str()).or(database);
    let answer = engine.ask(session, database, &query.statement)?;
    let first = answer.lines().next().unwrap_or_default().trim();
    let wrong = match &query.expect {
        Some(expected) if first != expected.trim() => format!("{first:?} in place of {expected:?}"),
        None if first.is_empty() => "nothing".to_owned(),
        _ => return Ok(()),
    };
    let what = format!("what {:?} asks,", query.statement);
    Err(ServerError::Differs { what, differences: vec![format!("the answer is {wrong}")] })
}

/// That a restore could not be tried says nothing about the backup.
#[derive(Debug, thiserror::Error)]
#[error("its restore could not be tried: {0}")]
struct Trial(ServerError);

impl Failure for Trial {
    fn kind(&self) -> FailureKind {
        FailureKind::Failed
    }
    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

/// A dump that an empty server of its own kind does not take is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotLoaded(ServerError);

impl Failure for NotLoaded {
    fn kind(&self) -> FailureKind {
        match self.0 {
            ServerError::Failed { .. } => FailureKind::Unverified,
            ref other => other.kind(),
        }
    }
    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

/// The parts of a dump are judged by [`prove`]; here they are read whole, so that their sums are compared.
pub(super) fn read_whole(content: Content<'_>) -> Result<Checked, Box<dyn Failure + Send + Sync>> {
    if let Content::Stream(content) = content {
        // What can't be read is told by the comparison of the sums.
        let _told_elsewhere = std::io::copy(content, &mut std::io::sink());
    }
    Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null })
}
