//! A directory tree of which readers always see one whole state.
//!
//! ```text
//! TREE/current -> generations/000042      the only thing that changes under readers, by rename(2)
//! TREE/generations/000042/                complete under this name, and never written to again
//! TREE/generations/.000043.new/           being made
//! TREE/generations/.000040.gone/          being removed
//! TREE/.svc-publish/manifests/000042.json what it consists of
//! TREE/.svc-publish/journal.json          the running update, or the one that did not end well
//! TREE/.svc-publish/ceased.json           since when a generation is not the current one any more
//! TREE/.svc-publish/last                  the highest number that was ever given
//! TREE/.svc-publish/lock                  one operation at a time, whoever runs it
//! ```
//!
//! Invariants:
//! - A directory under its number is complete and durable: it was synced (syncfs(2)) and its manifest was durable before
//!   it got the name. What an interruption leaves has another name, or is a manifest without a directory: the next
//!   writer sweeps it.
//! - Only a [`Whole`] generation can be switched to, and only verification against its manifest makes one.
//! - `current` changes by a rename of a link, and only after the directory under the number is durable.
//! - A number without a manifest is none of an interruption: its manifest was lost, or it is somebody's. It is told, and
//!   nothing removes it. Without `.svc-publish` nothing in `generations` is ours.
//! - A reader's lease is LOCK_SH on the generation's directory, taken and then checked against its name; a removal takes
//!   LOCK_EX without waiting, renames, and lets go. So a generation that has its name and a lease is not removed.
//! - No file of a generation is ever opened for writing, which is why an unchanged one can be a hard link.
//!
//! | interrupted | is left | becomes |
//! |---|---|---|
//! | while it is made | `.N.new`, a journal | swept by the next writer, its number is not given again |
//! | before its name | the same and a manifest | swept |
//! | before the switch | `N`, its manifest, a journal | `update --resume` verifies and switches; else it is an old generation |
//! | after the switch | a journal | removed by the next writer: all is done |
//! | while it is removed | `.N.gone`, or a manifest alone | swept |

mod build;
mod carry;
mod collect;
mod command;
mod copy;
mod error;
mod generation;
mod lease;
mod manifest;
mod place;
mod receive;
mod remove;
mod scan;
mod seed;
mod staging;
mod state;
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_damage;
mod tree;
mod verify;
mod writer;

pub use build::{Built, Comparison};
pub use carry::Carry;
pub use collect::{Collected, Keep, Kept};
pub use command::{Commands, GENERATION_VARIABLE, STAGING_VARIABLE, TREE_VARIABLE};
pub use error::PublishError;
pub use generation::Generation;
pub use lease::Lease;
pub use manifest::{Carried, Entry, Kind, MANIFEST_VERSION, Manifest, Totals};
pub use receive::{COMMIT, Message, Offer, accept, read_commit, read_offer, say};
pub use seed::Seed;
pub use staging::{Named, Sealed, Staging};
pub use steps::{Interrupted, Step, StepState};
pub use tree::{GenerationStatus, Tree};
pub use verify::{Depth, Whole};
pub use writer::Writer;

use crate::progress::{Cancel, Observer};

/// Who hears of progress, and who ends the work early.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Ends the work at its next safe point.
    pub cancel: &'a Cancel,
    /// Hears of steps and bytes.
    pub observer: &'a dyn Observer,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("cancel", self.cancel).finish_non_exhaustive()
    }
}

impl Watch<'_> {
    /// Refuses to go on once the end was asked for.
    fn go_on(self, what: &'static str) -> Result<(), PublishError> {
        if self.cancel.is_requested() { Err(PublishError::Cancelled { what }) } else { Ok(()) }
    }
}
