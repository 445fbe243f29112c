//! Another program with its input and its output as streams: an argument vector and never a shell, and a limit on how long
//! it may do nothing.
//!
//! - It leads a process group of its own, so that an interrupt of our terminal reaches us alone, and so that an end in the
//!   middle asks all of them. They are asked by SIGTERM, never killed.
//! - What it says on standard error is read along with everything else, so that it never waits for us to read that.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::inherited::without_inherited;
use super::process::{Pidfd, ProcessId, StopSignal, all_alive};
use super::{clock, wait};
use crate::progress::Cancel;

/// How long it may take to end when asked.
const END_MAX: Duration = Duration::from_secs(10);
/// So much of the end of what it says on standard error is kept.
const SAID_MAX: usize = 16 << 10;

/// What is run, and how.
#[derive(Clone, Copy)]
pub(crate) struct Piping<'a> {
    /// The program's path.
    pub(crate) program: &'a Path,
    /// Nothing secret.
    pub(crate) arguments: &'a [String],
    /// All that it has: nothing secret.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// Its working directory.
    pub(crate) directory: &'a Path,
    /// User and group, where they are others than ours.
    pub(crate) user: Option<(u32, u32)>,
    /// It may neither read nor write for so long.
    pub(crate) idle_max: Duration,
}

/// A program that runs. Reading gives its standard output, writing goes to its standard input.
#[derive(Debug)]
pub(crate) struct Piped {
    child: Child,
    /// `None` where it had ended before it could be opened.
    pidfd: Option<Pidfd>,
    ended: Option<ExitStatus>,
    out: OwnedFd,
    said: Said,
    input: Option<OwnedFd>,
    idle_max: Duration,
    cancel: Cancel,
    /// Whether its end is somebody else's to see to.
    is_left: bool,
}

/// Its standard error, as far as it was read.
#[derive(Debug)]
struct Said {
    pipe: Option<OwnedFd>,
    end: Vec<u8>,
}

impl Piped {
    /// Starts it.
    ///
    /// # Errors
    /// That it can't be started.
    pub(crate) fn start(how: Piping<'_>, cancel: &Cancel) -> std::io::Result<Self> {
        let (input_end, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (out, out_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (said, said_end) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&input, OFlags::NONBLOCK)?;
        fcntl_setfl(&said, OFlags::NONBLOCK)?;
        if let Some((user, _)) = how.user {
            // It may open them by name: /dev/stdin.
            for end in [&input_end, &out_end, &said_end] {
                fchown(end, Some(user), None)?;
            }
        }
        let mut child = without_inherited(|| {
            let mut command = Command::new(how.program);
            command.args(how.arguments).current_dir(how.directory).process_group(0);
            command.env_clear().envs(how.environment.iter().copied());
            command.stdin(input_end.try_clone()?).stdout(out_end.try_clone()?).stderr(said_end.try_clone()?);
            if let Some((user, group)) = how.user {
                command.uid(user).gid(group);
            }
            command.spawn()
        })?;
        // Our own child that nobody has waited for yet keeps its pid.
        let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
        let pidfd = ProcessId::of(pid)?.map(|id| Pidfd::open(&id)).transpose()?.flatten();
        let ended = if pidfd.is_none() { child.try_wait()? } else { None };
        let said = Said { pipe: Some(said), end: Vec::new() };
        let (idle_max, cancel) = (how.idle_max, cancel.clone());
        Ok(Self { child, pidfd, ended, out, said, input: Some(input), idle_max, cancel, is_left: false })
    }

    /// The program reads the end of its input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Whoever knows what it is sees to its end: here it is only waited for where it has ended.
    pub(crate) fn leave(&mut self) {
        self.is_left = true;
    }

    /// How it ended: its exit code, or 128 and the signal; and the end of what it said on standard error. What it still
    /// writes is dropped.
    ///
    /// # Errors
    /// Those of [`Self::read`], and of wait(2).
    pub(crate) fn finish(&mut self) -> std::io::Result<(i64, String)> {
        self.close_input();
        let mut rest = vec![0; SAID_MAX];
        while self.read(&mut rest)? > 0 {}
        let status = self.await_end()?;
        self.said.read();
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok((code.into(), String::from_utf8_lossy(&self.said.end).trim().to_owned()))
    }

    fn await_end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if let Some(pidfd) = &self.pidfd {
            loop {
                let mut fds = vec![pidfd.as_fd(), self.cancel.as_fd()];
                fds.extend(self.said.pipe.as_ref().map(AsFd::as_fd));
                let ready = judged(wait::readable(&fds, Instant::now() + self.idle_max)?)?;
                if ready.contains(&0) {
                    break;
                }
                self.said.read();
            }
        }
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Asks it, and what it has started, to end.
    fn terminate(&self) -> std::io::Result<()> {
        let group = i32::try_from(self.child.id()).map_err(std::io::Error::other)?;
        let boot_id = clock::boot_id()?;
        for stat in all_alive()?.into_iter().filter(|stat| stat.pgrp == group) {
            let id = ProcessId { pid: stat.pid, start_ticks: stat.starttime, boot_id: boot_id.clone() };
            if let Some(pidfd) = Pidfd::open(&id)? {
                pidfd.signal(StopSignal::Term)?;
            }
        }
        Ok(())
    }
}

/// Index 1 is the cancellation everywhere.
fn judged(ready: Vec<usize>) -> std::io::Result<Vec<usize>> {
    // Not `Interrupted`: callers would try that again.
    if ready.contains(&1) {
        return Err(std::io::Error::other("it was cancelled"));
    }
    if ready.is_empty() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(ready) }
}

impl Said {
    /// What is there now.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer[..]) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.end.extend_from_slice(&buffer[..count]);
                    self.end.drain(..self.end.len().saturating_sub(SAID_MAX));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut fds: Vec<BorrowedFd<'_>> = vec![self.out.as_fd(), self.cancel.as_fd()];
            let said = self.said.pipe.as_ref().map(|pipe| fds.push(pipe.as_fd())).map(|()| fds.len() - 1);
            // Somebody whom it left behind may keep its output open.
            let end = self.pidfd.as_ref().map(|pidfd| fds.push(pidfd.as_fd())).map(|()| fds.len() - 1);
            if self.ended.is_some() && !is_readable(&self.out)? {
                return Ok(0);
            }
            let ready = judged(wait::readable(&fds, Instant::now() + self.idle_max)?)?;
            if said.is_some_and(|said| ready.contains(&said)) {
                self.said.read();
            }
            if ready.contains(&0) {
                match rustix::io::read(&self.out, &mut *buffer) {
                    Err(Errno::INTR) => {}
                    other => return other.map_err(Into::into),
                }
            } else if end.is_some_and(|end| ready.contains(&end)) && !is_readable(&self.out)? {
                return Ok(0);
            }
        }
    }
}

/// Whether there is something, or its end, at this moment.
fn is_readable(fd: &OwnedFd) -> std::io::Result<bool> {
    Ok(!wait::readable(&[fd.as_fd()], Instant::now())?.is_empty())
}

impl Write for Piped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            let Some(input) = &self.input else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
            let mut others = vec![self.cancel.as_fd()];
            others.extend(self.said.pipe.as_ref().map(AsFd::as_fd));
            let ready = judged(wait::writable(input.as_fd(), &others, Instant::now() + self.idle_max)?)?;
            if ready.contains(&0) {
                match rustix::io::write(input, bytes) {
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    other => return other.map_err(Into::into),
                }
            }
            if ready.contains(&2) {
                self.said.read();
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // Most programs end by themselves with their input, but not for certain.
        self.close_input();
        if self.is_left {
            let _runs_on = self.child.try_wait();
            return;
        }
        let asked = self.terminate();
        let waited = match &self.pidfd {
            Some(pidfd) => wait::readable(&[pidfd.as_fd()], Instant::now() + END_MAX).map(drop),
            None => Ok(()),
        };
        let left = self.child.try_wait();
        if let Err(error) = asked.and(waited).and(left.as_ref().map(drop).map_err(|e| std::io::Error::from(e.kind()))) {
            tracing::warn!(%error, pid = self.child.id(), "a program may still run");
        } else if matches!(left, Ok(None)) {
            tracing::warn!(pid = self.child.id(), "a program that was asked to end still runs");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, idle_max: Duration, cancel: &Cancel) -> Piped {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let how = Piping {
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[("PATH", "/usr/bin:/bin"), ("GIVEN", "yes")],
            directory: Path::new("/"),
            user: None,
            idle_max,
        };
        Piped::start(how, cancel).unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn input_output_and_end_are_its_own_and_only_the_given_environment_is_seen() {
        let cancel = Cancel::new().unwrap();
        let mut piped = sh("cat; env | grep -c -e CARGO -e GIVEN; echo why >&2; exit 3", LONG, &cancel);
        piped.write_all(b"to and fro\n").unwrap();
        piped.close_input();
        let mut out = String::new();
        piped.read_to_string(&mut out).unwrap();
        assert_eq!((out.as_str(), piped.finish().unwrap()), ("to and fro\n1\n", (3, "why".to_owned())));
        let mut killed = sh("kill -9 $$", LONG, &cancel);
        assert_eq!(killed.finish().unwrap(), (137, String::new()));
    }

    #[test]
    fn much_on_standard_error_stops_nobody_and_its_end_is_kept() {
        let cancel = Cancel::new().unwrap();
        let mut piped =
            sh("head -c 300000 /dev/zero | tr '\\0' x >&2; echo out; cat >&2; echo last >&2", LONG, &cancel);
        piped.write_all(&vec![b'y'; 300_000]).unwrap();
        let (code, said) = piped.finish().unwrap();
        assert_eq!((code, said.len() <= SAID_MAX, said.ends_with("last")), (0, true, true), "{}", said.len());
    }

    #[test]
    fn the_end_of_the_program_ends_its_output_whoever_keeps_it_open() {
        let cancel = Cancel::new().unwrap();
        let began = Instant::now();
        let mut piped = sh("cat /dev/ptmx & echo $!; exit 5", Duration::from_secs(30), &cancel);
        let mut out = String::new();
        piped.read_to_string(&mut out).unwrap();
        assert_eq!(piped.finish().unwrap().0, 5);
        assert!(began.elapsed() < LONG);
        let left = ProcessId::of(out.trim().parse().unwrap()).unwrap().unwrap();
        Pidfd::open(&left).unwrap().unwrap().signal(StopSignal::Term).unwrap();
    }

    #[test]
    fn one_that_is_cancelled_or_does_nothing_is_asked_to_end_with_all_that_it_started() {
        let cancel = Cancel::new().unwrap();
        let mut idle = sh("cat /dev/ptmx", Duration::from_millis(100), &cancel);
        assert_eq!(idle.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let mut piped = sh("cat /dev/ptmx & echo $!; wait", LONG, &cancel);
        let mut pid = [0; 16];
        let count = piped.read(&mut pid).unwrap();
        let inner = ProcessId::of(std::str::from_utf8(&pid[..count]).unwrap().trim().parse().unwrap());
        let inner = Pidfd::open(&inner.unwrap().unwrap()).unwrap().unwrap();
        cancel.request();
        assert!(piped.read(&mut [0]).unwrap_err().to_string().contains("cancelled"));
        drop(piped);
        assert!(!wait::readable(&[inner.as_fd()], Instant::now() + LONG).unwrap().is_empty());
    }
}
