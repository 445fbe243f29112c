//! The one who may change a tree.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::{Generation, PublishError, Tree, Whole, place, remove, state, steps};
use crate::lock::{Holder, OperationLock, lock_beside};

/// A tree, locked for writing.
///
/// Beside the operation's lock, which is of one user's directory, the tree has a lock of its own: whoever may write to
/// the tree meets at it.
#[derive(Debug)]
pub struct Writer<'lock> {
    tree: Tree,
    own: File,
    /// Whether a command did not end when it was asked to, and still holds the tree's own lock.
    outlived: AtomicBool,
    pub(super) lock: &'lock OperationLock,
}

impl<'lock> Writer<'lock> {
    /// Locks a tree, which is made where there is none. Refuses at once: whoever waits, waits for the operation's lock.
    ///
    /// # Errors
    /// [`PublishError::Locked`], and those of making and opening a tree.
    pub fn create(path: &Path, lock: &'lock OperationLock, holder: &Holder) -> Result<Self, PublishError> {
        Self::lock(Tree::create(path)?, lock, holder)
    }

    /// Locks a tree that is there.
    ///
    /// # Errors
    /// The same.
    pub fn open(path: &Path, lock: &'lock OperationLock, holder: &Holder) -> Result<Self, PublishError> {
        Self::lock(Tree::open(path)?, lock, holder)
    }

    fn lock(tree: Tree, lock: &'lock OperationLock, holder: &Holder) -> Result<Self, PublishError> {
        let path = tree.state().join("lock");
        match lock_beside(&path, holder)? {
            Ok(own) => Ok(Self { tree, own, outlived: AtomicBool::new(false), lock }),
            Err(holder) => Err(PublishError::Locked { tree: tree.root().to_owned(), holder }),
        }
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A duplicate of the tree's own lock that commands inherit: while one of them writes, nobody else does.
    pub(super) fn hand_on(&self) -> std::io::Result<File> {
        Ok(File::from(rustix::io::dup(&self.own)?))
    }

    /// A command goes on without us: it keeps the lock.
    pub(super) fn leave_to_command(&self) {
        self.outlived.store(true, Ordering::Relaxed);
    }

    /// Removes what interruptions left.
    ///
    /// # Errors
    /// When something can't be removed.
    pub fn sweep(&self) -> Result<(), PublishError> {
        remove::sweep(&self.tree)
    }

    /// Sends readers to a generation that was verified. The answer is the one before.
    ///
    /// # Errors
    /// When it can't; `current` is as it was, but for [`PublishError::NotDurable`].
    pub fn switch(&self, to: &Whole) -> Result<Option<Generation>, PublishError> {
        if to.root != self.tree.root() {
            let reason = format!("the generation is one of {}", to.root.display());
            return Err(PublishError::NoTree { path: self.tree.root().to_owned(), reason });
        }
        let from = self.tree.current()?;
        place::switch(&self.tree, from, to.generation)?;
        // An interrupted update to this very generation has come to its end by this.
        if steps::read(&self.tree).is_some_and(|interrupted| interrupted.generation == to.generation) {
            steps::forget(&self.tree)?;
        }
        Ok(from)
    }

    /// Gives the next number away.
    pub(super) fn allot(&self) -> Result<Generation, PublishError> {
        state::allot(&self.tree)
    }
}

impl Drop for Writer<'_> {
    /// Closing alone is not enough: a child that another thread forks at this moment has a copy of the descriptor until
    /// it executes its program, and the next operation would be refused. What a command still holds is only closed.
    fn drop(&mut self) {
        if !self.outlived.load(Ordering::Relaxed) {
            let _closed_next = flock(&self.own, FlockOperation::Unlock);
        }
    }
}
