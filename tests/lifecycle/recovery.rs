//! The tool itself dies, is refused, or meets another of its kind.

use svckit_testbed::command::{ours, start, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

use crate::stop::{arguments, assert_back};

pub(crate) const STORIES: &[Story] = &[
    ("the guard brings the service back when the tool is killed, with nobody typing anything", guard),
    ("a second operation is refused at once and told who is at it", refused_by_the_lock),
    ("an interrupt brings the service back", interrupt),
];

fn guard() {
    let unit = Recipe::new().args("--on-term slow --slow-for 3000").start("guarded");
    let observer = unit.observe();
    let mut running = start(ours("svc-ctl", arguments("stop", &unit, &[])));
    unit.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() == 2
    });
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
}

fn refused_by_the_lock() {
    let unit = Recipe::new().args("--on-term slow --slow-for 4000").start("contended");
    let first = start(ours("svc-ctl", arguments("restart", &unit, &[])));
    unit.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    let refused: Vec<_> = (0..4).map(|_| start(ours("svc-ctl", arguments("restart", &unit, &[])))).collect();
    for attempt in refused {
        let outcome = attempt.finish(QUICK).expect(20);
        assert!(outcome.stderr.contains("restart"), "who is at it, with what: {outcome:?}");
    }
    first.finish(QUICK).expect(0);
    assert_eq!(unit.record.starts().len(), 2);
    assert_back(&unit);
}

fn interrupt() {
    let unit = Recipe::new().args("--on-term slow --slow-for 8000").start("interrupted");
    let observer = unit.observe();
    let running = start(ours("svc-ctl", arguments("restart", &unit, &[])));
    unit.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|e| e.what == "signal"));
    svckit_testbed::command::signal(running.pid(), rustix::process::Signal::INT);
    // The signal that was sent can't be recalled.
    running.finish(QUICK).expect(31);
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() == 2
    });
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    assert_back(&unit);
    svc_ctl(["resume"]).expect(0);
}
