//! What changes a tree without a new generation, and what is told of one.

use std::path::Path;

use serde::Serialize;

use super::{as_writer, watch};
use crate::failure::FailureKind;
use crate::lock::Wait;
use crate::operation::common::refused;
use crate::operation::error::{During, OperationError};
use crate::publish::{Collected, Depth, Generation, GenerationStatus, Interrupted, Keep, Tree};
use crate::quiesce::Context;
use crate::world::raw_path::RawPath;

/// Which generation is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchTo {
    /// The newest complete one.
    Newest,
    /// The complete one before the one that is served.
    Back,
    /// This one.
    Number(Generation),
}

/// What came of a switch. `Serialize` is the `--json` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchReport {
    /// The tree.
    pub tree: RawPath,
    /// What is served, or would be.
    pub generation: Generation,
    /// What was served before.
    pub before: Option<Generation>,
    /// Whether it was switched to; a dry run verifies only.
    pub done: bool,
}

/// Sends readers to another generation, after it was verified.
///
/// # Errors
/// [`FailureKind::No`] when there is no such generation, [`FailureKind::Unverified`] when it is not what it was.
pub fn switch(
    context: &Context,
    tree: &Path,
    to: SwitchTo,
    wait: Wait,
    dry_run: bool,
) -> Result<SwitchReport, OperationError> {
    let what = format!("switch {}", tree.display());
    as_writer(context, "switch", tree, wait, |writer| {
        let tree = writer.tree();
        let before = tree.current().during(what.as_str())?;
        let complete = tree.complete().during(what.as_str())?;
        let chosen = match to {
            SwitchTo::Number(generation) => Some(generation),
            SwitchTo::Newest => complete.last().copied(),
            SwitchTo::Back => complete.iter().rev().find(|g| before.is_some_and(|before| **g < before)).copied(),
        };
        let none = || refused(&what, "there is no such generation", FailureKind::No);
        let generation = chosen.ok_or_else(none)?;
        let whole = tree.verify(generation, Depth::Content, watch(context)).during(what.as_str())?;
        if !dry_run {
            writer.switch(&whole).during(what.as_str())?;
        }
        Ok(SwitchReport { tree: tree.as_raw(), generation, before, done: !dry_run })
    })
}

/// What came of a clean-up. `Serialize` is the `--json` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectReport {
    /// The tree.
    pub tree: RawPath,
    /// What went and what stays.
    #[serde(flatten)]
    pub collected: Collected,
    /// Whether it was done; a dry run only tells.
    pub done: bool,
}

/// Removes old generations and what interruptions left.
///
/// # Errors
/// When something can't be removed.
pub fn collect(
    context: &Context,
    tree: &Path,
    keep: Keep,
    wait: Wait,
    dry_run: bool,
) -> Result<CollectReport, OperationError> {
    let what = format!("remove old generations of {}", tree.display());
    if dry_run {
        let tree = Tree::open(tree).during(what.as_str())?;
        let collected = tree.would_collect(keep).during(what)?;
        return Ok(CollectReport { tree: tree.as_raw(), collected, done: false });
    }
    as_writer(context, "gc", tree, wait, |writer| {
        let collected = writer.collect(keep, watch(context)).during(what.as_str())?;
        Ok(CollectReport { tree: writer.tree().as_raw(), collected, done: true })
    })
}

/// What is known of a tree. `Serialize` is the `--json` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// The tree.
    pub tree: RawPath,
    /// What is served.
    pub current: Option<Generation>,
    /// The complete generations, the oldest first.
    pub generations: Vec<GenerationStatus>,
    /// An update that is running, or that did not end well.
    pub update: Option<Interrupted>,
    /// Whether that one is still at work.
    pub running: bool,
}

/// Looks at a tree; takes no lock and changes nothing.
///
/// # Errors
/// When it is none, or can't be read.
pub fn status(tree: &Path) -> Result<StatusReport, OperationError> {
    let what = format!("look at {}", tree.display());
    let tree = Tree::open(tree).during(what.as_str())?;
    let current = tree.current().during(what.as_str())?;
    let generations = tree.status().during(what)?;
    // An update that is interrupted right after its switch is done.
    let update = tree.interrupted().filter(|update| Some(update.generation) != current || update.is_running());
    let running = update.as_ref().is_some_and(Interrupted::is_running);
    Ok(StatusReport { tree: tree.as_raw(), current, generations, update, running })
}
