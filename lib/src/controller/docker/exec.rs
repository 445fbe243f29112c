//! A program in a container, as a child of ours would be: an argument vector, its input and output as streams, and how
//! it ended.
//!
//! - Secrets go through the input. Arguments and environment of an exec are shown by the engine to whoever asks.
//! - The engine's stream ends the same way whether the program, the container or the engine has ended: only the exit
//!   code counts, and where it can't be learnt the program has failed.
//! - What nobody reads is not fetched: the output passes through a pipe, so memory stays flat.
//! - There is no request that ends an exec. One that is given up is sent SIGTERM by its pidfd.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::engine::{Engine, EngineError, next, translated};
use crate::progress::Cancel;
use crate::world::wake::Wake;
use crate::world::{Pidfd, ProcessId, StopSignal, wait};

/// So much of the end of what it says on standard error is kept.
const SAID_MAX: usize = 16 << 10;
/// So much output is collected where it is not streamed.
pub(crate) const COLLECTED_MAX: usize = 64 << 20;
/// Bytes per read and write.
const BLOCK: usize = 64 << 10;

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error("{0}")]
    Engine(String),
    #[error("the container is not running, or is paused: {0}")]
    NotRunning(String),
    #[error("{program} is not in the image")]
    NoProgram { program: String },
    #[error("{program} neither read nor wrote anything for {} s", .waited.as_secs())]
    Stalled { program: String, waited: Duration },
    #[error("it was cancelled")]
    Cancelled,
    #[error("{program} said more than {COLLECTED_MAX} bytes")]
    TooMuch { program: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<EngineError> for ExecError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused { status: 409, message } => Self::NotRunning(message),
            other => Self::Engine(other.to_string()),
        }
    }
}

/// A container in which programs can be run.
#[derive(Debug, Clone)]
pub(crate) struct Inside {
    pub(super) engine: Arc<Engine>,
    pub(super) id: String,
    pub(super) label: String,
}

/// What is run, and how long it may do nothing.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The program and its arguments: nothing secret.
    pub(crate) argv: Vec<String>,
    /// As whom; `None`: as the image says.
    pub(crate) user: Option<String>,
    /// `NAME=value`: nothing secret.
    pub(crate) env: Vec<String>,
    pub(crate) idle_max: Duration,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i64,
    /// The end of its standard error.
    pub(crate) said: String,
}

impl Ended {
    /// Whether the engine says that there is no such program; it says so in the place of the program, on either stream.
    fn is_absence(&self, said: &str) -> bool {
        matches!(self.code, 126 | 127)
            && said.contains("exec failed")
            && (said.contains("executable file not found") || said.contains("no such file"))
    }
}

/// A program that runs. Reading gives its standard output, writing goes to its standard input.
#[derive(Debug)]
pub(crate) struct Exec {
    inside: Inside,
    id: String,
    program: String,
    out: OwnedFd,
    input: Option<OwnedFd>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    idle_max: Duration,
    cancel: Cancel,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
    ended: Mutex<Option<Result<Ended, EngineError>>>,
}

impl Inside {
    /// The container, as people name it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The variables that the container was made with. Some are secrets.
    pub(crate) fn variables(&self) -> Result<Vec<(String, String)>, ExecError> {
        let variables = self.engine.inspect(&self.id)?.config.and_then(|config| config.env).unwrap_or_default();
        let split = |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(variables.into_iter().filter_map(split).collect())
    }

    /// The name of its image, and its id.
    pub(crate) fn image(&self) -> Result<(String, String), ExecError> {
        let found = self.engine.inspect(&self.id)?;
        let name = found.config.and_then(|config| config.image).unwrap_or_default();
        Ok((name, found.image.unwrap_or_default()))
    }

    /// Starts a program.
    pub(crate) fn start(&self, program: &Program, cancel: &Cancel) -> Result<Exec, ExecError> {
        let name = program.argv.first().cloned().unwrap_or_default();
        tracing::debug!(container = self.label, argv = ?program.argv, "running a program");
        let id = self.engine.exec_create(&self.id, program)?;
        let started = self.engine.exec_start(&id)?;
        let shared = Arc::new(Shared { wake: Wake::new().map_err(std::io::Error::from)?, ended: Mutex::default() });
        let (out, out_end) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let (input_end, input) = pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from)?;
        // A full pipe must not block us beyond the deadline.
        rustix::fs::fcntl_setfl(&input, rustix::fs::OFlags::NONBLOCK).map_err(std::io::Error::from)?;
        let (engine, container, exec, teller) = (self.engine.clone(), self.id.clone(), id.clone(), shared.clone());
        let task = self.engine.spawn(async move {
            let result = async {
                let said = carry(started, out_end, input_end).await?;
                let code = engine.exec_code(&container, &exec).await?;
                Ok(Ended { code, said })
            };
            let result = result.await.map_err(translated);
            *teller.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            teller.wake.wake();
        });
        Ok(Exec {
            inside: self.clone(),
            id,
            program: name,
            out,
            input: Some(input),
            shared,
            task,
            idle_max: program.idle_max,
            cancel: cancel.clone(),
        })
    }

    /// Runs a program to its end: its input is written, its output collected.
    pub(crate) fn run(&self, program: &Program, input: &[u8], cancel: &Cancel) -> Result<(Ended, Vec<u8>), ExecError> {
        let mut exec = self.start(program, cancel)?;
        // One that ends without reading it says why by its exit code.
        let _ended_early = exec.write_all(input);
        exec.close_input();
        let mut output = Vec::new();
        let limit = COLLECTED_MAX as u64 + 1;
        (&mut exec).take(limit).read_to_end(&mut output).map_err(|error| exec.why(error))?;
        if output.len() > COLLECTED_MAX {
            return Err(ExecError::TooMuch { program: exec.program.clone() });
        }
        let program = exec.program.clone();
        match exec.finish()? {
            ended if ended.is_absence(&String::from_utf8_lossy(&output)) => Err(ExecError::NoProgram { program }),
            ended => Ok((ended, output)),
        }
    }
}

impl Exec {
    /// The program reads the end of its input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// How it ended. What it still writes is dropped.
    pub(crate) fn finish(mut self) -> Result<Ended, ExecError> {
        self.end_early()
    }

    /// The same, of one that ended when nobody expected it.
    pub(crate) fn end_early(&mut self) -> Result<Ended, ExecError> {
        self.close_input();
        let mut rest = vec![0; BLOCK];
        while self.read(&mut rest).map_err(|error| self.why(error))? > 0 {}
        self.await_ready(self.shared.wake.as_fd(), false).map_err(|error| self.why(error))?;
        let ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = ended.unwrap_or_else(|| Err(EngineError::Unreachable("its end was not told".to_owned())))?;
        match ended.is_absence(&ended.said) {
            true => Err(ExecError::NoProgram { program: self.program.clone() }),
            false => Ok(ended),
        }
    }

    /// The error behind one of a read or a write.
    pub(crate) fn why(&self, error: std::io::Error) -> ExecError {
        match error.kind() {
            std::io::ErrorKind::TimedOut => ExecError::Stalled { program: self.program.clone(), waited: self.idle_max },
            _ if self.cancel.is_requested() => ExecError::Cancelled,
            _ => ExecError::Io(error),
        }
    }

    fn await_ready(&self, fd: std::os::fd::BorrowedFd<'_>, to_write: bool) -> std::io::Result<()> {
        let until = Instant::now() + self.idle_max;
        let ready = match to_write {
            true => wait::writable(fd, &[self.cancel.as_fd()], until)?,
            false => wait::readable(&[fd, self.cancel.as_fd()], until)?,
        };
        // Not `Interrupted`: callers would try that again.
        if ready.contains(&1) {
            return Err(std::io::Error::other(ExecError::Cancelled));
        }
        if ready.is_empty() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Asks it to end, where it still runs.
    fn terminate(&self) -> std::io::Result<()> {
        let running_pid = || {
            let found = self.inside.engine.exec_inspect(&self.id).ok()?;
            found.pid.filter(|_| found.running == Some(true)).and_then(|pid| i32::try_from(pid).ok())
        };
        let Some(pid) = running_pid().filter(|pid| *pid > 0) else { return Ok(()) };
        let Some(process) = ProcessId::of(pid)? else { return Ok(()) };
        // An engine in other namespaces, or on another machine, counts other pids.
        if super::own_group(pid, &self.inside.id)?.is_none() {
            return Ok(());
        }
        if let Some(pidfd) = Pidfd::open(&process)?
            && running_pid() == Some(pid)
        {
            pidfd.signal(StopSignal::Term)?;
        }
        Ok(())
    }
}

impl Read for Exec {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.await_ready(self.out.as_fd(), false)?;
        loop {
            match rustix::io::read(&self.out, &mut *buffer) {
                Err(Errno::INTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }
}

impl Write for Exec {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            let Some(input) = &self.input else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
            self.await_ready(input.as_fd(), true)?;
            match rustix::io::write(input, bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return other.map_err(Into::into),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if self.task.is_finished() {
            return;
        }
        if let Err(error) = self.terminate() {
            tracing::warn!(%error, program = self.program, container = self.inside.label, "a program may still run");
        }
        self.task.abort();
    }
}

/// Carries bytes both ways until the program's output ends; answers the end of its standard error.
async fn carry(started: StartExecResults, out: OwnedFd, input: OwnedFd) -> Result<String, Error> {
    let StartExecResults::Attached { mut output, input: mut to_program } = started else {
        return Ok(String::new());
    };
    let (mut out, mut from_us) = (pipe::Sender::from_owned_fd(out)?, pipe::Receiver::from_owned_fd(input)?);
    let feed = async move {
        let mut buffer = vec![0; BLOCK];
        loop {
            // A program that has closed its input may well succeed.
            match from_us.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) if to_program.write_all(&buffer[..count]).await.is_err() => break,
                Ok(_) => {}
            }
        }
        let _ended_before = to_program.shutdown().await;
        // It stays open for the other direction.
        std::future::pending::<()>().await;
    };
    let drain = async {
        let mut said = Vec::new();
        while let Some(part) = next(&mut output).await {
            match part? {
                LogOutput::StdOut { message } => {
                    // We are gone, or have seen enough: the program is asked to end by whoever drops it.
                    if out.write_all(&message).await.is_err() {
                        break;
                    }
                }
                // Without a terminal the engine itself says something so: that the program can't be run.
                LogOutput::StdErr { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                    said.extend_from_slice(&message);
                    said.drain(..said.len().saturating_sub(SAID_MAX));
                }
            }
        }
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    };
    tokio::select! {
        said = drain => said,
        () = feed => Ok(String::new()),
    }
}
