//! Whole-operation locks: kernel locks on files, never the existence of a file.
//!
//! Invariants:
//! - The lock is a flock(2) on a file of the lock directory; a file that is left behind blocks nobody (A crash
//!   releases the kernel's lock with the last descriptor).
//! - One [`OperationLock`] is a sorted set of such locks, taken in the order of their names, so that two operations
//!   can't wait for each other in a circle.
//! - A guard only closes its descriptors: LOCK_UN on any duplicate would free the lock for all who inherited it.
//! - Lock files are never removed: a remove would let two processes lock two inodes of the same name.

mod holder;
mod inherit;
mod key;
mod set;

pub use holder::Holder;
pub use inherit::{TOKEN_VARIABLE, Token, prove};
pub use key::LockKey;
pub use set::{LockError, OperationLock, Wait};
