//! Plain processes that are started again, or not at all.

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{ended, program, run, signal, svc_backup};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::QUICK;

use crate::process::{Daemon, Kind};

pub(crate) const STORIES: &[Story] = &[
    ("process: one that does not become ready is not back, and runs (pid file)", || never_ready(Kind::PidFile)),
    ("process: one that does not become ready is not back, and runs (command)", || never_ready(Kind::Command)),
    ("process: one that can't be started is not back", can_not_start),
    ("process: one that was not running is not started (pid file)", || was_not_running(Kind::Captured)),
    ("process: one that was not running is not started (command)", || was_not_running(Kind::Command)),
    ("process: what is started again inherits no descriptor, mask or priority (as it was)", || {
        inherits(Kind::Captured)
    }),
    ("process: what is started again inherits no descriptor, mask or priority (command)", || inherits(Kind::Command)),
    ("process: what the guard starts again inherits no descriptor", guard_inherits),
    ("process: a stop out of a sandbox, in which it would be started again, is refused (pid file)", || {
        sandboxed(Kind::PidFile);
    }),
    ("process: a stop out of a sandbox, in which it would be started again, is refused (command)", || {
        sandboxed(Kind::Command);
    }),
];

fn never_ready(kind: Kind) {
    let daemon = Daemon::start(kind, "p-not-ready", "");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let outcome = daemon.ctl("restart", &["--ready", "tcp:127.0.0.1:9;timeout=2s;interval=200ms"]).expect(40);
    assert!(outcome.stderr.contains("127.0.0.1:9") || outcome.stdout.contains("127.0.0.1:9"), "{outcome:?}");
    assert_eq!(observer.no_kill(), []);
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn can_not_start() {
    let mut daemon = Daemon::start(Kind::PidFile, "p-no-start", "");
    let pid = daemon.pid();
    assert!(signal(pid, Signal::USR1) && ended(pid, QUICK));
    daemon.ctl("status", &[]).expect(10);
    *daemon.flags.last_mut().unwrap() = "/bin/false".to_owned();
    daemon.ctl("start", &[]).expect(40);
    daemon.ctl("status", &[]).expect(10);
    daemon.wait_clean();
}

fn was_not_running(kind: Kind) {
    let daemon = Daemon::start(kind, "p-was-off", "");
    let pid = daemon.pid();
    assert!(signal(pid, Signal::USR1) && ended(pid, QUICK));
    let (store, database) = (daemon.directory.join("store"), daemon.database.display().to_string());
    let (store, pid_file) = (store.display().to_string(), daemon.pid_file().display().to_string());
    let mut arguments = vec!["backup", "--mode", "cold", "--to", &store];
    match kind {
        Kind::Command => arguments.extend(["--config", &daemon.flags[1], daemon.name.as_str()]),
        _ => arguments.extend(["--sqlite", &database, "--pid-file", &pid_file]),
    }
    svc_backup(arguments).expect(0);
    let said = daemon.ctl("stop", &[]).expect(0).json();
    assert_eq!(said["outcome"], "was-not-running", "{said}");
    daemon.ctl("status", &[]).expect(10);
    assert_eq!(daemon.record.starts(), [pid]);
    daemon.wait_clean();
}

/// The caller has a lock of its own, a file, a narrow umask and a low priority.
fn narrow(daemon: &Daemon, verb: &str) -> Command {
    let lock = daemon.directory.join("callers-lock");
    let script = format!(
        "umask 0077; renice -n 7 -p $$ >&2; exec 7</etc/passwd 200>'{}'; flock -n 200 && exec \"$@\"",
        lock.display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(program("svc-ctl")).args([verb, "--json"]).args(&daemon.flags);
    command
}

/// What the service has open that it did not open itself.
fn strangers(daemon: &Daemon) -> Vec<String> {
    let own = [daemon.directory.join("data.db"), daemon.directory.join("record"), "/dev/null".into()];
    let log = format!("/run/svckit/commands/{}.log", daemon.name);
    let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let open = fds.map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string());
    open.filter(|to| {
        let is_own = own.iter().any(|path| to.starts_with(&*path.to_string_lossy()));
        !is_own && *to != log && to != "anon_inode:[signalfd]"
    })
    .collect()
}

fn assert_inherits_nothing(daemon: &Daemon) {
    assert_eq!(strangers(daemon), Vec::<String>::new());
    let again = std::fs::File::open(daemon.directory.join("callers-lock")).unwrap();
    again.try_lock().expect("the service keeps the lock of whoever called svc-ctl");
}

/// Field 19 of /proc/PID/stat (proc_pid_stat(5)).
fn nice_value(pid: &str) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(16)?.parse().ok()
}

fn inherits(kind: Kind) {
    let daemon = Daemon::start(kind, "p-inherits", "");
    let old = daemon.pid();
    run(narrow(&daemon, "restart"), QUICK).expect(0);
    daemon.wait_started(2);
    daemon.record.wait_for_commits(2, QUICK);
    assert_inherits_nothing(&daemon);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.contains("Umask:\t0022"), "{status}");
    // As the story's own: whoever runs the tests may do so at any priority.
    assert_eq!(nice_value(&daemon.pid().to_string()), nice_value("self"));
    if kind == Kind::Captured {
        assert_eq!(std::fs::metadata(daemon.pid_file()).unwrap().mode() & 0o777, 0o644);
    }
    daemon.assert_back_and_end(old);
}

fn guard_inherits() {
    let daemon = Daemon::start(Kind::Captured, "p-guard-fds", "--on-term slow --slow-for 2000");
    let old = daemon.pid();
    let mut running = svckit_testbed::command::start(narrow(&daemon, "restart"));
    daemon.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    assert!(!ended(old, Duration::ZERO));
    // The guard neither.
    let lock = std::fs::File::open(daemon.directory.join("callers-lock")).unwrap();
    lock.try_lock().expect("the guard keeps the lock of whoever called svc-ctl");
    drop(lock);
    daemon.wait_started(2);
    daemon.wait_clean();
    daemon.record.wait_for_commits(2, QUICK);
    assert_inherits_nothing(&daemon);
    daemon.assert_back_and_end(old);
}

fn sandboxed(kind: Kind) {
    let daemon = Daemon::start(kind, "p-sandbox", "");
    let pid = daemon.pid();
    let sandboxes: [(&[&str], &str); 3] = [
        (&["unshare", "--mount"], "namespace"),
        (&["setpriv", "--no-new-privs"], "NoNewPrivileges"),
        (&["setpriv", "--bounding-set=-net_raw"], "capabilities"),
    ];
    for (sandbox, why) in sandboxes {
        let mut command = Command::new(sandbox[0]);
        command.args(&sandbox[1..]).arg(program("svc-ctl")).arg("restart").args(&daemon.flags);
        let outcome = run(command, QUICK).expect(22);
        assert!(outcome.stderr.contains(why), "{outcome:?}");
    }
    daemon.wait_clean();
    assert!(daemon.record.events().iter().all(|event| event.what != "signal"));
    daemon.record.wait_for_commits(2, QUICK);
    assert!(signal(pid, Signal::USR1) && ended(pid, QUICK));
}
