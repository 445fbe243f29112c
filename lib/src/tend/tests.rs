//! Workers on tasks that fail in every way that a task can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::*;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What a fake does with an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    Fine,
    Fails,
    Panics,
    Away,
}

#[derive(Debug, Default)]
pub(super) struct Things {
    pub(super) due: BTreeMap<String, Way>,
    pub(super) done: Vec<String>,
    pub(super) look: Option<TaskError>,
    pub(super) commit: Option<TaskError>,
}

/// A task whose items lie in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<Things>>);

impl Fake {
    fn with(items: impl IntoIterator<Item = (&'static str, Way)>) -> Self {
        let fake = Self::default();
        fake.0.lock().unwrap().due = items.into_iter().map(|(item, way)| (item.to_owned(), way)).collect();
        fake
    }

    fn done(&self) -> Vec<String> {
        self.0.lock().unwrap().done.clone()
    }
}

impl Task for Fake {
    fn due(&mut self, _: Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError> {
        let things = self.0.lock().unwrap();
        if let Some(error) = &things.look {
            return Err(error.clone());
        }
        Ok(things
            .due
            .keys()
            .filter(|item| after.is_none_or(|after| item.as_str() > after))
            .take(limit)
            .cloned()
            .collect())
    }

    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        let ways = self.0.lock().unwrap().due.clone();
        let mut done = Vec::new();
        unit.each(|item| {
            match ways[item] {
                Way::Fine => done.push(item.to_owned()),
                Way::Fails => return Err(TaskError::Item("no".to_owned())),
                Way::Panics => panic!("at {item}"),
                Way::Away => return Err(TaskError::Unavailable("locked".to_owned())),
            }
            Ok(())
        })?;
        let mut things = self.0.lock().unwrap();
        if let Some(error) = things.commit.take() {
            return Err(error);
        }
        for item in done {
            things.due.remove(&item);
            things.done.push(item);
        }
        Ok(())
    }
}

pub(super) fn policy() -> Policy {
    let limits = Limits { pause: Duration::ZERO, unit_items: 3, ..Limits::default() };
    let backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(3600), attempts: 3 };
    Policy { limits, backoff }
}

fn worker(directory: &std::path::Path, fake: &Fake) -> Worker {
    Worker::new(Box::new(fake.clone()), State::open(directory, "fake").unwrap(), policy())
}

fn pass(worker: &mut Worker, second: i64) -> PassReport {
    worker.pass(at(second), &Control::new(&policy().limits).unwrap())
}

#[test]
fn one_poisoned_item_keeps_nobody_and_is_set_aside_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let fake =
        Fake::with([("a", Way::Fine), ("b", Way::Panics), ("c", Way::Fine), ("d", Way::Fails), ("e", Way::Fine)]);
    let mut worker = worker(directory.path(), &fake);
    let report = pass(&mut worker, 1_000);
    assert_eq!((report.done, report.failed, &report.end), (3, 2, &PassEnd::Complete));
    assert_eq!(fake.done(), ["a", "c", "e"]);
    let report = pass(&mut worker, 1_010);
    assert_eq!((report.done, report.failed, report.held), (0, 0, 2), "they wait for their next attempt");
    assert_eq!(pass(&mut worker, 2_000).failed, 2);
    assert_eq!(pass(&mut worker, 9_000).failed, 2);
    let held: Vec<_> =
        worker.state().failing().map(|one| (one.item.clone(), one.failures, one.next, one.first)).collect();
    assert_eq!(held, [("b".to_owned(), 3, None, at(1_000)), ("d".to_owned(), 3, None, at(1_000))]);
    assert!(worker.state().failing().next().unwrap().reason.contains("panicked: at b"));
    let counters = worker.state().counters();
    assert_eq!((counters.done, counters.failed, counters.panics, counters.passes), (3, 6, 3, 4));
    assert_eq!(pass(&mut worker, 1_000_000).failed, 0, "in quarantine for good");
    assert_eq!(fake.0.lock().unwrap().due.len(), 2, "the items themselves are as they were");
}

#[test]
fn a_person_releases_drops_and_removes_what_is_in_quarantine() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fails), ("b", Way::Fails), ("c", Way::Fails)]);
    let mut worker = worker(directory.path(), &fake);
    for second in [1_000, 10_000, 20_000] {
        pass(&mut worker, second);
    }
    let (path, failing) = (directory.path(), |worker: &Worker| {
        worker.state().failing().map(|one| (one.item.clone(), one.failures)).collect::<Vec<_>>()
    });
    assert!(matches!(State::release(path, "fake", "x"), Err(StateError::NotThere { .. })));
    State::release(path, "fake", "a").unwrap();
    State::drop_item(path, "fake", "b").unwrap();
    fake.0.lock().unwrap().due.remove("c");
    let report = pass(&mut worker, 20_001);
    assert_eq!((report.failed, report.held), (2, 0));
    assert_eq!(failing(&worker), [("a".to_owned(), 4), ("b".to_owned(), 1)], "once more; anew; gone");
    assert_eq!(State::all(path).unwrap()[0].failing().count(), 2);
    assert!(
        matches!(State::release(path, "fake", "b"), Err(StateError::NotThere { .. })),
        "it waits, and is not in quarantine"
    );
}

#[test]
fn what_is_no_items_fault_blames_none() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Away)]);
    let mut worker = worker(directory.path(), &fake);
    let report = pass(&mut worker, 1_000);
    assert_eq!((report.done, report.failed), (0, 0), "the unit was taken back as a whole");
    assert_eq!(report.end, PassEnd::Unavailable("locked".to_owned()));
    assert_eq!(worker.state().last_error(), Some("locked"));
    fake.0.lock().unwrap().look = Some(TaskError::Broken("no such table".to_owned()));
    assert_eq!(pass(&mut worker, 1_001).end, PassEnd::Broken("no such table".to_owned()));
    assert_eq!((worker.state().failing().count(), worker.state().times().success), (0, None));
    let mut things = fake.0.lock().unwrap();
    (things.look, things.commit) = (None, Some(TaskError::Unavailable("disk full".to_owned())));
    things.due.insert("b".to_owned(), Way::Fine);
    drop(things);
    assert!(matches!(pass(&mut worker, 1_002).end, PassEnd::Unavailable(_)));
    assert_eq!(
        (pass(&mut worker, 1_003).done, worker.state().counters().done),
        (2, 2),
        "counted when it was committed"
    );
    assert!(worker.state().times().success >= Some(at(1_003)) && worker.state().last_error().is_none());
}

#[test]
fn a_unit_that_fails_at_its_commit_is_done_item_by_item() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Fine), ("c", Way::Fine), ("d", Way::Fine)]);
    fake.0.lock().unwrap().commit = Some(TaskError::Item("a constraint".to_owned()));
    let mut worker = worker(directory.path(), &fake);
    assert_eq!(pass(&mut worker, 1_000).done, 4);
}

#[test]
fn where_everything_fails_nothing_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    fake.0.lock().unwrap().due = (0..500).map(|n| (format!("{n:03}"), Way::Fails)).collect();
    let mut worker = worker(directory.path(), &fake);
    for second in 0..5 {
        let report = pass(&mut worker, 10_000 * second);
        assert!(matches!(report.end, PassEnd::Broken(_)), "{report:?}");
    }
    assert_eq!(worker.state().failing().count(), 0);
}

#[test]
fn the_times_of_a_pass_are_those_of_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Fine), ("c", Way::Fine)]);
    let mut slow = policy();
    (slow.limits.unit_items, slow.limits.pause) = (1, Duration::from_millis(20));
    let mut worker = Worker::new(Box::new(fake), State::open(directory.path(), "fake").unwrap(), slow.clone());
    assert_eq!(worker.pass(at(1_000), &Control::new(&slow.limits).unwrap()).done, 3);
    let times = worker.state().times();
    let behind = |time: Option<Timestamp>| time.unwrap().duration_since(at(1_000)).as_millis();
    assert_eq!(behind(times.start), 0);
    assert!(behind(times.progress) >= 40 && times.end >= times.progress, "{times:?}");
    assert_eq!(times.success, times.end);
}

#[test]
fn bounds_starve_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    fake.0.lock().unwrap().due = (0..100).map(|n| (format!("{n:03}"), Way::Fine)).collect();
    let mut bounded = policy();
    bounded.limits.pass_items = 30;
    let mut met = BTreeSet::new();
    for second in 0..4 {
        // The first ones come again and again; those behind them have their turn all the same.
        fake.0.lock().unwrap().due.insert("000".to_owned(), Way::Fine);
        let state = State::open(directory.path(), "fake").unwrap();
        let mut worker = Worker::new(Box::new(fake.clone()), state, bounded.clone());
        let report = worker.pass(at(second), &Control::new(&bounded.limits).unwrap());
        met.extend(fake.done());
        assert!(report.done <= 32, "{report:?}");
    }
    assert_eq!(met.len(), 100, "by four workers, each of which went on where the one before ended");
}

#[test]
fn an_end_that_is_asked_for_ends_the_pass_behind_its_unit() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Fine)]);
    let mut worker = worker(directory.path(), &fake);
    let control = Control::new(&policy().limits).unwrap();
    control.stop().request();
    assert_eq!(worker.pass(at(1), &control), PassReport { done: 0, failed: 0, held: 0, end: PassEnd::Bounded });
}

#[test]
fn a_state_that_can_not_be_written_ends_nothing_and_is_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Fails)]);
    let mut worker = worker(directory.path(), &fake);
    // Somebody keeps our own database locked.
    let other = rusqlite::Connection::open(directory.path().join("tend.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(pass(&mut worker, 1_000).done, 1);
    assert_eq!(worker.state().failing().count(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    pass(&mut worker, 1_001);
    let on_disk = State::open(directory.path(), "fake").unwrap();
    assert_eq!((on_disk.counters().done, on_disk.failing().count()), (1, 1));
    assert_eq!(on_disk.counters().passes, 2);
}

/// Does not come back before it is let go.
struct Stuck(Arc<Mutex<()>>);

impl Task for Stuck {
    fn due(&mut self, _: Timestamp, after: Option<&str>, _: usize) -> Result<Vec<String>, TaskError> {
        Ok(if after.is_none() { vec!["a".to_owned()] } else { Vec::new() })
    }

    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        unit.each(|_| {
            drop(self.0.lock().unwrap());
            Ok(())
        })
    }
}

#[test]
fn a_task_that_is_stuck_is_told_and_keeps_no_other_and_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let stop = crate::progress::Cancel::new().unwrap();
    let grace = Duration::from_millis(200);
    let mut supervisor = Supervisor::new(directory.path(), stop.clone()).unwrap().with_grace(grace);
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let fake = Fake::default();
    fake.0.lock().unwrap().due = (0..3).map(|n| (format!("{n}"), Way::Fine)).collect();
    let mut quick = policy();
    quick.limits.item_time = Duration::from_millis(200);
    let often = Schedule::Every { interval: Duration::from_secs(1), jitter: Duration::ZERO };
    let tasks: [(&str, Box<dyn Task>); 2] =
        [("stuck", Box::new(Stuck(Arc::clone(&lock)))), ("well", Box::new(fake.clone()))];
    for (name, task) in tasks {
        let worker = Worker::new(task, State::open(directory.path(), name).unwrap(), quick.clone());
        let gate: Gate = Box::new(|| Ok(Box::new(())));
        supervisor.start(Supervised { worker, schedule: often.clone(), gate }).unwrap();
    }
    let mut seen = Vec::new();
    supervisor.watch(Duration::from_millis(50), &mut |healths| {
        let stuck = healths.iter().any(|one| one.health == Health::Stuck(Some("a".to_owned())));
        seen.extend(stuck.then_some(()));
        // It is told for as long as it is stuck; what comes due for the other meanwhile is done.
        if seen.len() == 1 {
            fake.0.lock().unwrap().due.insert("later".to_owned(), Way::Fine);
        }
        if fake.done().contains(&"later".to_owned()) {
            stop.request();
        }
    });
    let states = State::all(directory.path()).unwrap();
    let abandoned: Vec<_> = states.iter().map(|state| (state.task(), state.counters().passes_abandoned)).collect();
    assert_eq!(abandoned, [("stuck", 1), ("well", 0)]);
    assert_eq!(fake.done().len(), 4);
    drop(held);
}

#[test]
fn a_state_that_is_damaged_is_put_aside_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine)]);
    assert_eq!(pass(&mut worker(directory.path(), &fake), 1_000).done, 1);
    std::fs::write(directory.path().join("tend.db"), vec![7; 8192]).unwrap();
    assert_eq!(State::open(directory.path(), "fake").unwrap().counters().done, 0);
    let names =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside = names.filter(|name| name.starts_with("tend.db.damaged-")).map(|name| directory.path().join(name));
    assert!(aside.map(|path| std::fs::read(path).unwrap()).any(|bytes| bytes == vec![7; 8192]));
}

#[test]
fn a_task_that_goes_in_circles_is_told_so() {
    struct Circle;
    impl Task for Circle {
        fn due(&mut self, _: Timestamp, _: Option<&str>, _: usize) -> Result<Vec<String>, TaskError> {
            Ok(vec!["a".to_owned()])
        }
        fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
            unit.each(|_| Ok(()))
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(Box::new(Circle), State::open(directory.path(), "c").unwrap(), policy());
    assert!(matches!(pass(&mut worker, 1).end, PassEnd::Broken(_)));
}

#[test]
fn a_clock_that_was_set_back_ends_no_loop() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::with([("a", Way::Fine), ("b", Way::Fails)]);
    let tomorrow = Timestamp::now() + Duration::from_secs(86_400);
    worker(directory.path(), &fake).pass(tomorrow, &Control::new(&policy().limits).unwrap());
    fake.0.lock().unwrap().due = [("b".to_owned(), Way::Fails), ("later".to_owned(), Way::Fine)].into();
    let stop = crate::progress::Cancel::new().unwrap();
    let mut supervisor = Supervisor::new(directory.path(), stop.clone()).unwrap();
    let schedule = Schedule::Every { interval: Duration::from_secs(1), jitter: Duration::ZERO };
    supervisor
        .start(Supervised { worker: worker(directory.path(), &fake), schedule, gate: Box::new(|| Ok(Box::new(()))) })
        .unwrap();
    let begun = std::time::Instant::now();
    supervisor.watch(Duration::from_millis(50), &mut |_| {
        if fake.done().contains(&"later".to_owned()) || begun.elapsed() > Duration::from_secs(10) {
            stop.request();
        }
    });
    assert_eq!(fake.done(), ["a", "later"]);
    let state = State::open(directory.path(), "fake").unwrap();
    assert!(state.times().start < Some(tomorrow) && state.times().success < Some(tomorrow));
    let failing = state.failing().next().unwrap();
    assert!(failing.next < Some(tomorrow) && failing.first < tomorrow, "it waits by the clock as it is: {failing:?}");
}
