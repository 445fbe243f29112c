//! What can go wrong with a published tree.

use std::path::PathBuf;

use super::Generation;
use crate::failure::{Failure, FailureKind};
use crate::lock::Holder;
use crate::world::disk::DiskError;

/// Why something on a tree was refused or failed. What readers see is as it was, but for [`PublishError::NotDurable`].
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The system refused a file operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The path is no tree, or can't become one.
    #[error("{} is no tree to publish in: {reason}", path.display())]
    NoTree {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Something of the name that ours would have is there, and nothing says that it is ours.
    #[error("{} may be somebody else's: {reason}", path.display())]
    Foreign {
        /// What is there.
        path: PathBuf,
        /// What speaks against it.
        reason: String,
    },
    /// Nothing is served, though something was.
    #[error("{} serves nothing, and has generations: what would the new one begin with?", tree.display())]
    NoCurrent {
        /// The tree.
        tree: PathBuf,
    },
    /// A generation that readers have is not what it was: something wrote through a hard link.
    #[error("generation {generation}, which is served, is damaged: {}: {reason}{}", path.display(), after_text(.after.as_deref()))]
    Damaged {
        /// Which one.
        generation: Generation,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What failed before that was looked at.
        after: Option<Box<PublishError>>,
    },
    /// Others could change or replace the tree.
    #[error("the tree can't be trusted: {} {reason}", path.display())]
    Rights {
        /// What has the wrong rights.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another operation works on the tree.
    #[error("the tree {} is in use: {}", tree.display(), holder_text(.holder.as_deref()))]
    Locked {
        /// The tree.
        tree: PathBuf,
        /// Who works on it, where it said so.
        holder: Option<Box<Holder>>,
    },
    /// There is no such generation, or none at all.
    #[error("{} has {what}", tree.display())]
    Missing {
        /// The tree.
        tree: PathBuf,
        /// What it has not.
        what: String,
    },
    /// Something of the source can't be published.
    #[error("can't publish {}: {reason}", path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The source was written to while it was read: what was read is half of one state and half of another.
    #[error("{} changed while it was copied: nothing was published", path.display())]
    Changed {
        /// What changed.
        path: PathBuf,
    },
    /// A generation is not what its manifest says.
    #[error("{} does not verify: {reason}", path.display())]
    Unverified {
        /// The generation, or a file of it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A command that makes or judges a generation failed.
    #[error("{what} failed: {command}: {reason}; nothing was published")]
    Command {
        /// `the command` or `a check`.
        what: &'static str,
        /// Its program. Its other words may have secrets, and this goes into the journal.
        command: String,
        /// How it ended.
        reason: String,
        /// Where what it made can be looked at.
        staging: PathBuf,
    },
    /// The generation is older than the one that is served.
    #[error("{} serves generation {current}, which is newer than {offered}", tree.display())]
    Older {
        /// The tree.
        tree: PathBuf,
        /// What it serves.
        current: Generation,
        /// What it was to serve.
        offered: Generation,
    },
    /// The switch took place, and could not be made durable.
    #[error("{generation} is served now, and a power cut could take it back: {cause}")]
    NotDurable {
        /// What is served.
        generation: Generation,
        /// What failed.
        cause: DiskError,
    },
    /// The other side of a mirror refused, or the connection to it ended.
    #[error("the mirror {destination} was not updated: {reason}")]
    Mirror {
        /// Where it is.
        destination: String,
        /// What it said.
        reason: String,
        /// What kind of answer that is.
        kind: FailureKind,
    },
    /// The caller asked for the end.
    #[error("{what} was cancelled")]
    Cancelled {
        /// What was going on.
        what: &'static str,
    },
}

fn holder_text(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "its holder has not said who it is".to_owned(), ToString::to_string)
}

fn after_text(after: Option<&PublishError>) -> String {
    after.map_or_else(String::new, |after| format!(" (found after this: {after})"))
}

impl Failure for PublishError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::NoTree { .. } => FailureKind::Usage,
            Self::Rights { .. } => FailureKind::Permission,
            Self::Locked { .. } => FailureKind::LockHeld,
            Self::Missing { .. } => FailureKind::No,
            Self::Source { .. }
            | Self::Changed { .. }
            | Self::Command { .. }
            | Self::NotDurable { .. }
            | Self::Cancelled { .. } => FailureKind::Failed,
            Self::Unverified { .. } | Self::Damaged { .. } => FailureKind::Unverified,
            Self::Older { .. } | Self::Foreign { .. } | Self::NoCurrent { .. } => FailureKind::Unsafe,
            Self::Mirror { kind, .. } => *kind,
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Disk(error) => return error.hint(),
            Self::NoTree { .. } => "name the directory that has 'current' and 'generations', or a new one".to_owned(),
            Self::Foreign { .. } => {
                "name a new directory; where this is a tree that lost its .svc-publish, bring that back, or move generations \
                 and current away"
                    .to_owned()
            }
            Self::NoCurrent { tree } => {
                format!("svc-publish switch {} serves the newest; --seed none begins empty", tree.display())
            }
            Self::Damaged { .. } => {
                "switch to another generation, then publish anew (--from with --checksum); what runs in a generation must \
                 replace files and not write into them"
                    .to_owned()
            }
            Self::Rights { .. } => {
                "make it yours and not writable by everybody (chown, chmod o-w), or run this as its owner".to_owned()
            }
            Self::Locked { .. } => "wait for it to end; nothing was changed".to_owned(),
            Self::Missing { tree, .. } => format!("see: svc-publish status {}", tree.display()),
            Self::Source { .. } => "leave it out of the source".to_owned(),
            Self::Changed { .. } => {
                "wait until whoever writes there has ended, or have it write into a fresh generation: update --run"
                    .to_owned()
            }
            Self::Unverified { .. } => {
                "switch to another generation, or publish anew; check the disk and who can write to the tree".to_owned()
            }
            Self::Command { staging, .. } => {
                format!("what was made is in {} until the next update", staging.display())
            }
            Self::Older { .. } => "to go back there on purpose: --allow-older".to_owned(),
            Self::NotDurable { .. } => "look at the kernel's log (dmesg), then publish or switch again".to_owned(),
            Self::Mirror { .. } => "what it served before, it still serves".to_owned(),
            Self::Cancelled { .. } => return None,
        })
    }
}
