//! A reader of the SQLite file format that needs no SQLite, and works on damaged files: it is what a check, and a
//! salvage of rows, stand on. <https://sqlite.org/fileformat2.html>
//!
//! Invariants:
//! - Nothing is written to what is read, no file appears beside it, no SQLite connection is opened on it: see [`View`].
//!   `grow` writes b-trees, into copies of ours only.
//! - Damage is a finding, never a panic and never the end: every number of a file is compared with what it could be
//!   before it is used, every walk ends at what it has seen before, and no allocation goes by a number of the file.
//! - Memory does not grow with the database, but for one bit a page and 8 bytes for each page in the log.
//!
//! ```no_run
//! use svckit::database::sqlite::pages::{CheckOptions, check};
//! use svckit::progress::{Cancel, Silent};
//!
//! let report = check("library.db".as_ref(), &CheckOptions::default(), &Cancel::new()?, &Silent)?;
//! for finding in &report.findings {
//!     println!("{:?} of {:?}, page {:?}: {}", finding.kind, finding.object, finding.page, finding.what);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes;
mod chain;
mod check;
mod claims;
mod collate;
mod create;
mod cursor;
mod grow;
mod header;
mod image;
mod instant;
mod journal;
mod mend;
mod node;
mod overlay;
mod record;
mod schema;
mod shape;
mod shm;
mod space;
mod sql;
mod tree;
mod view;
mod wal;
mod write;

#[cfg(test)]
mod tests;

pub use chain::{ChainFault, bytes_of};
pub use check::{
    CheckOptions, Finding, FindingKind, Loss, NotChecked, PageUses, Report, Rowids, TreeReport, WalReport, check,
};
pub(super) use check::{entry_of, index_entries, index_hashes, index_sum, page_hashes};
pub use collate::{Collation, KeyColumn};
pub(super) use grow::{Grown, Room, Source, Wanted, grow};
pub use header::{Encoding, Header, Layout};
pub use image::{Image, Unreadable};
pub use instant::Seen;
pub(crate) use instant::at_one_instant;
pub(super) use journal::super_journal_of;
pub(super) use mend::mended;
pub use node::{Cell, Node, NodeKind, Payload};
pub use record::{Value, Values, text};
pub use schema::{Object, ObjectKind, Schema};
pub use shape::{Column, IndexField, IndexShape, TableShape};
pub(super) use sql::is_one_statement;
pub use tree::{GoOn, Met};
pub use view::{Consistency, View};
