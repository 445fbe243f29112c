//! Safe service lifecycle on Linux: stop a service without ever killing a database write, back its data up,
//! prove the backup, and bring the service back.
//!
//! The library takes no arguments, reads no environment, prints nothing and never exits: it returns errors and
//! emits [`tracing`] events. `ARCHITECTURE.md` beside this crate's manifest is the map of the code.

pub mod archive;
pub mod compression;
pub mod controller;
pub mod database;
pub mod discover;
pub mod failure;
pub mod journal;
pub mod lock;
pub mod name;
pub mod operation;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod quiesce;
pub mod ready;
pub mod sqlite_locks;
pub mod tend;
pub mod world;

pub use failure::{Failure, FailureKind};
