//! Handing a lock on to a child, which can then prove that it holds it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::str::FromStr;

use crate::world::disk::FileId;

/// The environment variable in which a program hands the token on. The library itself never reads it.
pub const TOKEN_VARIABLE: &str = "SVCKIT_LOCK";

/// What a child needs to find an inherited lock: the descriptor and the identity of the lock file.
///
/// The token is a claim, not a proof: [`prove`] checks it against the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    fd: i32,
    file: FileId,
}

impl Token {
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        Ok(Self { fd: file.as_raw_fd(), file: FileId::of_open(file)? })
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:flock:{}:{}", self.fd, self.file.device, self.file.inode)
    }
}

impl FromStr for Token {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || format!("{text:?} is no lock token");
        let parts: Vec<&str> = text.split(':').collect();
        let [fd, "flock", device, inode] = parts[..] else {
            return Err(malformed());
        };
        Ok(Self {
            fd: fd.parse().ok().filter(|fd| *fd >= 0).ok_or_else(malformed)?,
            file: FileId {
                device: device.parse().map_err(|_| malformed())?,
                inode: inode.parse().map_err(|_| malformed())?,
            },
        })
    }
}

/// Whether this process holds the lock that the token names: its descriptor is open, is that file, and the kernel
/// lists a lock on this very open file description (the `lock:` line of /proc/self/fdinfo/N, proc(5)).
///
/// It has no side effect: nothing is locked or unlocked to find out.
#[must_use]
pub fn prove(token: &Token) -> bool {
    let path = format!("/proc/self/fd/{}", token.fd);
    let same_file = FileId::of(std::path::Path::new(&path)).is_ok_and(|id| id == token.file);
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", token.fd)).unwrap_or_default();
    let locked = info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK") && line.contains("WRITE"));
    same_file && locked
}
