//! Who holds a lock now, and who waits for it, as the kernel shows it: never the record, whose writer may be dead.

use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde::Serialize;

use crate::world::ProcessId;
use crate::world::disk::FileId;

/// A process that holds a lock or waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// Which.
    #[serde(flatten)]
    pub process: ProcessId,
    /// Its command line as /proc shows it now; empty where it is hidden.
    pub command: Vec<String>,
    /// For how long it has run, in seconds.
    pub age_seconds: u64,
}

/// The open files of all processes that we may look at, those below a directory or no longer there.
#[derive(Debug, Default)]
pub(super) struct Table {
    open: Vec<Open>,
    listed: Vec<Listed>,
}

/// A line of /proc/locks (proc_locks(5)): everybody sees it, also where a process hides its descriptors.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    /// Who took it, or waits for it.
    pid: i32,
    file: FileId,
    is_waiting: bool,
}

#[derive(Debug)]
struct Open {
    pid: i32,
    fd: i32,
    file: FileId,
    path: PathBuf,
}

impl Table {
    /// Reads /proc. A process that ends meanwhile, or that is hidden from us, is not in it.
    pub(super) fn read() -> Self {
        let mut open = Vec::new();
        for pid in numbers(Path::new("/proc")) {
            let fds = PathBuf::from(format!("/proc/{pid}/fd"));
            for fd in numbers(&fds) {
                let link = fds.join(fd.to_string());
                // Sockets, pipes and the like have no path.
                let Some(path) = std::fs::read_link(&link).ok().filter(|path| path.is_absolute()) else { continue };
                if !path.to_string_lossy().contains(".lock") {
                    continue;
                }
                if let Ok(file) = FileId::of(&link) {
                    open.push(Open { pid, fd, file, path });
                }
            }
        }
        Self { open, listed: listed() }
    }

    /// The processes that hold the lock of this file, each once. Of those whose descriptors are hidden from us (another
    /// user's, and svckit's own programs from other programs of the same user) only who took it.
    pub(super) fn holders_of(&self, file: FileId) -> Vec<Party> {
        let holds =
            |open: &&Open| open.file == file && Pid::from_raw(open.pid).is_some_and(|pid| is_locked_by(pid, open.fd));
        let seen = self.open.iter().filter(holds).map(|open| open.pid);
        // The one who took it may have ended, and its pid be another's: only where we can't see for ourselves.
        let is_hidden = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).is_err();
        let took = self.listed.iter().filter(|one| one.file == file && !one.is_waiting && is_hidden(one.pid));
        parties(seen.chain(took.map(|one| one.pid)))
    }

    /// The processes that wait for it.
    pub(super) fn waiting_for(&self, file: FileId) -> Vec<Party> {
        parties(self.listed.iter().filter(|one| one.file == file && one.is_waiting).map(|one| one.pid))
    }

    /// A process that holds a lock on a file that stood at `path` once, and is not `file`.
    pub(super) fn holder_of_former(&self, path: &Path, file: FileId) -> Option<i32> {
        let gone = PathBuf::from(format!("{} (deleted)", path.display()));
        let former = |open: &&Open| open.file != file && (open.path == gone || open.path == *path);
        let holds = |open: &&Open| Pid::from_raw(open.pid).is_some_and(|pid| is_locked_by(pid, open.fd));
        self.open.iter().filter(former).find(holds).map(|open| open.pid)
    }
}

/// Whether this descriptor of the process holds an exclusive flock(2) (proc_pid_fdinfo(5)).
pub(super) fn is_locked_by(pid: Pid, fd: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", pid.as_raw_nonzero())).unwrap_or_default();
    info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK") && line.contains("WRITE"))
}

fn parties(pids: impl Iterator<Item = i32>) -> Vec<Party> {
    let mut pids: Vec<i32> = pids.collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter_map(party).collect()
}

fn party(pid: i32) -> Option<Party> {
    let process = ProcessId::of(pid).ok()??;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut command: Vec<String> = words.collect();
    // Each word ends in a zero byte.
    command.pop();
    let age_seconds = process.age().map_or(0, |age| age.as_secs());
    Some(Party { process, command, age_seconds })
}

/// The kernel gives the table a page at a time, and a lock that ends between two pages hides another one: what one
/// reading misses another has.
fn listed() -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for _ in 0..3 {
        let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let new: Vec<Listed> = text.lines().filter_map(listed_in).filter(|one| !all.contains(one)).collect();
        all.extend(new);
    }
    all
}

/// `7: -> FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`, the arrow where it waits. The device is that of the file system,
/// which on btrfs is not what stat(2) says: there, holders are found by their descriptors alone.
fn listed_in(line: &str) -> Option<Listed> {
    let mut words = line.split_whitespace().skip(1).peekable();
    let is_waiting = words.next_if_eq(&"->").is_some();
    if words.next()? != "FLOCK" || words.nth(1)? != "WRITE" {
        return None;
    }
    let pid = words.next()?.parse().ok()?;
    let mut numbers = words.next()?.split(':');
    let major = u32::from_str_radix(numbers.next()?, 16).ok()?;
    let minor = u32::from_str_radix(numbers.next()?, 16).ok()?;
    let inode = numbers.next()?.parse().ok()?;
    Some(Listed { pid, file: FileId { device: rustix::fs::makedev(major, minor), inode }, is_waiting })
}

fn numbers(directory: &Path) -> Vec<i32> {
    let items = std::fs::read_dir(directory).into_iter().flatten().flatten();
    items.filter_map(|item| item.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_lock_is_read_and_no_other() {
        let file = FileId { device: rustix::fs::makedev(0xfe, 1), inode: 1234 };
        let held = "7: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF";
        assert_eq!(listed_in(held), Some(Listed { pid: 4711, file, is_waiting: false }));
        let waits = "7: -> FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF";
        assert_eq!(listed_in(waits), Some(Listed { pid: 4711, file, is_waiting: true }));
        for other in [
            "7: FLOCK  ADVISORY  READ  4711 fe:01:1234 0 EOF",
            "7: -> POSIX  ADVISORY  WRITE 4711 fe:01:1234 0 EOF",
            "7: -> FLOCK",
            "7: -> FLOCK  ADVISORY  WRITE x fe:01:1234 0 EOF",
            "7: FLOCK  ADVISORY  WRITE 1 fe:01 0 EOF",
            "7:",
            "",
        ] {
            assert_eq!(listed_in(other), None, "{other}");
        }
    }
}
