//! What a command finds in its fresh generation.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::Serialize;

use super::build::join;
use super::copy::{Copier, Hash};
use super::manifest::{Kind, Manifest};
use super::scan::scan;
use super::{PublishError, Watch};
use crate::world::disk::AtPath;

/// How the last generation comes into the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seed {
    /// Files that share their blocks until they are written to, where the file system can; else copies.
    #[default]
    Auto,
    /// Files that share their blocks, or nothing.
    Reflink,
    /// Copies.
    Copy,
    /// The same files: only for a command that replaces files and never writes into one.
    Hardlink,
    /// Nothing: the command makes all of it.
    None,
}

/// Fills `into` from the generation in `from`, but for what was only carried there: a command that did not make it again
/// would seem to. The answer is how it was done.
pub(super) fn seed(
    from: &Path,
    last: &Manifest,
    into: &Path,
    seed: Seed,
    watch: Watch<'_>,
) -> Result<Seed, PublishError> {
    watch.observer.step("seeding the generation from the last one");
    let (mut found, copier) = (scan(from, watch)?, Copier::new());
    found.retain(|one| {
        last.entry(&one.path).is_none_or(|entry| entry.kind == Kind::Directory || entry.carried.is_none())
    });
    let (total, mut done) = (found.iter().map(|found| found.look.size).sum(), 0);
    for one in &found {
        watch.go_on("the update")?;
        let (old, new) = (join(from, &one.path), join(into, &one.path));
        match one.kind {
            Kind::Directory if one.path.as_os_str().is_empty() => {}
            Kind::Directory => DirBuilder::new().mode(0o700).create(&new).at("create the directory", &new)?,
            Kind::Symlink => {
                let target = std::fs::read_link(&old).at("read the link", &old)?;
                copier.symlink(&target, &one.look, &new)?;
            }
            Kind::File if seed == Seed::Hardlink => std::fs::hard_link(&old, &new).at("link", &new)?,
            Kind::File => {
                if seed == Seed::Copy {
                    copier.without_reflinks();
                }
                let _kept_times = copier.copy(&old, &one.look, &new, Hash::No, watch)?;
                if seed == Seed::Reflink && !copier.shares_blocks() {
                    let reason = "its file system has no reflinks: seed by copy".to_owned();
                    return Err(PublishError::Source { path: new, reason });
                }
            }
        }
        done += one.look.size;
        watch.observer.bytes(done, total);
    }
    for directory in found.iter().rev().filter(|found| found.kind == Kind::Directory) {
        copier.finish_directory(&directory.look, &join(into, &directory.path))?;
    }
    Ok(match seed {
        Seed::Auto if copier.shares_blocks() => Seed::Reflink,
        Seed::Auto => Seed::Copy,
        other => other,
    })
}
