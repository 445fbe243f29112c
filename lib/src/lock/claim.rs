//! Who, of those that a lock was handed on to, holds it on purpose.
//!
//! A descriptor that is handed on reaches every process that a command starts, a daemon among them that outlives the
//! operation. So the end of an operation unlocks, for all of them: unless somebody claims the lock beside, a program
//! that was handed it and says so. Then the last claim to end unlocks.
//!
//! A claim is a shared open-file-description lock (fcntl_locking(2)) on one byte of the lock file, far behind its
//! content; whoever unlocks takes that byte exclusively first. So nobody can make a claim on a lock that is just being
//! released. flock(2) and these locks don't see each other on a local file system; on others there are no claims, and
//! a lock that was handed on ends with the last process that has it.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{FlockOperation, flock};

/// Behind anything that is ever written to a lock file.
const CLAIM_BYTE: i64 = 1 << 40;

fn byte(kind: i32) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: CLAIM_BYTE,
        l_len: 1,
        // Must be 0 for open-file-description locks.
        l_pid: 0,
    }
}

/// Claims the lock by this open file description. `false`: it is just being released.
pub(super) fn claim(file: &File) -> std::io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(libc::F_RDLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives the claim of this open file description up, and unlocks `locked` where it was the last.
pub(super) fn end_claim(file: &File, locked: &File) {
    if fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(libc::F_WRLCK))).is_ok() {
        // For everybody who has the descriptor: that is the point.
        let _cannot_fail_on_an_open_file = flock(locked, FlockOperation::Unlock);
    }
    let _cannot_fail_on_an_open_file = fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&byte(libc::F_UNLCK)));
}
