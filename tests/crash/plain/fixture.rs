//! One service, one store and one state directory, and what must hold of them after anything.

use std::path::{Path, PathBuf};

use svckit_testbed::command::{ended, program, signal, svc_backup};
use tempfile::TempDir;

use super::aftermath;
use super::data::{self, InPlace};
use super::patient::{self, PATIENT};
use super::service::{self, QUICK};
use super::store::{self, Backups};
use super::template::{BACKUPS, TARGET, TEMPLATE, backups};
use crate::actors::{GUARD_KILLED, actor};
use crate::engine::{Fault, Fixture, Interrupted, Program};

/// What is run, and interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `svc-backup backup --mode ...`.
    Backup(&'static str),
    /// `svc-backup restore`.
    Restore,
    /// `svc-backup expire --keep-last 2`.
    Expire,
    /// `svc-repair repair`.
    Repair,
    /// `svc-repair undo`.
    Undo,
    /// `stop; cp; start` into the store.
    NaiveBackup,
    /// `stop; cp; start` onto the database.
    NaiveRestore,
    /// The new database durably in place first, then the old log removed, durably too.
    NaiveDurableRestore,
    /// `stop; reindex a copy; cp; start`, with nothing preserved.
    NaiveRepair,
    /// `rm -r` of the oldest backups.
    NaiveExpire,
}

impl Work {
    /// Whether it begins with a damaged database, or with one that was.
    fn is_repair(self) -> bool {
        matches!(self, Self::Repair | Self::Undo | Self::NaiveRepair)
    }
}

/// Who brings the service back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The guard, with nobody typing anything.
    Alive,
    /// `svc-ctl resume`: the guard was killed as soon as it waited.
    Killed,
}

/// The codes that a failed operation may end with: the table of exit codes without success and usage.
const FAILURES: [i32; 12] = [10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 40];

pub(crate) struct Plain {
    directory: TempDir,
    work: Work,
    guard: Guard,
    pid: i32,
    command: Vec<u8>,
    store: Backups,
}

impl Plain {
    /// `on_term` is what the service does when it is told to stop; one that crashes leaves its log behind.
    pub(crate) fn new(work: Work, guard: Guard, on_term: &str) -> Self {
        Self::within(super::scratch(), work, guard, on_term)
    }

    /// The same in an empty directory that is there.
    pub(crate) fn within(directory: TempDir, work: Work, guard: Guard, on_term: &str) -> Self {
        let root = directory.path();
        TEMPLATE.copy_to(root);
        if work.is_repair() {
            PATIENT.copy_to(work, &service::directory(root));
        }
        std::fs::write(service::directory(root).join(service::ARGUMENTS), format!("--on-term {on_term}")).unwrap();
        service::start(root);
        let pid = service::pid(root).unwrap();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let store = backups(&root.join("store"));
        Self { directory, work, guard, pid, command, store }
    }

    /// The process that the service was at the start.
    pub(crate) fn first_pid(&self) -> i32 {
        self.pid
    }

    /// The database, which must have the rows that are known to be durable. The answer is which one it is.
    pub(crate) fn check_database(&self, acknowledged: Vec<(i32, i64)>) -> Result<InPlace, String> {
        let database = service::database(self.root());
        if self.work.is_repair() {
            patient::check(self.work, &database, self.pid, acknowledged)
        } else {
            data::check_rows(&database, self.pid, acknowledged)
        }
    }

    pub(crate) fn journal(&self) -> Vec<PathBuf> {
        aftermath::journal(self.root())
    }

    pub(crate) fn check_service(&self) -> Result<(), String> {
        let running = service::settled_processes(self.root());
        if running.len() != 1 || service::pid(self.root()) != running.first().copied() {
            let named = std::fs::read_to_string(service::pid_file(self.root())).unwrap_or_default();
            return Err(format!("the service is not up as before: processes {running:?}, pid file {:?}", named.trim()));
        }
        service::record(self.root()).wait_for_commits(2, QUICK);
        let command = std::fs::read(format!("/proc/{}/cmdline", running[0])).unwrap_or_default();
        if command != self.command {
            return Err(format!("it runs with another command: {}", String::from_utf8_lossy(&command)));
        }
        Ok(())
    }

    fn check_store(&self, end: &Interrupted) -> Result<(), String> {
        let expires = matches!(self.work, Work::Expire | Work::NaiveExpire);
        let doomed = if expires { &TEMPLATE.ids[..BACKUPS - 2] } else { &[] };
        let new = store::check(&self.root().join("store"), &self.store, doomed, &|args| svc_backup(args))?;
        let is_told = new.iter().any(|id| end.outcome.stdout.contains(id.as_str()));
        match self.work {
            Work::Backup(_) if end.outcome.status == 0 && !is_told => {
                Err("it reports success, and there is no such backup".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_state(&self) -> Result<(), String> {
        aftermath::check_state(self.root())
    }
}

impl Fixture for Plain {
    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self) -> Program {
        let root = self.root();
        let (store, database, pid_file) = (root.join("store"), service::database(root), service::pid_file(root));
        let words = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
        let (newest, oldest) = (&TEMPLATE.ids[BACKUPS - 1], &TEMPLATE.ids[..BACKUPS - 2]);
        let (own, svc_repair) = (program("svc-backup"), program("svc-repair"));
        let program = match self.work {
            Work::Backup(mode) => {
                let mut args = words(&format!("backup --json --name {TARGET} --mode {mode} --to"));
                args.extend([store, "--sqlite".into(), database, "--pid-file".into(), pid_file]);
                Program::new(&own, args)
            }
            Work::Restore => {
                let mut args = words("restore --json --from");
                args.extend([store, TARGET.into(), newest.into(), "--to".into(), database]);
                args.extend(["--pid-file".into(), pid_file]);
                Program::new(&own, args)
            }
            Work::Expire => {
                let mut args = words("expire --json --from");
                args.extend([store, TARGET.into(), "--keep-last".into(), "2".into()]);
                Program::new(&own, args)
            }
            Work::Repair | Work::Undo => {
                let mut args = words(if self.work == Work::Undo { "undo --json" } else { "repair --json" });
                args.extend([database, "--pid-file".into(), pid_file]);
                Program::new(&svc_repair, args)
            }
            Work::NaiveBackup => {
                let into = store.join(TARGET).join("20991231T000000Z-ffffff");
                actor("naive-backup", [root.to_owned(), TEMPLATE.backup(newest), into])
            }
            Work::NaiveRestore => actor("naive-restore", [root.to_owned(), TEMPLATE.old_database()]),
            Work::NaiveDurableRestore => actor("naive-durable-restore", [root.to_owned(), TEMPLATE.old_database()]),
            Work::NaiveRepair => actor("naive-repair", [root.to_owned()]),
            Work::NaiveExpire => actor("naive-expire", oldest.iter().map(|id| store.join(TARGET).join(id))),
        };
        let program = program.env("SVCKIT_STATE_DIR", root.join("state"));
        match self.guard {
            Guard::Alive => program,
            Guard::Killed => {
                let program = program.env("PATH", TEMPLATE.killing_path());
                program.env(GUARD_KILLED, root.join("guard-killed"))
            }
        }
    }

    fn check(&mut self, end: &Interrupted, fault: Fault) -> Result<Option<&'static str>, String> {
        aftermath::await_helpers(self.root())?;
        if fault != Fault::Kill && end.outcome.status != 0 && !FAILURES.contains(&end.outcome.status) {
            return Err(format!("it ends with {}, which is no answer", end.outcome.status));
        }
        let recovered = aftermath::recover(self.root(), self.guard)?;
        self.check_service()?;
        self.check_store(end)?;
        self.check_state()?;
        // In this order: what is acknowledged now is in the database that is read afterwards.
        let in_place = self.check_database(service::record(self.root()).acknowledged())?;
        let restores = matches!(self.work, Work::Restore | Work::NaiveRestore | Work::NaiveDurableRestore);
        let replaces = restores || self.work.is_repair();
        if in_place == InPlace::New && !replaces {
            return Err("the database is that of an earlier time".to_owned());
        }
        if replaces && end.outcome.status == 0 && in_place == InPlace::Old {
            return Err("it reports success, and the old database is in place".to_owned());
        }
        if replaces && fault != Fault::Kill && end.outcome.status == 30 && in_place == InPlace::New {
            return Err("it reports that nothing has changed, and the new database is in place".to_owned());
        }
        Ok(recovered)
    }

    fn tear_down(&mut self) {
        for pid in service::helpers(self.root()).into_iter().chain(service::processes(self.root())) {
            signal(pid, rustix::process::Signal::KILL);
            let _gone_or_not = ended(pid, QUICK);
        }
    }
}
