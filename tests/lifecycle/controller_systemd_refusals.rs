//! The library's systemd controller where somebody does not answer or does not allow: bounded, and named.
//!
//! The user's own systemd is the one that is broken here, so that the other stories keep theirs.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use svckit::controller::systemd::{SystemdUnit, is_available};
use svckit::controller::{Activity, ControllerError, Scope, ServiceController};
use svckit_testbed::command::{ours, program, run, sh, signal, start};
use svckit_testbed::leftovers::wait_until_clean;
use svckit_testbed::record::Record;
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, property_of};

use crate::controller_systemd::{is_empty, wait_until};

pub(crate) const STORIES: &[Story] = &[
    ("systemd: the user's own units; no bus, and a frozen one, are errors within seconds", the_users_own_systemd),
    ("systemd: a user who may not is told so, and nothing changes", without_the_right),
];

const USER_BUS: &str = "/run/user/0/bus";

#[track_caller]
fn assert_unreachable(result: Result<(), ControllerError>, took_max: Duration, began: Instant) {
    let error = result.unwrap_err();
    assert!(matches!(error, ControllerError::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < took_max, "{error} took {:?}", began.elapsed());
}

fn the_users_own_systemd() {
    let open = || SystemdUnit::open("u-cat", Scope::User);
    assert!(!Path::new(USER_BUS).exists(), "this machine has a bus for root: the story needs it to itself");
    assert_unreachable(open().map(drop), Duration::from_secs(2), Instant::now());

    // A listener that nobody accepts from.
    std::fs::create_dir_all("/run/user/0").unwrap();
    let listener = UnixListener::bind(USER_BUS).unwrap();
    assert_unreachable(open().map(drop), Duration::from_secs(8), Instant::now());
    drop(listener);
    std::fs::remove_file(USER_BUS).unwrap();

    std::fs::write("/etc/systemd/user/u-cat.service", "[Service]\nExecStart=/bin/cat /dev/ptmx\nTimeoutStopSec=3\n")
        .unwrap();
    sh("systemctl", ["start", "user@0.service"]).expect(0);
    user_systemctl(["start", "u-cat.service", "dbus.service"]);
    assert!(is_available(Scope::User));
    an_ordinary_life(&open().unwrap());

    let controller = open().unwrap();
    let daemon: i32 = user_systemctl(["show", "--value", "-p", "MainPID", "dbus.service"]).parse().unwrap();
    assert!(signal(daemon, Signal::STOP));
    assert_unreachable(controller.state().map(drop), Duration::from_secs(12), Instant::now());
    assert_unreachable(open().map(drop), Duration::from_secs(8), Instant::now());
    assert!(!is_available(Scope::User));
    assert!(signal(daemon, Signal::CONT));
    assert_eq!(controller.state().unwrap().activity, Activity::Up, "it goes on where it was");

    // A bus that ends under a watching controller is an error of the wait, not an endless wait.
    let (cancel, began) = (svckit::progress::Cancel::new().unwrap(), Instant::now());
    assert!(signal(daemon, Signal::TERM));
    let gone = loop {
        assert!(began.elapsed() < QUICK);
        if let Err(error) = controller.wait_change(began + QUICK, &cancel) {
            break error;
        }
    };
    assert!(matches!(gone, ControllerError::Unreachable { .. }), "{gone}");
    a_bus_that_is_away_for_a_while();
    sh("systemctl", ["stop", "user@0.service"]).expect(0);
}

/// Away when the tool needs it, and when the guard looks for the first time: the guard goes on looking.
fn a_bus_that_is_away_for_a_while() {
    let directory = Path::new("/srv/testbed/u-bus");
    std::fs::create_dir_all(directory).unwrap();
    let record = Record::at(directory.join("record"));
    let command = format!(
        "{} --record {} --database {} --on-term slow --slow-for 3000",
        program("testbed-service").display(),
        record.path().display(),
        directory.join("data.db").display()
    );
    let unit = format!("[Service]\nType=notify\nExecStart={command}\n");
    std::fs::write("/etc/systemd/user/u-bus.service", unit).unwrap();
    user_systemctl(["daemon-reload"]);
    user_systemctl(["start", "dbus.socket", "dbus.service", "u-bus.service"]);
    record.wait_for_commits(3, QUICK);

    let running = start(ours("svc-ctl", ["restart", "--user-unit", "u-bus.service"]));
    record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    user_systemctl(["stop", "dbus.socket", "dbus.service"]);
    let failed = running.finish(QUICK).expect(40);
    assert!(failed.stderr.contains("svc-ctl resume"), "{failed:?}");
    wait_for_guards("not back yet");
    assert_eq!(record.starts().len(), 1, "without a bus nobody could start it");
    user_systemctl(["start", "dbus.socket"]);
    record.wait_for("the guard starts it", QUICK, |events| events.iter().filter(|e| e.what == "start").count() == 2);
    record.wait_for_commits(2, QUICK);
    wait_until_clean("u-bus.service", QUICK);
    assert_eq!(user_systemctl(["show", "--value", "-p", "ActiveState", "u-bus.service"]), "active");
}

/// Follows what guards say, until one says this.
#[track_caller]
fn wait_for_guards(text: &str) {
    let mut follow = Command::new("timeout");
    follow.args([&QUICK.as_secs().to_string(), "journalctl", "-f", "-n", "100", "-o", "cat", "-u", "svckit-guard-*"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(follow.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut before = Vec::new();
    let found = said.any(|line| {
        before.push(line);
        before.last().is_some_and(|line| line.contains(text))
    });
    signal(i32::try_from(follow.id()).unwrap(), Signal::TERM);
    follow.wait().unwrap();
    assert!(found, "no guard said {text:?}: {before:#?}");
}

fn user_systemctl<const N: usize>(args: [&str; N]) -> String {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(args).env("XDG_RUNTIME_DIR", "/run/user/0");
    run(command, QUICK).expect(0).stdout.trim().to_owned()
}

fn an_ordinary_life(controller: &SystemdUnit) {
    let system = SystemdUnit::open("dbus.service", Scope::System).unwrap();
    assert_ne!(controller.lock_keys().unwrap()[0].label(), system.lock_keys().unwrap()[0].label());
    assert_eq!(controller.processes().unwrap().len(), 1);

    let bound = Duration::from_secs(30);
    let error = controller.shield(bound).unwrap_err();
    assert!(error.to_string().contains("enable-linger"), "{error}");
    std::fs::create_dir_all("/var/lib/systemd/linger").unwrap();
    std::fs::write("/var/lib/systemd/linger/root", "").unwrap();
    controller.shield(bound).unwrap();
    assert_eq!(user_systemctl(["show", "--value", "-p", "SendSIGKILL", "u-cat.service"]), "no");
    controller.hold(false).unwrap();
    controller.request_stop().unwrap();
    wait_until(controller, QUICK, is_empty);
    wait_until(controller, QUICK, |c| c.state().unwrap().activity != Activity::Stopping);
    controller.start().unwrap();
    wait_until(controller, QUICK, |c| c.state().unwrap().detail.contains("refused"));
    controller.release().unwrap();
    controller.start().unwrap();
    wait_until(controller, QUICK, |c| c.state().unwrap().activity == Activity::Up);
    controller.unshield().unwrap();
    assert!(!Path::new("/run/user/0/systemd/user/u-cat.service.d").exists());
    assert_eq!(user_systemctl(["show", "--value", "-p", "DropInPaths", "u-cat.service"]), "");
}

fn without_the_right() {
    let unit = Recipe::new().start("r-denied");
    let name = unit.name.clone();
    let as_nobody = move || {
        // Of this thread only, and of those that it starts.
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let controller = SystemdUnit::open(&name, Scope::System).unwrap();
        assert_eq!(controller.state().unwrap().activity, Activity::Up, "everybody may look");
        assert!(!controller.processes().unwrap().is_empty());
        [
            controller.request_stop(),
            controller.start(),
            controller.shield(Duration::from_secs(30)),
            controller.hold(false),
            controller.signal(svckit::world::StopSignal::Term),
        ]
    };
    for result in std::thread::spawn(as_nobody).join().unwrap() {
        let error = result.unwrap_err();
        assert!(matches!(error, ControllerError::Permission { .. }), "{error}");
    }
    unit.assert_clean();
    unit.assert_running();
    assert_eq!(property_of(&unit.name, "NRestarts"), "0");
}
