//! The service that is measured upon: under systemd where that runs this machine, else by its pid file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, pidfd_open, pidfd_send_signal};

use crate::Outcome;
use crate::bench::Bench;
use crate::tools::{has_systemd, timed};

/// The service, and what it says of itself.
pub(crate) struct Service<'a> {
    bench: &'a Bench,
    log: PathBuf,
    pid_file: PathBuf,
    arguments: Vec<OsString>,
    unit: Option<String>,
}

impl<'a> Service<'a> {
    /// Makes it known; it is not running yet. `scratch` is the measure's directory.
    pub(crate) fn new(bench: &'a Bench, scratch: &Path, database: &Path, linger: Duration) -> Outcome<Self> {
        let log = scratch.join("service.log");
        let pid_file = scratch.join("service.pid");
        std::fs::write(&log, "")?;
        let mut arguments: Vec<OsString> = vec![bench.own.clone().into(), "service".into()];
        for (name, value) in [("--database", database), ("--log", &log), ("--pid-file", &pid_file)] {
            arguments.extend([name.into(), value.into()]);
        }
        arguments.extend(["--linger-ms".into(), linger.as_millis().to_string().into()]);
        let unit = has_systemd().then(|| "svckit-bench.service".to_owned());
        if let Some(unit) = &unit {
            let line: Vec<String> = arguments.iter().map(|word| format!("\"{}\"", word.display())).collect();
            let text = format!("[Service]\nExecStart={}\nTimeoutStopSec=60\n", line.join(" "));
            std::fs::write(Path::new("/run/systemd/system").join(unit), text)?;
            timed(Command::new("systemctl").arg("daemon-reload"))?;
        }
        Ok(Self { bench, log, pid_file, arguments, unit })
    }

    /// How the programs are told which service it is.
    pub(crate) fn flag(&self) -> [OsString; 2] {
        match &self.unit {
            Some(unit) => ["--unit".into(), unit.into()],
            None => ["--pid-file".into(), self.pid_file.clone().into()],
        }
    }

    /// Its unit, where systemd runs it.
    pub(crate) fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// Its process id, as it wrote it.
    pub(crate) fn pid(&self) -> Outcome<i32> {
        Ok(std::fs::read_to_string(&self.pid_file)?.trim().parse()?)
    }

    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Outcome<()> {
        let seen = self.times("ready")?.len();
        match &self.unit {
            Some(unit) => drop(timed(Command::new("systemctl").args(["start", unit]))?),
            None => {
                let mut command = Command::new(&self.arguments[0]);
                command.args(&self.arguments[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn()?;
                // Reaped as it ends: whoever asks whether it lives must not see a zombie.
                std::thread::spawn(move || child.wait());
            }
        }
        self.wait_for("ready", seen + 1)
    }

    /// Ends it as its manager would, and waits until it has.
    pub(crate) fn stop(&self) -> Outcome<()> {
        if let Some(unit) = &self.unit {
            return timed(Command::new("systemctl").args(["stop", unit])).map(drop);
        }
        let pid = Pid::from_raw(self.pid()?).ok_or("no process id")?;
        let Ok(process) = pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return Ok(());
        };
        pidfd_send_signal(&process, Signal::TERM)?;
        wait_readable(&process, Instant::now() + self.bench.wait_max)
    }

    /// When it said this, in nanoseconds of CLOCK_MONOTONIC, oldest first.
    pub(crate) fn times(&self, word: &str) -> Outcome<Vec<u64>> {
        let text = std::fs::read_to_string(&self.log)?;
        let times = text.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok());
        Ok(times.collect())
    }

    /// When it said this last.
    pub(crate) fn last(&self, word: &str) -> Outcome<u64> {
        self.times(word)?.last().copied().ok_or_else(|| format!("the service never said {word}").into())
    }

    /// Waits until it has said this so often.
    pub(crate) fn wait_for(&self, word: &str, count: usize) -> Outcome<()> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, &self.log, inotify::WatchFlags::MODIFY)?;
        let until = Instant::now() + self.bench.wait_max;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        while self.times(word)?.len() < count {
            wait_readable(&watch, until)?;
            inotify::Reader::new(&watch, &mut buffer).next()?;
        }
        Ok(())
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // Best effort, at the end of a measure.
        drop(self.stop());
        if let Some(unit) = &self.unit {
            drop(std::fs::remove_file(Path::new("/run/systemd/system").join(unit)));
        }
    }
}

/// Waits until there is something to read, or the process of a pidfd has ended.
pub(crate) fn wait_readable(fd: &impl std::os::fd::AsFd, until: Instant) -> Outcome<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left.try_into()?)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err("the service did not get there in time".into()),
            other => return other.map(drop).map_err(Into::into),
        }
    }
}
