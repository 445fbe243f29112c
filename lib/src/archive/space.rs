//! What a backup will need, asked before anything is stopped or written.

use std::path::Path;

use super::{ArchiveError, Store, TreeRequest, tree};
use crate::name::TargetName;
use crate::progress::Cancel;
use crate::world::disk::space_at;

/// Manifest, sums, directories, and what file systems round up: bytes.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// Lock, directories, sums, manifest, verification copy and its side files.
const OVERHEAD_FILES: u64 = 16;

/// What a backup needs in its store at most, were nothing compressible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Estimate {
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// How much an include holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct TreeSize {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the files, and of the headers of all entries.
    pub bytes: u64,
}

impl Estimate {
    /// For databases of these sizes (bytes, with their WAL) and a tree.
    ///
    /// At its peak there are: a copy of every database in the draft's scratch space, what was stored of them, and of
    /// the largest one a second copy, for the verification. It holds for callers that remove each copy from the
    /// scratch space once it is added.
    #[must_use]
    pub fn of(databases: &[u64], tree: Option<TreeSize>) -> Self {
        let copies = databases.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        let largest = databases.iter().copied().max().unwrap_or(0);
        let stored = tree.map_or(0, |t| t.bytes).saturating_add(copies / 128);
        let bytes = copies.saturating_add(largest).saturating_add(stored).saturating_add(stored / 128);
        let payloads = databases.len() as u64 * 2 + u64::from(tree.is_some());
        Self { bytes: bytes.saturating_add(OVERHEAD_BYTES), files: payloads + OVERHEAD_FILES }
    }

    /// Compares the estimate with what is free at `path`, which must exist.
    ///
    /// # Errors
    /// [`ArchiveError::NoSpace`] with both figures.
    pub fn check(&self, what: &'static str, path: &Path) -> Result<(), ArchiveError> {
        let free = space_at(path)?;
        let path = path.to_owned();
        if free.bytes < self.bytes {
            return Err(ArchiveError::NoSpace { what, unit: "bytes", path, need: self.bytes, have: free.bytes });
        }
        if free.files < self.files {
            return Err(ArchiveError::NoSpace { what, unit: "files", path, need: self.files, have: free.files });
        }
        Ok(())
    }
}

impl Store {
    /// Everything about a tree that can be known before the service is touched: that the includes exist, that the
    /// store is not among them, and how much they hold now.
    ///
    /// # Errors
    /// As [`super::Draft::add_tree`] would, as far as it can be known.
    pub fn measure_tree(&self, request: &TreeRequest<'_>, cancel: &Cancel) -> Result<TreeSize, ArchiveError> {
        tree::measure(self.root(), request, cancel)
    }

    /// Whether there is room for a backup of `target`, before anything is stopped or written.
    ///
    /// # Errors
    /// [`ArchiveError::NoSpace`], and when the store can't be asked.
    pub fn check_space(&self, target: &TargetName, estimate: &Estimate) -> Result<(), ArchiveError> {
        let dir = self.target_dir(target);
        // A target can be a mount point of its own.
        estimate.check("the backup", if dir.is_dir() { &dir } else { self.root() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bed;
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn a_backup_that_can_not_fit_is_refused_with_path_need_and_remedy() {
        let bed = Bed::new();
        bed.store.check_space(&bed.target, &Estimate::of(&[4096, 100], None)).unwrap();
        let error = bed.store.check_space(&bed.target, &Estimate::of(&[1 << 60], None)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("needs 23") && text.contains("bytes in") && text.contains("/store"), "{text}");
        assert!(error.hint().unwrap().contains("expire old backups"));
        let huge = Estimate::of(&[u64::MAX, u64::MAX], Some(TreeSize { entries: 1, bytes: u64::MAX }));
        assert!(bed.store.check_space(&bed.target, &huge).is_err(), "no overflow");
    }

    #[test]
    fn the_estimate_bounds_what_is_used() {
        let bed = Bed::new();
        let content = bed.dir.path().join("noise");
        let mut noise = vec![0; 4 << 20];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        std::fs::write(&content, &noise).unwrap();
        let mut draft = bed.begin();
        let kind = super::super::PayloadKind::Sqlite;
        draft.add_file(kind, "noise", &content, &content, &crate::progress::Silent).unwrap();
        // Copy and stored file exchange places, and the verification copy comes on top.
        let used = draft.payloads()[0].stored_bytes + noise.len() as u64;
        assert!(used <= Estimate::of(&[noise.len() as u64], None).bytes);
    }
}
