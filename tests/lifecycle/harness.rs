//! The controls: what an ordinary `systemctl stop` does to the same services. If the observer saw nothing here, it
//! would prove nothing in the other stories.

use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe};

pub(crate) const STORIES: &[Story] = &[
    ("control: systemctl stop kills inside a transaction and the observer sees it", kills_inside_a_transaction),
    ("control: KillMode=mixed kills a writing child and the observer sees it", kills_the_child),
    ("control: an orderly stop is seen as one", an_orderly_stop),
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
