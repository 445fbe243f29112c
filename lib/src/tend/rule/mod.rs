//! Rules: what is expired in a SQLite database of a service, what belongs to it, and a task that removes it.
//!
//! The service runs meanwhile. So:
//! - Reads come in slices, writes in short transactions; behind one that had to wait, the pause is longer.
//! - Nothing is checkpointed and no schema is changed; a connection that is the last leaves the log as it is.
//! - Each item is looked at again in the transaction that removes it, in a savepoint of its own, with foreign keys enforced,
//!   by SQLite, or by triggers of our own connection where SQLite would look through a table for each row: see `enforcement`.
//! - A database that was replaced, or whose schema changed, is opened and checked anew before the next unit.
//! - Rows that refer to nothing when we come are told, and left: the rule goes on.
//! - No transaction spans two files. With a rollback journal SQLite ties them by a super-journal, which a service in a
//!   mount namespace of its own may not find: it would keep a half-written database for a whole one
//!   (atomiccommit.html, 5). Summaries go through an outbox instead, see `outbox`.

mod advice;
mod check;
mod clients;
mod config;
mod connection;
mod enforcement;
mod item;
mod key;
mod outbox;
mod references;
mod task;
mod violations;

#[cfg(test)]
mod tests;

pub use advice::Advice;
pub use check::{Checked, RuleError};
pub use config::{Belonging, Heartbeat, OfService, Rule, Summary, TendConfig};
pub use key::Key;
pub use task::RuleTask;
pub use violations::{LastLook, Violation, Violations};
