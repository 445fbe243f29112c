//! A service's own record of what it did: one line an event, appended by one write(2) each, so that it survives the
//! service's death at any instant and shows whether a transaction was open then.
//!
//! A line is `PID EVENT [NUMBER]`. `begin N` is written after the database granted the write lock and before the first
//! change; `commit N` after COMMIT has returned: that row is acknowledged and must never be lost.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

/// Where a service appends.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    pid: u32,
}

impl Recorder {
    /// Opens the record for appending.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, pid: std::process::id() })
    }

    /// Appends one event.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn say(&mut self, event: &str) -> std::io::Result<()> {
        let line = format!("{} {event}\n", self.pid);
        self.file.write_all(line.as_bytes())
    }
}

/// One event of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who wrote it.
    pub pid: i32,
    /// `start`, `ready`, `signal`, `begin`, `commit`, `busy`, `end`.
    pub what: String,
    /// The transaction or the signal.
    pub number: Option<i64>,
}

/// A record as a story reads it.
#[derive(Debug, Clone)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// The record at `path`, which need not exist yet; its directory must.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All whole lines so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(event).collect()
    }

    /// The pids that wrote `start`, oldest first.
    #[must_use]
    pub fn starts(&self) -> Vec<i32> {
        self.events().into_iter().filter(|e| e.what == "start").map(|e| e.pid).collect()
    }

    /// Whether the last word of this process on transactions is that one is open.
    #[must_use]
    pub fn open_transaction(&self, pid: i32) -> Option<i64> {
        let events = self.events();
        let last = events.iter().rev().find(|e| e.pid == pid && (e.what == "begin" || e.what == "commit"))?;
        (last.what == "begin").then_some(last.number?)
    }

    /// The acknowledged rows, as (pid, number).
    #[must_use]
    pub fn acknowledged(&self) -> Vec<(i32, i64)> {
        self.events().into_iter().filter(|e| e.what == "commit").filter_map(|e| Some((e.pid, e.number?))).collect()
    }

    /// Waits until `satisfied` says so of the events, and returns them. Woken by each append.
    ///
    /// # Panics
    /// When it is not so after `wait_max`.
    pub fn wait_for(&self, what: &str, wait_max: Duration, satisfied: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let until = Instant::now() + wait_max;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let directory = self.path.parent().expect("a record lies in a directory");
        inotify.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE).unwrap();
        loop {
            let events = self.events();
            if satisfied(&events) {
                return events;
            }
            assert!(
                Instant::now() < until,
                "{what}: not so after {wait_max:?}; the last events of {} are {:?}",
                self.path.display(),
                &events[events.len().saturating_sub(5)..]
            );
            svckit::world::wait::readable(&[inotify.as_fd()], until).unwrap();
            // Drained, so that the next wait is for what comes after this reading of the file.
            while inotify.read_events().is_ok_and(|some| !some.is_empty()) {}
        }
    }

    /// Waits until `count` more rows have been acknowledged than now.
    pub fn wait_for_commits(&self, count: usize, wait_max: Duration) {
        let goal = self.acknowledged().len() + count;
        self.wait_for("rows are being committed", wait_max, |events| {
            events.iter().filter(|e| e.what == "commit").count() >= goal
        });
    }
}

fn event(line: &str) -> Event {
    let mut words = line.split(' ');
    Event {
        pid: words.next().and_then(|w| w.parse().ok()).unwrap_or_default(),
        what: words.next().unwrap_or_default().to_owned(),
        number: words.next().and_then(|w| w.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_open_between_begin_and_commit_and_a_torn_line_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::at(dir.path().join("r"));
        let mut recorder = Recorder::open(record.path()).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        recorder.say("begin 1").unwrap();
        assert_eq!(record.open_transaction(pid), Some(1));
        recorder.file.write_all(b"12 com").unwrap();
        assert_eq!(record.open_transaction(pid), Some(1));
        recorder.file.write_all(b"mit 7\n").unwrap();
        recorder.say("commit 1").unwrap();
        assert_eq!(record.open_transaction(pid), None);
        assert_eq!(record.acknowledged(), [(12, 7), (pid, 1)]);
        assert_eq!(record.open_transaction(12), None);
    }

    #[test]
    fn a_wait_ends_with_the_line_that_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::at(dir.path().join("r"));
        let path = record.path().to_owned();
        let writer = std::thread::spawn(move || {
            let mut recorder = Recorder::open(&path).unwrap();
            for number in 0..100 {
                recorder.say(&format!("commit {number}")).unwrap();
            }
        });
        record.wait_for("a hundred commits", Duration::from_secs(20), |events| events.len() == 100);
        writer.join().unwrap();
    }
}
