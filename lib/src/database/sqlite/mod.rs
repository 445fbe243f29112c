//! SQLite: identify, snapshot in three modes, validate, replace.
//!
//! Invariants:
//! - No SQLite connection is opened on a service's files, and no file is created, changed or removed beside them by
//!   a snapshot: all reading goes through [`crate::sqlite_locks::LockFile`]. So nothing of ours can checkpoint.
//! - SQLite itself works on our own copies only.
//! - A snapshot is one file: what the `-wal` or a hot journal held is in it.

mod anew;
mod carry;
mod cold;
mod copy;
mod deep;
mod error;
mod facts;
mod fenced;
mod hash;
mod header;
mod hot;
mod live;
mod own;
pub mod pages;
mod preserve;
mod preserved;
pub mod repair;
pub mod replace;
mod snapshot;
mod stubs;
mod together;
mod validate;
mod versions;
mod wal;

#[cfg(test)]
mod tests;

pub use cold::{RawSet, finish_cold, snapshot_cold, take_cold};
pub use deep::{DeepFinding, DeepKind, DeepReport, deep};
pub use error::SqliteError;
pub use facts::{DatabaseFacts, SchemaObject, TableRows};
pub use fenced::snapshot_fenced;
pub use header::{Identity, JournalMode, identify};
pub use hot::snapshot_hot;
pub use preserve::{Untouched, bytes_of, preserve};
pub(crate) use preserved::INFIX as PRESERVED_INFIX;
pub use preserved::{
    Preserved, PreservedFile, PreservedManifest, Unreadable, preserved_in, preserved_of, preserved_sets, read_small,
};
pub use snapshot::{Snapshot, SnapshotRequest};
pub use validate::{Validation, validate};

use std::path::Path;

use super::{Engine, EngineError, Validated};
use crate::progress::{Cancel, Observer};

/// The engine for SQLite databases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sqlite;

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn identify(&self, path: &Path) -> Result<(), EngineError> {
        identify(path)?;
        Ok(())
    }

    fn validate(&self, copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Validated, EngineError> {
        let validation = validate(copy, cancel, observer)?;
        let facts = serde_json::to_value(&validation.facts).map_err(|source| SqliteError::Facts { source })?;
        Ok(Validated { rungs: validation.rungs, facts })
    }
}
