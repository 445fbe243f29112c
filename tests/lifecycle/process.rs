//! Services without a manager: a daemon that forks twice and writes a pid file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{Outcome, ended, program, sh, signal, svc_ctl};
use svckit_testbed::leftovers::leftovers;
use svckit_testbed::observer::Observer;
use svckit_testbed::record::{Event, Record};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, assert_has_rows};

pub(crate) const STORIES: &[Story] = &[
    ("process: a daemon is stopped and started again by its pid file", obeys),
    ("process: a stop is not done while a child holds the database", child_lingers),
];

struct Daemon {
    pid_file: PathBuf,
    command: String,
    record: Record,
    database: PathBuf,
}

impl Daemon {
    fn start(name: &str, args: &str) -> Self {
        let directory = Path::new("/srv/testbed").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let (pid_file, database) = (directory.join(format!("{name}.pid")), directory.join("data.db"));
        let record = Record::at(directory.join("record"));
        let command = format!(
            "{} --record {} --database {} --daemonise {} {args}",
            program("testbed-service").display(),
            record.path().display(),
            database.display(),
            pid_file.display()
        );
        sh(command.split(' ').next().unwrap(), command.split_whitespace().skip(1)).expect(0);
        record.wait_for_commits(3, QUICK);
        Self { pid_file, command, record, database }
    }

    fn pid(&self) -> i32 {
        std::fs::read_to_string(&self.pid_file).unwrap().trim().parse().unwrap()
    }

    fn observe(&self) -> Observer {
        let tree = svckit::world::process::tree_of(self.pid()).unwrap();
        let pids: Vec<i32> = tree.iter().map(|process| process.pid).collect();
        Observer::attach(&pids, &self.record, std::slice::from_ref(&self.database))
    }

    fn arguments<'a>(&'a self, verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let (pid_file, database) = (self.pid_file.to_str().unwrap(), self.database.to_str().unwrap());
        let mut all = vec![verb, "--pid-file", pid_file, "--database", database, "--json"];
        all.extend(["--start-command", &self.command]);
        all.extend(more);
        all
    }

    fn ctl(&self, verb: &str, more: &[&str]) -> Outcome {
        svc_ctl(self.arguments(verb, more))
    }

    fn wait_started(&self, times: usize) {
        self.record.wait_for("it is started again", QUICK, |events| starts(events) == times);
    }

    /// It runs, commits, has lost nothing, and svckit has left nothing; then it is ended.
    fn assert_back_and_end(self, old: i32) {
        let name = self.pid_file.file_name().unwrap().to_str().unwrap();
        assert_eq!(leftovers(name), Vec::<String>::new());
        assert!(ended(old, Duration::ZERO) && self.pid() != old);
        self.record.wait_for_commits(2, QUICK);
        assert_has_rows(&self.database, &self.record.acknowledged());
        assert!(signal(self.pid(), Signal::USR1) && ended(self.pid(), QUICK));
    }
}

fn starts(events: &[Event]) -> usize {
    events.iter().filter(|event| event.what == "start").count()
}

fn obeys() {
    let daemon = Daemon::start("p-obeys", "");
    let (old, observer) = (daemon.pid(), daemon.observe());
    daemon.ctl("status", &[]).expect(0);
    daemon.ctl("stop", &[]).expect(0);
    assert!(ended(old, Duration::ZERO));
    assert_eq!(observer.no_kill(), []);
    daemon.ctl("status", &[]).expect(10);
    daemon.ctl("start", &[]).expect(0);
    daemon.wait_started(2);
    daemon.ctl("status", &[]).expect(0);
    daemon.assert_back_and_end(old);
}

fn child_lingers() {
    let daemon = Daemon::start("p-child", "--child hold --child-lingers 3000");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let outcome = daemon.ctl("restart", &[]).expect(0);
    assert!(outcome.took >= Duration::from_secs(3), "the child still had the database open: {outcome:?}");
    assert_eq!(observer.no_kill(), []);
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}
