//! Many stops of containers whose services write all the time, each seen by an observer of its own.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use rustix::process::Signal;
use svckit_testbed::command::signal;
use svckit_testbed::docker::{Container, Engine, QUICK};
use svckit_testbed::observer::{Death, Observer};
use svckit_testbed::random::Random;
use svckit_testbed::stories::Story;

pub(crate) const STORIES: &[Story] = &[
    ("many stops of busy containers: nobody is killed, whether they obey or not", many),
    ("control: docker stop kills inside a transaction and the observer sees it", control),
];

/// At once: they mostly wait.
const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Obeys,
    /// For longer than the container's own stop time.
    Slow,
    Ignores,
    /// Ignores it from within a transaction.
    Stuck,
}

const KINDS: [Kind; 4] = [Kind::Obeys, Kind::Slow, Kind::Ignores, Kind::Stuck];

impl Kind {
    fn args(self, random: &mut Random) -> String {
        let on_term = match self {
            Self::Obeys => "exit".to_owned(),
            Self::Slow => format!("slow --slow-for {}", 1_100 + random.below(600)),
            Self::Ignores => "ignore".to_owned(),
            Self::Stuck => "stuck".to_owned(),
        };
        let mode = ["wal", "delete"][random.below(2)];
        // Nearly always inside a transaction.
        format!("--pause 1 --hold-open 20 --journal-mode {mode} --on-term {on_term}")
    }
}

/// A stopped writer, as it was seen.
struct Trial {
    kind: Kind,
    /// Whether its first SIGTERM came while a transaction was open.
    was_writing: bool,
}

fn seed() -> u64 {
    let of_today = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() / 86_400);
    std::env::var("SVCKIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(of_today)
}

/// A writer that runs, and who sees how it dies. Its pids are those of this machine.
fn watched<'e>(engine: &'e Engine, name: &str, options: &[&str], args: &str) -> (Container<'e>, i32, Observer) {
    let one = engine.service(name, &[&["--pid=host"], options].concat(), args);
    let pid = one.record.starts()[0];
    let observer = Observer::attach(&[pid], &one.record, std::slice::from_ref(&one.database));
    (one, pid, observer)
}

fn trial(engine: &Engine, number: usize) -> Trial {
    let mut random = Random(seed().wrapping_mul(1_000_003).wrapping_add(number as u64));
    let (kind, name) = (KINDS[number % KINDS.len()], format!("trial-{number}"));
    // Docker itself would kill after a second.
    let (one, pid, observer) = watched(engine, &name, &["--stop-timeout=1"], &kind.args(&mut random));
    one.record.wait_for_commits(random.below(30), QUICK);
    let stop = ["stop", "--container", &name, "--stop-timeout", "3s", "--write-wait", "1s"];
    let stopped = engine.svc_ctl(&stop);
    let deaths = observer.no_kill();
    let events = one.record.events();
    let told = events.iter().position(|event| event.what == "signal").expect("it was told to stop");
    let last = events[..told].iter().rev().find(|event| event.what == "begin" || event.what == "commit");
    let was_writing = last.is_some_and(|event| event.what == "begin");
    match kind {
        Kind::Obeys | Kind::Slow => {
            assert_eq!(stopped.status, 0, "{kind:?} {name}: {stopped:?}");
            one.assert_ended_in_order();
        }
        Kind::Ignores | Kind::Stuck => {
            assert_eq!(stopped.status, 31, "{kind:?} {name}: {stopped:?}");
            assert!(deaths.is_empty(), "{kind:?} {name}: {deaths:?}");
            // It lives on unharmed; once it ends by itself the guard starts it again.
            assert!(signal(pid, Signal::USR1), "{name} lives");
            one.assert_back(2, "no");
            one.assert_ended_in_order();
        }
    }
    engine.docker(["kill", &name]);
    engine.docker(["rm", "-f", &name]).expect(0);
    assert_nothing_lost(&one);
    drop(std::fs::remove_dir_all(engine.path(&name)));
    Trial { kind, was_writing }
}

fn assert_nothing_lost(one: &Container<'_>) {
    let database = Connection::open(&one.database).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", one.name);
    let mut row = database.prepare("SELECT count(*) FROM rows WHERE pid = ?1 AND number = ?2").unwrap();
    for acknowledged in one.record.acknowledged() {
        let count: i64 = row.query_row(acknowledged, |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "{}: {acknowledged:?} is lost", one.name);
    }
}

fn many() {
    let thorough = std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1");
    let count = if thorough { 300 } else { 28 };
    let engine = Engine::start();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let trial = trial(&engine, number);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(trial);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let of = |kind| {
        let of_kind: Vec<&Trial> = done.iter().filter(|trial| trial.kind == kind).collect();
        let writing = of_kind.iter().filter(|trial| trial.was_writing).count();
        format!("{kind:?} {} ({writing} told inside a transaction)", of_kind.len())
    };
    tell(&format!("stops of containers: {}, nobody killed (seed {})\n", KINDS.map(of).join(", "), seed()));
    assert_eq!(done.len(), count);
    assert!(done.iter().filter(|trial| trial.was_writing).count() * 3 > count, "they were busy");
}

/// Docker's own stop, with the time that it has by default.
fn control() {
    let engine = Engine::start();
    let (one, pid, observer) = watched(&engine, "control", &[], "--pause 1 --hold-open 20 --on-term stuck");
    engine.docker(["stop", "control"]).expect(0);
    let deaths = observer.deaths();
    let killed = |death: &Death| death.pid == pid && death.signal == "SIGKILL" && death.open_transaction.is_some();
    assert!(deaths.iter().any(killed), "{deaths:?}");
    assert_eq!(one.field(".State.ExitCode"), "137");
}

/// Past the capture of the harness: figures are part of the result.
fn tell(text: &str) {
    let _nobody_reads = std::io::stdout().write_all(text.as_bytes());
}
