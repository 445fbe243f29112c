//! Pid files that are wrong: a clear answer, and nobody harmed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use svckit_testbed::command::{Outcome, ended, program, run, sh, signal, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

use crate::process::{Daemon, Kind};

pub(crate) const STORIES: &[Story] = &[
    ("pid file: what is none is refused by its name", no_pid_file),
    ("pid file: a dead process is not running", dead),
    ("pid file: a pid that was given away again is never signalled", reused),
    ("pid file: a process that the command does not name is never signalled", not_the_command),
    ("pid file: a user's file can't name a process of root", users_file),
    ("pid file: the main process of a unit is refused, with the unit's name", of_a_unit),
    ("pid file: a process that /proc hides is not taken for a dead one", hidden),
];

fn directory(name: &str) -> PathBuf {
    let directory = Path::new("/srv/testbed").join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn write(path: &Path, pid: impl std::fmt::Display) -> String {
    std::fs::write(path, format!("{pid}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn age(path: &str) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
}

/// A process that is nobody's service; it must outlive its story.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    /// One that has this very pid.
    fn with_pid(pid: i32) -> Self {
        // The test machine's own /proc/sys is read-only.
        let proc = directory("own-proc");
        sh("mount", ["-t", "proc", "proc", proc.to_str().unwrap()]).expect(0);
        let last_pid = proc.join("sys/kernel/ns_last_pid");
        // Others fork at the same time: bounded tries.
        let found = (0..1000).find_map(|_| {
            std::fs::write(&last_pid, (pid - 1).to_string()).unwrap();
            Some(Self::new()).filter(|made| made.pid() == pid)
        });
        sh("umount", [proc.to_str().unwrap()]).expect(0);
        found.expect("nobody was given the pid")
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn assert_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it was ended");
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        assert!(status.contains("SigPnd:\t0000000000000000") && status.contains("State:\tS"), "{status}");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        signal(self.pid(), Signal::TERM);
        drop(self.0.wait());
    }
}

/// Every verb that changes something.
fn changes(flags: &[&str]) -> Vec<Outcome> {
    ["stop", "restart", "start"].iter().map(|verb| svc_ctl([&[*verb][..], flags].concat())).collect()
}

fn no_pid_file() {
    let dir = directory("pf-none");
    let path = |name: &str| dir.join(name);
    std::fs::create_dir_all(path("directory.pid")).unwrap();
    std::os::unix::fs::symlink("/run/systemd/nothing", path("link.pid")).unwrap();
    let cases = [
        ("words.pid", Some("not a pid".to_owned()), 2),
        ("negative.pid", Some("-1".to_owned()), 2),
        ("zero.pid", Some("0".to_owned()), 2),
        ("init.pid", Some("1".to_owned()), 2),
        ("long.pid", Some("7".repeat(100_000)), 2),
        ("directory.pid", None, 2),
        ("link.pid", None, 2),
        ("missing.pid", None, 30),
        ("no-such-directory/x.pid", None, 30),
    ];
    for (name, content, status) in cases {
        if let Some(content) = content {
            write(&path(name), content);
        }
        let flags = ["--pid-file", path(name).to_str().unwrap()].map(str::to_owned);
        for verb in ["status", "stop", "restart"] {
            let outcome = svc_ctl([&[verb.to_owned()][..], &flags].concat()).expect(status);
            assert!(outcome.stderr.contains(name) && !outcome.stderr.contains("panicked"), "{outcome:?}");
        }
    }
}

fn dead() {
    let dir = directory("pf-dead");
    let gone = sh("sh", ["-c", "echo $$"]).expect(0).stdout;
    let file = write(&dir.join("stale.pid"), gone.trim());
    let said = svc_ctl(["status", "--json", "--pid-file", &file]).expect(10).json();
    assert_eq!(said["outcome"], "not-running", "{said}");
    assert!(said["state"]["detail"].as_str().unwrap().contains("stale"), "{said}");
    let said = svc_ctl(["stop", "--json", "--pid-file", &file]).expect(0).json();
    assert_eq!(said["outcome"], "was-not-running", "{said}");
    // It runs all the same, under a pid that the file does not name.
    let daemon = Daemon::start(Kind::PidFile, "pf-dead", "");
    let (pid, database) = (daemon.pid(), daemon.database.display().to_string());
    let outcome = svc_ctl(["stop", "--pid-file", &file, "--database", &database]).expect(22);
    assert!(outcome.stderr.contains(&pid.to_string()), "{outcome:?}");
    daemon.record.wait_for_commits(2, QUICK);
    assert!(signal(pid, Signal::USR1) && ended(pid, QUICK));
    svc_ctl(["stop", "--pid-file", &file, "--database", &database]).expect(0);
}

fn reused() {
    let daemon = Daemon::start(Kind::PidFile, "pf-reused", "");
    let pid = daemon.pid();
    // It dies without a chance to remove its file.
    assert!(signal(pid, Signal::KILL) && ended(pid, QUICK));
    let file = daemon.pid_file().display().to_string();
    age(&file);
    let mut bystander = Bystander::with_pid(pid);
    svc_ctl(["status", "--pid-file", &file]).expect(10);
    for outcome in changes(&["--pid-file", &file]) {
        assert_eq!(outcome.status, 22, "{outcome:?}");
        assert!(outcome.stderr.contains("sleep 600"), "{outcome:?}");
    }
    bystander.assert_unharmed();
    // Its command is known, so it is known that it does not run.
    daemon.ctl("status", &[]).expect(10);
    assert_eq!(daemon.ctl("stop", &[]).expect(0).json()["outcome"], "was-not-running");
    daemon.ctl("start", &[]).expect(0);
    daemon.wait_started(2);
    bystander.assert_unharmed();
    let again = daemon.pid();
    assert_ne!(again, pid);
    daemon.record.wait_for_commits(2, QUICK);
    assert!(signal(again, Signal::USR1) && ended(again, QUICK));
    bystander.assert_unharmed();
}

fn not_the_command() {
    let dir = directory("pf-other");
    let mut bystander = Bystander::new();
    let file = write(&dir.join("other.pid"), bystander.pid());
    let flags = ["--pid-file", &file, "--start-command", "/usr/sbin/nobody-has-this --daemon"];
    let flags_of_a_program = ["--pid-file", &file, "--start-command", "/usr/bin/tail -f /dev/null"];
    svc_ctl([&["status"][..], &flags_of_a_program].concat()).expect(10);
    for outcome in changes(&flags_of_a_program) {
        assert_eq!(outcome.status, 22, "{outcome:?}");
        assert!(outcome.stderr.contains("sleep 600"), "{outcome:?}");
    }
    // What a program that can't be looked at would start is not known.
    svc_ctl([&["status"][..], &flags].concat()).expect(0);
    bystander.assert_unharmed();
}

fn users_file() {
    let dir = directory("pf-user");
    let mut bystander = Bystander::new();
    let file = write(&dir.join("users.pid"), bystander.pid());
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    svc_ctl(["status", "--pid-file", &file]).expect(10);
    for outcome in changes(&["--pid-file", &file]) {
        assert_eq!(outcome.status, 22, "{outcome:?}");
    }
    bystander.assert_unharmed();
}

fn of_a_unit() {
    let unit = Recipe::new()
        .service_type("forking")
        .service("PIDFile=/srv/testbed/pf-unit/pid\nRestart=always")
        .args("--daemonise /srv/testbed/pf-unit/pid")
        .start("pf-unit");
    let observer = unit.observe();
    svc_ctl(["status", "--pid-file", "/srv/testbed/pf-unit/pid"]).expect(0);
    svc_ctl(["audit", "--pid-file", "/srv/testbed/pf-unit/pid"]).expect(22);
    for verb in ["stop", "restart"] {
        let outcome = svc_ctl([verb, "--pid-file", "/srv/testbed/pf-unit/pid"]).expect(22);
        assert!(outcome.stderr.contains("--unit pf-unit.service"), "{outcome:?}");
    }
    assert_eq!(observer.no_kill(), []);
    assert_eq!(unit.record.starts().len(), 1);
    assert!(unit.record.events().iter().all(|event| event.what != "signal"));
    unit.assert_running();
    unit.assert_clean();
}

fn hidden() {
    let dir = directory("pf-hidden");
    let mut bystander = Bystander::new();
    let file = write(&dir.join("hidden.pid"), bystander.pid());
    sh("cp", [program("svc-ctl"), dir.join("svc-ctl")]).expect(0);
    let state = dir.join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    let as_nobody = |verb: &str| {
        let mut command = Command::new("unshare");
        let script =
            "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.join("svc-ctl"));
        command.args([verb, "--pid-file", &file]).env("SVCKIT_STATE_DIR", &state);
        run(command, QUICK)
    };
    for verb in ["status", "stop"] {
        let outcome = as_nobody(verb).expect(23);
        assert!(outcome.stderr.contains("hidepid"), "{outcome:?}");
    }
    bystander.assert_unharmed();
}
