//! Sees how each process of a service dies, without trusting anybody's log but the kernel's.
//!
//! strace is attached to the processes from outside their cgroup (`-e trace=none`: no system call is slowed down); it
//! writes a line for each signal that is delivered and for each death. Beside it, the service's own [`Record`] says
//! whether a transaction was open at that moment. A row that was committed but whose `commit` line the death cut off
//! is found in the database and not called open.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{ended, signal};
use crate::record::Record;

/// One death by a signal, as the kernel delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Who died.
    pub pid: i32,
    /// `SIGKILL`, `SIGABRT`, ...
    pub signal: String,
    /// The number of the transaction that was open in it.
    pub open_transaction: Option<i64>,
}

/// An attached observer.
#[derive(Debug)]
pub struct Observer {
    strace: Child,
    log: PathBuf,
    record: Record,
    databases: Vec<PathBuf>,
}

impl Observer {
    /// Attaches to processes, and from then on to every process that they start.
    ///
    /// # Panics
    /// When strace can't attach.
    #[must_use]
    pub fn attach(pids: &[i32], record: &Record, databases: &[PathBuf]) -> Self {
        let log = record.path().with_extension(format!("strace-{}", pids[0]));
        let mut command = Command::new("strace");
        command.args(["-f", "-tt", "-e", "trace=none", "-e", "signal=all", "-o"]).arg(&log);
        for pid in pids {
            command.arg("-p").arg(pid.to_string());
        }
        let mut strace =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace is installed by tests/run");
        let mut waiting: BTreeSet<i32> = pids.iter().copied().collect();
        let mut said = String::new();
        let mut lines = BufReader::new(strace.stderr.take().expect("piped")).lines();
        while !waiting.is_empty() {
            // It ends, and its standard error with it, when it can attach to nobody: the loop is bounded.
            let line = lines.next().unwrap_or_else(|| panic!("strace did not attach to {pids:?}: {said}")).unwrap();
            waiting.retain(|pid| !line.contains(&format!("Process {pid} attached")));
            said.push_str(&line);
        }
        // Whatever it says later must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { strace, log, record: record.clone(), databases: databases.to_owned() }
    }

    /// Ends the observation, and says who died by a signal. The service's processes must be gone, or live on.
    #[must_use]
    pub fn deaths(mut self) -> Vec<Death> {
        let pid = i32::try_from(self.strace.id()).unwrap();
        // It ends by itself once everybody it watches is gone; otherwise it is asked to detach.
        if !ended(pid, Duration::from_millis(200)) {
            signal(pid, rustix::process::Signal::INT);
            assert!(ended(pid, Duration::from_secs(10)), "strace does not detach");
        }
        self.strace.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        parse(&log).into_iter().map(|(pid, signal)| self.death(pid, signal)).collect()
    }

    fn death(&self, pid: i32, signal: String) -> Death {
        let open = self.record.open_transaction(pid);
        let open_transaction = open.filter(|number| !self.databases.iter().all(|path| has_row(path, pid, *number)));
        Death { pid, signal, open_transaction }
    }

    /// The promise: nobody died by SIGKILL inside a transaction.
    ///
    /// # Panics
    /// When somebody did.
    #[track_caller]
    pub fn no_kill_inside_a_transaction(self) -> Vec<Death> {
        let deaths = self.deaths();
        assert!(
            !deaths.iter().any(|d| d.signal == "SIGKILL" && d.open_transaction.is_some()),
            "SIGKILL was delivered while a transaction was open: {deaths:?}"
        );
        deaths
    }

    /// The stricter promise of a stop without fenced kill: nobody died by SIGKILL at all.
    ///
    /// # Panics
    /// When somebody did.
    #[track_caller]
    pub fn no_kill(self) -> Vec<Death> {
        let deaths = self.deaths();
        assert!(!deaths.iter().any(|d| d.signal == "SIGKILL"), "SIGKILL was delivered: {deaths:?}");
        deaths
    }
}

/// The lines `PID TIME +++ killed by SIGNAL +++` of processes; threads say the same and share the pid's fate.
fn parse(log: &str) -> Vec<(i32, String)> {
    log.lines()
        .filter_map(|line| {
            let (head, tail) = line.split_once("+++ killed by ")?;
            let pid = head.split_whitespace().next()?.parse().ok()?;
            Some((pid, tail.split_whitespace().next()?.to_owned()))
        })
        .collect()
}

/// Whether the row is in the database, looked at in a copy: recovery of the original is not the observer's business.
fn has_row(database: &Path, pid: i32, number: i64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let name = database.file_name().expect("a database has a name").to_string_lossy().into_owned();
    for suffix in ["", "-wal", "-journal"] {
        let from = database.with_file_name(format!("{name}{suffix}"));
        if from.exists() {
            std::fs::copy(&from, dir.path().join(format!("{name}{suffix}"))).unwrap();
        }
    }
    rusqlite::Connection::open(dir.path().join(name)).is_ok_and(|connection| {
        connection
            .query_row("SELECT count(*) FROM rows WHERE pid = ?1 AND number = ?2", (pid, number), |row| {
                row.get::<_, i64>(0)
            })
            .is_ok_and(|count| count == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_read_from_straces_lines() {
        let log = "12 10:00:00.1 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---\n\
                   12 10:00:00.2 +++ killed by SIGKILL +++\n\
                   13 10:00:00.2 +++ exited with 0 +++\n\
                   14 10:00:00.3 +++ killed by SIGABRT (core dumped) +++\n";
        assert_eq!(parse(log), [(12, "SIGKILL".to_owned()), (14, "SIGABRT".to_owned())]);
    }
}
