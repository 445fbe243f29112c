//! The programs that are measured upon: a service, a busy writer, and the one that knows the peak memory of another.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use rusqlite::Connection;
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::SIGTERM;

use crate::Outcome;

/// The service.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// Its database
    #[arg(long)]
    database: PathBuf,
    /// Where it says `ready`, `stopping` and `end`, each with the nanoseconds of CLOCK_MONOTONIC
    #[arg(long)]
    log: PathBuf,
    /// Where it writes its process id before it is ready
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// The longest time that its stop takes; each process takes another
    #[arg(long, default_value_t = 0)]
    linger_ms: u64,
}

/// The writer.
#[derive(Debug, Args)]
pub(crate) struct WriterArgs {
    /// Its database
    #[arg(long)]
    database: PathBuf,
    /// Where the time stamp and the latency of every commit go at the end, in nanoseconds
    #[arg(long)]
    log: PathBuf,
    /// Pause between two commits
    #[arg(long, default_value_t = 2)]
    pause_ms: u64,
}

/// The one that knows the peak.
#[derive(Debug, Args)]
pub(crate) struct PeakArgs {
    /// Where the figure goes
    #[arg(long)]
    output: PathBuf,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Nanoseconds of CLOCK_MONOTONIC: the same clock in every process.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

pub(crate) fn service(args: &ServiceArgs) -> Outcome<()> {
    let (mut stopped, stop) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, stop)?;
    let mut log = OpenOptions::new().append(true).create(true).open(&args.log)?;
    let connection = open(&args.database)?;
    // A log with something in it, as that of any live database.
    connection.execute_batch("BEGIN; CREATE TABLE IF NOT EXISTS bench_service(id INTEGER PRIMARY KEY, text TEXT);")?;
    for _ in 0..200 {
        connection.execute("INSERT INTO bench_service(text) VALUES(hex(randomblob(500)))", [])?;
    }
    connection.execute_batch("DELETE FROM bench_service WHERE id > 2000; COMMIT;")?;
    if let Some(path) = &args.pid_file {
        std::fs::write(path, format!("{}\n", std::process::id()))?;
    }
    writeln!(log, "ready {}", now())?;
    stopped.read_exact(&mut [0])?;
    writeln!(log, "stopping {}", now())?;
    if args.linger_ms > 0 {
        let linger = u64::from(std::process::id()).wrapping_mul(7919) % args.linger_ms;
        pause(&channel().1, Duration::from_millis(linger));
    }
    connection.close().map_err(|(_, error)| error)?;
    writeln!(log, "end {}", now())?;
    Ok(())
}

pub(crate) fn writer(args: &WriterArgs) -> Outcome<()> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    let connection = open(&args.database)?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS bench_writer(id INTEGER PRIMARY KEY, text TEXT)")?;
    let mut insert = connection.prepare("INSERT INTO bench_writer(text) VALUES(?)")?;
    let mut commits = Vec::new();
    // Held, so that the pauses last.
    let (_sender, receiver) = channel();
    while !stop.load(Ordering::Relaxed) {
        let at = now();
        let began = Instant::now();
        insert.execute(["a line of a log that some service keeps in its database"])?;
        commits.push((at, began.elapsed().as_nanos()));
        pause(&receiver, Duration::from_millis(args.pause_ms));
    }
    drop(insert);
    let mut log = BufWriter::new(File::create(&args.log)?);
    for (at, took) in commits {
        writeln!(log, "{at} {took}")?;
    }
    log.flush()?;
    Ok(())
}

pub(crate) fn peak(args: &PeakArgs) -> Outcome<()> {
    let (program, arguments) = args.command.split_first().ok_or("no command")?;
    let status = Command::new(program).args(arguments).status()?;
    if !status.success() {
        return Err(format!("{} ended with {status}", program.display()).into());
    }
    std::fs::write(&args.output, format!("{}\n", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss()))?;
    Ok(())
}

/// As services open theirs: a log, and no wait for the disk at each commit.
fn open(database: &PathBuf) -> Outcome<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")?;
    Ok(connection)
}

/// Part of the behaviour that is measured upon, waiting for nobody.
fn pause(never: &Receiver<()>, time: Duration) {
    match never.recv_timeout(time) {
        Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
    }
}
