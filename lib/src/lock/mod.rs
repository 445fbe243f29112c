//! Whole-operation locks: kernel locks on files, never the existence of a file.
//!
//! Invariants:
//! - The lock is a flock(2) on a file of the lock directory; a file that is left behind blocks nobody (A crash
//!   releases the kernel's lock with the last descriptor).
//! - One [`OperationLock`] is a sorted set of such locks, taken in the order of their names, so that two operations
//!   can't wait for each other in a circle.
//! - A guard only closes its descriptors: LOCK_UN on any duplicate would free the lock for all who inherited it. It is
//!   done where that is meant: at the orderly end of an operation, by the last who claims it (`claim`).
//! - Lock files are never removed: a remove would let two processes lock two inodes of the same name. Where somebody
//!   else does, the next one finds a file that no holder has marked, and looks for a holder of the one before.
//! - What a process was handed is proved by the kernel's own table, descriptor by descriptor, and never trusted.
//!
//! A tool of one's own takes part like this:
//!
//! ```
//! use svckit::lock::{Holder, LockKey, LockRules, OperationLock, TOKEN_VARIABLE, Token, Wait};
//! use svckit::progress::Cancel;
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path(); // StateDirs::for_root().lock, for root's programs
//! // What `svc-lock run` handed on, if we run below it: the same lock is not taken twice.
//! let handed = std::env::var(TOKEN_VARIABLE).map(|text| Token::list(&text)).unwrap_or_default();
//! let rules = LockRules { handed, ..LockRules::default() };
//! let holder = Holder::own("merge", "the mirror")?.at_step("fetching");
//! let keys = [LockKey::named("mirror")];
//! let lock = OperationLock::acquire(directory, &rules, &keys, &holder, Wait::No, &Cancel::new()?)?;
//! // What is started while `handed_on` lives has the lock too, also if we die.
//! let handed_on = lock.hand_on()?;
//! std::process::Command::new("true").env(TOKEN_VARIABLE, handed_on.variable()).status()?;
//! drop(handed_on);
//! lock.end();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claim;
mod file;
mod holder;
mod inherit;
mod key;
mod set;
mod status;
mod table;

pub(crate) use file::lock_beside;
pub use holder::Holder;
pub use inherit::{NotHeld, TOKEN_VARIABLE, Token, prove};
pub use key::LockKey;
pub use set::{HandedOn, LockError, LockRules, OnNetwork, OperationLock, Wait};
pub use status::{LockStatus, status};
pub use table::Party;

#[cfg(test)]
mod tests;
