//! What a file system is, as far as locks go.

use std::path::Path;

use super::disk::{AtPath, DiskError};

// linux/magic.h, and the kernel's own sources for those that are not in it.
const SHARED: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0161_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// The kind of the file system at `path` where it is a network file system or FUSE: locks on it need not be those of
/// one kernel (statfs(2)).
///
/// # Errors
/// When the file system can't be asked.
pub fn shared_kind(path: &Path) -> Result<Option<&'static str>, DiskError> {
    let kind = rustix::fs::statfs(path).at("ask for the file system of", path)?.f_type;
    // Some architectures sign-extend the 32 bits.
    let kind = u64::try_from(kind).unwrap_or(0) & 0xffff_ffff;
    Ok(SHARED.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name))
}

/// Whether locks on this file are those of one kernel: `Err(reason)` inside where another machine or another program
/// may write unseen.
///
/// # Errors
/// When the file system can't be asked.
pub fn locks_are_local(path: &Path) -> Result<Result<(), String>, DiskError> {
    Ok(match shared_kind(path)? {
        Some(name) => Err(format!("it lies on {name}, where others may write without a lock that we can see")),
        None => Ok(()),
    })
}
