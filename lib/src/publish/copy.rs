//! One file, copied into a generation.

use std::cell::Cell;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{OFlags, Timespec, Timestamps};
use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::scan::Look;
use super::{PublishError, Watch};
use crate::world::disk::{AtPath, DiskError};

const BLOCK: usize = 256 << 10;

/// Copies files of one file system to another, or the same.
pub(super) struct Copier {
    /// Until a file system says that it can't.
    reflinks: Cell<bool>,
    buffer: std::cell::RefCell<Vec<u8>>,
    is_root: bool,
}

/// Whether a copy is to be read for its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Yes,
    No,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self {
            reflinks: Cell::new(true),
            buffer: std::cell::RefCell::new(vec![0; BLOCK]),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Whether owners are kept.
    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    /// Whether the last copies shared their blocks with the original.
    pub(super) fn shares_blocks(&self) -> bool {
        self.reflinks.get()
    }

    /// From here on blocks are copied.
    pub(super) fn without_reflinks(&self) {
        self.reflinks.set(false);
    }

    /// Copies `from`, which looked like `look`, to a new file with its mode, its time and, for root, its owner. The
    /// answer is its hash, and its time as this file system keeps it.
    ///
    /// # Errors
    /// [`PublishError::Changed`] when it does not look like that any more, before or after.
    pub(super) fn copy(
        &self,
        from: &Path,
        look: &Look,
        to: &Path,
        hash: Hash,
        watch: Watch<'_>,
    ) -> Result<(Option<String>, [i64; 2]), PublishError> {
        let changed = || PublishError::Changed { path: from.to_owned() };
        let mut source = match open(from) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Err(changed()),
            other => other?,
        };
        if Look::of(&source.metadata().at("look at", from)?) != *look {
            return Err(changed());
        }
        let mut copy = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(to)
            .at("create", to)?;
        let shared = self.reflinks.get() && {
            let cloned = look.size > 0 && rustix::fs::ioctl_ficlone(&copy, &source).is_ok();
            self.reflinks.set(cloned || look.size == 0);
            cloned
        };
        let hash = match (shared, hash) {
            (true, Hash::No) => None,
            (true, Hash::Yes) => Some(self.pass(&mut source, from, None, watch)?),
            (false, Hash::No) => {
                std::io::copy(&mut source, &mut copy).at("copy to", to)?;
                None
            }
            (false, Hash::Yes) => Some(self.pass(&mut source, from, Some((&mut copy, to)), watch)?),
        };
        if Look::of(&source.metadata().at("look at", from)?) != *look {
            return Err(changed());
        }
        self.finish(&copy, look, to)?;
        let kept = Look::of(&copy.metadata().at("look at", to)?).modified;
        Ok((hash, kept))
    }

    /// Owner, mode and time, in the order in which none undoes another.
    fn finish(&self, copy: &File, look: &Look, to: &Path) -> Result<(), PublishError> {
        if self.is_root && look.owner != (0, 0) {
            fchown(copy, Some(look.owner.0), Some(look.owner.1)).at("set the owner of", to)?;
        }
        copy.set_permissions(Permissions::from_mode(look.mode)).at("set the mode of", to)?;
        let modified = Timespec { tv_sec: look.modified[0], tv_nsec: look.modified[1] };
        let times = Timestamps { last_access: modified, last_modification: modified };
        Ok(rustix::fs::futimens(copy, &times).at("set the time of", to)?)
    }

    /// What a directory gets once everything is in it.
    pub(super) fn finish_directory(&self, look: &Look, at: &Path) -> Result<(), PublishError> {
        let directory = File::open(at).at("open", at)?;
        self.finish(&directory, look, at)
    }

    /// Makes a link like another one.
    pub(super) fn symlink(&self, target: &Path, look: &Look, at: &Path) -> Result<(), PublishError> {
        std::os::unix::fs::symlink(target, at).at("create the link", at)?;
        if self.is_root && look.owner != (0, 0) {
            std::os::unix::fs::lchown(at, Some(look.owner.0), Some(look.owner.1)).at("set the owner of", at)?;
        }
        Ok(())
    }

    /// The hash of a file.
    pub(super) fn hash(&self, path: &Path, watch: Watch<'_>) -> Result<String, PublishError> {
        self.pass(&mut open(path)?, path, None, watch)
    }

    fn pass(
        &self,
        source: &mut File,
        from: &Path,
        mut into: Option<(&mut File, &Path)>,
        watch: Watch<'_>,
    ) -> Result<String, PublishError> {
        let mut hash = Sha256::new();
        let mut buffer = self.buffer.borrow_mut();
        loop {
            watch.go_on("the copying")?;
            let read = match source.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.at("read", from)?,
            };
            if read == 0 {
                return Ok(hex(hash));
            }
            hash.update(&buffer[..read]);
            if let Some((copy, to)) = &mut into {
                copy.write_all(&buffer[..read]).at("write to", to)?;
            }
        }
    }
}

fn open(path: &Path) -> Result<File, DiskError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).at("open", path)
}
