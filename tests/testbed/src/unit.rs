//! A unit of the test machine's systemd that runs the test bed's service.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Outcome, program, sh};
use crate::leftovers::{leftovers, wait_until_clean};
use crate::observer::Observer;
use crate::record::Record;

/// How long anything that should be quick may take on a machine that is busy with other stories.
pub const QUICK: Duration = Duration::from_secs(30);

/// A service of the test bed as a unit, with a directory, a record and databases of its own.
#[derive(Debug)]
pub struct Unit {
    /// `NAME.service`.
    pub name: String,
    /// Where its files lie.
    pub directory: PathBuf,
    /// What it did.
    pub record: Record,
    /// Its databases.
    pub databases: Vec<PathBuf>,
}

/// What a unit is made of. Lines are `Key=value`; the service's arguments are words.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    service_lines: Vec<String>,
    unit_lines: Vec<String>,
    args: Vec<String>,
    databases: usize,
    type_line: Option<&'static str>,
}

impl Recipe {
    /// A Type=notify service with one database that obeys SIGTERM.
    #[must_use]
    pub fn new() -> Self {
        Self { databases: 1, ..Self::default() }
    }

    /// A line of [Service].
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        self.service_lines.push(line.to_owned());
        self
    }

    /// A line of [Unit].
    #[must_use]
    pub fn unit(mut self, line: &str) -> Self {
        self.unit_lines.push(line.to_owned());
        self
    }

    /// Arguments of the service.
    #[must_use]
    pub fn args(mut self, words: &str) -> Self {
        self.args.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// In place of Type=notify.
    #[must_use]
    pub fn service_type(mut self, line: &'static str) -> Self {
        self.type_line = Some(line);
        self
    }

    /// How many databases it writes.
    #[must_use]
    pub fn databases(mut self, count: usize) -> Self {
        self.databases = count;
        self
    }

    /// Writes the unit, and does not start it.
    #[must_use]
    pub fn install(self, name: &str) -> Unit {
        let directory = Path::new("/srv/testbed").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let record = Record::at(directory.join("record"));
        let databases: Vec<PathBuf> = (0..self.databases).map(|i| directory.join(format!("data{i}.db"))).collect();
        let mut command = format!("{} --record {}", program("testbed-service").display(), record.path().display());
        for database in &databases {
            write!(command, " --database {}", database.display()).unwrap();
        }
        for arg in &self.args {
            write!(command, " {arg}").unwrap();
        }
        let text = format!(
            "[Unit]\nDescription=test bed: {name}\nStartLimitIntervalSec=0\n{}\n\
             [Service]\nType={}\nExecStart={command}\nLimitCORE=0\n{}\n",
            self.unit_lines.join("\n"),
            self.type_line.unwrap_or("notify"),
            self.service_lines.join("\n"),
        );
        let unit = Unit { name: format!("{name}.service"), directory, record, databases };
        write_unit(&unit.name, &text);
        reload();
        unit
    }

    /// Writes the unit, starts it and waits for its first rows.
    #[must_use]
    pub fn start(self, name: &str) -> Unit {
        let unit = self.install(name);
        unit.systemctl("start").expect(0);
        unit.record.wait_for_commits(3, QUICK);
        unit
    }
}

/// Writes a unit file where an administrator would.
pub fn write_unit(name: &str, text: &str) {
    std::fs::write(Path::new("/etc/systemd/system").join(name), text).unwrap();
}

/// systemctl daemon-reload.
pub fn reload() {
    sh("systemctl", ["daemon-reload"]).expect(0);
}

impl Unit {
    /// `systemctl VERB UNIT`.
    #[track_caller]
    pub fn systemctl(&self, verb: &str) -> Outcome {
        sh("systemctl", [verb, self.name.as_str()])
    }

    /// A property, as systemctl prints it.
    #[must_use]
    #[track_caller]
    pub fn property(&self, property: &str) -> String {
        property_of(&self.name, property)
    }

    /// The main process.
    #[must_use]
    #[track_caller]
    pub fn main_pid(&self) -> i32 {
        self.property("MainPID").parse().unwrap()
    }

    /// Every process in the unit's cgroup.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let group = self.property("ControlGroup");
        if group.is_empty() {
            return Vec::new();
        }
        let list = std::fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Observes all its processes from now on.
    #[must_use]
    pub fn observe(&self) -> Observer {
        Observer::attach(&self.processes(), &self.record, &self.databases)
    }

    /// The service is active, and commits.
    #[track_caller]
    pub fn assert_running(&self) {
        assert_eq!(self.property("ActiveState"), "active", "{}", self.systemctl("status").stdout);
        self.record.wait_for_commits(2, QUICK);
    }

    /// The service is inactive, without a process.
    #[track_caller]
    pub fn assert_stopped(&self) {
        let state = self.property("ActiveState");
        assert!(state == "inactive" || state == "failed", "{} is {state}", self.name);
        assert_eq!(self.processes(), Vec::<i32>::new(), "{} has processes", self.name);
    }

    /// Nothing of svckit's is left on the service: no drop-in, no hold, no journal entry.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(leftovers(&self.name), Vec::<String>::new());
    }

    /// Waits until nothing of svckit's is left on it: for a story in which the guard does that.
    #[track_caller]
    pub fn wait_clean(&self, wait_max: Duration) {
        wait_until_clean(&self.name, wait_max);
    }

    /// Every row that the service was told is committed is in every database, and the databases are whole.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        for database in &self.databases {
            assert_has_rows(database, &self.record.acknowledged());
        }
    }
}

/// A property of any unit.
#[must_use]
#[track_caller]
pub fn property_of(unit: &str, property: &str) -> String {
    sh("systemctl", ["show", "--value", "-p", property, unit]).expect(0).stdout.trim().to_owned()
}

/// Fails unless the database passes integrity_check and has all these rows.
#[track_caller]
pub fn assert_has_rows(database: &Path, rows: &[(i32, i64)]) {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.busy_timeout(QUICK).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", database.display());
    let mut statement = connection.prepare("SELECT 1 FROM rows WHERE pid = ?1 AND number = ?2").unwrap();
    let lost: Vec<_> = rows.iter().filter(|row| !statement.exists(**row).unwrap()).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged rows are lost: {lost:?}", lost.len(), rows.len());
}
