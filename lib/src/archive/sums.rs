//! `SHA256SUMS`: the hashes of a backup's files, as `sha256sum -c` reads them.

use std::fmt::Write;
use std::path::Path;

use super::ArchiveError;
use super::manifest::{MANIFEST, Manifest, is_sha256};

/// The file's name.
pub(super) const SUMS: &str = "SHA256SUMS";

/// The file's text for a manifest and its own hash. The manifest stands last, as it is written last.
pub(super) fn render(manifest: &Manifest, manifest_sha256: &str) -> String {
    let mut text = String::new();
    for payload in &manifest.payloads {
        // Writing to a String can't fail.
        let _infallible = writeln!(text, "{}  {}", payload.stored_sha256, payload.file);
    }
    let _infallible = writeln!(text, "{manifest_sha256}  {MANIFEST}");
    text
}

/// Checks that the file says exactly what the manifest says, and that it vouches for these bytes of the manifest.
pub(super) fn check(text: &[u8], manifest: &Manifest, manifest_sha256: &str, path: &Path) -> Result<(), ArchiveError> {
    if text == render(manifest, manifest_sha256).as_bytes() {
        return Ok(());
    }
    let reason = match lines(text) {
        None => "it is not a list of SHA-256 sums".to_owned(),
        Some(lines) => match lines.iter().find(|(_, name)| *name == MANIFEST) {
            None => format!("it does not list {MANIFEST}"),
            Some((hash, _)) if *hash != manifest_sha256 => {
                format!("{MANIFEST} was changed after it was written (its SHA-256 is {manifest_sha256}, not {hash})")
            }
            Some(_) => format!("it was edited: it does not agree with {MANIFEST}"),
        },
    };
    Err(ArchiveError::Unverified { path: path.to_owned(), reason })
}

fn lines(text: &[u8]) -> Option<Vec<(&str, &str)>> {
    std::str::from_utf8(text).ok()?.lines().map(|l| l.split_once("  ").filter(|(hash, _)| is_sha256(hash))).collect()
}
