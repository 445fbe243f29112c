//! A command that svckit starts itself.
//!
//! A record in `record_dir` says which process runs it, so that another run of a program finds the service, and a
//! log beside it has its output. The command must stay in the foreground; what it leaves behind in its session still
//! counts as the service.

use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::capture::complete;
use super::launch::{launch, reap_later};
use super::running::Running;
use super::{alive, failed, io_failed, manager_of};
use crate::controller::{CommandLine, ControllerError, KillSource, ServiceController, ServiceSpec, ServiceState};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::name::ServiceName;
use crate::progress::Cancel;
use crate::world::disk::{create_private_dir, write_durably};
use crate::world::{ProcessId, StopSignal};

/// So much of the end of a log is read, in bytes.
const LOG_TAIL_MAX: u64 = 4 << 20;
/// A record larger than this was not written by us.
const RECORD_LEN_MAX: u64 = 4096;

/// A service that is a command of the configuration.
#[derive(Debug)]
pub struct CommandService {
    name: ServiceName,
    command: CommandLine,
    record_dir: PathBuf,
    running: Running,
    child: RefCell<Option<Child>>,
}

/// What the record says.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    process: ProcessId,
    /// Where the log of this run begins.
    log_offset: u64,
}

impl CommandService {
    /// The service `name` that runs `command`; whether it runs now is read from `record_dir`, which is created.
    ///
    /// # Errors
    /// An empty command, or a record directory that can't be used.
    pub fn open(name: ServiceName, command: CommandLine, record_dir: &Path) -> Result<Self, ControllerError> {
        let label = format!("service {name}");
        if command.argv.first().is_none_or(|program| program.0.as_os_str().is_empty()) {
            return Err(ControllerError::Invalid { service: label, reason: "its command is empty".to_owned() });
        }
        create_private_dir(record_dir).map_err(|e| failed("record", &label, e))?;
        let running = Running::new(label, &record_dir.join(format!("{name}.json")))?;
        let mut service = Self { name, command, record_dir: record_dir.to_owned(), running, child: RefCell::new(None) };
        if let Some(main) = service.main()? {
            complete(&mut service.command, &main);
        }
        service.processes()?;
        Ok(service)
    }

    /// What another program saw of it.
    pub(in crate::controller) fn remember(&self, seen: &[ProcessId]) -> Result<(), ControllerError> {
        self.running.remember(seen)
    }

    fn record_path(&self) -> PathBuf {
        self.record_dir.join(format!("{}.json", self.name))
    }

    fn log_path(&self) -> PathBuf {
        self.record_dir.join(format!("{}.log", self.name))
    }

    fn record(&self) -> Result<Option<Record>, ControllerError> {
        let path = self.record_path();
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| io_failed("read the record of", &self.label(), &e))?,
        };
        let mut bytes = Vec::new();
        file.take(RECORD_LEN_MAX)
            .read_to_end(&mut bytes)
            .map_err(|e| io_failed("read the record of", &self.label(), &e))?;
        let record = serde_json::from_slice(&bytes).map_err(|e| ControllerError::Invalid {
            service: self.label(),
            reason: format!("its record {} can't be read: {e}", path.display()),
        })?;
        Ok(Some(record))
    }

    fn main(&self) -> Result<Option<ProcessId>, ControllerError> {
        self.reap();
        let Some(record) = self.record()? else { return Ok(None) };
        self.running.note_run(&record.process);
        alive(Some(record.process), &self.label())
    }

    fn reap(&self) {
        let mut child = self.child.borrow_mut();
        if let Some(cause) = Running::end_of(child.as_mut()) {
            self.running.note_end(cause);
            *child = None;
        }
    }
}

impl ServiceController for CommandService {
    fn spec(&self) -> ServiceSpec {
        ServiceSpec::Command {
            name: self.name.clone(),
            command: self.command.clone(),
            record_dir: self.record_dir.clone(),
            seen: self.running.seen(),
        }
    }

    fn label(&self) -> String {
        self.running.label().to_owned()
    }

    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        let place = std::fs::canonicalize(&self.record_dir).unwrap_or_else(|_| self.record_dir.clone());
        Ok(vec![LockKey::service("process", &format!("{} in {}", self.name, place.display()))])
    }

    fn state(&self) -> Result<ServiceState, ControllerError> {
        self.running.state(self.main()?.as_ref(), None)
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
        let log_offset = std::fs::metadata(self.log_path()).map_or(0, |log| log.len());
        let (child, gate) = launch(&self.command, Some(&self.log_path())).map_err(|e| failed("start", &label, e))?;
        let pid = i32::try_from(child.id()).map_err(|e| failed("start", &label, e))?;
        let process = ProcessId::of(pid).map_err(|e| failed("start", &label, e))?;
        *self.child.borrow_mut() = Some(child);
        self.running.begin();
        let Some(process) = process else { return Err(failed("start", &label, "it ended at once")) };
        let record = serde_json::to_vec(&Record { process, log_offset }).map_err(|e| failed("record", &label, e))?;
        write_durably(&self.record_path(), &record, 0o600).map_err(|e| failed("record", &label, e))?;
        gate.open().map_err(|e| failed("start", &label, e))?;
        // Its end is noticed from here on.
        self.processes().map(drop)
    }

    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        self.running.wait_change(until, cancel)
    }

    fn kill_sources(&self, _stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        manager_of(self.main()?.as_ref(), &self.label())
    }

    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        self.main()?;
        self.running.stop_mark()
    }

    fn log_since_start(&self, lines_max: usize) -> Result<Vec<String>, ControllerError> {
        let read = || -> std::io::Result<Vec<u8>> {
            let offset = self.record().ok().flatten().map_or(0, |record| record.log_offset);
            let mut file = std::fs::File::open(self.log_path())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(offset.min(length).max(length.saturating_sub(LOG_TAIL_MAX))))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|e| io_failed("read the log of", &self.label(), &e))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(lines[lines.len().saturating_sub(lines_max)..].to_vec())
    }
}

impl Drop for CommandService {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            reap_later(child);
        }
    }
}
