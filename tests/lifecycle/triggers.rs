//! What starts a service behind one's back, and what needs it.

use std::io::Read;
use std::net::TcpStream;

use svckit_testbed::command::{sh, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of, reload, write_unit};

use crate::stop::{arguments, assert_back, restart};

pub(crate) const STORIES: &[Story] = &[
    ("a connection to its socket does not start a service that was stopped, and does after its start", socket),
    ("a timer does not start a service that was stopped", timer),
    ("a path that exists does not start a service that was stopped", path),
    ("services that need it are stopped first and started last, and only those that ran", dependants),
];

fn active(unit: &str) -> String {
    property_of(unit, "ActiveState")
}

fn socket() {
    let unit = Recipe::new()
        .service_type("simple")
        .service("StandardInput=socket\nStandardOutput=journal")
        .args("--listen-on-stdin")
        .install("by-socket");
    write_unit("by-socket.socket", "[Socket]\nListenStream=127.0.0.1:4712\n");
    reload();
    sh("systemctl", ["start", "by-socket.socket"]).expect(0);
    connect();
    unit.record.wait_for_commits(2, QUICK);
    let observer = unit.observe();
    svc_ctl(arguments("stop", &unit, &[])).expect(0);
    unit.assert_stopped();
    assert_eq!(active("by-socket.socket"), "inactive", "its socket would start it again");
    assert!(TcpStream::connect("127.0.0.1:4712").is_err());
    assert_eq!(observer.no_kill(), []);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    assert_eq!(active("by-socket.socket"), "active");
    connect();
    assert_back(&unit);
    restart(&unit, &[]).expect(0);
    assert_eq!(
        (active("by-socket.socket").as_str(), property_of("by-socket.socket", "Result").as_str()),
        ("active", "success")
    );
    connect();
    assert_back(&unit);
}

fn connect() {
    let mut answer = String::new();
    let mut stream = TcpStream::connect("127.0.0.1:4712").unwrap();
    stream.set_read_timeout(Some(QUICK)).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
}

fn timer() {
    let unit = Recipe::new().install("by-timer");
    write_unit("by-timer.timer", "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=100ms\nAccuracySec=1ms\n");
    reload();
    sh("systemctl", ["start", "by-timer.timer"]).expect(0);
    unit.record.wait_for_commits(2, QUICK);
    let starts = unit.record.starts().len();
    svc_ctl(arguments("stop", &unit, &[])).expect(0);
    unit.assert_stopped();
    // It would have fired many times by now: a whole other unit is started and stopped meanwhile.
    let other = Recipe::new().start("beside-the-timer");
    restart(&other, &[]).expect(0);
    assert_eq!(unit.record.starts().len(), starts);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    assert_eq!(active("by-timer.timer"), "active");
    assert_back(&unit);
    restart(&unit, &[]).expect(0);
    assert_eq!(active("by-timer.timer"), "active");
    assert_back(&unit);
    sh("systemctl", ["stop", "by-timer.timer"]).expect(0);
}

/// PathExists holds all the time: systemd starts the service again whenever it is down.
fn path() {
    let unit = Recipe::new().install("by-path");
    let wanted = unit.record.path().with_file_name("wanted");
    write_unit("by-path.path", &format!("[Path]\nPathExists={}\n", wanted.display()));
    reload();
    std::fs::write(&wanted, b"").unwrap();
    sh("systemctl", ["start", "by-path.path"]).expect(0);
    unit.record.wait_for_commits(2, QUICK);
    let starts = unit.record.starts().len();
    let observer = unit.observe();
    svc_ctl(arguments("stop", &unit, &[])).expect(0);
    unit.assert_stopped();
    assert_eq!((active("by-path.path").as_str(), observer.no_kill().len()), ("inactive", 0));
    std::fs::remove_file(&wanted).unwrap();
    std::fs::write(&wanted, b"").unwrap();
    let other = Recipe::new().start("beside-the-path");
    restart(&other, &[]).expect(0);
    assert_eq!(unit.record.starts().len(), starts);
    svc_ctl(arguments("start", &unit, &[])).expect(0);
    assert_eq!(active("by-path.path"), "active");
    assert_back(&unit);
    restart(&unit, &[]).expect(0);
    assert_eq!((active("by-path.path").as_str(), unit.record.starts().len()), ("active", starts + 2));
    assert_back(&unit);
    sh("systemctl", ["stop", "by-path.path"]).expect(0);
}

fn dependants() {
    let base = Recipe::new().start("base");
    let needs = |name: &str| -> Unit { Recipe::new().unit("Requires=base.service\nAfter=base.service").install(name) };
    let (runs, off) = (needs("needs-base"), needs("needs-base-off"));
    let bound = Recipe::new().unit("BindsTo=needs-base.service\nAfter=needs-base.service").start("bound-to-needs");
    assert_eq!(active(&runs.name), "active", "it was started by the one that is bound to it");
    let observers: Vec<_> = [&base, &runs, &bound].iter().map(|unit| unit.observe()).collect();
    restart(&base, &[]).expect(0);
    for observer in observers {
        assert_eq!(observer.no_kill(), []);
    }
    for unit in [&base, &runs, &bound] {
        assert_eq!(unit.record.starts().len(), 2, "{}", unit.name);
        assert_back(unit);
    }
    off.assert_stopped();
    assert_eq!(off.record.starts().len(), 0);
    let started = |unit: &Unit| property_of(&unit.name, "ActiveEnterTimestampMonotonic").parse::<u64>().unwrap();
    assert!(started(&base) <= started(&runs) && started(&runs) <= started(&bound));
}
