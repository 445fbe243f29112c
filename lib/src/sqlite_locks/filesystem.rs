//! What a path says about its neighbours and its file system.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::world::disk::{AtPath, DiskError};

/// A file that SQLite keeps beside `database`: its name and `suffix` (`-wal`, `-shm`, `-journal`).
///
/// SQLite follows a symbolic link before it names them, and so does this.
#[must_use]
pub fn side_file(database: &Path, suffix: &str) -> PathBuf {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name: OsString = real.into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether locks on this file are those of one kernel: `Err(reason)` inside on a network file system and on FUSE,
/// where another machine or another program may write unseen.
///
/// # Errors
/// When the file system can't be asked.
pub fn locks_are_local(path: &Path) -> Result<Result<(), String>, DiskError> {
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
    let kind = rustix::fs::statfs(path).at("ask for the file system of", path)?.f_type;
    // Some architectures sign-extend the 32 bits.
    let kind = u64::try_from(kind).unwrap_or(0) & 0xffff_ffff;
    Ok(match SHARED.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => Err(format!("it lies on {name}, where others may write without a lock that we can see")),
        None => Ok(()),
    })
}
