//! Plain processes that misbehave while they are stopped: the documented outcome, and the service back.

use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{ended, signal};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::QUICK;

use crate::process::{Daemon, Kind};

pub(crate) const STORIES: &[Story] = &[
    ("process: a slow stop is waited for (pid file)", || slow(Kind::PidFile)),
    ("process: a slow stop is waited for (command)", || slow(Kind::Command)),
    ("process: one that ignores SIGTERM is unharmed and started after its end (pid file)", || ignores(Kind::PidFile)),
    ("process: one that ignores SIGTERM is unharmed and started after its end (command)", || ignores(Kind::Command)),
    ("process: a stop is not done while a child holds the database (pid file)", || child_lingers(Kind::PidFile)),
    ("process: a stop is not done while a child holds the database (command)", || child_lingers(Kind::Command)),
    ("process: a child that never ends is not killed (pid file)", || child_never_ends(Kind::PidFile)),
    ("process: a child that never ends is not killed (command)", || child_never_ends(Kind::Command)),
    ("process: a crash during the stop is told as unclean (pid file)", || crashes(Kind::PidFile)),
    ("process: a crash during the stop is told as unclean (command)", || crashes(Kind::Command)),
    ("process: signal 9 from elsewhere is never told as clean (pid file)", || killed_by_another(Kind::PidFile)),
    ("process: signal 9 from elsewhere is never told as clean (command)", || killed_by_another(Kind::Command)),
    ("process: a stop waits for the transaction that is open (pid file)", || open_transaction(Kind::PidFile)),
    ("process: a stop waits for the transaction that is open (command)", || open_transaction(Kind::Command)),
    ("process: one that never stops is killed under the fence (pid file)", || fenced(Kind::PidFile)),
    ("process: one that never stops is killed under the fence (command)", || fenced(Kind::Command)),
    ("process: a fenced kill is refused where no fence holds", no_fence),
    ("process: the guard brings it back when the tool is killed (as it was)", || guard(Kind::Captured)),
    ("process: the guard brings it back when the tool is killed (command)", || guard(Kind::Command)),
    ("process: an interrupt brings it back", interrupt),
];

fn slow(kind: Kind) {
    let daemon = Daemon::start(kind, "p-slow", "--on-term slow --slow-for 5000");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let outcome = daemon.ctl("restart", &["--stop-timeout", "60s"]).expect(0);
    assert!(outcome.took >= Duration::from_secs(5), "{outcome:?}");
    assert_eq!(outcome.json()["stop"], "end-not-seen");
    assert_eq!(observer.no_kill(), []);
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn ignores(kind: Kind) {
    let daemon = Daemon::start(kind, "p-ignores", "--on-term ignore");
    let (old, observer) = (daemon.pid(), daemon.observe());
    daemon.ctl("restart", &["--stop-timeout", "2s"]).expect(31);
    daemon.record.wait_for_commits(2, QUICK);
    // When it ends at last, it is started without anybody's doing.
    assert!(!ended(old, Duration::ZERO) && signal(old, Signal::USR1));
    daemon.wait_started(2);
    daemon.wait_clean();
    assert_eq!(observer.no_kill(), []);
    daemon.assert_back_and_end(old);
}

fn child_lingers(kind: Kind) {
    let daemon = Daemon::start(kind, "p-child", "--child hold --child-lingers 3000");
    let (old, pids, observer) = (daemon.pid(), daemon.processes(), daemon.observe());
    assert_eq!(pids.len(), 2);
    let outcome = daemon.ctl("restart", &[]).expect(0);
    assert!(outcome.took >= Duration::from_secs(3), "the child still had the database open: {outcome:?}");
    assert!(pids.iter().all(|pid| ended(*pid, Duration::ZERO)));
    assert_eq!(observer.no_kill(), []);
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn child_never_ends(kind: Kind) {
    let daemon = Daemon::start(kind, "p-stays", "--child write --child-lingers 600000");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let child = daemon.processes().into_iter().find(|pid| *pid != old).unwrap();
    daemon.ctl("restart", &["--stop-timeout", "2s", "--write-wait", "1s"]).expect(31);
    assert!(ended(old, Duration::ZERO) && !ended(child, Duration::ZERO));
    // Beside the child nothing is started.
    daemon.record.wait_for("the child commits", QUICK, |events| events.last().is_some_and(|e| e.pid == child));
    assert_eq!(daemon.record.starts(), [old]);
    assert!(signal(child, Signal::USR1));
    daemon.wait_started(2);
    daemon.wait_clean();
    assert_eq!(observer.no_kill(), []);
    daemon.assert_back_and_end(old);
}

fn crashes(kind: Kind) {
    let daemon = Daemon::start(kind, "p-crashes", "--on-term crash");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let outcome = daemon.ctl("restart", &[]).expect(0);
    assert_eq!(outcome.json()["stop"], "unclean", "it left its log behind");
    let deaths = observer.no_kill();
    assert_eq!((deaths.len(), deaths[0].pid, deaths[0].signal.as_str()), (1, old, "SIGABRT"));
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn killed_by_another(kind: Kind) {
    let daemon = Daemon::start(kind, "p-killed", "--on-term slow --slow-for 60000");
    let old = daemon.pid();
    let running = daemon.ctl_until_signalled("restart", &[]);
    assert!(signal(old, Signal::KILL));
    let said = running.finish(QUICK).expect(0).json();
    assert_eq!(said["stop"], "unclean", "{said}");
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn open_transaction(kind: Kind) {
    // Longer than the time-out, shorter than the extension for a write in flight.
    let daemon = Daemon::start(kind, "p-in-tx", "--on-term exit --hold-open 5000");
    daemon.record.wait_for("a transaction is open", QUICK, |events| events.last().is_some_and(|e| e.what == "begin"));
    let (old, observer) = (daemon.pid(), daemon.observe());
    daemon.ctl("restart", &["--stop-timeout", "1s"]).expect(0);
    assert_eq!(observer.no_kill(), []);
    assert_eq!(daemon.record.open_transaction(old), None, "the transaction was not finished");
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

const FENCED: [&str; 4] = ["--stop-timeout", "2s", "--last-resort", "fenced-kill"];

fn fenced(kind: Kind) {
    let daemon = Daemon::start(kind, "p-fenced", "--on-term ignore --hold-open 3 --pause 2 --child write");
    let (old, pids, observer) = (daemon.pid(), daemon.processes(), daemon.observe());
    let said = daemon.ctl("restart", &FENCED).expect(0).json();
    assert_eq!(said["stop"], "fenced-kill", "{said}");
    let deaths = observer.no_kill_inside_a_transaction();
    assert!(pids.iter().all(|pid| deaths.iter().any(|d| d.pid == *pid && d.signal == "SIGKILL")), "{deaths:?}");
    daemon.wait_started(2);
    daemon.assert_back_and_end(old);
}

fn no_fence() {
    let daemon = Daemon::start(Kind::PidFile, "p-no-fence", "--on-term ignore --exclusive --journal-mode delete");
    let (old, observer) = (daemon.pid(), daemon.observe());
    daemon.ctl("restart", &[&FENCED[..], &["--write-wait", "2s"]].concat()).expect(22);
    daemon.record.wait_for_commits(2, QUICK);
    assert!(!ended(old, Duration::ZERO) && signal(old, Signal::USR1));
    daemon.wait_started(2);
    daemon.wait_clean();
    assert_eq!(observer.no_kill(), []);
    daemon.assert_back_and_end(old);
}

fn guard(kind: Kind) {
    let daemon = Daemon::start(kind, "p-guard", "--on-term slow --slow-for 3000");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let mut running = daemon.ctl_until_signalled("stop", &[]);
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    daemon.wait_started(2);
    daemon.wait_clean();
    assert_eq!(observer.no_kill(), []);
    daemon.assert_back_and_end(old);
}

fn interrupt() {
    let daemon = Daemon::start(Kind::PidFile, "p-interrupt", "--on-term slow --slow-for 8000");
    let (old, observer) = (daemon.pid(), daemon.observe());
    let running = daemon.ctl_until_signalled("restart", &[]);
    signal(running.pid(), Signal::INT);
    running.finish(QUICK).expect(31);
    daemon.wait_started(2);
    daemon.wait_clean();
    assert_eq!(observer.no_kill(), []);
    daemon.assert_back_and_end(old);
}
