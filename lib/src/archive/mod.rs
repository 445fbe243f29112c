//! Backups as plain files that stock tools can read without us: `STORE/TARGET/BACKUP_ID/` with compressed payloads,
//! `SHA256SUMS` and `manifest.json`.
//!
//! ```text
//! STORE/                               0700, trusted (see `rights`)
//!   plex/                              one target
//!     .lock                            kernel lock: one writer (draft or expiry) per target
//!     20261121T040719Z-3fa96c/         a backup
//!       library.db.zst                 zstd -d (`.raw` where it is not compressed)
//!       files.tar.zst                  zstd -d | tar -x
//!       SHA256SUMS                     sha256sum -c SHA256SUMS
//!       manifest.json                  what it is; the commit point
//!     .partial-ID/                     a draft
//!     .scratch-ID/                     its scratch space: copies for verification
//!     .expired-ID/                     a backup that is being removed
//!     .restored-ID.json                when a restore of a backup was tried last, and how far it was right
//!   .scratch-verify-ID/                scratch space of a later verification
//! ```
//!
//! Invariants:
//! - What has a backup's name is whole: a draft gets that name by one rename, after its written bytes were read back
//!   from the disk and checked ([`Verified`]), and loses it by one rename before anything of it is removed.
//! - Payloads, then `SHA256SUMS`, then the manifest, then the directory are synced before the rename, and the
//!   directory above after it.
//! - The manifest lists every payload with its hashes; `SHA256SUMS` lists every payload and the manifest. An edit of any
//!   one file is noticed.
//! - Nothing but expiry ever touches a published backup, and expiry never removes the last verified one, nor one that
//!   somebody reads (`hold`).
//! - Memory does not grow with the payloads.
//!
//! Not promised: protection from somebody who may write to the store and makes all files anew.

mod backup;
mod codec;
mod draft;
mod error;
mod expire;
mod files;
mod hold;
mod manifest;
mod names;
mod proof;
mod reserved;
pub mod retention;
mod rights;
mod scratch;
mod space;
mod store;
mod sums;
mod target_lock;
mod tree;
mod verified;

#[cfg(test)]
mod tests;

pub use backup::{Backup, DumpReader};
pub use draft::{Check, Checked, Content, Draft};
pub use error::ArchiveError;
pub use manifest::{Codec, MANIFEST, Manifest, Payload, PayloadKind, Rights, VERSION};
pub use proof::RestoreProof;
pub use reserved::Reserved;
pub use scratch::Scratch;
pub use space::{Estimate, TreeSize};
pub use store::{Found, Store};
pub use tree::{TreeRequest, matches_anything};
pub use verified::Verified;
