//! Stops: each service misbehaves in its own way, and the outcome is the documented one.

use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{Outcome, ended, ours, signal, start, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit};

pub(crate) const STORIES: &[Story] = &[
    ("a service that obeys SIGTERM stops, stays stopped, and starts again", obeys),
    ("a stop slower than the unit allows is waited for", slow),
    ("a service that ignores SIGTERM is left unharmed and started after its end", ignores),
    ("a daemon is stopped with all that it forked", daemonises),
    ("a stop is not done while a child that is left behind holds the database", child_lingers),
    ("a child that never ends is not killed", child_never_ends),
    ("a service that restarts itself is stopped all the same", restarts_itself),
    ("a writing child under KillMode=mixed is not killed", mixed),
    ("a service that crashes while stopping is told as unclean and comes back", crashes),
    ("signal 9 from elsewhere is never a success", killed_by_another),
    ("a stop waits for the transaction that is open", open_transaction),
    ("the audit names who could kill and how it is neutralised", audit),
];

/// `svc-ctl restart` of the unit with its databases named.
pub(crate) fn restart(unit: &Unit, more: &[&str]) -> Outcome {
    svc_ctl(arguments("restart", unit, more))
}

pub(crate) fn arguments<'a>(verb: &'a str, unit: &'a Unit, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![verb, "--unit", unit.name.as_str(), "--json"];
    for database in &unit.databases {
        arguments.extend(["--database", database.to_str().unwrap()]);
    }
    arguments.extend(more);
    arguments
}

/// The service is back as it was, and nothing of the operation is left.
pub(crate) fn assert_back(unit: &Unit) {
    unit.assert_running();
    unit.assert_clean();
    unit.assert_nothing_lost();
}

fn obeys() {
    let unit = Recipe::new().start("obeys");
    let observer = unit.observe();
    let said = svc_ctl(arguments("stop", &unit, &[])).expect(0).json();
    assert_eq!((&said["outcome"], &said["stop"]), (&"stopped".into(), &"clean".into()), "{said}");
    assert_eq!(observer.no_kill(), []);
    unit.assert_stopped();
    assert_eq!(unit.property("Result"), "success");
    svc_ctl(arguments("stop", &unit, &[])).expect(0);
    svc_ctl(["status", "--unit", &unit.name]).expect(10);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    svc_ctl(["status", "--unit", &unit.name]).expect(0);
    assert_back(&unit);
}

fn slow() {
    let unit = Recipe::new().args("--on-term slow --slow-for 12000").service("TimeoutStopSec=4").start("slow");
    let observer = unit.observe();
    let outcome = restart(&unit, &["--stop-timeout", "60s"]).expect(0);
    assert!(outcome.took >= Duration::from_secs(12), "{outcome:?}");
    assert_eq!(outcome.json()["stop"], "clean");
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn ignores() {
    let unit = Recipe::new().args("--on-term ignore").service("TimeoutStopSec=2").start("ignores");
    let (pid, observer) = (unit.main_pid(), unit.observe());
    restart(&unit, &["--stop-timeout", "4s"]).expect(31);
    unit.record.wait_for_commits(2, QUICK);
    assert!(!ended(pid, Duration::ZERO));
    // When its stop ends at last, it is started without anybody's doing.
    assert!(signal(pid, Signal::USR1));
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() == 2
    });
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn daemonises() {
    let unit = Recipe::new()
        .service_type("forking")
        .service("PIDFile=/srv/testbed/daemon/pid")
        .args("--daemonise /srv/testbed/daemon/pid --on-term slow --slow-for 1500")
        .start("daemon");
    let observer = unit.observe();
    restart(&unit, &[]).expect(0);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn child_lingers() {
    let unit =
        Recipe::new().service("KillMode=process").args("--child hold --child-lingers 4000").start("child-lingers");
    let (pids, observer) = (unit.processes(), unit.observe());
    assert_eq!(pids.len(), 2);
    let outcome = svc_ctl(arguments("stop", &unit, &["--stop-timeout", "60s"])).expect(0);
    assert!(outcome.took >= Duration::from_secs(4), "the child still had the database open: {outcome:?}");
    assert!(pids.iter().all(|pid| ended(*pid, Duration::ZERO)));
    assert_eq!(observer.no_kill(), []);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    assert_back(&unit);
}

fn child_never_ends() {
    let unit = Recipe::new()
        .service("KillMode=process\nTimeoutStopSec=2")
        .args("--child write --child-lingers 600000")
        .start("child-stays");
    let main = unit.main_pid();
    let child = unit.processes().into_iter().find(|pid| *pid != main).unwrap();
    let observer = unit.observe();
    // Its main process has ended, so systemd starts it beside the child, as it is configured to.
    let outcome = restart(&unit, &["--stop-timeout", "3s"]).expect(30);
    assert!(outcome.stderr.contains("up again"), "{outcome:?}");
    assert!(!ended(child, Duration::ZERO));
    assert!(signal(child, Signal::USR1));
    assert!(ended(child, QUICK));
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn restarts_itself() {
    let unit = Recipe::new().service("Restart=always\nRestartSec=0").start("restarts");
    let observer = unit.observe();
    svc_ctl(arguments("stop", &unit, &[])).expect(0);
    unit.assert_stopped();
    assert_eq!(unit.record.starts().len(), 1, "it restarted while it was stopped");
    assert_eq!(observer.no_kill(), []);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    assert_back(&unit);
}

fn mixed() {
    let unit = Recipe::new()
        .service("KillMode=mixed\nTimeoutStopSec=60")
        .args("--child write --child-lingers 3000")
        .start("mixed");
    let main = unit.main_pid();
    unit.record.wait_for("the child writes", QUICK, |events| {
        events.iter().filter(|e| e.pid != main && e.what == "commit").count() > 2
    });
    let observer = unit.observe();
    restart(&unit, &["--stop-timeout", "60s"]).expect(0);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn crashes() {
    let unit = Recipe::new().args("--on-term crash").start("crashes");
    let (pid, observer) = (unit.main_pid(), unit.observe());
    let outcome = restart(&unit, &[]).expect(0);
    assert_eq!(outcome.json()["stop"], "unclean");
    let deaths = observer.no_kill();
    assert_eq!((deaths.len(), deaths[0].pid, deaths[0].signal.as_str()), (1, pid, "SIGABRT"));
    assert_back(&unit);
}

fn killed_by_another() {
    let unit = Recipe::new().args("--on-term slow --slow-for 60000").start("killed-by-another");
    let pid = unit.main_pid();
    let running = start(ours("svc-ctl", arguments("restart", &unit, &[])));
    unit.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    assert!(signal(pid, Signal::KILL));
    running.finish(QUICK).expect(30);
    assert_back(&unit);
}

fn open_transaction() {
    // Longer than the time-out, shorter than the extension for a write in flight.
    let unit =
        Recipe::new().args("--on-term exit --hold-open 6000").service("TimeoutStopSec=1").install("in-transaction");
    unit.systemctl("start").expect(0);
    unit.record.wait_for("a transaction is open", QUICK, |events| events.iter().any(|e| e.what == "begin"));
    let observer = unit.observe();
    let pid = unit.main_pid();
    svc_ctl(arguments("stop", &unit, &["--stop-timeout", "2s"])).expect(0);
    assert_eq!(observer.no_kill(), []);
    assert_eq!(unit.record.open_transaction(pid), None, "the transaction was not finished");
    unit.assert_nothing_lost();
}

fn audit() {
    let unit = Recipe::new().service("KillMode=mixed\nTimeoutStopSec=4").start("audit");
    let said = svc_ctl(arguments("audit", &unit, &[])).expect(0).json();
    let sources = said["kill_sources"].as_array().unwrap();
    assert!(!sources.is_empty() && sources.iter().all(|s| s["neutralised_by"].is_string()), "{said}");
    let kills = Recipe::new().service("ExecStopPost=/bin/pkill -KILL -f nobody-is-called-this").start("audit-post");
    svc_ctl(arguments("audit", &kills, &[])).expect(22);
    restart(&kills, &[]).expect(22);
    assert_back(&kills);
}
