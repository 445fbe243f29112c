//! Starting programs without handing on what we were handed.

use std::os::fd::RawFd;

use nix::sched::{CloneFlags, unshare};

/// O_CLOEXEC as /proc/PID/fdinfo shows it (proc_pid_fdinfo(5)).
const CLOSES_ON_EXEC: u32 = 0o2_000_000;

/// Runs `spawn` so that what it starts has only the descriptors that it is given on purpose.
///
/// Our own descriptors close on exec. Those that this program inherited do not, as where it runs under flock(1): a
/// service that kept one would keep its caller's lock for as long as it lives. They are closed in a thread with a
/// descriptor table of its own, so that nothing changes for the rest of this process, its POSIX locks included.
///
/// `spawn` opens and drops its descriptors itself, the command's included, and returns none: they would be numbers of
/// that other table. What it uses of ours it borrows.
///
/// # Errors
/// Those of `spawn`.
pub(crate) fn without_inherited<T: Send>(spawn: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    let inherited = inherited().unwrap_or_default();
    if inherited.is_empty() {
        return spawn();
    }
    let in_own_table = move || {
        match unshare(CloneFlags::CLONE_FILES) {
            Ok(()) => {
                for fd in inherited {
                    if let Err(error) = nix::unistd::close(fd) {
                        tracing::debug!(%error, fd, "an inherited descriptor could not be closed");
                    }
                }
            }
            // Some containers forbid it. The service comes back all the same.
            Err(error) => tracing::warn!(%error, ?inherited, "inherited descriptors are handed on"),
        }
        spawn()
    };
    std::thread::scope(|scope| scope.spawn(in_own_table).join())
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts a program panicked")))
}

/// The descriptors beyond the standard streams that a program started by us would have too.
fn inherited() -> std::io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(fd) = item.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        if fd > 2 && flags.is_some_and(|flags| flags & CLOSES_ON_EXEC == 0) {
            found.push(fd);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_program_gets_nothing_that_it_was_not_given() {
        let dir = tempfile::tempdir().unwrap();
        let (out, lock) = (dir.path().join("out"), std::fs::File::create(dir.path().join("callers-lock")).unwrap());
        lock.lock().unwrap();
        rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).unwrap();
        let list = || {
            let mut command = Command::new("sh");
            command.args(["-c", "exec ls -l /proc/self/fd"]).stdout(std::fs::File::create(&out)?);
            command.stdin(Stdio::null()).spawn()
        };
        let shown = |child: std::io::Result<std::process::Child>| {
            assert!(child.unwrap().wait().unwrap().success());
            std::fs::read_to_string(&out).unwrap()
        };
        assert!(shown(list()).contains("callers-lock"), "the control");
        let clean = shown(without_inherited(list));
        assert!(clean.contains("/out") && !clean.contains("callers-lock"), "{clean}");
        // It is still open and locked here.
        let again = std::fs::File::open(dir.path().join("callers-lock")).unwrap();
        assert!(again.try_lock().is_err());
        drop(lock);
        again.lock().unwrap();
    }
}
