//! A daemon that writes its pid to a file.

use std::cell::RefCell;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::capture::capture;
use super::launch::launch;
use super::running::Running;
use super::{failed, io_failed, manager_of};
use crate::controller::{
    CommandLine, ControllerError, ExitCause, KillSource, ServiceController, ServiceSpec, ServiceState,
};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::progress::Cancel;
use crate::world::disk::{parent_of, write_durably};
use crate::world::{ProcessId, StopSignal};

/// A pid and a line feed; anything much longer is no pid file.
const PID_FILE_LEN_MAX: u64 = 64;
/// A started daemon that forks has so long to write its pid file.
const PID_FILE_WAIT_MAX: Duration = Duration::from_secs(30);
/// A pid file may be written so much before its process starts, as clocks show it (a launcher that writes first).
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// A service that is known by its pid file.
#[derive(Debug)]
pub struct PidFileService {
    path: PathBuf,
    command: Option<CommandLine>,
    running: Running,
    started: RefCell<Option<Started>>,
}

/// A start of ours that the pid file does not confirm yet.
#[derive(Debug)]
struct Started {
    child: Option<Child>,
    process: Option<ProcessId>,
    until: Instant,
}

impl PidFileService {
    /// The service whose pid is in `path`. Where no command is given, that of the live process is read from /proc
    /// now, so that it can be started again as it was; its output then goes to /dev/null.
    ///
    /// # Errors
    /// [`ControllerError::Invalid`] for what is no pid file, [`ControllerError::NotFound`] where neither a live
    /// process nor a command is known.
    pub fn open(path: &Path, command: Option<CommandLine>) -> Result<Self, ControllerError> {
        let real_parent = std::fs::canonicalize(parent_of(path));
        let label = format!("pid file {}", path.display());
        let parent = real_parent.map_err(|e| not_found(&label, format!("its directory can't be reached: {e}")))?;
        let name = path.file_name().ok_or_else(|| invalid(&label, "it has no file name"))?;
        let path = parent.join(name);
        let running = Running::new(format!("pid file {}", path.display()), &parent)?;
        let mut service = Self { path, command, running, started: RefCell::new(None) };
        let main = service.main()?;
        match (&main, &service.command) {
            (Some(main), None) => {
                let captured = capture(main).map_err(|e| io_failed("read the command line of", &label, &e))?;
                service.command = Some(captured);
            }
            (None, None) => {
                return Err(not_found(
                    &label,
                    "it names no live process, and no command to start one is known".to_owned(),
                ));
            }
            (_, Some(_)) => {}
        }
        service.processes()?;
        Ok(service)
    }

    /// The live process that the pid file names, or that we started and that is about to write it.
    fn main(&self) -> Result<Option<ProcessId>, ControllerError> {
        self.reap();
        let named = read_pid_file(&self.path, &self.label())?;
        let main = named.or_else(|| {
            let started = self.started.borrow();
            started.as_ref().and_then(|started| started.process.clone()).filter(ProcessId::is_alive)
        });
        if let Some(main) = &main {
            self.running.note_run(main);
        }
        Ok(main)
    }

    fn reap(&self) {
        let mut started = self.started.borrow_mut();
        let Some(begun) = started.as_mut() else { return };
        if let Some(cause) = Running::end_of(begun.child.as_mut()) {
            begun.child = None;
            begun.process = None;
            // A daemon's first process ends at once; its end is the service's only when it is no success.
            if cause != ExitCause::Exited(0) || self.running.is_stop_requested() {
                self.running.note_end(cause);
                *started = None;
            }
        }
    }

    /// Writes the pid file as a launcher does. A full disk keeps no service down: then the file is overwritten where it
    /// stands, which needs no new block, and at the last removed, so that it names nobody who is dead.
    fn take_launchers_part(&self, pid: i32) {
        let content = format!("{pid}\n");
        let mode = std::fs::metadata(&self.path).map_or(0o644, |metadata| metadata.mode() & 0o777);
        let Err(error) = write_durably(&self.path, content.as_bytes(), mode) else { return };
        tracing::warn!(%error, "the pid file could not be replaced");
        let in_place = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.path);
        if in_place.and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes())).is_err()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the pid file could not be removed");
        }
    }

    fn is_starting(&self) -> bool {
        self.started.borrow().as_ref().is_some_and(|started| Instant::now() < started.until)
    }
}

impl ServiceController for PidFileService {
    fn spec(&self) -> ServiceSpec {
        ServiceSpec::PidFile { path: self.path.clone(), command: self.command.clone() }
    }

    fn label(&self) -> String {
        self.running.label().to_owned()
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        Ok(vec![LockKey::service("process", &self.path.to_string_lossy())])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        self.running.state(self.main()?.as_ref(), self.is_starting())
    }

    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        self.running.processes(self.main()?.as_ref())
    }

    fn request_stop(&self) -> Result<(), ControllerError> {
        self.running.request_stop(self.main()?.as_ref())
    }

    fn stop_was_requested(&self, again: bool) -> Result<(), ControllerError> {
        self.running.note_stop_request();
        if again { self.request_stop() } else { Ok(()) }
    }

    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        self.running.signal(self.main()?.as_ref(), signal)
    }

    fn start(&self) -> Result<(), ControllerError> {
        let label = self.label();
        if !self.processes()?.is_empty() {
            return Err(failed("start", &label, "its old process still runs"));
        }
        let Some(command) = &self.command else { return Err(failed("start", &label, "no command is known")) };
        // A daemon that keeps its own pid file removes it at its end; one that is left was written by a launcher,
        // whose part we take.
        let by_launcher = self.path.exists();
        let (child, gate) = launch(command, None).map_err(|e| failed("start", &label, e))?;
        let pid = i32::try_from(child.id()).map_err(|e| failed("start", &label, e))?;
        let process = ProcessId::of(pid).map_err(|e| failed("start", &label, e))?;
        self.running.begin();
        *self.started.borrow_mut() =
            Some(Started { child: Some(child), process, until: Instant::now() + PID_FILE_WAIT_MAX });
        if by_launcher {
            self.take_launchers_part(pid);
        }
        gate.open().map_err(|e| failed("start", &label, e))
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        self.running.wait_change(self.main()?.as_ref(), until, cancel)
    }

    fn kill_sources(&self, _stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        Ok(manager_of(self.main()?.as_ref()))
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        self.main()?;
        self.running.stop_mark()
    }
}

fn invalid(label: &str, reason: impl Into<String>) -> ControllerError {
    ControllerError::Invalid { service: label.to_owned(), reason: reason.into() }
}

fn not_found(label: &str, reason: String) -> ControllerError {
    ControllerError::NotFound { service: label.to_owned(), reason }
}

/// The live process that a pid file names; `None` where there is no file, or its process is dead.
fn read_pid_file(path: &Path, label: &str) -> Result<Option<ProcessId>, ControllerError> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(invalid(label, "it is a symbolic link"));
        }
        other => other.map_err(|e| io_failed("read", label, &e))?,
    };
    let metadata = file.metadata().map_err(|e| io_failed("read", label, &e))?;
    if !metadata.is_file() {
        return Err(invalid(label, "it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(PID_FILE_LEN_MAX + 1).read_to_end(&mut text).map_err(|e| io_failed("read", label, &e))?;
    if text.is_empty() {
        // Just being written.
        return Ok(None);
    }
    let pid = parse_pid(&text).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(&text).chars().take(20).collect();
        invalid(label, format!("its content {shown:?} is no pid"))
    })?;
    if pid == 1 || Ok(pid) == i32::try_from(std::process::id()) {
        return Err(invalid(label, format!("process {pid} is not a service that can be stopped")));
    }
    let process = ProcessId::of(pid).map_err(|e| io_failed("look at the process of", label, &e))?;
    Ok(process.filter(|process| is_not_older(&metadata, process)))
}

fn parse_pid(text: &[u8]) -> Option<i32> {
    if text.len() as u64 > PID_FILE_LEN_MAX {
        return None;
    }
    // Some daemons write more lines (PostgreSQL); the pid is the first.
    let line = std::str::from_utf8(text).ok()?.lines().next()?.trim();
    let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| line.parse().ok()).flatten().filter(|pid| *pid > 0)
}

/// A file that was written before its process started names an earlier process of the same pid.
fn is_not_older(metadata: &std::fs::Metadata, process: &ProcessId) -> bool {
    let Ok(boot) = procfs::boot_time_secs() else { return true };
    let ticks = procfs::ticks_per_second().max(1);
    let started = UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_secs(process.start_ticks / ticks);
    let written = metadata.modified().unwrap_or_else(|_| SystemTime::now());
    written + CLOCK_SLACK >= started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pid_is_a_pid() {
        assert_eq!(parse_pid(b"4711\n"), Some(4711));
        assert_eq!(parse_pid(b" 4711 \n/var/lib/postgresql\n"), Some(4711));
        for bad in [&b"-1"[..], b"0", b"x", b"+5", b"99999999999", b"\n1", b"1 2", b"\xff", &[b'1'; 65]] {
            assert_eq!(parse_pid(bad), None, "{bad:?}");
        }
    }
}
