//! The lock of one operation: a sorted set of kernel locks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::holder::Record;
use super::inherit::proved;
use super::{Holder, LockKey, Token, claim, file};
use crate::failure::{Failure, FailureKind};
use crate::progress::Cancel;
use crate::world::disk::{AtPath, DiskError, FileId, create_private_dir};
use crate::world::filesystem::shared_kind;

/// What to do when somebody else holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Refuse at once.
    No,
    /// Wait, at most so long.
    AtMost(Duration),
}

/// What to do where the lock directory lies on a network file system: its locks may be those of this machine only, of a
/// server that forgets them, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNetwork {
    /// Refuse.
    #[default]
    Refuse,
    /// Lock all the same, and warn by a `tracing` event.
    Warn,
}

/// What a program was started with, as far as locks go.
#[derive(Debug, Clone, Default)]
pub struct LockRules {
    /// The locks that it was handed on, as [`Token::list`] reads them: what it needs of those is not taken again.
    pub handed: Vec<Token>,
    /// Whether a network file system will do.
    pub on_network: OnNetwork,
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another operation holds one of the keys.
    #[error("{label} is in use: {}", holder_text(.holder.as_deref(), *.left_to))]
    Held {
        /// What is locked.
        label: String,
        /// Who took it, where it said so.
        holder: Option<Box<Holder>>,
        /// A process that holds it now, where the one who took it has ended or did not say who it is.
        left_to: Option<i32>,
    },
    /// The wait was ended by a cancellation.
    #[error("the wait for the lock of {label} was cancelled")]
    Cancelled {
        /// What is locked.
        label: String,
    },
    /// The lock file was removed or replaced while somebody held it.
    #[error("{label} is in use: process {pid} holds the lock of a file that was removed from {}", path.display())]
    Replaced {
        /// What is locked.
        label: String,
        /// The lock file.
        path: PathBuf,
        /// Who holds the one that stood there before.
        pid: i32,
    },
    /// Others may write to the lock directory.
    #[error("can't lock in {}: it has mode {mode:04o} and belongs to user {owner}, so others could remove a lock",
        directory.display())]
    UnsafeDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// The lock directory is on a network file system.
    #[error("can't lock in {}: it lies on {kind}, where a lock may be worth nothing", directory.display())]
    Network {
        /// The directory.
        directory: PathBuf,
        /// The kind of the file system.
        kind: &'static str,
    },
    /// The lock directory or a lock file can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn holder_text(holder: Option<&Holder>, left_to: Option<i32>) -> String {
    match (holder, left_to) {
        (Some(holder), None) => holder.to_string(),
        (Some(holder), Some(pid)) => format!("{holder}, which has ended; process {pid} still holds it"),
        (None, Some(pid)) => format!("process {pid} holds it, and has not said what it does"),
        (None, None) => "its holder has not said who it is".to_owned(),
    }
}

impl Failure for LockError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Held { .. } | Self::Replaced { .. } => FailureKind::LockHeld,
            Self::Cancelled { .. } => FailureKind::Failed,
            Self::UnsafeDirectory { .. } => FailureKind::Permission,
            Self::Network { .. } => FailureKind::Unsafe,
            Self::Disk(error) => error.kind(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => Some("wait for it to end; nothing was changed".to_owned()),
            Self::Replaced { .. } => {
                Some("wait for it to end, and never remove a lock file: it blocks nobody".to_owned())
            }
            Self::UnsafeDirectory { directory, .. } => Some(format!(
                "chmod go-w {0}, or chown it; or choose another place for svckit's state",
                directory.display()
            )),
            Self::Network { .. } => Some(
                "keep svckit's state on a local disk (SVCKIT_STATE_DIR), or write on-network = \"warn\" in [locks] of the \
                 configuration, where no other machine shares it"
                    .to_owned(),
            ),
            Self::Cancelled { .. } => None,
            Self::Disk(error) => error.hint(),
        }
    }
}

/// The lock of a whole operation. Every mutating call borrows one.
///
/// Dropping it closes the descriptors; the lock is free once every process that it was handed on to has closed its own,
/// or at once with [`OperationLock::end`].
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct OperationLock {
    held: Vec<Held>,
    /// What we were handed, for those that we hand locks on to.
    handed: Vec<Token>,
}

#[derive(Debug)]
struct Held {
    key: LockKey,
    /// The description that is locked: our own, or a duplicate of an inherited one.
    file: File,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Taken,
    /// Handed on to us, with our claim on it.
    Handed(Token, File),
}

impl Drop for Held {
    fn drop(&mut self) {
        // Of our own the close is enough, and an unlock too much: children may have it.
        if let Origin::Handed(_, claimed) = &self.origin {
            claim::end_claim(claimed, &self.file);
        }
    }
}

impl OperationLock {
    /// Takes the locks of all `keys` (duplicates count once) in `directory`, in a fixed order. One that this process was
    /// handed on, and provably holds, is claimed and not taken again.
    ///
    /// # Errors
    /// [`LockError::Held`] when another operation holds one and `wait` is over: none is held then.
    pub fn acquire(
        directory: &Path,
        rules: &LockRules,
        keys: &[LockKey],
        holder: &Holder,
        wait: Wait,
        cancel: &Cancel,
    ) -> Result<Self, LockError> {
        create_private_dir(directory)?;
        file::check_rights(directory)?;
        if let Some(kind) = shared_kind(directory)? {
            match rules.on_network {
                OnNetwork::Refuse => return Err(LockError::Network { directory: directory.to_owned(), kind }),
                OnNetwork::Warn => tracing::warn!(?directory, kind, "locks on this file system may be worth nothing"),
            }
        }
        let deadline = match wait {
            Wait::No => None,
            Wait::AtMost(bound) => Some(Instant::now() + bound),
        };
        let mut sorted = keys.to_vec();
        sorted.sort();
        sorted.dedup();
        let mut held = Vec::with_capacity(sorted.len());
        for key in sorted {
            let path = directory.join(key.file_name());
            if let Some(handed) = claim_handed(directory, &key, &rules.handed, holder)? {
                held.push(handed);
                continue;
            }
            let file = file::lock(&path, &key, holder, deadline, cancel)?;
            held.push(Held { key, file, origin: Origin::Taken });
        }
        Ok(Self { held, handed: rules.handed.clone() })
    }

    /// The keys that it holds, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &LockKey> {
        self.held.iter().map(|held| &held.key)
    }

    /// Descriptors that close-on-exec does not close, so that children started while the result lives inherit the lock.
    /// They hold it until they end or until [`OperationLock::end`], whichever is first; one that claims it meanwhile (it
    /// acquires the same key, with the tokens that it was handed) holds it until it ends itself.
    ///
    /// # Errors
    /// Those of dup(2) and fcntl(2).
    pub fn hand_on(&self) -> std::io::Result<HandedOn> {
        let mut files = Vec::new();
        let mut tokens = Vec::new();
        for held in &self.held {
            match &held.origin {
                Origin::Taken => {
                    // A claim of the operation itself: else the first of several claims to end would unlock.
                    claim::claim(&held.file)?;
                    let file = File::from(rustix::io::dup(&held.file)?);
                    tokens.push(Token::of(&file)?);
                    files.push(file);
                }
                Origin::Handed(token, claimed) => {
                    tokens.push(token.clone());
                    files.push(File::from(rustix::io::dup(claimed)?));
                }
            }
        }
        let others = self.handed.iter().filter(|token| !tokens.iter().any(|own| own.file == token.file));
        let others: Vec<Token> = others.cloned().collect();
        tokens.extend(others);
        Ok(HandedOn { files, tokens })
    }

    /// Says at which step the operation is, in the lock files.
    ///
    /// # Errors
    /// When a lock file can't be written to.
    pub fn note_step(&mut self, step: Option<&str>) -> Result<(), LockError> {
        for held in &mut self.held {
            let Some(mut record) = Record::read_from(&mut held.file) else { continue };
            record.holder.step = step.map(str::to_owned);
            record.write_to(&mut held.file).at("write the step to", Path::new(&held.key.file_name()))?;
        }
        Ok(())
    }

    /// Ends the operation: from now on those that it was handed on to hold nothing, a daemon that a command left behind
    /// above all. Where one of them has claimed it, the lock goes on until the last claim ends.
    pub fn end(self) {
        for held in self.held.iter().rev() {
            if matches!(held.origin, Origin::Taken) {
                claim::end_claim(&held.file, &held.file);
            }
        }
    }
}

/// The lock of `key`, where this process was handed it and provably has it.
fn claim_handed(directory: &Path, key: &LockKey, handed: &[Token], holder: &Holder) -> Result<Option<Held>, LockError> {
    let Ok(token) = proved(directory, key, handed) else { return Ok(None) };
    let path = directory.join(key.file_name());
    let claimed = file::open(&path)?;
    if FileId::of_open(&claimed).ok() != Some(token.file) || !claim::claim(&claimed).at("claim", &path)? {
        return Ok(None);
    }
    // Proved again: it may have been released between the proof and the claim.
    if proved(directory, key, handed).is_err() {
        return Ok(None);
    }
    let mut file = token.duplicate().at("duplicate the descriptor of", &path)?;
    if let (Some(step), Some(mut record)) = (&holder.step, Record::read_from(&mut file)) {
        record.holder.step = Some(step.clone());
        record.write_to(&mut file).at("write the step to", &path)?;
    }
    Ok(Some(Held { key: key.clone(), file, origin: Origin::Handed(token.clone(), claimed) }))
}

/// Descriptors that children inherit; see [`OperationLock::hand_on`].
#[derive(Debug)]
pub struct HandedOn {
    files: Vec<File>,
    tokens: Vec<Token>,
}

impl HandedOn {
    /// The tokens of all of them, and of what we were handed ourselves.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The value of [`super::TOKEN_VARIABLE`] for a child.
    #[must_use]
    pub fn variable(&self) -> String {
        self.tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// How many descriptors a child inherits by it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
