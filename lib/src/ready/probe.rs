//! One attempt of one probe, bounded.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;

use super::{Probe, ReadyCheck, Subject};
use crate::progress::Cancel;
use crate::world::{Pidfd, ProcessId, StopSignal, wait};

/// The longest time of one attempt: a server that accepts and says nothing must not use up the whole time-out.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// So many lines of a manager's log are looked at.
const LOG_LINES_MAX: usize = 10_000;
/// So much of a log file is read in one attempt, in bytes; the rest is read in the next.
const LOG_CHUNK_MAX: u64 = 4 << 20;

/// A probe and what it remembers between attempts.
pub(super) struct Prober<'a> {
    probe: &'a Probe,
    pattern: Option<Regex>,
    log: Option<LogFile>,
}

/// Where the reading of a log file goes on.
struct LogFile {
    offset: u64,
    matched: bool,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl<'a> Prober<'a> {
    pub(super) fn new(check: &'a ReadyCheck) -> Self {
        let (pattern, log) = match &check.probe {
            Probe::Log { pattern, file } => {
                let log = file.as_deref().map(|path| {
                    // What was there before the wait is of an earlier run.
                    let offset = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
                    LogFile { offset, matched: false, rest: Vec::new() }
                });
                (Regex::new(pattern).ok(), log)
            }
            _ => (None, None),
        };
        Self { probe: &check.probe, pattern, log }
    }

    /// The reason in words where it does not pass.
    pub(super) fn attempt(&mut self, subject: &dyn Subject, deadline: Instant, cancel: &Cancel) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT_MAX).max(Duration::from_millis(10));
        match self.probe {
            // That it is up was asked just before.
            Probe::Unit | Probe::Pid => Ok(()),
            Probe::Health => match subject.is_healthy()? {
                Some(true) => Ok(()),
                Some(false) => Err("it is not healthy".to_owned()),
                None => Err("nobody checks its health: it has no HEALTHCHECK".to_owned()),
            },
            Probe::Tcp { host, port } => tcp(host, *port, left),
            Probe::Http { url, status } => http(url, *status, left),
            Probe::Exec { argv } => exec(argv, Instant::now() + left, cancel),
            Probe::Log { pattern, file } => self.log_line(subject, pattern, file.as_deref()),
        }
    }

    fn log_line(&mut self, subject: &dyn Subject, pattern: &str, file: Option<&Path>) -> Result<(), String> {
        let Some(regex) = &self.pattern else { return Err(format!("{pattern:?} is no regular expression")) };
        let found = match (file, &mut self.log) {
            (Some(path), Some(log)) => log.read_on(path, regex).map_err(|e| format!("{}: {e}", path.display()))?,
            _ => subject.log(LOG_LINES_MAX)?.iter().any(|line| regex.is_match(line)),
        };
        if found { Ok(()) } else { Err(format!("no line matches {pattern:?} yet")) }
    }
}

impl LogFile {
    fn read_on(&mut self, path: &Path, regex: &Regex) -> std::io::Result<bool> {
        if self.matched {
            return Ok(true);
        }
        let mut file = File::open(path)?;
        if file.metadata()?.len() < self.offset {
            // Rotated or truncated: a new file begins.
            self.offset = 0;
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut chunk = Vec::new();
        let read = file.take(LOG_CHUNK_MAX).read_to_end(&mut chunk)?;
        self.offset += read as u64;
        self.rest.extend_from_slice(&chunk);
        let complete = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..complete).collect();
        self.matched = String::from_utf8_lossy(&lines).lines().any(|line| regex.is_match(line));
        // A line without an end can't grow for ever.
        if self.rest.len() as u64 > LOG_CHUNK_MAX {
            self.rest.clear();
        }
        Ok(self.matched)
    }
}

fn tcp(host: &str, port: u16, within: Duration) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
    let mut last = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, within) {
            Ok(_connected) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

fn http(url: &str, wanted: Option<u16>, within: Duration) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let response = agent.get(url).call().map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let ready = wanted.map_or((200..300).contains(&status), |wanted| status == wanted);
    if ready { Ok(()) } else { Err(format!("it answers {status}")) }
}

/// Runs the command. One that does not end in time is asked to by SIGTERM and left alone: it is not ours to kill.
fn exec(argv: &[String], deadline: Instant, cancel: &Cancel) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("there is no command".to_owned()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("can't run {program}: {e}"))?;
    let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
    // Our own child: its pid is not given away before we reap it.
    let pidfd =
        ProcessId::of(pid).and_then(|id| id.map_or(Ok(None), |id| Pidfd::open(&id))).map_err(|e| e.to_string())?;
    if let Some(pidfd) = pidfd {
        let ready = wait::readable(&[pidfd.as_fd(), cancel.as_fd()], deadline).map_err(|e| e.to_string())?;
        if !ready.contains(&0) {
            let _gone = pidfd.signal(StopSignal::Term);
            std::thread::spawn(move || child.wait());
            return Err(format!("{program} did not end in time"));
        }
    }
    let status = child.wait().map_err(|e| format!("can't wait for {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program}: {status}")) }
}
