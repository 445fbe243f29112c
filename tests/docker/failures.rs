//! Whoever dies, hangs or is restarted in the middle: the tool, or the engine.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use svckit_testbed::command::{signal, start};
use svckit_testbed::stories::Story;

use crate::shared;
use svckit_testbed::docker::{Engine, QUICK};

pub(crate) const STORIES: &[Story] = &[
    ("the guard brings a container back when the tool is killed, with its policy", the_tool_is_killed),
    ("an engine that is not there, or frozen, is an error within seconds", no_engine),
    ("the next operation ends what a dead one left, and the container keeps its policy", the_next_operation_takes_over),
    ("an engine that comes up after the resume at boot: the container is back all the same", the_engine_is_late),
    ("an engine that is killed in the middle of a stop and started later: the container is back", the_engine_is_killed),
];

fn the_tool_is_killed() {
    let engine = shared();
    let one = engine.service("guarded", &["--restart=unless-stopped"], "--on-term slow --slow-for 3000");
    let mut running = start(engine.tool("svc-ctl", &["stop", "--container", "guarded"]));
    one.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
    assert_eq!(one.field(".HostConfig.RestartPolicy.Name"), "no", "held");
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    one.assert_back(2, "unless-stopped");
    one.assert_ended_in_order();
}

fn no_engine() {
    let engine = Engine::start();
    let one = engine.service("waits", &[], "--on-term exit");
    engine.signal(Signal::STOP);
    let began = Instant::now();
    let frozen = engine.svc_ctl(&["restart", "--container", "waits"]).expect(30);
    assert!(frozen.stderr.contains("does not answer"), "{frozen:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    engine.signal(Signal::CONT);
    assert_eq!(one.starts(), 1);
    let mut elsewhere = engine.tool("svc-ctl", &["restart", "--container", "waits"]);
    elsewhere.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let absent = svckit_testbed::command::run(elsewhere, QUICK).expect(30);
    assert!(absent.stderr.contains("/nowhere/docker.sock"), "{absent:?}");
    let mut far = engine.tool("svc-ctl", &["restart", "--container", "waits"]);
    far.env("DOCKER_HOST", "tcp://192.0.2.1:2375");
    svckit_testbed::command::run(far, QUICK).expect(2);
    engine.svc_ctl(&["restart", "--container", "waits"]).expect(0);
    one.assert_back(2, "no");
}

fn the_engine_is_killed() {
    let mut engine = Engine::start();
    let name = "survives";
    {
        let one = engine.service(name, &["--restart=always"], "--on-term slow --slow-for 4000");
        one.record.wait_for_commits(1, QUICK);
    }
    let record = svckit_testbed::record::Record::at(engine.path(name).join("record"));
    let running = start(engine.tool("svc-ctl", &["restart", "--container", name]));
    record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
    engine.kill_daemon();
    let failed = running.finish(QUICK).expect(40);
    assert!(failed.stderr.contains("svc-ctl resume"), "{failed:?}");
    engine.start_daemon();
    let one = engine.container(name);
    one.assert_back(2, "always");
    one.assert_ended_in_order();
}

/// The tool and its guard are dead in the middle of a stop, and the container has ended and is held.
fn killed_with_its_guard(engine: &Engine, name: &str) {
    let one = engine.container(name);
    let mut running = start(engine.tool("svc-ctl", &["stop", "--container", name]));
    one.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
    let state = engine.path("state").display().to_string();
    let is_guard = |words: &[String]| words.iter().any(|w| w == "guard") && words.iter().any(|w| w.contains(&state));
    let guards: Vec<i32> = procfs::process::all_processes()
        .unwrap()
        .flatten()
        .filter(|process| process.cmdline().is_ok_and(|words| is_guard(&words)))
        .map(|process| process.pid)
        .collect();
    assert_eq!(guards.len(), 1, "{}", svckit_testbed::command::picture());
    assert!(signal(guards[0], Signal::KILL));
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    one.record.wait_for("it has ended", QUICK, |events| events.iter().any(|event| event.what == "end"));
    // Its last word is not yet its end, and a start before that would be none.
    engine.docker(["wait", name]).expect(0);
    assert_eq!(one.field(".HostConfig.RestartPolicy.Name"), "no");
}

/// As after a power cut: at boot the engine answers later than `resume --boot` asks.
fn the_engine_is_late() {
    let mut engine = Engine::start();
    let name = "late";
    engine.service(name, &["--restart=always"], "--on-term slow --slow-for 2000").assert_back(1, "always");
    killed_with_its_guard(&engine, name);
    engine.kill_daemon();
    let at_boot = engine.svc_ctl(&["resume", "--boot"]).expect(40);
    assert!(at_boot.stderr.contains("can't reach Docker"), "{at_boot:?}");
    engine.start_daemon();
    engine.container(name).assert_back(2, "always");
}

/// It finds the container under the hold of the dead one, and must not take that for the container's own policy.
fn the_next_operation_takes_over() {
    let engine = Engine::start();
    let one = engine.service("inherited", &["--restart=on-failure:5"], "--on-term slow --slow-for 1000");
    killed_with_its_guard(&engine, "inherited");
    // A person: it runs then, and is held still.
    engine.docker(["start", "inherited"]).expect(0);
    one.record.wait_for_commits(2, QUICK);
    engine.svc_ctl(&["restart", "--container", "inherited"]).expect(0);
    one.assert_back(3, "on-failure");
    assert_eq!(one.field(".HostConfig.RestartPolicy.MaximumRetryCount"), "5");
    engine.svc_ctl(&["stop", "--container", "inherited"]).expect(0);
    assert_eq!(one.field(".HostConfig.RestartPolicy.Name"), "on-failure");
}
