//! Publishing: a tree is updated, switched, cleaned up and mirrored, each under the tree's lock from the first look to
//! the last step.

mod change;
mod mirror;
mod update;

use std::path::{Path, PathBuf};

pub use change::{CollectReport, StatusReport, SwitchReport, SwitchTo, collect, status, switch};
pub use mirror::{Destination, MirrorReport, Transport, mirror, receive};
pub use update::{UpdateFrom, UpdateReport, UpdateRequest, preview, resume, update};

use super::common::{begin, refused};
use super::error::{During, OperationError};
use crate::failure::FailureKind;
use crate::lock::{Holder, LockKey, OperationLock, Wait};
use crate::publish::{PublishError, Tree, Watch, Writer};
use crate::quiesce::Context;

/// Takes the lock of a tree that is there.
fn locked(context: &Context, operation: &str, tree: &Path, wait: Wait) -> Result<OperationLock, OperationError> {
    let label = format!("tree {}", tree.display());
    let key = LockKey::tree(tree).during(format!("{operation} {}", tree.display()))?;
    begin(context, operation, &label, &[key], wait)
}

/// Who we are to whoever meets the tree's own lock.
fn holder(operation: &str, tree: &Path) -> Result<Holder, OperationError> {
    let what = format!("{operation} {}", tree.display());
    Holder::own(operation, &format!("tree {}", tree.display()))
        .map_err(|error| refused(&what, error.to_string(), FailureKind::Failed))
}

/// Runs `story` as the one writer of the tree.
fn as_writer<T>(
    context: &Context,
    operation: &str,
    tree: &Path,
    wait: Wait,
    story: impl FnOnce(&Writer<'_>) -> Result<T, OperationError>,
) -> Result<T, OperationError> {
    let what = format!("{operation} {}", tree.display());
    // A lock is only taken on what is a tree.
    Tree::open(tree).during(what.as_str())?;
    let lock = locked(context, operation, tree, wait)?;
    let writer = Writer::open(tree, &lock, &holder(operation, tree)?).during(what)?;
    story(&writer)
}

fn watch(context: &Context) -> Watch<'_> {
    Watch { cancel: &context.cancel, observer: context.observer.as_ref() }
}

/// Refuses a source that lies in the tree, or has the tree in it: one would publish itself.
fn refuse_overlap(tree: &Path, source: &Path) -> Result<PathBuf, PublishError> {
    use crate::world::disk::AtPath;
    let real = std::fs::canonicalize(source).at("look at", source)?;
    let reason = if real.starts_with(tree) {
        "it lies in the tree itself"
    } else if tree.starts_with(&real) {
        "the tree lies in it"
    } else if !real.is_dir() {
        "it is no directory"
    } else {
        return Ok(real);
    };
    Err(PublishError::NoTree { path: tree.to_owned(), reason: format!("of {}: {reason}", source.display()) })
}
