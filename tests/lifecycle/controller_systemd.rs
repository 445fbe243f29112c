//! The library's systemd controller, seen from inside: what it says, what it asks for, and when it wakes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use svckit::controller::systemd::{SystemdUnit, start_transient};
use svckit::controller::{Activity, ControllerError, ExitCause, Scope, ServiceController};
use svckit::progress::Cancel;
use svckit::world::StopSignal;
use svckit_testbed::command::sh;
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of, reload, write_unit};

pub(crate) const STORIES: &[Story] = &[
    ("systemd: a stop is proved by an empty control group, and the run stays known", a_stop_and_a_start),
    ("systemd: a process left behind is seen, and its end too", a_process_left_behind),
    ("systemd: an alias is the unit it stands for", an_alias),
    ("systemd: a signal reaches the main process and nobody else", a_signal),
    ("systemd: unknown, malformed and template names are told apart", bad_names),
    ("systemd: a masked unit is refused with the way out", a_masked_unit),
    ("systemd: dependants come in stop order, triggers with their state", the_units_around),
    (
        "systemd: a socket stops right behind its service, and can be brought back at any time",
        a_socket_of_a_running_service,
    ),
    ("systemd: a transient unit runs what it is told, or says why not", a_transient_unit),
    ("systemd: the log of the current run only", the_log),
    ("systemd: a cancelled wait returns at once", a_cancelled_wait),
];

pub(crate) fn open(unit: &Unit) -> SystemdUnit {
    SystemdUnit::open(&unit.name, Scope::System).unwrap()
}

/// Waits on the controller's own events until `satisfied`, and returns how long it took.
#[track_caller]
pub(crate) fn wait_until(
    controller: &dyn ServiceController,
    wait_max: Duration,
    satisfied: impl Fn(&dyn ServiceController) -> bool,
) -> Duration {
    let (began, cancel) = (Instant::now(), Cancel::new().unwrap());
    while !satisfied(controller) {
        assert!(began.elapsed() < wait_max, "{:?} after {:?}", controller.state(), began.elapsed());
        controller.wait_change(began + wait_max, &cancel).unwrap();
    }
    began.elapsed()
}

pub(crate) fn is_empty(controller: &dyn ServiceController) -> bool {
    controller.processes().unwrap().is_empty()
}

fn a_stop_and_a_start() {
    let unit = Recipe::new().start("c-stop");
    let controller = open(&unit);
    let before = controller.state().unwrap();
    assert_eq!(before.activity, Activity::Up);
    assert_eq!(before.main.as_ref().unwrap().pid, unit.main_pid());
    assert_eq!(before.exit, None);
    assert_eq!(controller.processes().unwrap().len(), unit.processes().len());

    controller.request_stop().unwrap();
    wait_until(&controller, QUICK, is_empty);
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Down);
    let after = controller.state().unwrap();
    assert_eq!(after.run, before.run, "the run that ended is still known");
    assert_eq!(after.exit, Some(ExitCause::Exited(0)));
    assert_eq!(after.result.as_deref(), Some("success"));
    let mark = controller.stop_mark().unwrap();
    assert_eq!(mark.run, before.run);
    assert!(mark.changed_at.is_some());
    assert_eq!(controller.stop_mark().unwrap(), mark, "looking changes nothing");

    controller.start().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Up);
    assert_ne!(controller.state().unwrap().run, before.run);
    assert_ne!(controller.stop_mark().unwrap().changed_at, mark.changed_at);
    unit.assert_running();
}

fn a_process_left_behind() {
    let unit =
        Recipe::new().args("--child hold --child-lingers 4000").service("KillMode=process").start("c-left-behind");
    assert_eq!(unit.processes().len(), 2);
    let controller = open(&unit);
    controller.request_stop().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Down);
    assert_eq!(controller.processes().unwrap().len(), 1);
    assert_eq!(open(&unit).processes().unwrap().len(), 1, "also by one who comes later");
    // No signal of systemd's tells of its end: the kernel's word on the control group does.
    wait_until(&controller, QUICK, is_empty);
}

fn an_alias() {
    let unit = Recipe::new().install("c-real");
    std::os::unix::fs::symlink("c-real.service", "/etc/systemd/system/c-alias.service").unwrap();
    reload();
    unit.systemctl("start").expect(0);
    let by_alias = SystemdUnit::open("c-alias", Scope::System).unwrap();
    assert_eq!(by_alias.id(), "c-real.service");
    assert_eq!(by_alias.lock_keys().unwrap(), open(&unit).lock_keys().unwrap());
    assert_eq!(by_alias.processes().unwrap(), open(&unit).processes().unwrap());
}

fn a_signal() {
    let unit = Recipe::new().args("--child hold --child-lingers 0").start("c-signal");
    let controller = open(&unit);
    controller.signal(StopSignal::Usr1).unwrap();
    wait_until(&controller, QUICK, |c| !c.state().unwrap().activity.is_up());
    assert_eq!(controller.state().unwrap().exit, Some(ExitCause::Exited(0)), "SIGUSR1 asked for an orderly end");
    controller.signal(StopSignal::Term).unwrap();
}

fn bad_names() {
    let error = SystemdUnit::open("no-such-unit", Scope::System).unwrap_err();
    assert!(matches!(error, ControllerError::NotFound { .. }), "{error}");
    for name in ["a/b", "", "x@.service", "two words", "new\nline"] {
        let error = SystemdUnit::open(name, Scope::System).unwrap_err();
        assert!(matches!(error, ControllerError::Invalid { .. }), "{name:?}: {error}");
    }
    write_unit("c-bad.service", "[Service]\nExecStart=relative/path\n");
    reload();
    let error = SystemdUnit::open("c-bad", Scope::System).unwrap_err();
    assert!(error.to_string().contains("systemd-analyze verify"), "{error}");
}

fn a_masked_unit() {
    std::os::unix::fs::symlink("/dev/null", "/etc/systemd/system/c-masked.service").unwrap();
    reload();
    let controller = SystemdUnit::open("c-masked", Scope::System).unwrap();
    let state = controller.state().unwrap();
    assert_eq!(state.activity, Activity::Down);
    assert!(state.is_masked(), "{state:?}");
    let error = controller.start().unwrap_err();
    assert!(matches!(error, ControllerError::Unsafe { .. }), "{error}");
    assert!(error.to_string().contains("systemctl unmask"), "{error}");
}

fn the_units_around() {
    let unit = Recipe::new().start("c-base");
    for (name, needs) in [("c-upper", "Requires=c-base.service"), ("c-top", "BindsTo=c-upper.service")] {
        write_unit(&format!("{name}.service"), &format!("[Unit]\n{needs}\n[Service]\nExecStart=/bin/cat /dev/ptmx\n"));
    }
    write_unit("c-base.timer", "[Timer]\nOnActiveSec=1d\n");
    reload();
    sh("systemctl", ["start", "c-top.service", "c-base.timer"]).expect(0);
    let controller = open(&unit);
    let labels: Vec<String> = controller.dependants().unwrap().iter().map(|unit| unit.label()).collect();
    assert_eq!(labels, ["unit c-top.service", "unit c-upper.service"]);

    let triggers = || controller.triggers().unwrap().into_iter().map(|t| (t.name, t.active)).collect::<Vec<_>>();
    assert_eq!(triggers(), [("c-base.timer".to_owned(), true)]);
    controller.set_trigger("c-base.timer", false).unwrap();
    assert_eq!(property_of("c-base.timer", "ActiveState"), "inactive");
    controller.set_trigger("c-base.timer", true).unwrap();
    assert_eq!(property_of("c-base.timer", "ActiveState"), "active");
    let error = controller.set_trigger("c-none.timer", true).unwrap_err();
    assert!(matches!(error, ControllerError::NotFound { .. }), "{error}");
    sh("systemctl", ["stop", "c-top.service", "c-upper.service", "c-base.timer"]).expect(0);
}

fn a_transient_unit() {
    let argv = |words: &[&str]| words.iter().map(PathBuf::from).collect::<Vec<_>>();
    let proof = "/run/c transient %n";
    start_transient("c-transient", Scope::System, &argv(&["/bin/cp", "/etc/hostname", proof]), "a copy").unwrap();
    // Gone by itself: the unit is collected once the copy is made.
    let began = Instant::now();
    while property_of("c-transient.service", "ActiveState") != "inactive" {
        assert!(began.elapsed() < QUICK);
    }
    assert!(std::path::Path::new(proof).exists(), "the argument arrived as it is");

    let error = start_transient("c-nothing", Scope::System, &argv(&["/nonexistent"]), "x").unwrap_err();
    assert!(error.to_string().contains("/nonexistent was not executed"), "{error}");
    start_transient("c-twice", Scope::System, &argv(&["/bin/cat", "/dev/ptmx"]), "x").unwrap();
    let error = start_transient("c-twice", Scope::System, &argv(&["/bin/true"]), "x").unwrap_err();
    assert!(matches!(error, ControllerError::Failed { .. }), "{error}");
    sh("systemctl", ["stop", "c-twice.service"]).expect(0);
}

fn the_log() {
    write_unit(
        "c-log.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo run $INVOCATION_ID; echo two'\n",
    );
    reload();
    let controller = SystemdUnit::open("c-log", Scope::System).unwrap();
    for _ in 0..2 {
        sh("systemctl", ["restart", "c-log.service"]).expect(0);
        sh("journalctl", ["--sync"]).expect(0);
        let run = controller.state().unwrap().run.unwrap();
        assert_eq!(controller.log_since_start(100).unwrap(), [format!("run {run}"), "two".to_owned()]);
    }
    assert_eq!(controller.log_since_start(1).unwrap(), ["two"]);
}

fn a_cancelled_wait() {
    let unit = Recipe::new().start("c-cancel");
    let (controller, cancel) = (open(&unit), Cancel::new().unwrap());
    cancel.request();
    let began = Instant::now();
    controller.wait_change(began + Duration::from_secs(60), &cancel).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// The story: the socket was stopped first, the stop of the service was then refused, and the socket could not be
/// started any more, because systemd starts no socket whose service is active.
fn a_socket_of_a_running_service() {
    let unit = Recipe::new()
        .service_type("simple")
        .unit("Requires=c-socket.socket")
        .service("StandardInput=socket\nStandardOutput=journal\nTimeoutStopSec=1")
        .args("--listen-on-stdin --on-term slow --slow-for 3000")
        .install("c-socket");
    write_unit("c-socket.socket", "[Socket]\nListenStream=127.0.0.1:4799\n");
    reload();
    sh("systemctl", ["start", "c-socket.socket"]).expect(0);
    let connect = || std::net::TcpStream::connect("127.0.0.1:4799");
    drop(connect().unwrap());
    unit.record.wait_for_commits(2, QUICK);
    let observer = unit.observe();
    let socket = || property_of("c-socket.socket", "ActiveState");
    let controller = open(&unit);
    controller.shield(QUICK).unwrap();

    controller.set_trigger("c-socket.socket", false).unwrap();
    assert_eq!((socket().as_str(), unit.property("ActiveState").as_str()), ("active", "active"));
    controller.set_trigger("c-socket.socket", true).unwrap();
    assert_eq!(socket(), "active", "as if nothing had been");

    // Given up on: the start is queued behind the stop, and the socket stays.
    controller.set_trigger("c-socket.socket", false).unwrap();
    controller.request_stop().unwrap();
    let run = controller.state().unwrap().run;
    controller.start().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Up && c.state().unwrap().run != run);
    assert_eq!(socket(), "active");
    assert_eq!(observer.no_kill(), []);
    drop(connect().unwrap());

    // Stopped and held: what connects meanwhile starts nothing and breaks nothing.
    let observer = unit.observe();
    controller.set_trigger("c-socket.socket", false).unwrap();
    controller.hold(false).unwrap();
    controller.request_stop().unwrap();
    let clients: Vec<_> = (0..5).map(|_| connect().unwrap()).collect();
    wait_until(&controller, QUICK, |c| is_empty(c) && c.state().unwrap().activity == Activity::Down);
    controller.stop_mark().unwrap();
    assert_eq!(socket(), "inactive");
    assert!(connect().is_err());
    drop(clients);
    controller.release().unwrap();
    controller.set_trigger("c-socket.socket", true).unwrap();
    controller.start().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Up);
    assert_eq!(socket(), "active");
    assert_eq!(property_of("c-socket.socket", "Result"), "success");
    controller.unshield().unwrap();
    assert_eq!(observer.no_kill(), []);
    unit.assert_clean();
}
