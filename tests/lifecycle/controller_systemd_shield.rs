//! The library's systemd controller: the shield, which keeps systemd from killing, and the hold, which keeps
//! everybody from starting. Both leave nothing behind.

use std::path::Path;
use std::time::{Duration, Instant};

use svckit::controller::systemd::SystemdUnit;
use svckit::controller::{Activity, ControllerError, ExitCause, Scope, ServiceController};
use svckit_testbed::command::sh;
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of, reload, write_unit};

use crate::controller_systemd::{is_empty, open, wait_until};

pub(crate) const STORIES: &[Story] = &[
    ("shield: twelve seconds of stopping outlive TimeoutStopSec=4 and an override.conf", a_slow_stop),
    ("shield: KillMode=mixed does not kill a writing child", a_writing_child),
    ("shield: it can't be taken off while the stop runs", taking_it_off_early),
    ("shield: a longer bound replaces a shorter one, and nothing is left", a_longer_bound),
    ("shield: a drop-in that is read later is named, and nothing is stopped", a_later_drop_in),
    ("shield: an ExecStop that kills can't be shielded", an_exec_stop_that_kills),
    ("audit: every setting that can kill is named with its value", the_audit),
    ("hold: nobody starts the unit, and lifting it takes no reload", a_hold),
    ("hold: without a shield it leaves nothing behind either", a_hold_alone),
    ("hold: one that survives a power cut needs the resume unit", a_persistent_hold),
];

const BOUND: Duration = Duration::from_secs(60);

fn drop_in_dirs(unit: &str) -> Vec<String> {
    ["/run/systemd/system", "/etc/systemd/system"]
        .iter()
        .map(|root| format!("{root}/{unit}.d"))
        .filter(|directory| Path::new(directory).exists())
        .collect()
}

fn override_conf(unit: &str, lines: &str) {
    let directory = format!("/etc/systemd/system/{unit}.service.d");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(format!("{directory}/override.conf"), format!("[Service]\n{lines}\n")).unwrap();
}

#[track_caller]
fn assert_unshielded(unit: &Unit) {
    unit.assert_clean();
    assert_eq!(drop_in_dirs(&unit.name), Vec::<String>::new());
}

fn a_slow_stop() {
    override_conf("s-slow", "TimeoutStopSec=3");
    let unit = Recipe::new().args("--on-term slow --slow-for 12000").service("TimeoutStopSec=4").start("s-slow");
    let controller = open(&unit);
    controller.shield(BOUND).unwrap();
    assert_eq!(unit.property("SendSIGKILL"), "no");
    let observer = unit.observe();
    controller.request_stop().unwrap();
    let took = wait_until(&controller, QUICK, is_empty);
    assert!(took > Duration::from_secs(11), "{took:?}");
    assert_eq!(observer.no_kill(), []);
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Down);
    assert_eq!(controller.state().unwrap().exit, Some(ExitCause::Exited(0)));
    controller.unshield().unwrap();
    assert_eq!(drop_in_dirs(&unit.name), ["/etc/systemd/system/s-slow.service.d"], "the administrator's stays");
    unit.assert_clean();
    unit.assert_nothing_lost();
}

fn a_writing_child() {
    let unit = Recipe::new()
        .args("--child write --child-lingers 4000")
        .service("KillMode=mixed\nTimeoutStopSec=60")
        .start("s-mixed");
    let controller = open(&unit);
    controller.shield(BOUND).unwrap();
    assert_eq!(unit.property("KillMode"), "mixed");
    let observer = unit.observe();
    controller.request_stop().unwrap();
    let took = wait_until(&controller, QUICK, is_empty);
    assert!(took > Duration::from_secs(3), "the child lived on and was left alone: {took:?}");
    assert_eq!(observer.no_kill(), []);
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Down);
    controller.unshield().unwrap();
    assert_unshielded(&unit);
    unit.assert_nothing_lost();
}

fn taking_it_off_early() {
    let unit = Recipe::new().args("--on-term slow --slow-for 5000").service("TimeoutStopSec=1").start("s-early");
    let controller = open(&unit);
    controller.shield(BOUND).unwrap();
    let observer = unit.observe();
    controller.request_stop().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Stopping);
    let error = controller.unshield().unwrap_err();
    assert!(matches!(error, ControllerError::Unsafe { .. }), "{error}");
    wait_until(&controller, QUICK, is_empty);
    assert_eq!(observer.no_kill(), []);
    controller.unshield().unwrap();
    controller.unshield().unwrap();
    assert_unshielded(&unit);
}

fn a_longer_bound() {
    let unit = Recipe::new().service("TimeoutStopSec=4\nKillSignal=SIGKILL").start("s-longer");
    let controller = open(&unit);
    controller.shield(BOUND).unwrap();
    assert_eq!(unit.property("TimeoutStopUSec"), "2min");
    assert_eq!(unit.property("KillSignal"), "15");
    // By another process, as after a crash of the first.
    let later = open(&unit);
    later.shield(BOUND).unwrap();
    assert_eq!(unit.property("TimeoutStopUSec"), "2min", "unchanged");
    later.shield(BOUND * 2).unwrap();
    assert_eq!(unit.property("TimeoutStopUSec"), "3min");
    assert_eq!(unit.property("KillSignal"), "15");
    later.unshield().unwrap();
    assert_eq!(unit.property("TimeoutStopUSec"), "4s");
    assert_unshielded(&unit);
    unit.assert_running();
}

fn a_later_drop_in() {
    let directory = Path::new("/etc/systemd/system/s-later.service.d");
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("zzzz.conf"), "[Service]\nSendSIGKILL=yes\n").unwrap();
    let unit = Recipe::new().start("s-later");
    let controller = open(&unit);
    let error = controller.shield(BOUND).unwrap_err();
    assert!(matches!(error, ControllerError::Unsafe { .. }), "{error}");
    assert!(error.to_string().contains("zzzz.conf"), "{error}");
    unit.assert_clean();
    assert_eq!(drop_in_dirs(&unit.name), ["/etc/systemd/system/s-later.service.d"]);
    unit.assert_running();
}

fn an_exec_stop_that_kills() {
    let unit = Recipe::new().service("ExecStop=/bin/sh -c 'kill -9 $MAINPID'").start("s-exec-stop");
    let controller = open(&unit);
    let sources = controller.kill_sources(BOUND).unwrap();
    let source = sources.iter().find(|source| source.id == "exec-stop-kill").unwrap();
    assert_eq!(source.neutralised_by, None);
    assert!(source.what.contains("kill -9"), "{}", source.what);
    let error = controller.shield(BOUND).unwrap_err();
    assert!(matches!(error, ControllerError::Unsafe { .. }), "{error}");
    assert_unshielded(&unit);
    unit.assert_running();
}

fn the_audit() {
    write_unit(
        "s-audit.service",
        "[Service]\nExecStart=/bin/cat /dev/ptmx\nTimeoutStopSec=7\nKillMode=mixed\nTimeoutStopFailureMode=kill\n\
         WatchdogSec=1d\nOOMPolicy=kill\nRuntimeMaxSec=2d\nFinalKillSignal=SIGABRT\n",
    );
    reload();
    sh("systemctl", ["start", "s-audit.service"]).expect(0);
    let unit = SystemdUnit::open("s-audit", Scope::System).unwrap();
    let found: Vec<(String, String)> =
        unit.kill_sources(BOUND).unwrap().into_iter().map(|source| (source.id, source.what)).collect();
    for (id, what) in [
        ("final-kill-signal", "FinalKillSignal=6"),
        ("timeout-failure-mode", "TimeoutStopFailureMode=kill"),
        ("watchdog", "WatchdogSec=1day"),
        ("oom-policy", "OOMPolicy=kill"),
        ("runtime-max", "RuntimeMaxSec=2days"),
    ] {
        assert!(found.iter().any(|(i, w)| i == id && w.contains(what)), "{id} {what}: {found:?}");
    }
    sh("systemctl", ["stop", "s-audit.service"]).expect(0);
    write_unit("s-audit.service", "[Service]\nExecStart=/bin/cat /dev/ptmx\nTimeoutStopSec=7\nKillMode=mixed\n");
    reload();
    let sources = unit.kill_sources(BOUND).unwrap();
    let ids: Vec<&str> = sources.iter().map(|source| source.id.as_str()).filter(|id| *id != "pending-edits").collect();
    assert_eq!(ids, ["stop-timeout", "kill-mode-mixed", "oom-policy"]);

    // Edited and not reloaded: our reload would apply it, and that is said before.
    // Another story's reload can come between the edit and the look: edited anew, a few times.
    let edited = |seconds: u32| {
        write_unit("s-audit.service", &format!("[Service]\nExecStart=/bin/cat /dev/ptmx\nTimeoutStopSec={seconds}\n"));
        unit.kill_sources(BOUND).unwrap().into_iter().find(|source| source.id == "pending-edits")
    };
    let edits = (9..20).find_map(edited).expect("edits are named");
    assert!(edits.what.contains("s-audit.service") && edits.neutralised_by.is_some(), "{edits:?}");
    reload();
}

fn a_hold() {
    let unit = Recipe::new().start("s-hold");
    write_unit("s-hold-timer.timer", "[Timer]\nOnActiveSec=1ms\nAccuracySec=1ms\nUnit=s-hold.service\n");
    let controller = open(&unit);
    controller.shield(BOUND).unwrap();
    controller.hold(false).unwrap();
    controller.hold(false).unwrap();
    controller.request_stop().unwrap();
    wait_until(&controller, QUICK, is_empty);
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Down);
    let mark = controller.stop_mark().unwrap();

    assert_ne!(unit.systemctl("start").status, 0, "systemctl start is refused");
    let asserted = property_of(&unit.name, "AssertTimestampMonotonic");
    sh("systemctl", ["start", "s-hold-timer.timer"]).expect(0);
    let began = Instant::now();
    while property_of(&unit.name, "AssertTimestampMonotonic") == asserted {
        assert!(began.elapsed() < QUICK, "the timer never tried");
    }
    unit.assert_stopped();
    // Our own start is refused like every other, and says so.
    controller.start().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Failed);
    assert!(controller.state().unwrap().detail.contains("assertion"), "{:?}", controller.state());
    assert_eq!(controller.stop_mark().unwrap(), mark, "refused starts leave no mark");

    let reloaded = reload_count();
    controller.release().unwrap();
    controller.release().unwrap();
    assert_eq!(reload_count(), reloaded, "lifting it needs no reload under a shield");
    controller.start().unwrap();
    wait_until(&controller, QUICK, |c| c.state().unwrap().activity == Activity::Up);
    controller.unshield().unwrap();
    sh("systemctl", ["stop", "s-hold-timer.timer"]).expect(0);
    assert_unshielded(&unit);
    unit.assert_running();
}

/// When systemd last read its unit files.
fn reload_count() -> String {
    sh("systemctl", ["show", "--value", "-p", "UnitsLoadFinishTimestampMonotonic"]).expect(0).stdout
}

fn a_hold_alone() {
    let unit = Recipe::new().install("s-alone");
    let controller = open(&unit);
    controller.hold(false).unwrap();
    assert_ne!(unit.systemctl("start").status, 0);
    // By another process, as `resume` would.
    open(&unit).release().unwrap();
    assert_unshielded(&unit);
    unit.systemctl("start").expect(0);
    unit.assert_running();
}

fn a_persistent_hold() {
    let unit = Recipe::new().install("s-persistent");
    let controller = open(&unit);
    let error = controller.hold(true).unwrap_err();
    assert!(matches!(error, ControllerError::Unsafe { .. }), "{error}");
    assert!(error.to_string().contains("systemctl enable svc-resume.service"), "{error}");
    assert_unshielded(&unit);

    write_unit("svc-resume.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n");
    sh("systemctl", ["enable", "svc-resume.service"]).expect(0);
    controller.hold(true).unwrap();
    controller.hold(false).unwrap();
    assert_ne!(unit.systemctl("start").status, 0);
    assert!(unit.property("After").contains("svc-resume.service"));
    assert!(Path::new("/var/lib/svckit/hold/s-persistent.service").exists());
    controller.release().unwrap();
    sh("systemctl", ["disable", "svc-resume.service"]).expect(0);
    std::fs::remove_file("/etc/systemd/system/svc-resume.service").unwrap();
    reload();
    assert_unshielded(&unit);
    unit.systemctl("start").expect(0);
    unit.assert_running();
}
