//! A sweep: a program interrupted at each of its points in turn, each time in a fixture of its own, then looked at.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::points::{Fault, Point, all, by_seed, sample};
use super::run::{Interrupted, Program, interrupt, record};

/// Every interrupted run is over by then, or has failed.
const RUN_WAIT_MAX: Duration = Duration::from_secs(120);
/// So many failures are told in full.
const TOLD_MAX: usize = 25;
/// Points beyond one a place, unless the sweep is complete.
const SAMPLE: usize = 10;
/// So many further runs must make a call.
const STEADY_RUNS: usize = 3;
/// So many points that were reached mean something, however many were not.
const REACHED_MIN: usize = 15;
/// Runs in which a point that is not reached is tried for.
const RUNS_MAX: usize = 4;

/// A state of the world in which a program can be run once.
pub(crate) trait Fixture: Sized {
    /// Whether two of them would meet: then one point follows the other.
    const ALONE: bool = false;
    /// How often a place counts, unless the sweep is complete.
    const SAME_PLACE_MAX: u32 = 6;
    /// So many points in all, unless the sweep is complete: all samples together take minutes.
    const POINTS_MAX: usize = 40;
    /// Where else than below its root the program changes files of its own.
    const OWN_ROOTS: &[&str] = &[];
    /// The directory of everything that the program may change.
    fn root(&self) -> &Path;
    /// What is run.
    fn program(&self) -> Program;
    /// What must hold afterwards, whatever happened; `Ok` may carry a remark that is counted.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&mut self, end: &Interrupted, fault: Fault) -> Result<Option<&'static str>, String>;
    /// Called at the end of everything, also after a failure.
    fn tear_down(&mut self);
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Points at which the program was interrupted.
    pub(crate) points: usize,
    /// Runs that did not come to their point: threads may race, so a few are no failure.
    pub(crate) not_reached: usize,
    /// What did not hold.
    pub(crate) failures: Vec<String>,
    /// How often each remark was made.
    pub(crate) remarks: BTreeMap<&'static str, usize>,
}

/// The seed of the samples: today's, or the one that is to be repeated.
pub(crate) fn seed() -> u64 {
    let of_today = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() / 86_400);
    std::env::var("SVCKIT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(of_today)
}

/// Of a failure that is to be found again: `SVCKIT_POINTS=openat:1170-1180,fcntl:1233`.
fn wanted() -> Option<Vec<(String, std::ops::RangeInclusive<u32>)>> {
    let text = std::env::var("SVCKIT_POINTS").ok()?;
    let point = |text: &str| {
        let (name, whens) = text.split_once(':')?;
        let (first, last) = whens.split_once('-').unwrap_or((whens, whens));
        Some((name.to_owned(), first.parse().ok()?..=last.parse().ok()?))
    };
    Some(text.split(',').map(|one| point(one).unwrap_or_else(|| panic!("SVCKIT_POINTS: {one:?}"))).collect())
}

/// How much of a run is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// One point a place and a few more.
    Sample,
    /// Every call that changes something, every lock, process, signal and message: between two of them only reads lie,
    /// so what the program leaves is the same.
    Changes,
    /// Every call, those that only read included: the others, the guard and the service, act in between.
    Everything,
}

/// How much is asked for.
pub(crate) fn extent() -> Extent {
    match std::env::var("SVCKIT_THOROUGH").as_deref() {
        Ok("1") => Extent::Everything,
        Ok("changes") => Extent::Changes,
        _ => Extent::Sample,
    }
}

/// Whether sweeps are complete.
pub(crate) fn is_thorough() -> bool {
    extent() != Extent::Sample
}

/// Sweeps, and prints a line with the number of points, of failures, and the seed.
pub(crate) fn sweep<F: Fixture>(name: &str, faults: &[Fault], build: impl Fn() -> F + Sync) -> Tally {
    let began = Instant::now();
    let steady = steady_points(name, faults, &build);
    let possible = steady.iter().map(|(_, every)| every.len()).sum();
    let points_max = F::POINTS_MAX / faults.len();
    let choose =
        |every| if is_thorough() { every } else { sample(every, F::SAME_PLACE_MAX, SAMPLE, points_max, seed()) };
    let work = steady.into_iter().flat_map(|(fault, every)| choose(every).into_iter().map(move |point| (fault, point)));
    let tally = interrupt_at(&work.collect::<Vec<_>>(), &build, |_| false);
    say(name, &tally, possible, began);
    tally
}

/// The control: the same checks must find that a naive program does not keep the promise, in each of the ways `whys`.
/// A sample may miss one of them, so its points are tried, in an order of the seed, until all are found.
#[track_caller]
pub(crate) fn control<F: Fixture>(name: &str, faults: &[Fault], build: impl Fn() -> F + Sync, whys: &[&str]) {
    let began = Instant::now();
    let name = format!("control: {name}");
    let steady = steady_points(&name, faults, &build);
    let mut work: Vec<(Fault, Point)> =
        steady.into_iter().flat_map(|(fault, every)| every.into_iter().map(move |point| (fault, point))).collect();
    work.sort_by_cached_key(|(fault, point)| by_seed(seed(), &(fault, point)));
    let is_caught = |tally: &Tally, why: &str| tally.failures.iter().any(|failure| failure.contains(why));
    let tally = interrupt_at(&work, &build, |tally| whys.iter().all(|why| is_caught(tally, why)));
    say(&name, &tally, work.len(), began);
    for why in whys {
        assert!(is_caught(&tally, why), "it was not caught by {why:?}: {:?}", tally.failures.first());
    }
}

/// Every point of a program that each run of it comes by, for each fault.
fn steady_points<F: Fixture>(name: &str, faults: &[Fault], build: impl Fn() -> F) -> Vec<(Fault, Vec<Point>)> {
    let mut undisturbed = build();
    let root = undisturbed.root().to_string_lossy().into_owned();
    let program = undisturbed.program();
    let (outcome, calls) = record(&program, undisturbed.root(), &root, RUN_WAIT_MAX);
    undisturbed.tear_down();
    assert!(!calls.is_empty(), "{name}: nothing was recorded: {outcome:?}");
    assert_eq!(outcome.status, 0, "{name}: the undisturbed run fails: {outcome:?}");
    // Threads race: a call that not every run makes is seldom made again, and would be no point.
    let mut steady: HashSet<(String, u32)> = calls.iter().map(|call| (call.name.clone(), call.when)).collect();
    for _ in 0..STEADY_RUNS {
        let mut again = build();
        let (_, calls) = record(&again.program(), again.root(), &again.root().to_string_lossy(), RUN_WAIT_MAX);
        again.tear_down();
        let made: HashSet<(String, u32)> = calls.into_iter().map(|call| (call.name, call.when)).collect();
        steady.retain(|call| made.contains(call));
    }
    let roots = [&[root.as_str()], F::OWN_ROOTS].concat();
    let of_fault = |fault: Fault| {
        let mut every = all(&calls, fault, &roots, extent() == Extent::Everything);
        every.retain(|point| steady.contains(&(point.name.clone(), point.when)));
        if let Some(wanted) = wanted() {
            every.retain(|point| wanted.iter().any(|(name, whens)| *name == point.name && whens.contains(&point.when)));
        }
        (fault, every)
    };
    faults.iter().copied().map(of_fault).collect()
}

/// One after the other, or some at once, until all are done or `is_enough`.
fn interrupt_at<F: Fixture>(
    work: &[(Fault, Point)],
    build: &(impl Fn() -> F + Sync),
    is_enough: impl Fn(&Tally) -> bool + Sync,
) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    let workers = if F::ALONE { 1 } else { std::thread::available_parallelism().map_or(2, usize::from).min(4) };
    let still = || !is_enough(&tally.lock().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((fault, point)) = work.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| still()) {
                    let mut outcome = one(build, *fault, point);
                    // The calls of threads are not counted alike in every run: another run may come by this one.
                    for _ in 1..RUNS_MAX {
                        if !matches!(outcome, Ok((false, _))) {
                            break;
                        }
                        outcome = one(build, *fault, point);
                    }
                    note(&tally, *fault, point, outcome);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

fn one<F: Fixture>(
    build: &(impl Fn() -> F + Sync),
    fault: Fault,
    point: &Point,
) -> Result<(bool, Option<&'static str>), String> {
    let mut fixture = build();
    let looked_at = catch_unwind(AssertUnwindSafe(|| {
        let program = fixture.program();
        let scratch = fixture.root().to_owned();
        let end = interrupt(&program, point, fault, &scratch, RUN_WAIT_MAX);
        let remark = fixture.check(&end, fault).map_err(|why| {
            format!("{why}\n    status {} {}{}", end.outcome.status, end.outcome.stdout, end.outcome.stderr)
        })?;
        Ok((end.fired, remark))
    }));
    fixture.tear_down();
    looked_at.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default())
    })
}

fn note(tally: &Mutex<Tally>, fault: Fault, point: &Point, outcome: Result<(bool, Option<&'static str>), String>) {
    let mut tally = tally.lock().unwrap();
    match outcome {
        Ok((fired, remark)) => {
            tally.points += 1;
            tally.not_reached += usize::from(!fired);
            if let Some(remark) = remark {
                *tally.remarks.entry(remark).or_default() += 1;
            }
        }
        Err(why) => {
            tally.points += 1;
            tally.failures.push(format!("{fault:?} at {} #{} ({}): {why}", point.name, point.when, point.class));
        }
    }
}

fn say(name: &str, tally: &Tally, possible: usize, began: Instant) {
    let mut text = format!(
        "sweep: {name}: {} points of {possible} (seed {}), {} failures, {} not reached, {:.0} s\n",
        tally.points,
        seed(),
        tally.failures.len(),
        tally.not_reached,
        began.elapsed().as_secs_f64()
    );
    for (remark, count) in &tally.remarks {
        text.push_str(&format!("    {count} times: {remark}\n"));
    }
    // Told as soon as they are known: a later sweep of the same story may take minutes. A control fails on purpose.
    for failure in tally.failures.iter().take(TOLD_MAX).filter(|_| !name.starts_with("control")) {
        text.push_str(&format!("    {failure}\n"));
    }
    tell(&text);
}

/// Past the capture of the harness: a story's figures are part of its result.
pub(crate) fn tell(text: &str) {
    use std::io::Write;
    let _nobody_reads = std::io::stdout().write_all(text.as_bytes());
}

impl Tally {
    /// Nothing failed in any of the sweeps, and enough points were reached that it means something.
    #[track_caller]
    pub(crate) fn assert_hold(tallies: &[Self]) {
        let mut told = Vec::new();
        for tally in tallies {
            if !tally.failures.is_empty() {
                told.push(format!("{} of {} points fail, see above", tally.failures.len(), tally.points));
            }
            assert!(tally.points > 0, "there was no point at all");
            let reached = tally.points - tally.not_reached;
            // Where threads copy and compress, a call's number in one run is not its number in the next.
            let enough = tally.not_reached * 5 <= tally.points || reached >= REACHED_MIN;
            assert!(enough, "{} of {} not reached", tally.not_reached, tally.points);
        }
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}
