//! The controls: what an ordinary `systemctl stop` does to the same services. If the observer saw nothing here, it
//! would prove nothing in the other stories.

use svckit_testbed::command::signal;
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

pub(crate) const STORIES: &[Story] = &[
    ("control: systemctl stop kills inside a transaction and the observer sees it", kills_inside_a_transaction),
    ("control: KillMode=mixed kills a writing child and the observer sees it", kills_the_child),
    ("control: an orderly stop is seen as one", an_orderly_stop),
    ("control: the service works in every journal mode, locking mode and VFS", every_mode),
    ("control: the service daemonises, listens, has children and obeys its signals", every_shape),
];

fn kills_inside_a_transaction() {
    let unit = Recipe::new().args("--on-term stuck").service("TimeoutStopSec=1").start("control-stuck");
    let (pid, observer) = (unit.main_pid(), unit.observe());
    unit.systemctl("stop").expect(0);
    let deaths = observer.deaths();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert_eq!((deaths[0].pid, deaths[0].signal.as_str()), (pid, "SIGKILL"));
    assert!(deaths[0].open_transaction.is_some(), "{deaths:?}");
    assert_eq!(unit.property("Result"), "timeout");
}

fn kills_the_child() {
    let unit = Recipe::new()
        .args("--child write --child-lingers 5000")
        .service("KillMode=mixed\nTimeoutStopSec=60")
        .start("control-mixed");
    unit.record.wait_for("the child writes", QUICK, |events| {
        let child = events.iter().find(|e| e.what == "child").map(|e| e.pid);
        events.iter().filter(|e| Some(e.pid) == child && e.what == "commit").count() > 2
    });
    let main = unit.main_pid();
    let observer = unit.observe();
    unit.systemctl("stop").expect(0);
    let deaths = observer.deaths();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert!(deaths[0].pid != main && deaths[0].signal == "SIGKILL", "{deaths:?}");
}

fn an_orderly_stop() {
    let unit = Recipe::new().start("control-orderly");
    let observer = unit.observe();
    unit.systemctl("stop").expect(0);
    assert_eq!(observer.no_kill_inside_a_transaction(), []);
    assert_eq!(unit.property("Result"), "success");
    unit.assert_stopped();
    unit.assert_clean();
    unit.assert_nothing_lost();
}

fn every_mode() {
    let modes = [
        "--journal-mode wal",
        "--journal-mode delete",
        "--journal-mode truncate",
        "--journal-mode persist",
        "--journal-mode memory",
        "--journal-mode off",
        "--exclusive",
        "--exclusive --journal-mode delete",
        "--vfs unix-excl",
        "--vfs unix-none --journal-mode delete",
        "--vfs unix-dotfile --journal-mode delete",
    ];
    for (index, mode) in modes.iter().enumerate() {
        let unit = Recipe::new().args(mode).start(&format!("mode-{index}"));
        unit.systemctl("stop").expect(0);
        assert_eq!(unit.property("Result"), "success", "{mode}");
        unit.assert_nothing_lost();
    }
}

fn every_shape() {
    let daemon = Recipe::new()
        .service_type("forking")
        .service("PIDFile=/srv/testbed/shape-daemon/pid")
        .args("--daemonise /srv/testbed/shape-daemon/pid")
        .start("shape-daemon");
    assert_eq!(daemon.record.starts(), [daemon.main_pid()]);
    let parent = Recipe::new().args("--child hold --on-term ignore --listen 127.0.0.1:4700").start("shape-parent");
    assert_eq!(parent.processes().len(), 2);
    assert!(std::net::TcpStream::connect("127.0.0.1:4700").is_ok());
    let main = parent.main_pid();
    assert!(signal(main, rustix::process::Signal::TERM));
    parent.record.wait_for("the signal is told", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    assert!(signal(main, rustix::process::Signal::USR1));
    parent.record.wait_for("the child is alone", QUICK, |events| events.iter().any(|e| e.what == "orphan"));
    for unit in [daemon, parent] {
        unit.systemctl("stop").expect(0);
        unit.assert_stopped();
        unit.assert_nothing_lost();
    }
}
