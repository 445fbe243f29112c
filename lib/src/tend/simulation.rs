//! Days of ticks under a clock of our own, with faults at random: what is expired goes within a bound once the faults are
//! over, and nothing else ever does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::tests::at;
use super::*;

/// So old is an item when it is expired.
const AGE: i64 = 660;
const EVERY: u64 = 600;
const DAY: i64 = 86_400;
/// From here on nothing fails any more.
const CALM: i64 = 20 * 3_600;

/// xorshift64*: the same days from the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

#[derive(Debug, Default)]
struct World {
    /// Items, and when they were last used.
    items: BTreeMap<String, i64>,
    /// The true time: a clock may say something else.
    now: i64,
    look_fails: bool,
    commit_fails: bool,
    poison: Option<String>,
    panics: bool,
    wrong: Vec<String>,
}

struct Simulated(Arc<Mutex<World>>);

impl Task for Simulated {
    fn due(&mut self, now: Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError> {
        let world = self.0.lock().unwrap();
        if world.look_fails {
            return Err(TaskError::Unavailable("away".to_owned()));
        }
        let old = |used: i64| used <= now.as_second() - AGE;
        let behind = |item: &String| after.is_none_or(|after| item.as_str() > after);
        Ok(world
            .items
            .iter()
            .filter(|(item, used)| old(**used) && behind(item))
            .map(|(item, _)| item.clone())
            .take(limit)
            .collect())
    }

    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        let mut gone = Vec::new();
        let now = unit.now().as_second();
        unit.each(|item| {
            let world = self.0.lock().unwrap();
            let poisoned = world.poison.as_deref() == Some(item);
            let (used, panics) = (world.items.get(item).copied(), world.panics);
            drop(world);
            assert!(!(poisoned && panics), "poison");
            if poisoned {
                return Err(TaskError::Item("poison".to_owned()));
            }
            // As a rule looks again in its transaction.
            if used.is_some_and(|used| used <= now - AGE) {
                gone.push(item.to_owned());
            }
            Ok(())
        })?;
        let mut world = self.0.lock().unwrap();
        if world.commit_fails {
            return Err(TaskError::Unavailable("full".to_owned()));
        }
        for item in gone {
            let used = world.items.remove(&item);
            if used.is_some_and(|used| used > world.now - AGE) {
                world.wrong.push(item);
            }
        }
        Ok(())
    }
}

/// One day. The answer is what is left of what should have gone.
fn day(seed: u64) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let world = Arc::new(Mutex::new(World::default()));
    let backoff = Backoff { first: Duration::from_secs(600), longest: Duration::from_secs(1_800), attempts: 200 };
    let limits = Limits { pause: Duration::ZERO, unit_items: 7, pass_items: 60, ..Limits::default() };
    let policy = Policy { limits, backoff };
    let open = || {
        let state = State::open(directory.path(), "simulated").unwrap();
        Worker::new(Box::new(Simulated(Arc::clone(&world))), state, policy.clone())
    };
    let mut worker = open();
    let clocks = |now: i64, ahead: i64| Instants {
        wall: at(1_000_000 + now + ahead),
        running: Duration::from_secs(now.unsigned_abs()),
    };
    let mut watch = ClockWatch::new(Duration::from_secs(600), clocks(0, 0));
    let schedule = Schedule::Every { interval: Duration::from_secs(EVERY), jitter: Duration::from_secs(30) };
    // The wall clock goes ahead of the true time by so much.
    let (mut ahead, mut wrong_until, mut next_pass, mut number) = (0_i64, 0_i64, 0_i64, 0_u32);
    let mut now = 0_i64;
    while now < DAY {
        now += 60;
        let calm = now >= CALM;
        let mut w = world.lock().unwrap();
        w.now = now;
        for _ in 0..dice.roll(4) {
            number += 1;
            w.items.insert(format!("{:04}-{number}", dice.roll(10_000)), now);
        }
        w.look_fails = !calm && dice.roll(12) == 0;
        w.commit_fails = !calm && dice.roll(12) == 0;
        w.panics = dice.roll(2) == 0;
        if dice.roll(20) == 0 {
            w.poison = w.items.keys().nth(usize::try_from(dice.roll(50)).unwrap()).cloned();
        }
        if calm {
            w.poison = None;
        }
        drop(w);
        // A clock that is set wrong is set right within minutes, as it is by NTP.
        if wrong_until == 0 && !calm && dice.roll(200) == 0 {
            ahead = 40_000 - i64::try_from(dice.roll(80_000)).unwrap();
            wrong_until = now + 60 * i64::try_from(1 + dice.roll(8)).unwrap();
        } else if now >= wrong_until {
            (ahead, wrong_until) = (0, 0);
        }
        if dice.roll(300) == 0 {
            // It was killed, and is started again.
            worker = open();
            (ahead, wrong_until) = (0, 0);
            watch = ClockWatch::new(Duration::from_secs(600), clocks(now, 0));
        }
        if now < next_pass {
            continue;
        }
        if watch.look(clocks(now, ahead)).is_some() {
            worker.deferred("the clock");
            next_pass = now + 60;
            continue;
        }
        // The task's times are the wall clock's.
        let shifted = at(now + ahead);
        worker.pass(shifted, &Control::new(&policy.limits).unwrap());
        let next = schedule.next(Some(shifted), shifted).unwrap();
        next_pass = now + next.duration_since(shifted).as_secs();
    }
    let w = world.lock().unwrap();
    // Everything that was expired an hour and a half before the end: several passes of 60 items, and the longest pause.
    let left = w.items.iter().filter(|(_, used)| **used + AGE < DAY - 5_400).map(|(item, _)| item.clone()).collect();
    (left, w.wrong.clone())
}

/// With `SVCKIT_THOROUGH` a thousand of them, which takes minutes in a release build.
#[test]
fn days_of_faults_leave_nothing_that_is_expired_and_take_nothing_else() {
    let seeds = if std::env::var_os("SVCKIT_THOROUGH").is_some() { 1_000 } else { 40 };
    for seed in 0..seeds {
        let (left, wrong) = day(seed);
        assert!(left.is_empty(), "seed {seed}: {left:?} should have gone");
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?} was in use");
    }
}
