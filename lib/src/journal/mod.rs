//! What we have stopped, held or replaced, on disk before we do it.
//!
//! One file per operation in the journal's directory. The order is the promise: an entry is durable before the first
//! signal, every stage is durable before the step that it announces, and the entry is removed only when the service
//! is back and nothing of ours is left on it. `quiesce::resume` replays what a dead process left.

mod entry;
mod file;

pub use entry::{
    Entry, EntryId, JOURNAL_VERSION, KeptFile, Replacement, ServiceRecord, ServiceStage, StagedSide, StopMark,
    TriggerRecord,
};
pub use file::{Journal, JournalError, OpenEntry};
