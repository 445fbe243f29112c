//! The POSIX locks that one process holds, from /proc/PID/fdinfo (proc_pid_fdinfo(5)).
//!
//! Not from /proc/locks: its device numbers are those of the superblock, which on btrfs and overlayfs are not st_dev.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use super::bytes::LockRange;
use crate::world::ProcessId;
use crate::world::disk::FileId;
use crate::world::process::is_gone;

/// One POSIX lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) file: FileId,
    first: i64,
    last: i64,
}

impl Held {
    /// Adjacent locks of one owner and kind are one lock to the kernel: `covers`, not `equals`.
    pub(super) fn covers(&self, range: LockRange) -> bool {
        self.first <= range.start && range.start + range.len - 1 <= self.last
    }

    pub(super) fn touches(&self, range: LockRange) -> bool {
        self.first < range.start + range.len && range.start <= self.last
    }
}

/// The regular files that a process has open, and the POSIX locks that it holds on them. A process that is gone has
/// none.
pub(super) fn posix_locks_of(process: &ProcessId) -> std::io::Result<(BTreeSet<FileId>, Vec<Held>)> {
    let (mut opened, mut locks) = (BTreeSet::new(), Vec::new());
    let listing = match std::fs::read_dir(format!("/proc/{}/fd", process.pid)) {
        Err(error) if is_gone(&error) && !process.is_alive()? => return Ok((opened, locks)),
        other => other?,
    };
    for item in listing.flatten() {
        // A descriptor that was closed meanwhile is not open.
        let Ok(metadata) = std::fs::metadata(item.path()) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        let file = FileId { device: metadata.dev(), inode: metadata.ino() };
        opened.insert(file);
        let name = item.file_name();
        let info = format!("/proc/{}/fdinfo/{}", process.pid, name.to_string_lossy());
        match std::fs::read_to_string(info) {
            Ok(text) => locks.extend(text.lines().filter_map(|line| parse(line, file))),
            Err(error) if is_gone(&error) => {}
            // A lock that can't be seen is not a lock that is not held.
            Err(error) => return Err(error),
        }
    }
    Ok((opened, locks))
}

/// `lock: 1: POSIX  ADVISORY  READ 4711 fe:00:1234 128 128`; the end may be `EOF`.
fn parse(line: &str, file: FileId) -> Option<Held> {
    let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(1);
    if words.next()? != "POSIX" {
        return None;
    }
    let mut range = words.skip(4);
    let first = range.next()?.parse().ok()?;
    let last = match range.next()? {
        "EOF" => i64::MAX,
        last => last.parse().ok()?,
    };
    Some(Held { file, first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite_locks::{SHM_DMS, SHM_READ};

    #[test]
    fn locks_that_the_kernel_has_merged_cover_their_parts() {
        let file = FileId { device: 1, inode: 2 };
        let held = parse("lock:\t1: POSIX  ADVISORY  READ 4711 fe:00:1234 127 128", file).unwrap();
        assert!(held.covers(SHM_DMS) && held.touches(SHM_READ) && !held.covers(SHM_READ));
        let all = parse("lock:\t1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF", file).unwrap();
        assert!(all.covers(SHM_READ));
        assert_eq!(parse("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:1234 128 128", file), None);
        assert_eq!(parse("flags:\t0100002", file), None);
    }
}
