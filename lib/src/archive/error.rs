//! What can go wrong with a store, a draft or a backup.

use std::path::PathBuf;

use crate::failure::{Failure, FailureKind};
use crate::lock::Holder;
use crate::name::{BackupId, NameError, TargetName};
use crate::world::disk::DiskError;

/// Why something in a store was refused or failed. Old backups are as they were, whatever the variant.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system refused a file operation.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A name that can't be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another operation works on the same target of the store.
    #[error("the backups of {target} in {} are in use: {}", store.display(), holder_text(.holder.as_deref()))]
    Locked {
        /// The target.
        target: TargetName,
        /// The store.
        store: PathBuf,
        /// Who holds it, where it said so.
        holder: Option<Box<Holder>>,
    },
    /// Others could change or replace the store.
    #[error("the store {} can't be trusted: {} {reason}", store.display(), path.display())]
    Rights {
        /// The store.
        store: PathBuf,
        /// The directory with the wrong rights.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no store, target, backup or payload of this name.
    #[error("there is no {what} {}", path.display())]
    Missing {
        /// `store`, `backup of plex`, ...
        what: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A backup that was there is not any more: an expiry has removed it, or is about to. It is no damage.
    #[error("{} is not there any more: it was expired", path.display())]
    Expired {
        /// Its directory.
        path: PathBuf,
    },
    /// Not enough space, found out before anything was written.
    #[error("{what} needs {need} {unit} in {}, and {have} are free", path.display())]
    NoSpace {
        /// What needs it.
        what: &'static str,
        /// `bytes` or `files`.
        unit: &'static str,
        /// Where.
        path: PathBuf,
        /// How many it needs at most.
        need: u64,
        /// How many there are.
        have: u64,
    },
    /// The store lies inside what is to be stored in it.
    #[error("the store {} lies inside the source {}, which is to be backed up", store.display(), source_path.display())]
    StoreInsideSource {
        /// The store.
        store: PathBuf,
        /// The included path.
        source_path: PathBuf,
    },
    /// Something can't go into a backup.
    #[error("can't back up {}: {reason}", path.display())]
    Source {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An include that there is not.
    #[error("there is nothing of the name or pattern {}", path.display())]
    NoMatch {
        /// The path or pattern.
        path: PathBuf,
    },
    /// Written bytes are not those that were to be written, or a manifest is not usable.
    #[error("{} does not verify: {reason}", path.display())]
    Unverified {
        /// The backup's directory, or the file of it that is wrong.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The backup was written by a newer version.
    #[error("{} has format version {version}; this program reads up to {}", path.display(), super::manifest::VERSION)]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// The content of a payload is not sound, says the check that was asked to judge it.
    #[error("payload {payload} of {id} is not sound: {failure}")]
    Check {
        /// The backup.
        id: BackupId,
        /// The payload.
        payload: String,
        /// What the check says.
        failure: Box<dyn Failure + Send + Sync>,
    },
    /// The caller asked for the end.
    #[error("{what} was cancelled")]
    Cancelled {
        /// What was going on.
        what: &'static str,
    },
    /// A draft was used after a step of it had failed.
    #[error("draft {id} was given up when a step of it failed")]
    GivenUp {
        /// The backup it would have become.
        id: BackupId,
    },
}

fn holder_text(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "its holder has not said who it is".to_owned(), ToString::to_string)
}

impl Failure for ArchiveError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Disk(error) => error.kind(),
            Self::Name(error) => error.kind(),
            Self::Locked { .. } => FailureKind::LockHeld,
            Self::Rights { .. } => FailureKind::Permission,
            Self::Missing { .. } | Self::Expired { .. } => FailureKind::No,
            Self::StoreInsideSource { .. } | Self::NoMatch { .. } => FailureKind::Usage,
            Self::NoSpace { .. } | Self::Source { .. } | Self::Cancelled { .. } | Self::GivenUp { .. } => {
                FailureKind::Failed
            }
            Self::Unverified { .. } | Self::Newer { .. } => FailureKind::Unverified,
            Self::Check { failure, .. } => failure.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Disk(error) => return error.hint(),
            Self::Name(error) => return error.hint(),
            Self::Check { failure, .. } => return failure.hint(),
            Self::Locked { .. } => "wait for it to end; nothing was changed",
            Self::Rights { path, .. } => {
                return Some(format!(
                    "make it yours or root's and not writable by others (chown, chmod o-w {}), or choose another store",
                    path.display()
                ));
            }
            Self::NoSpace { .. } => "free some space, expire old backups, or choose a store on another file system",
            Self::StoreInsideSource { .. } => "choose a store outside of it, or include less",
            Self::NoMatch { .. } => {
                "correct what is to be included, or leave it out; quote a pattern, so that no shell expands it"
            }
            Self::Unverified { .. } => "use another backup (list shows them), and check the disk of this one",
            Self::Newer { .. } => "read it with the newer version of this program that wrote it",
            Self::Expired { .. } => "use a newer backup (list shows them)",
            Self::Missing { .. } | Self::Source { .. } | Self::Cancelled { .. } | Self::GivenUp { .. } => return None,
        };
        Some(text.to_owned())
    }
}
