//! What another tool, Baktainer, was told by labels and variables, in svckit's words.
//!
//! Pure: what was found goes in; the configuration and labels to write instead, and what a person should know, come out.
//! Values that are secrets (`baktainer.db.password`, keys, addresses of webhooks) are compared and never repeated.

mod labels;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::controller::docker::Mount;

/// What is known of one container.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Its name.
    pub container: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment: where a label's password stands too, the variable is named instead.
    pub variables: BTreeMap<String, String>,
}

impl std::fmt::Debug for Source {
    /// Without values: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("container", &self.container).finish_non_exhaustive()
    }
}

/// What Baktainer itself was told.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Its `BT_*` variables.
    pub variables: BTreeMap<String, String>,
    /// What is mounted in its container, where it runs in one: its paths are those of the container.
    pub mounts: Vec<Mount>,
}

impl std::fmt::Debug for Settings {
    /// Without values: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// A container's new labels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImportedContainer {
    /// Its name.
    pub container: String,
    /// The labels to write instead, in order; none where it is to be left alone.
    pub labels: Vec<(String, String)>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Everything that was taken over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// The text of `svckit.toml`.
    pub configuration: String,
    /// The containers that have labels of Baktainer's.
    pub containers: Vec<ImportedContainer>,
    /// What a person should know beside.
    pub notes: Vec<String>,
}

/// What all of Baktainer's labels begin with.
const PREFIX: &str = "baktainer.";

/// Whether a label is one of Baktainer's.
#[must_use]
pub fn is_label(label: &str) -> bool {
    label.starts_with(PREFIX)
}

/// Takes over what can be, and says what can't.
#[must_use]
pub fn import(settings: &Settings, sources: &[Source]) -> Imported {
    let (configuration, mut notes) = variables::import(settings);
    let containers: Vec<ImportedContainer> = sources.iter().filter_map(labels::import).collect();
    if containers.iter().any(|container| !container.labels.is_empty()) {
        notes.push(
            "labels are those of a container when it is made: write them to its Compose file (or `docker run`), and make it \
             anew; until then neither tool sees the other's"
                .to_owned(),
        );
    }
    Imported { configuration, containers, notes }
}

/// A path of Baktainer's container on the host.
fn on_host(path: &Path, mounts: &[Mount]) -> Option<PathBuf> {
    let best = mounts.iter().filter(|mount| path.starts_with(&mount.destination));
    let best = best.max_by_key(|mount| mount.destination.components().count())?;
    let below = path.strip_prefix(&best.destination).ok()?;
    let source = best.source.as_ref()?;
    Some(if below.as_os_str().is_empty() { source.clone() } else { source.join(below) })
}

/// Baktainer's booleans.
fn is_true(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "true" | "1" | "yes" | "on")
}
