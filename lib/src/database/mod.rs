//! Databases: what a backup needs to know and do, engine by engine.

pub mod server;
pub mod sqlite;

use std::path::Path;

use crate::failure::Failure;
use crate::progress::{Cancel, Observer};

/// An error of whichever engine.
pub type EngineError = Box<dyn Failure + Send + Sync>;

/// What was proved about a copy.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Validated {
    /// The rungs of the engine's ladder that were climbed, lowest first, as stable words.
    pub rungs: Vec<String>,
    /// What the copy holds (for SQLite: [`sqlite::DatabaseFacts`]).
    pub facts: serde_json::Value,
}

/// What every database engine can do with one file of its own.
pub trait Engine: Send + Sync {
    /// A stable word: `sqlite`.
    fn name(&self) -> &'static str;

    /// Whether `path` is a database of this engine; changes nothing.
    ///
    /// # Errors
    /// When it is not, with the reason.
    fn identify(&self, path: &Path) -> Result<(), EngineError>;

    /// Proves a copy that nobody else has open, as far up the ladder as it goes; leaves it as it is.
    ///
    /// # Errors
    /// When the copy is damaged or can't be read.
    fn validate(&self, copy: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Validated, EngineError>;
}
