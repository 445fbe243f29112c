//! Whether a directory is what a manifest says.

use std::path::{Path, PathBuf};

use super::build::join;
use super::copy::Copier;
use super::manifest::{Entry, Kind, Manifest};
use super::scan::{Found, scan};
use super::{Generation, PublishError, Tree, Watch};

/// How closely it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names, kinds, modes, sizes, times of modification, targets: where nobody but us can have written.
    Names,
    /// All of that but the times, and every byte.
    Content,
}

/// A complete generation that was found to be what its manifest says. Only this can be switched to.
///
/// ```compile_fail,E0451
/// use svckit::publish::{Generation, Whole};
/// let _forged = Whole { generation: Generation(1), root: Default::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a whole generation is served only after a switch"]
pub struct Whole {
    pub(super) generation: Generation,
    pub(super) root: PathBuf,
}

impl Whole {
    /// Which one.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

impl Tree {
    /// Verifies a complete generation.
    ///
    /// # Errors
    /// [`PublishError::Missing`], [`PublishError::Unverified`] with the first difference, and those of the disk.
    pub fn verify(&self, generation: Generation, depth: Depth, watch: Watch<'_>) -> Result<Whole, PublishError> {
        let manifest = self.manifest(generation)?;
        watch.observer.step("verifying the generation");
        verify(&self.directory(generation), &manifest, depth, watch)?;
        Ok(Whole { generation, root: self.root().to_owned() })
    }
}

/// Compares a directory with a manifest.
///
/// # Errors
/// [`PublishError::Unverified`] with the first difference.
pub(super) fn verify(
    directory: &Path,
    manifest: &Manifest,
    depth: Depth,
    watch: Watch<'_>,
) -> Result<(), PublishError> {
    let found = scan(directory, watch)?;
    let refuse = |path: &Path, reason: String| Err(PublishError::Unverified { path: join(directory, path), reason });
    let copier = Copier::new();
    let (mut wanted, mut done) = (manifest.entries.iter(), 0);
    let total = manifest.totals().bytes;
    for one in &found {
        watch.go_on("the verification")?;
        let entry = match wanted.next() {
            Some(entry) if entry.path == one.path => entry,
            Some(entry) if entry.path < one.path => return refuse(&entry.path, "it is not there".to_owned()),
            _ => return refuse(&one.path, "the manifest does not have it".to_owned()),
        };
        if let Some(reason) = differs(entry, one, depth) {
            return refuse(&one.path, reason);
        }
        match one.kind {
            Kind::File if depth == Depth::Content => {
                let path = join(directory, &one.path);
                if Some(copier.hash(&path, watch)?) != entry.sha256 {
                    return refuse(&one.path, "its content is not that of the manifest (SHA-256)".to_owned());
                }
                done += one.look.size;
                watch.observer.bytes(done, total);
            }
            Kind::Symlink => {
                let target = std::fs::read_link(join(directory, &one.path)).ok();
                if target.as_deref() != entry.target.as_ref().map(AsRef::as_ref) {
                    return refuse(&one.path, "the link leads elsewhere".to_owned());
                }
            }
            Kind::File | Kind::Directory => {}
        }
    }
    match wanted.next() {
        Some(entry) => refuse(&entry.path, "it is not there".to_owned()),
        None => Ok(()),
    }
}

fn differs(entry: &Entry, found: &Found, depth: Depth) -> Option<String> {
    if entry.kind != found.kind {
        return Some("it is of another kind than in the manifest".to_owned());
    }
    if entry.kind != Kind::Symlink && entry.mode != found.look.mode {
        return Some(format!("its mode is {:04o}, and {:04o} in the manifest", found.look.mode, entry.mode));
    }
    if entry.kind == Kind::File && entry.size != Some(found.look.size) {
        let size = entry.size.unwrap_or_default();
        return Some(format!("it has {} bytes, and {size} in the manifest", found.look.size));
    }
    let is_touched = entry.kind == Kind::File && entry.modified != Some(found.look.modified);
    (depth == Depth::Names && is_touched).then(|| "it was modified after the manifest was made".to_owned())
}
