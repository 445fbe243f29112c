//! Processes by identity: a pid alone is a number that the kernel gives away again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procfs::ProcError;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::{clock, wait};

/// The signals that ask a process to end or tell it something. SIGKILL is not among them, by design: it is sent
/// from `quiesce::fenced_kill` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT: PostgreSQL's fast shutdown.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH: the graceful stop of Apache.
    Winch,
    /// SIGCONT: to a stopped process that has a signal pending.
    Cont,
}

impl StopSignal {
    /// The kernel's number of it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.signal().as_raw()
    }

    fn signal(self) -> Signal {
        match self {
            Self::Term => Signal::TERM,
            Self::Int => Signal::INT,
            Self::Quit => Signal::QUIT,
            Self::Hup => Signal::HUP,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
            Self::Winch => Signal::WINCH,
            Self::Cont => Signal::CONT,
        }
    }
}

impl std::fmt::Display for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
            Self::Cont => "SIGCONT",
        })
    }
}

impl std::str::FromStr for StopSignal {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_uppercase().trim_start_matches("SIG") {
            "TERM" => Self::Term,
            "INT" => Self::Int,
            "QUIT" => Self::Quit,
            "HUP" => Self::Hup,
            "USR1" => Self::Usr1,
            "USR2" => Self::Usr2,
            "WINCH" => Self::Winch,
            "CONT" => Self::Cont,
            "KILL" => {
                return Err("SIGKILL is never a step of a stop: it can cut a database write in two".to_owned());
            }
            _ => {
                return Err(format!("{text:?} is no signal that can be a step of a stop"));
            }
        })
    }
}

/// One process for good: its pid, when it started and in which boot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid in our pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)).
    pub start_ticks: u64,
    /// The boot in which it ran.
    pub boot_id: String,
}

impl ProcessId {
    /// The identity of the process that has `pid` now; `None` where there is none, or only a zombie.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn of(pid: i32) -> std::io::Result<Option<Self>> {
        match stat(pid)? {
            Some((start_ticks, false)) => Ok(Some(Self { pid, start_ticks, boot_id: clock::boot_id()? })),
            _ => Ok(None),
        }
    }

    /// Our own identity.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn own() -> std::io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid)?.ok_or_else(|| std::io::Error::other("our own process is not in /proc"))
    }

    /// How long ago it was started, by the clock that goes on while the machine sleeps; `None` for one of another boot.
    #[must_use]
    pub fn age(&self) -> Option<std::time::Duration> {
        if clock::boot_id().ok()? != self.boot_id {
            return None;
        }
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = std::time::Duration::try_from(since_boot).ok()?;
        let started = std::time::Duration::from_secs_f64(self.start_ticks as f64 / procfs::ticks_per_second() as f64);
        Some(since_boot.saturating_sub(started))
    }

    /// Whether this very process still runs. A zombie does not: it holds no file and no lock.
    ///
    /// # Errors
    /// When /proc can't be read. It may be alive then: a failed look is no proof of an end.
    pub fn is_alive(&self) -> std::io::Result<bool> {
        Ok(clock::boot_id()? == self.boot_id
            && matches!(stat(self.pid)?, Some((start, false)) if start == self.start_ticks))
    }

    /// Itself while it is alive.
    ///
    /// # Errors
    /// Those of [`Self::is_alive`].
    pub fn if_alive(self) -> std::io::Result<Option<Self>> {
        Ok(self.is_alive()?.then_some(self))
    }
}

/// Start time and whether it is a zombie (or dead). `None`: there is no such process, or /proc hides it (hidepid).
fn stat(pid: i32) -> std::io::Result<Option<(u64, bool)>> {
    match procfs::process::Process::new(pid).and_then(|process| process.stat()) {
        Ok(stat) => Ok(Some((stat.starttime, has_ended(&stat)))),
        Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_)) => Ok(None),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// All processes that are alive now and not hidden, as /proc shows them.
///
/// # Errors
/// When /proc can't be read: a list with a gap would be taken for the end of what is not in it.
pub(crate) fn all_alive() -> std::io::Result<Vec<procfs::process::Stat>> {
    let mut all = Vec::new();
    for process in procfs::process::all_processes().map_err(std::io::Error::other)? {
        match process.and_then(|process| process.stat()) {
            Ok(stat) if has_ended(&stat) => {}
            Ok(stat) => all.push(stat),
            // It ended between the listing and the reading.
            Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_)) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
    }
    Ok(all)
}

/// Whether a file below /proc/PID could not be read because that process has ended.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether the whole process has ended. One whose first thread alone has ended is shown as a zombie too, and still
/// holds its files: the number of its threads tells them apart.
fn has_ended(stat: &procfs::process::Stat) -> bool {
    matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1
}

/// A process that is held by a descriptor: signals through it reach this process or nobody.
#[derive(Debug)]
pub struct Pidfd {
    id: ProcessId,
    fd: OwnedFd,
}

impl Pidfd {
    /// Opens the process, and checks after the opening that it is the one that was meant. `None` when it is gone.
    ///
    /// # Errors
    /// Those of pidfd_open(2) other than 'no such process', and those of [`ProcessId::is_alive`].
    pub fn open(id: &ProcessId) -> std::io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(id.pid) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            // A thread that is no group leader any more, or one of a reused pid.
            Err(rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(id.is_alive()?.then(|| Self { id: id.clone(), fd }))
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Whether the whole process has ended: every thread of it, as the kernel itself says.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn has_ended(&self) -> std::io::Result<bool> {
        wait::readable(&[self.as_fd()], std::time::Instant::now()).map(|ready| !ready.is_empty())
    }

    /// Sends a signal. `Ok(false)` when the process is gone.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2), mostly a lack of permission.
    pub fn signal(&self, signal: StopSignal) -> std::io::Result<bool> {
        match pidfd_send_signal(&self.fd, signal.signal()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Pidfd {
    /// Readable once the process has ended (also as a zombie).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The process and all its descendants that are alive now, the process first.
///
/// A point in time: a process that forks meanwhile can be missed. Callers repeat it until it is empty.
///
/// # Errors
/// When /proc can't be read.
pub fn tree_of(root: i32) -> std::io::Result<Vec<ProcessId>> {
    let boot_id = clock::boot_id()?;
    let mut children: BTreeMap<i32, Vec<(i32, u64)>> = BTreeMap::new();
    let mut own = None;
    for stat in all_alive()? {
        if stat.pid == root {
            own = Some(stat.starttime);
        }
        children.entry(stat.ppid).or_default().push((stat.pid, stat.starttime));
    }
    let mut found = Vec::new();
    let mut todo = Vec::new();
    if let Some(start) = own {
        todo.push((root, start));
    }
    while let Some((pid, start_ticks)) = todo.pop() {
        found.push(ProcessId { pid, start_ticks, boot_id: boot_id.clone() });
        todo.extend(children.remove(&pid).unwrap_or_default());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_start_time_or_boot_is_not_alive() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive().unwrap());
        assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own.clone() }.is_alive().unwrap());
        assert!(!ProcessId { boot_id: "another".to_owned(), ..own.clone() }.is_alive().unwrap());
        assert!(Pidfd::open(&ProcessId { start_ticks: 1, ..own }).unwrap().is_none());
    }

    #[test]
    fn a_kill_can_not_be_a_step_of_a_stop() {
        assert!("SIGKILL".parse::<StopSignal>().is_err());
        assert!("9".parse::<StopSignal>().is_err());
        assert_eq!("sigint".parse::<StopSignal>().unwrap(), StopSignal::Int);
    }

    #[test]
    fn the_tree_has_children_and_their_children() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "cat; true"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let root = i32::try_from(child.id()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while tree_of(root).unwrap().len() < 2 {
            assert!(std::time::Instant::now() < deadline, "the child's child never showed");
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        for process in tree_of(root).unwrap() {
            if let Some(pidfd) = Pidfd::open(&process).unwrap() {
                pidfd.signal(StopSignal::Term).unwrap();
            }
        }
        child.wait().unwrap();
        assert!(tree_of(root).unwrap().is_empty());
    }
}
