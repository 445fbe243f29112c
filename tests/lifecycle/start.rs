//! Starts and readiness, what was not running, and what can't be meant.

use svckit_testbed::command::{sh, svc_backup, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{Recipe, property_of, reload, write_unit};

use crate::stop::{arguments, assert_back, restart};

pub(crate) const STORIES: &[Story] = &[
    ("a service that does not become ready is not back", never_ready),
    ("a failed readiness check after a restart is not back, and names the check", check_fails),
    ("every kind of readiness check passes on a service that is ready", every_check),
    ("wait says no where the service is not ready", wait_says_no),
    ("a service that was not running is not started", was_not_running),
    ("an unknown unit and a masked unit are refused and nothing is changed", unknown_and_masked),
];

fn never_ready() {
    let unit = Recipe::new().args("--never-ready").service("TimeoutStartSec=3").install("never-ready");
    svc_ctl(arguments("start", &unit, &[])).expect(40);
    unit.assert_clean();
}

fn check_fails() {
    let unit = Recipe::new().start("check-fails");
    let outcome = restart(&unit, &["--ready", "tcp:127.0.0.1:9;timeout=3s;interval=200ms"]).expect(40);
    assert!(outcome.stderr.contains("127.0.0.1:9") || outcome.stdout.contains("127.0.0.1:9"), "{outcome:?}");
    assert_back(&unit);
}

fn every_check() {
    let unit =
        Recipe::new().args("--listen 127.0.0.1:4711").service("ExecStartPost=/bin/echo now serving").start("checks");
    let checks = [
        "--ready",
        "unit;passes=2;interval=100ms",
        "--ready",
        "pid",
        "--ready",
        "tcp:127.0.0.1:4711;passes=3;interval=100ms",
        "--ready",
        "http:http://127.0.0.1:4711/=200",
        "--ready",
        "exec:/usr/bin/test -d /srv/testbed",
        "--ready",
        "log:now serv.*",
        "--ready",
        "log:commit 1;file=/srv/testbed/checks/record",
    ];
    restart(&unit, &checks).expect(0);
    svc_ctl(arguments("wait", &unit, &checks)).expect(0);
    assert_back(&unit);
}

fn wait_says_no() {
    let unit = Recipe::new().start("wait-no");
    svc_ctl(arguments("wait", &unit, &["--ready", "tcp:127.0.0.1:9;timeout=1s;interval=100ms"])).expect(10);
    svc_ctl(arguments("wait", &unit, &["--ready", "exec:/bin/false;timeout=1s;interval=100ms"])).expect(10);
    svc_ctl(arguments("wait", &unit, &["--ready", "http:http://127.0.0.1:9/;timeout=1s;interval=100ms"])).expect(10);
    assert_back(&unit);
}

fn was_not_running() {
    let unit = Recipe::new().start("was-off");
    unit.systemctl("stop").expect(0);
    let store = unit.directory.join("store");
    let database = unit.databases[0].to_str().unwrap();
    let args =
        ["backup", "--sqlite", database, "--to", store.to_str().unwrap(), "--unit", &unit.name, "--mode", "cold"];
    svc_backup(args).expect(0);
    unit.assert_stopped();
    assert_eq!(unit.record.starts().len(), 1);
    unit.assert_clean();
    svc_ctl(["status", "--unit", &unit.name]).expect(10);
}

fn unknown_and_masked() {
    let outcome = svc_ctl(["stop", "--unit", "there-is-no-such.service"]).expect(30);
    assert!(outcome.stderr.contains("there-is-no-such.service"), "{outcome:?}");
    svc_ctl(["stop", "--unit", "no/unit"]).expect(2);
    write_unit("masked.service", "[Service]\nExecStart=/bin/true\n");
    sh("systemctl", ["mask", "--runtime", "masked.service"]);
    std::fs::remove_file("/etc/systemd/system/masked.service").unwrap();
    sh("systemctl", ["mask", "masked.service"]).expect(0);
    reload();
    let outcome = svc_ctl(["start", "--unit", "masked.service"]).expect(40);
    assert!(outcome.stderr.contains("mask"), "{outcome:?}");
    assert_eq!(property_of("masked.service", "LoadState"), "masked");
}
