//! A loop that is no SQLite: messages in a spool directory are delivered, one of which nobody can deliver.
//!
//! A task says what is due, and deals with it. That an item fails, is tried again and is set aside, that the others go on all
//! the same, and what is remembered of it, is the library's. A supervisor runs the passes by a schedule until a signal.
//! Run it with `cargo run --example tend_spool`.
#![allow(clippy::print_stdout, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use svckit::progress::Cancel;
use svckit::tend::{
    Backoff, Control, Limits, Policy, Schedule, State, Supervised, Supervisor, Task, TaskError, Unit, Worker,
};

/// A message is a file whose first line is the directory that it is for.
struct Spool(PathBuf);

impl Spool {
    fn deliver(&self, name: &str) -> Result<(), TaskError> {
        let from = self.0.join(name);
        let away = |error: std::io::Error| TaskError::Unavailable(format!("can't read {}: {error}", from.display()));
        let text = std::fs::read_to_string(&from).map_err(away)?;
        let address = text.lines().next().unwrap_or_default();
        if address.is_empty() {
            return Err(TaskError::Item("it has no address".to_owned()));
        }
        // A rename is all or nothing: whoever ends us here finds the message in one of the two places.
        std::fs::rename(&from, Path::new(address).join(name))
            .map_err(|error| TaskError::Item(format!("can't put it into {address}: {error}")))
    }
}

impl Task for Spool {
    fn due(&mut self, _now: Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError> {
        let away = |error: std::io::Error| TaskError::Unavailable(format!("can't list {}: {error}", self.0.display()));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(away)? {
            names.extend(entry.map_err(away)?.file_name().into_string());
        }
        names.sort();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        names.truncate(limit);
        Ok(names)
    }

    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        unit.each(|name| self.deliver(name))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let place = |name: &str| -> std::io::Result<PathBuf> {
        let path = root.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let (spool, inbox, state) = (place("spool")?, place("inbox")?, root.path().join("state"));
    for name in ["1", "2", "4"] {
        std::fs::write(spool.join(name), format!("{}\nhello\n", inbox.display()))?;
    }
    std::fs::write(spool.join("3"), "\nto nobody\n")?;
    let backoff = Backoff { first: Duration::from_secs(60), attempts: 2, ..Backoff::default() };
    let policy = Policy { limits: Limits::default(), backoff };
    let worker = || -> Result<Worker, Box<dyn std::error::Error>> {
        Ok(Worker::new(Box::new(Spool(spool.clone())), State::open(&state, "spool")?, policy.clone()))
    };

    // Pass by pass, as a program does that is started from elsewhere.
    let half_an_hour_ago = Timestamp::now() - Duration::from_secs(1800);
    for minutes in [0, 10, 20] {
        let report =
            worker()?.pass(half_an_hour_ago + Duration::from_secs(minutes * 60), &Control::new(&policy.limits)?);
        println!("{minutes} min: {} done, {} failed, {} left alone", report.done, report.failed, report.held);
    }
    for one in State::all(&state)?.iter().flat_map(State::failing) {
        let set_aside = one.next.is_none();
        println!("{}: {}, {} failures, set aside: {set_aside}", one.item, one.reason, one.failures);
    }

    // By a schedule, until the end is asked for: here when all is delivered.
    // A person has given the one an address, and has it tried again.
    std::fs::write(spool.join("5"), format!("{}\nhello\n", inbox.display()))?;
    let stop = Cancel::new()?;
    let mut supervisor = Supervisor::new(&state, stop.clone())?;
    let schedule = Schedule::Every { interval: Duration::from_secs(60), jitter: Duration::ZERO };
    // What a pass needs, a lock mostly; it lasts as long as the pass.
    let gate = Box::new(|| Ok(Box::new(()) as Box<dyn std::any::Any>));
    State::release(&state, "spool", "3")?;
    std::fs::write(spool.join("3"), format!("{}\nto somebody\n", inbox.display()))?;
    supervisor.start(Supervised { worker: worker()?, schedule, gate })?;
    let inbox_len = || std::fs::read_dir(&inbox).map(Iterator::count);
    let until = Instant::now() + Duration::from_secs(30);
    supervisor.watch(Duration::from_millis(100), &mut |_healths| {
        if inbox_len().is_ok_and(|len| len == 5) || Instant::now() > until {
            stop.request();
        }
    });
    println!("delivered: {}", inbox_len()?);
    Ok(())
}
