//! Services without a manager, as the stories about them see them: the test bed's service as a daemon that forks twice
//! and writes a pid file, and as a command that svckit starts itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{Outcome, Running, ended, ours, program, sh, signal, start, svc_ctl};
use svckit_testbed::leftovers::{leftovers, wait_until_clean};
use svckit_testbed::observer::Observer;
use svckit_testbed::record::{Event, Record};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, assert_has_rows};

pub(crate) const STORIES: &[Story] = &[
    ("process: a daemon is stopped and started again by its pid file", || obeys(Kind::PidFile)),
    ("process: a daemon is started again as it was, with no word about how", || obeys(Kind::Captured)),
    ("process: a command is stopped and started again", || obeys(Kind::Command)),
];

/// How svckit knows the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By its pid file, and the command that starts it.
    PidFile,
    /// By its pid file alone.
    Captured,
    /// By the command, from a configuration.
    Command,
}

pub(crate) struct Daemon {
    kind: Kind,
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// What names it on a command line.
    pub(crate) flags: Vec<String>,
    pub(crate) record: Record,
    pub(crate) database: PathBuf,
}

impl Daemon {
    /// It runs, and commits.
    pub(crate) fn start(kind: Kind, story: &str, args: &str) -> Self {
        let name = format!("{story}-{}", format!("{kind:?}").to_lowercase());
        let directory = Path::new("/srv/testbed").join(&name);
        std::fs::create_dir_all(&directory).unwrap();
        let (database, record) = (directory.join("data.db"), Record::at(directory.join("record")));
        let mut command = format!(
            "{} --record {} --database {} {args}",
            program("testbed-service").display(),
            record.path().display(),
            database.display()
        );
        let pid_file = directory.join(format!("{name}.pid")).display().to_string();
        let mut flags = vec!["--pid-file".to_owned(), pid_file.clone()];
        if kind == Kind::Command {
            let config = directory.join("svckit.toml").display().to_string();
            let argv: Vec<&str> = command.split_whitespace().collect();
            std::fs::write(&config, format!("[target.{name}]\nsqlite = [{database:?}]\ncommand = {argv:?}\n")).unwrap();
            flags = vec!["--config".to_owned(), config, "--service".to_owned(), name.clone()];
        } else {
            command = format!("{command} --daemonise {pid_file}");
        }
        if kind == Kind::PidFile {
            flags.extend(["--start-command".to_owned(), command.clone()]);
        }
        let daemon = Self { kind, name, directory, flags, record, database };
        match kind {
            Kind::Command => drop(daemon.ctl("start", &[]).expect(0)),
            _ => drop(sh(command.split(' ').next().unwrap(), command.split_whitespace().skip(1)).expect(0)),
        }
        daemon.record.wait_for_commits(3, QUICK);
        daemon
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join(format!("{}.pid", self.name))
    }

    pub(crate) fn pid(&self) -> i32 {
        if self.kind == Kind::Command {
            let pid = self.ctl("status", &[]).expect(0).json()["state"]["main"]["pid"].as_i64().unwrap();
            return i32::try_from(pid).unwrap();
        }
        std::fs::read_to_string(self.pid_file()).unwrap().trim().parse().unwrap()
    }

    pub(crate) fn processes(&self) -> Vec<i32> {
        let tree = svckit::world::process::tree_of(self.pid()).unwrap();
        tree.iter().map(|process| process.pid).collect()
    }

    pub(crate) fn observe(&self) -> Observer {
        Observer::attach(&self.processes(), &self.record, std::slice::from_ref(&self.database))
    }

    fn arguments(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let mut all = vec![verb.to_owned(), "--json".to_owned()];
        all.extend(["--database".to_owned(), self.database.display().to_string()]);
        all.extend(self.flags.iter().cloned());
        all.extend(more.iter().map(|word| (*word).to_owned()));
        all
    }

    pub(crate) fn ctl(&self, verb: &str, more: &[&str]) -> Outcome {
        svc_ctl(self.arguments(verb, more))
    }

    /// A call that has come as far as SIGTERM.
    pub(crate) fn ctl_until_signalled(&self, verb: &str, more: &[&str]) -> Running {
        let running = start(ours("svc-ctl", self.arguments(verb, more)));
        self.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
        running
    }

    pub(crate) fn wait_started(&self, times: usize) {
        self.record.wait_for("it is started again", QUICK, |events| starts(events) == times);
    }

    pub(crate) fn wait_clean(&self) {
        wait_until_clean(&self.name, QUICK);
    }

    /// It runs, commits, has lost nothing, and svckit has left nothing; then it is ended.
    pub(crate) fn assert_back_and_end(self, old: i32) {
        assert_eq!(leftovers(&self.name), Vec::<String>::new());
        assert!(ended(old, Duration::ZERO));
        let pid = self.pid();
        assert_ne!(pid, old);
        self.record.wait_for_commits(2, QUICK);
        assert!(signal(pid, Signal::USR1) && ended(pid, QUICK));
        assert_has_rows(&self.database, &self.record.acknowledged());
    }
}

pub(crate) fn starts(events: &[Event]) -> usize {
    events.iter().filter(|event| event.what == "start").count()
}

fn obeys(kind: Kind) {
    let daemon = Daemon::start(kind, "p-obeys", "");
    let (old, observer) = (daemon.pid(), daemon.observe());
    daemon.ctl("status", &[]).expect(0);
    let said = daemon.ctl("stop", &[]).expect(0).json();
    // Whoever adopted it learnt how it ended, and nobody else.
    assert_eq!((&said["outcome"], &said["stop"]), (&"stopped".into(), &"end-not-seen".into()), "{said}");
    assert!(ended(old, Duration::ZERO));
    assert_eq!(observer.no_kill(), []);
    daemon.ctl("stop", &[]).expect(0);
    daemon.ctl("status", &[]).expect(10);
    daemon.ctl("start", &[]).expect(0);
    daemon.wait_started(2);
    daemon.ctl("status", &[]).expect(0);
    daemon.assert_back_and_end(old);
}
