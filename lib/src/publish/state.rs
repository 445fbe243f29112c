//! The small files beside the generations.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::generation::of_name;
use super::tree::numbers_in;
use super::{Generation, PublishError, Tree};
use crate::world::clock;
use crate::world::disk::write_durably;

const MODE: u32 = 0o644;

/// Gives the next number, which is durable before anything is made under it: one that failed is never given again.
pub(super) fn allot(tree: &Tree) -> Result<Generation, PublishError> {
    let highest = highest(tree)?;
    let generation = highest.next();
    if generation == highest {
        let reason =
            format!("{highest} was given, and no number is above it: one of its names is damaged, or 'last' is");
        return Err(PublishError::Unverified { path: tree.state(), reason });
    }
    note_highest(tree, generation)?;
    Ok(generation)
}

/// Makes sure that no later number is this one or below it.
pub(super) fn note_highest(tree: &Tree, generation: Generation) -> Result<(), PublishError> {
    Ok(write_durably(&tree.state().join("last"), format!("{generation}\n").as_bytes(), MODE)?)
}

/// The highest number that was ever given, also where the note of it is lost: no name of a number is passed over.
pub(super) fn highest(tree: &Tree) -> Result<Generation, PublishError> {
    let of_any = |name: &std::ffi::OsStr| {
        let text = name.to_str()?.trim_start_matches('.');
        of_name(text.split('.').next()?.as_ref())
    };
    let noted = std::fs::read_to_string(tree.state().join("last")).ok().and_then(|text| text.trim().parse().ok());
    let seen = numbers_in(&tree.generations(), of_any)?.into_iter().chain(numbers_in(&tree.manifests(), of_any)?);
    Ok(seen.chain(noted).max().unwrap_or(Generation(0)))
}

/// Since when generations are not the current one any more, in seconds since the epoch.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ceased(BTreeMap<Generation, u64>);

impl Ceased {
    /// Whether readers were ever sent to a generation, or were about to be.
    pub(super) fn is_noted(tree: &Tree) -> bool {
        tree.state().join("ceased.json").exists()
    }

    /// What is noted; a note that can't be read is none.
    pub(super) fn read(tree: &Tree) -> Self {
        let text = std::fs::read(tree.state().join("ceased.json")).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Where it was not noted: it ceased at the latest when the link was made that is there now.
    pub(super) fn since(&self, tree: &Tree, generation: Generation) -> Option<u64> {
        let of_link = || std::fs::symlink_metadata(tree.current_link()).ok()?.mtime().try_into().ok();
        self.0.get(&generation).copied().or_else(of_link)
    }

    /// Before the switch from one to another: `from` begins to cease, `to` does not any more.
    pub(super) fn note(tree: &Tree, from: Option<Generation>, to: Generation) -> Result<(), PublishError> {
        let mut ceased = Self::read(tree);
        ceased.0.remove(&to);
        if let Some(from) = from.filter(|from| *from != to) {
            ceased.0.insert(from, clock::unix_seconds());
        }
        ceased.0.retain(|generation, _| tree.directory(*generation).is_dir());
        let text = serde_json::to_vec(&ceased).map_err(|source| crate::world::disk::DiskError {
            action: "write",
            path: tree.state().join("ceased.json"),
            source: source.into(),
        })?;
        Ok(write_durably(&tree.state().join("ceased.json"), &text, MODE)?)
    }
}
