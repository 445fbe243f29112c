//! Many at once. The two controls are what scripts do.

use std::fs::File;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use svckit::lock::{Holder, LockKey, LockRules, OperationLock, Wait};
use svckit::progress::Cancel;
use svckit_testbed::command::start;

use crate::place::{Place, WAIT_MAX};

const ROUNDS: usize = 2_000;

fn is_thorough() -> bool {
    std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1")
}

/// How many rounds had two winners, and how many had one.
#[derive(Debug, Default)]
struct Tally {
    several: usize,
    one: usize,
}

/// All contenders try at once; a winner keeps what it won until everybody has tried.
fn race<G>(contenders: usize, prepare: impl Fn() + Sync, take: impl Fn() -> Option<G> + Sync) -> Tally {
    let (begin, tried, over) = (Barrier::new(contenders), Barrier::new(contenders), Barrier::new(contenders));
    let winners = AtomicUsize::new(0);
    let tally = std::sync::Mutex::new(Tally::default());
    let contender = |is_first: bool| {
        for _ in 0..ROUNDS {
            if is_first {
                winners.store(0, Ordering::SeqCst);
                prepare();
            }
            begin.wait();
            let won = take();
            winners.fetch_add(usize::from(won.is_some()), Ordering::SeqCst);
            tried.wait();
            if is_first {
                let mut tally = tally.lock().unwrap();
                match winners.load(Ordering::SeqCst) {
                    0 => {}
                    1 => tally.one += 1,
                    _ => tally.several += 1,
                }
            }
            drop(won);
            over.wait();
        }
    };
    std::thread::scope(|scope| {
        for index in 0..contenders {
            let contender = &contender;
            scope.spawn(move || contender(index == 0));
        }
    });
    tally.into_inner().unwrap()
}

fn acquire(directory: &Path, wait: Wait) -> Option<OperationLock> {
    let holder = Holder::own("race", "nothing").unwrap();
    let keys = [LockKey::named("raced for")];
    OperationLock::acquire(directory, &LockRules::default(), &keys, &holder, wait, &Cancel::new().unwrap()).ok()
}

pub(crate) fn never_two_winners() {
    let dir = tempfile::tempdir().unwrap();
    for contenders in [2, 16] {
        let tally = race(contenders, || {}, || acquire(dir.path(), Wait::No));
        assert_eq!(tally.several, 0, "{contenders} contenders: {tally:?}");
        // Not every round has a winner: a program that another test starts meanwhile has the last winner's descriptor
        // until its execve.
        assert!(tally.one > ROUNDS / 10, "{contenders} contenders: {tally:?}");
    }
}

pub(crate) fn existence_lets_two_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let take = || (!path.is_file()).then(|| File::create(&path).unwrap());
    let tally = race(16, || drop(std::fs::remove_file(&path)), take);
    assert!(tally.several > 0, "the control was not caught: {tally:?}");
}

pub(crate) fn a_pid_file_lets_two_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pid");
    // Of a process that is gone: pids end at 4,194,304.
    let prepare = || std::fs::write(&path, "4194304999").unwrap();
    let take = || {
        let pid = std::fs::read_to_string(&path).unwrap_or_default();
        let is_stale = !Path::new("/proc").join(pid.trim()).exists();
        is_stale.then(|| std::fs::write(&path, std::process::id().to_string()).unwrap())
    };
    let tally = race(16, prepare, take);
    assert!(tally.several > 0, "the control was not caught: {tally:?}");
}

pub(crate) fn turns() {
    let dir = tempfile::tempdir().unwrap();
    let inside = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let lock = acquire(dir.path(), Wait::AtMost(Duration::from_secs(100))).expect("a turn");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    done.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 320);
}

pub(crate) fn processes() {
    let place = Place::new();
    let rounds = if is_thorough() { ROUNDS / 16 } else { 4 };
    let (mut worked, mut refused) = (0, 0);
    for _ in 0..rounds {
        let contender = |index: usize| {
            let wait: &[&str] = if index.is_multiple_of(2) { &["--wait", "100s"] } else { &[] };
            let script = "echo in >> log; echo out >> log";
            let rest = ["--", "sh", "-c", script];
            let words = ["run", "--name", "a"].iter().chain(wait).chain(&rest);
            start(place.command(words))
        };
        let all: Vec<_> = (0..16).map(contender).collect();
        for (index, one) in all.into_iter().enumerate() {
            let outcome = one.finish(WAIT_MAX * 2);
            match outcome.status {
                0 => worked += 1,
                75 if !index.is_multiple_of(2) => {
                    refused += 1;
                    assert!(outcome.stderr.contains("name a is in use"), "{}", outcome.stderr);
                }
                _ => drop(outcome.expect(0)),
            }
        }
    }
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    assert_eq!(log, "in\nout\n".repeat(worked), "two were inside");
    assert_eq!(worked + refused, rounds * 16);
    assert!(worked >= rounds * 8);
}
