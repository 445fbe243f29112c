//! Files with secrets in them, trusted as ssh(1) trusts a key.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What is done with a path that is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// It is refused.
    Refused,
    /// What it leads to counts: renewals replace links.
    Followed,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Rights(&'static str),
}

/// Opens a regular file that is ours or root's, and that nobody else can read or change.
pub(crate) fn open(path: &Path, links: Links) -> Result<File, Untrusted> {
    let flags = if links == Links::Refused { OFlags::NOFOLLOW | OFlags::NONBLOCK } else { OFlags::NONBLOCK };
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Untrusted::Rights("it is not a regular file"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() && metadata.uid() != 0 {
        return Err(Untrusted::Rights("it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Untrusted::Rights("others can read or change it"));
    }
    Ok(file)
}
