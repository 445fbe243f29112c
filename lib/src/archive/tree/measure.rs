//! How much a tree holds, without reading it.

use std::path::Path;

use super::TreeRequest;
use super::select::{DatabaseFiles, refuse_store_inside, roots};
use crate::archive::{ArchiveError, TreeSize};
use crate::progress::Cancel;
use crate::world::disk::AtPath;

/// Header, padding, and room for attributes and a long name: bytes per entry.
const ENTRY_BYTES: u64 = 4 * 512;

/// Counts what the includes hold now. What can't be listed is an error here already.
pub(in crate::archive) fn measure(
    store: &Path,
    request: &TreeRequest<'_>,
    cancel: &Cancel,
) -> Result<TreeSize, ArchiveError> {
    let mut stack = roots(request)?;
    refuse_store_inside(store, &stack)?;
    let skip = DatabaseFiles::of(request.databases)?;
    let mut size = TreeSize::default();
    while let Some(path) = stack.pop() {
        if cancel.is_requested() {
            return Err(ArchiveError::Cancelled { what: "the measuring of the files" });
        }
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.at("look at", &path)?,
        };
        if !metadata.is_dir() && skip.contains(&path) {
            continue;
        }
        size.entries += 1;
        size.bytes = size.bytes.saturating_add(ENTRY_BYTES);
        if metadata.is_file() {
            size.bytes = size.bytes.saturating_add(metadata.len());
        } else if metadata.is_dir() {
            let entries = match std::fs::read_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.at("list", &path)?,
            };
            for entry in entries {
                stack.push(entry.at("list", &path)?.path());
            }
        }
    }
    Ok(size)
}
