//! Update: a new generation is made, made durable, checked, verified, named, and only then served.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::mirror::{Destination, MirrorReport, Transport, mirror_of};
use super::{as_writer, holder, locked, refuse_overlap, watch};
use crate::failure::FailureKind;
use crate::lock::Wait;
use crate::operation::common::{milliseconds, refused};
use crate::operation::error::{During, OperationError};
use crate::publish::{
    Built, Carry, Collected, Commands, Comparison, Depth, Generation, Keep, Named, PublishError, Seed, Staging, Totals,
    Tree, Writer,
};
use crate::quiesce::Context;
use crate::world::raw_path::RawPath;

/// Where the content of a new generation comes from.
#[derive(Debug, Clone)]
pub enum UpdateFrom {
    /// A directory: the generation has exactly what it has.
    Directory {
        /// The directory. Nobody writes to it meanwhile: else nothing is published.
        path: PathBuf,
        /// How unchanged files are told.
        comparison: Comparison,
    },
    /// A command that runs in the generation's directory.
    Command {
        /// Its words; no shell.
        argv: Vec<OsString>,
        /// What it finds there.
        seed: Seed,
    },
}

/// An update.
#[derive(Debug)]
pub struct UpdateRequest<'a> {
    /// The tree; made where it is missing.
    pub tree: PathBuf,
    /// Whence the content comes.
    pub from: UpdateFrom,
    /// Commands that must all end with 0 in the new generation before it is served.
    pub checks: Vec<Vec<OsString>>,
    /// How commands are run.
    pub commands: Commands<'a>,
    /// What is kept although it vanished.
    pub carry: Carry,
    /// Whether readers are sent to it; else it waits for a switch.
    pub serve: bool,
    /// What is kept of old generations; `None`: all.
    pub keep: Option<Keep>,
    /// Where it is taken once it is served.
    pub mirrors: Vec<Destination>,
    /// How those are reached.
    pub transport: Transport,
    /// What to do when the tree is in use.
    pub wait: Wait,
}

/// What came of an update. `Serialize` is the `--json` form.
#[derive(Debug, Clone, Serialize)]
pub struct UpdateReport {
    /// The tree.
    pub tree: RawPath,
    /// The new generation.
    pub generation: Generation,
    /// The one that was served before.
    pub before: Option<Generation>,
    /// Whether the new one is served.
    pub served: bool,
    /// How much it holds.
    #[serde(flatten)]
    pub totals: Totals,
    /// What was linked and copied, where it came from a directory.
    pub built: Option<Built>,
    /// How it was seeded, where a command made it.
    pub seed: Option<Seed>,
    /// What was removed of the old ones.
    pub collected: Option<Collected>,
    /// Why old ones could not be removed. The new one is served all the same.
    pub not_collected: Option<String>,
    /// The mirrors that serve it.
    pub mirrored: Vec<MirrorReport>,
    /// Why others do not. It is served here all the same.
    pub not_mirrored: Vec<String>,
    /// Milliseconds from the lock to the end.
    pub took_ms: f64,
}

/// Publishes a new generation.
///
/// # Errors
/// Whatever fails before the switch leaves what is served as it is; the journal says where it stopped.
pub fn update(context: &Context, request: &UpdateRequest<'_>) -> Result<UpdateReport, OperationError> {
    let what = format!("publish in {}", request.tree.display());
    let root = Tree::real_root(&request.tree).during(what.as_str())?;
    let source = match &request.from {
        UpdateFrom::Directory { path, .. } => Some(refuse_overlap(&root, path).during(what.as_str())?),
        UpdateFrom::Command { .. } => None,
    };
    // What is refused has changed nothing.
    Tree::make_root(&root).during(what.as_str())?;
    let lock = locked(context, "publish", &root, request.wait)?;
    let began = Instant::now();
    let writer = Writer::create(&root, &lock, &holder("publish", &root)?).during(what.as_str())?;
    let mut staging = writer.begin("update").during(what.as_str())?;
    let made = match make(context, &mut staging, source.as_deref(), request) {
        Ok(made) => made,
        Err(error) => {
            staging.give_up(&error);
            return Err(error).during(what);
        }
    };
    // Where nobody but us has written, names and sizes tell; a command may have written anything.
    let ours_alone = source.is_some() && request.checks.is_empty();
    let depth = if ours_alone { Depth::Names } else { Depth::Content };
    let named = staging.seal(depth, watch(context)).and_then(crate::publish::Sealed::name).during(what.as_str())?;
    served(context, &writer, named, made, request, began)
}

/// What an update from a directory would do, by sizes and times alone. Takes no lock and makes nothing.
///
/// # Errors
/// When the directory, or a tree that is there, can't be read.
pub fn preview(context: &Context, tree: &Path, source: &Path) -> Result<Built, OperationError> {
    let what = format!("publish in {}", tree.display());
    let watch = watch(context);
    let root = Tree::real_root(tree).during(what.as_str())?;
    let source = &refuse_overlap(&root, source).during(what.as_str())?;
    if !tree.join("generations").exists() {
        return Tree::would_build_first(source, watch).during(what);
    }
    Tree::open(tree).and_then(|tree| tree.would_build(source, watch)).during(what)
}

/// What the making of a generation told.
#[derive(Debug, Default)]
struct Made {
    built: Option<Built>,
    seed: Option<Seed>,
}

fn make(
    context: &Context,
    staging: &mut Staging<'_>,
    source: Option<&Path>,
    request: &UpdateRequest<'_>,
) -> Result<Made, PublishError> {
    let watch = watch(context);
    let mut made = Made::default();
    match (&request.from, source) {
        (UpdateFrom::Directory { comparison, .. }, Some(source)) => {
            made.built = Some(staging.build_from(source, *comparison, watch)?);
        }
        (UpdateFrom::Directory { path, comparison }, None) => {
            made.built = Some(staging.build_from(path, *comparison, watch)?);
        }
        (UpdateFrom::Command { argv, seed }, _) => {
            made.seed = staging.seed(*seed, watch)?;
            staging.run(argv, made.seed, &request.commands, watch)?;
            staging.measure(watch)?;
        }
    }
    let carried = staging.carry(&request.carry, watch)?;
    if let Some(built) = &mut made.built {
        built.carried = carried;
    }
    staging.sync(watch)?;
    staging.check(&request.checks, &request.commands, watch)?;
    Ok(made)
}

fn served(
    context: &Context,
    writer: &Writer<'_>,
    named: Named,
    made: Made,
    request: &UpdateRequest<'_>,
    began: Instant,
) -> Result<UpdateReport, OperationError> {
    let what = format!("publish in {}", writer.tree().root().display());
    let (generation, totals) = (named.manifest().generation, named.manifest().totals());
    let before = if request.serve {
        named.switch(writer).during(what.as_str())?
    } else {
        named.leave().during(what.as_str())?;
        writer.tree().current().during(what.as_str())?
    };
    let (mut mirrored, mut not_mirrored) = (Vec::new(), Vec::new());
    for destination in &request.mirrors {
        match mirror_of(context, writer.tree(), destination, &request.transport, request.wait) {
            Ok(report) => mirrored.push(report),
            Err(error) => not_mirrored.push(error.to_string()),
        }
    }
    let collected = request.keep.map(|keep| writer.collect(keep, watch(context)));
    let (collected, not_collected) = match collected.transpose() {
        Ok(collected) => (collected, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(UpdateReport {
        tree: writer.tree().as_raw(),
        generation,
        before,
        served: request.serve,
        totals,
        built: made.built,
        seed: made.seed,
        collected,
        not_collected,
        mirrored,
        not_mirrored,
        took_ms: milliseconds(began.elapsed()),
    })
}

/// Goes on with an update that was interrupted when its generation was complete: verifies it and switches to it.
///
/// # Errors
/// [`FailureKind::No`] when none was: start over then.
pub fn resume(context: &Context, tree: &Path, wait: Wait) -> Result<UpdateReport, OperationError> {
    as_writer(context, "publish", tree, wait, |writer| {
        let (began, what) = (Instant::now(), format!("go on with the update of {}", tree.display()));
        let before = writer.tree().current().during(what.as_str())?;
        let complete = writer.tree().complete().during(what.as_str())?;
        let interrupted = writer.tree().interrupted().map(|interrupted| interrupted.generation);
        let Some(generation) = interrupted.filter(|g| complete.contains(g) && before.is_none_or(|b| b < *g)) else {
            let reason = "no update was interrupted after its generation was complete; start over";
            return Err(refused(&what, reason, FailureKind::No));
        };
        let whole = writer.tree().verify(generation, Depth::Content, watch(context)).during(what.as_str())?;
        let totals = writer.tree().manifest(generation).during(what.as_str())?.totals();
        writer.switch(&whole).during(what.as_str())?;
        Ok(UpdateReport {
            tree: writer.tree().as_raw(),
            generation,
            before,
            served: true,
            totals,
            built: None,
            seed: None,
            collected: None,
            not_collected: None,
            mirrored: Vec::new(),
            not_mirrored: Vec::new(),
            took_ms: milliseconds(began.elapsed()),
        })
    })
}
