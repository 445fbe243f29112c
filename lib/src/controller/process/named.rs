//! Whom a pid file names, and how far that can be believed: a pid is given away again, and a file stays.
//!
//! | the file | its pid | answer |
//! |---|---|---|
//! | missing, empty | | nobody |
//! | any | nobody's | stale |
//! | any | that of a thread, or of the kernel | stale |
//! | not older than the process | runs something else than the given command | doubtful |
//! | a user's | another user's process | doubtful |
//! | one that everybody can write to | can't be told what it runs | doubtful |
//! | older than the process | runs the command | the service (the clock was set since) |
//! | older than the process | runs something else | stale |
//! | older than the process | can't be told what it runs | doubtful |
//! | not older | otherwise | the service |
//!
//! Stale and doubtful processes are never signalled. Beside a stale file the service may be started; while it is
//! doubtful whether it runs, nothing is done.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::io_failed;
use super::shown::{Likeness, argv_of, likeness};
use crate::controller::{CommandLine, ControllerError};
use crate::world::ProcessId;
use crate::world::process::is_gone;

/// A pid, a line feed and a few lines more (PostgreSQL writes seven); anything longer is no pid file.
const PID_FILE_LEN_MAX: u64 = 4096;
/// A pid file may be written so much before its process starts, as clocks show it (a launcher that writes first).
const CLOCK_SLACK: Duration = Duration::from_secs(2);
const WRITABLE_BY_ALL: u32 = 0o002;

#[derive(Debug)]
pub(super) enum Named {
    Nobody,
    Service(ProcessId),
    Stale(String),
    Doubtful(ProcessId, String),
}

/// Reads the file and judges what it says. `known` is a process that was found to be the service before.
pub(super) fn read(
    path: &Path,
    command: Option<&CommandLine>,
    known: Option<&ProcessId>,
    label: &str,
) -> Result<Named, ControllerError> {
    let invalid = |reason: String| ControllerError::Invalid { service: label.to_owned(), reason };
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Named::Nobody),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(invalid("it is a symbolic link: name the file that it leads to".to_owned()));
        }
        other => other.map_err(|e| io_failed("read", label, &e))?,
    };
    let metadata = file.metadata().map_err(|e| io_failed("read", label, &e))?;
    if !metadata.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let mut text = Vec::new();
    file.take(PID_FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(|e| io_failed("read", label, &e))?;
    if text.is_empty() {
        // Just being written.
        return Ok(Named::Nobody);
    }
    let pid = parse(&text).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(&text).chars().take(20).collect();
        invalid(format!("its content {shown:?} is no pid"))
    })?;
    if pid == 1 || Ok(pid) == i32::try_from(std::process::id()) {
        return Err(invalid(format!("process {pid} is not a service that can be stopped")));
    }
    match ProcessId::of(pid).map_err(|e| io_failed("look at the process of", label, &e))? {
        Some(process) if known == Some(&process) => Ok(Named::Service(process)),
        Some(process) => judge(process, &metadata, command).map_err(|e| io_failed("look at the process of", label, &e)),
        None if is_hidden(pid) => Err(ControllerError::Permission {
            action: "look at the process of",
            service: label.to_owned(),
            reason: format!("process {pid} exists, but /proc hides it from this user (hidepid)"),
        }),
        None => Ok(Named::Stale(format!("there is no process {pid} any more"))),
    }
}

fn judge(process: ProcessId, file: &Metadata, command: Option<&CommandLine>) -> std::io::Result<Named> {
    let pid = process.pid;
    let shows = || match argv_of(&process) {
        Ok(argv) => {
            let words: Vec<_> = argv.iter().take(4).map(|word| word.0.to_string_lossy()).collect();
            format!("{:?}", words.join(" ").chars().take(80).collect::<String>())
        }
        Err(_) => "something else".to_owned(),
    };
    let status = match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Err(error) if is_gone(&error) => return Ok(Named::Stale(format!("there is no process {pid} any more"))),
        other => other?,
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(leader) = field("Tgid:").filter(|leader| leader.parse() != Ok(pid)) {
        return Ok(Named::Stale(format!("{pid} is no process, but a thread of process {leader}")));
    }
    if field("Kthread:") == Some("1") {
        return Ok(Named::Stale(format!("process {pid} is a thread of the kernel")));
    }
    let users: Vec<&str> = field("Uid:").unwrap_or_default().split_whitespace().collect();
    if file.uid() != 0 && !users.is_empty() && !users.contains(&file.uid().to_string().as_str()) {
        let user = users[0];
        let why = format!("it belongs to user {}, and process {pid} to user {user}", file.uid());
        return Ok(Named::Doubtful(process, why));
    }
    let likeness = command.map_or(Ok(Likeness::Possible), |command| likeness(&process, command))?;
    Ok(match (is_older(file, &process), likeness) {
        // Anybody may have written the pid of any process into it.
        (false, Likeness::Possible) if file.mode() & WRITABLE_BY_ALL != 0 => {
            let mode = file.mode() & 0o7777;
            let why = format!("everybody can write to it (mode {mode:04o}), and process {pid} runs {}", shows());
            Named::Doubtful(process, why)
        }
        (_, Likeness::Same) | (false, Likeness::Possible) => Named::Service(process),
        (false, Likeness::Other) => {
            let why = format!("process {pid} runs {}, which the service's command does not name", shows());
            Named::Doubtful(process, why)
        }
        (true, Likeness::Other) => Named::Stale(format!("it is older than process {pid}, which runs {}", shows())),
        (true, Likeness::Possible) => {
            let why = format!(
                "it is older than process {pid}, which runs {}: the pid was given away again, or the clock was set",
                shows()
            );
            Named::Doubtful(process, why)
        }
    })
}

/// Whether the process is there although /proc does not show it: then its absence there is no proof of a stop.
fn is_hidden(pid: i32) -> bool {
    let Some(raw) = rustix::process::Pid::from_raw(pid) else { return false };
    let exists = || !matches!(rustix::process::test_kill_process(raw), Err(rustix::io::Errno::SRCH));
    // Twice, since it may end meanwhile.
    exists() && !Path::new(&format!("/proc/{pid}")).exists() && exists()
}

fn parse(text: &[u8]) -> Option<i32> {
    if text.len() as u64 > PID_FILE_LEN_MAX {
        return None;
    }
    // Some daemons write more lines; the pid is the first.
    let line = text.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| line.parse().ok()).flatten().filter(|pid| *pid > 0)
}

/// A file that was written before its process started names an earlier process of the same pid, in this boot or in
/// one before.
fn is_older(file: &Metadata, process: &ProcessId) -> bool {
    let Ok(boot) = procfs::boot_time_secs() else { return false };
    let ticks = procfs::ticks_per_second().max(1);
    let started = UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_secs(process.start_ticks / ticks);
    let written = file.modified().unwrap_or_else(|_| SystemTime::now());
    written + CLOCK_SLACK < started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pid_is_a_pid() {
        assert_eq!(parse(b"4711\n"), Some(4711));
        assert_eq!(parse(b" 4711 \n/var/lib/postgresql\n"), Some(4711));
        for bad in [&b"-1"[..], b"0", b"x", b"+5", b"99999999999", b"\n1", b"1 2", b"\xff", &[b'1'; 5000]] {
            assert_eq!(parse(bad), None, "{:?}", &bad[..bad.len().min(12)]);
        }
    }
}
