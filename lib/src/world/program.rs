//! Another program, run to its end: an argument vector and never a shell, a deadline, and its output in files.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::inherited::without_inherited;
use super::process::{Pidfd, ProcessId, StopSignal};
use super::wait;

/// How long it may take to end when asked.
const END_MAX: Duration = Duration::from_secs(5);
/// So much of what it says is read.
const SAID_MAX: u64 = 64 << 10;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// How it is run.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    /// Where its output lies meanwhile; also its working directory.
    pub(crate) directory: &'a Path,
    pub(crate) wait_max: Duration,
    /// Readable: it is asked to end.
    pub(crate) cancel: BorrowedFd<'a>,
}

/// Runs a program with nothing of our environment but a path of the system's own directories.
///
/// # Errors
/// That it can't be started, and that it did not end in time or was cancelled: it is asked to end then, never killed.
pub(crate) fn run(program: &Path, arguments: &[&str], how: Running<'_>) -> std::io::Result<Ran> {
    let (mut out, mut err) = (scratch(how.directory)?, scratch(how.directory)?);
    let child = without_inherited(|| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(how.directory).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?).spawn()
    })?;
    let status = match wait_for(child, how.wait_max, Some(how.cancel))? {
        Some(status) => status,
        None => {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not end in time, or was cancelled"));
        }
    };
    Ok(Ran { status, out: said(&mut out)?, err: said(&mut err)? })
}

/// A file without a name.
fn scratch(directory: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(format!("said-{}", crate::name::BackupId::fresh()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn said(file: &mut File) -> std::io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(SAID_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for a child, at most so long; one that does not end is asked to, and left alone. `None`: it did not end.
///
/// # Errors
/// Those of wait(2) and poll(2).
pub(crate) fn wait_for(
    mut child: Child,
    wait_max: Duration,
    cancel: Option<BorrowedFd<'_>>,
) -> std::io::Result<Option<ExitStatus>> {
    // Our own child that nobody has waited for yet keeps its pid.
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let pidfd = ProcessId::of(pid)?.map(|id| Pidfd::open(&id)).transpose()?.flatten();
    let Some(pidfd) = pidfd else { return child.wait().map(Some) };
    let mut fds = vec![pidfd.as_fd()];
    fds.extend(cancel);
    let ready = wait::readable(&fds, Instant::now() + wait_max)?;
    if !ready.contains(&0) {
        pidfd.signal(StopSignal::Term)?;
        wait::readable(&[pidfd.as_fd()], Instant::now() + END_MAX)?;
        return child.try_wait().map(|_| None);
    }
    child.wait().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Cancel;

    fn sh(script: &str, wait_max: Duration, cancel: &Cancel) -> std::io::Result<Ran> {
        let directory = tempfile::tempdir().unwrap();
        let how = Running { directory: directory.path(), wait_max, cancel: cancel.as_fd() };
        let ran = run(Path::new("/bin/sh"), &["-c", script], how);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        ran
    }

    #[test]
    fn what_it_says_and_how_it_ends_is_told_and_nothing_of_our_environment_is_seen() {
        let cancel = Cancel::new().unwrap();
        let ran = sh("echo out; echo err >&2; env | grep -c CARGO; exit 3", Duration::from_secs(20), &cancel).unwrap();
        assert_eq!((ran.status.code(), ran.out.as_str(), ran.err.as_str()), (Some(3), "out\n0\n", "err\n"));
        // More than any pipe holds.
        let ran = sh("head -c 3000000 /dev/zero", Duration::from_secs(20), &cancel).unwrap();
        assert_eq!((ran.status.code(), ran.out.len() as u64), (Some(0), SAID_MAX));
        let nowhere = Running { directory: Path::new("/"), wait_max: END_MAX, cancel: cancel.as_fd() };
        assert!(run(Path::new("/nonexistent/program"), &[], nowhere).is_err());
    }

    #[test]
    fn one_that_does_not_end_is_asked_to() {
        let cancel = Cancel::new().unwrap();
        let began = Instant::now();
        assert!(sh("exec cat /dev/ptmx", Duration::from_millis(100), &cancel).is_err());
        cancel.request();
        assert!(sh("exec cat /dev/ptmx", Duration::from_secs(60), &cancel).is_err());
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
