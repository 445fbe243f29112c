//! A service that commits rows to SQLite as fast as it is told, records each transaction ([`crate::record`]), and
//! misbehaves in the ways that real services do.
//!
//! It is one thread: between two transactions, and inside one that is held open, it waits for signals and
//! connections by poll(2). So a signal never interrupts a statement, and the record is exact.

mod options;
mod processes;
mod sockets;
mod writer;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use options::{ChildWork, OnTerm, Options, Role};

use crate::record::Recorder;
use writer::Writer;

type Error = Box<dyn std::error::Error>;

/// Runs the service until its end.
///
/// # Errors
/// When it can't do what it was told to.
pub fn run(options: &Options) -> Result<(), Error> {
    match (options.role, &options.daemonise) {
        (Role::Main, Some(_)) => return processes::fork_first(),
        (Role::Forked, Some(pid_file)) => return processes::fork_second(pid_file),
        _ => {}
    }
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Service::new(options, signals)?.work()
}

struct Service<'a> {
    options: &'a Options,
    signals: SignalFd,
    recorder: Recorder,
    writer: Writer,
    server: sockets::Server,
    /// It notices our end by the end of its standard input; nobody waits for it: that is the misbehaviour.
    _child: Option<std::process::Child>,
    /// An orderly end is due then.
    end_at: Option<Instant>,
    /// SIGTERM has come and the next transaction is never to end.
    stuck: bool,
    crash: bool,
}

impl<'a> Service<'a> {
    fn new(options: &'a Options, signals: SignalFd) -> Result<Self, Error> {
        let mut recorder = Recorder::open(&options.record)?;
        let server = sockets::Server::open(options)?;
        let writer = Writer::open(options)?;
        let child = match (options.role, options.child) {
            (Role::Main | Role::Daemon, Some(_)) => Some(processes::child()?),
            _ => None,
        };
        recorder.say(if options.role == Role::Child { "child" } else { "start" })?;
        Ok(Self { options, signals, recorder, writer, server, _child: child, end_at: None, stuck: false, crash: false })
    }

    fn work(mut self) -> Result<(), Error> {
        if self.options.role == Role::Main && !self.options.never_ready {
            sockets::notify("READY=1")?;
        }
        let writes = self.options.role != Role::Child || self.options.child == Some(ChildWork::Write);
        let first = self.writer.last_number()?;
        let mut number = first;
        let is_enough = |number: i64| self.options.rows.is_some_and(|rows| number - first >= rows);
        while self.end_at.is_none_or(|at| Instant::now() < at) && !is_enough(number) {
            if writes {
                number += 1;
                self.transaction(number)?;
            }
            self.wait(Duration::from_millis(if writes { self.options.pause } else { 60_000 }))?;
        }
        // The last connection's close checkpoints and removes the WAL: recorded as the end only after that.
        let Self { writer, mut recorder, .. } = self;
        drop(writer);
        recorder.say("end")?;
        Ok(())
    }

    fn transaction(&mut self, number: i64) -> Result<(), Error> {
        if !self.writer.begin()? {
            self.recorder.say("busy")?;
            return Ok(());
        }
        self.recorder.say(&format!("begin {number}"))?;
        self.writer.insert(number, self.options.payload)?;
        if self.options.hold_open > 0 {
            self.wait(Duration::from_millis(self.options.hold_open))?;
        }
        if self.crash {
            std::process::abort();
        }
        while self.stuck {
            self.recorder.say("stuck")?;
            self.wait(Duration::from_secs(60))?;
        }
        self.writer.commit()?;
        self.recorder.say(&format!("commit {number}"))?;
        Ok(())
    }

    /// Takes what comes until the time is over; ends early on a signal.
    fn wait(&mut self, pause: Duration) -> Result<(), Error> {
        let mut until = Instant::now() + pause;
        if let Some(end) = self.end_at {
            until = until.min(end);
        }
        loop {
            let parent_gone = {
                let stdin = std::io::stdin();
                let mut fds = vec![self.signals.as_fd()];
                fds.extend(self.server.fds());
                let is_child = self.options.role == Role::Child && self.end_at.is_none();
                if is_child {
                    fds.push(stdin.as_fd());
                }
                let ready = svckit::world::wait::readable(&fds, until)?;
                if ready.is_empty() {
                    return Ok(());
                }
                is_child && ready.contains(&(fds.len() - 1))
            };
            if parent_gone {
                self.recorder.say("orphan")?;
                self.end_at = Some(Instant::now() + Duration::from_millis(self.options.child_lingers));
                return Ok(());
            }
            self.server.answer(self.writer.rows())?;
            if let Some(info) = self.signals.read_signal()? {
                return self.signal(info.ssi_signo);
            }
        }
    }

    fn signal(&mut self, number: u32) -> Result<(), Error> {
        self.recorder.say(&format!("signal {number}"))?;
        let is_term = i32::try_from(number) == Ok(Signal::SIGTERM as i32);
        let is_release = i32::try_from(number) == Ok(Signal::SIGUSR1 as i32);
        if self.options.role == Role::Child && !is_release {
            return Ok(());
        }
        match self.options.on_term {
            _ if is_release => {
                self.stuck = false;
                self.end_at = Some(Instant::now());
            }
            // The ladder's other signals: only a service that ignores everything ignores them too.
            OnTerm::Ignore | OnTerm::Stuck if !is_term => {}
            OnTerm::Ignore => {}
            OnTerm::Stuck => self.stuck = true,
            OnTerm::Crash => self.crash = true,
            OnTerm::Slow if is_term => {
                let slow = Duration::from_millis(self.options.slow_for);
                self.end_at.get_or_insert_with(|| Instant::now() + slow);
            }
            OnTerm::Exit | OnTerm::Slow => self.end_at = Some(Instant::now()),
        }
        Ok(())
    }
}
