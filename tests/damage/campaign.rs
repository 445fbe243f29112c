//! Many rounds, on all processors.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use svckit::database::sqlite::repair::Accounting;
use svckit::progress::Cancel;
use svckit_testbed::random::Random;

use super::patient::{FORMS, Patient};
use super::round::{End, Repairer, by_svckit, round, with};

/// Rounds of a complete run.
const COMPLETE: u64 = 10_000;
/// Rounds of every other.
const SAMPLE: u64 = 160;
/// More than there are bytes of headers, with the values that each is given.
const HEADERS: u64 = 10_000;
/// Where nothing else is asked for: what fails today has failed yesterday.
const SEED: u64 = 20_778;
/// Rounds of that seed that were wrong once: called complete, and not what they were (most of them have a test of their own
/// in the library), or, as 509 is, a database with two silent bits behind a damaged header, of which each hides the other.
const ONCE_WRONG: [u64; 8] = [509, 6401, 6535, 7591, 7925, 8455, 8660, 8911];
/// Longer than any round: a round takes a fraction of a second.
const ROUND_MAX: Duration = Duration::from_secs(120);
/// Failures that are told.
const TOLD_MAX: usize = 40;
/// Between two words on how far it is.
const GRAIN: u64 = 500;

#[derive(Debug, Default)]
struct Tally {
    ends: BTreeMap<(&'static str, End), u64>,
    failures: Vec<String>,
    longest: Duration,
}

impl Tally {
    fn of(&self, wanted: End) -> u64 {
        self.ends.iter().filter(|((_, end), _)| *end == wanted).map(|(_, count)| count).sum()
    }
}

struct Done {
    number: u64,
    form: &'static str,
    took: Duration,
    end: Result<End, String>,
}

fn is_thorough() -> bool {
    std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1")
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Random damages by their numbers.
fn rounds(numbers: impl IntoIterator<Item = u64>, seed: u64, repairer: Repairer) -> Tally {
    let judge = move |patient: &Patient, number: u64| {
        let own = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)).bits();
        round(patient, own, repairer)
    };
    judged(numbers, seed, judge)
}

fn judged(
    numbers: impl IntoIterator<Item = u64>,
    seed: u64,
    judge: impl Fn(&Patient, u64) -> Result<End, String> + Copy + Send + 'static,
) -> Tally {
    let patients: Arc<Vec<Patient>> = Arc::new(FORMS.into_iter().map(Patient::new).collect());
    let numbers: Arc<Vec<u64>> = Arc::new(numbers.into_iter().collect());
    let (count, next) = (numbers.len() as u64, Arc::new(AtomicUsize::new(0)));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
        let (patients, numbers, next) = (Arc::clone(&patients), Arc::clone(&numbers), Arc::clone(&next));
        let sender = sender.clone();
        // Not joined: one that hangs is told by its silence.
        std::thread::spawn(move || {
            while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let patient = &patients[usize::try_from(number).unwrap() % patients.len()];
                let began = Instant::now();
                let end = catch_unwind(AssertUnwindSafe(|| judge(patient, number)));
                let end = end.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    Err(format!("panic: {}", text.unwrap_or_default()))
                });
                if sender.send(Done { number, form: patient.form.name, took: began.elapsed(), end }).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut tally, mut done) = (Tally::default(), 0);
    while done < count {
        let one = receiver.recv_timeout(ROUND_MAX).unwrap_or_else(|_| {
            panic!(
                "no round has ended for {ROUND_MAX:?}, of those before {:?}: seed {seed}",
                numbers.get(next.load(Ordering::Relaxed))
            )
        });
        done += 1;
        tally.longest = tally.longest.max(one.took);
        match one.end {
            Ok(end) => *tally.ends.entry((one.form, end)).or_default() += 1,
            Err(why) => {
                let failure = format!("round {} (seed {seed}), {}: {why}", one.number, one.form);
                if count > SAMPLE && tally.failures.len() < TOLD_MAX {
                    tell(&format!("    {failure}\n"));
                }
                tally.failures.push(failure);
            }
        }
        if done.is_multiple_of(GRAIN) {
            tell(&format!("damage: {done} of {count}, {} failures\n", tally.failures.len()));
        }
    }
    tally
}

pub(crate) fn random_damage() {
    let count = variable("SVCKIT_DAMAGES").unwrap_or(if is_thorough() { COMPLETE } else { SAMPLE });
    let seed = variable("SVCKIT_SEED").unwrap_or(SEED);
    let began = Instant::now();
    let from = variable("SVCKIT_DAMAGES_FROM").unwrap_or(0);
    let tally = rounds(from..from + count, seed, by_svckit);
    let [complete, partial, refused] = [End::Complete, End::Partial, End::Refused].map(|end| tally.of(end));
    tell(&format!(
        "damage: {count} random damages (seed {seed}): {complete} repaired complete, {partial} in part, {refused} refused, \
         {} seen by nobody, {} by SQLite alone; {} failures; the longest took {:.1} s; {:.0} s in all\n",
        tally.of(End::Unseen),
        tally.of(End::SeenBySqliteOnly),
        tally.failures.len(),
        tally.longest.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    for ((form, end), rounds) in tally.ends.iter().filter(|_| count > SAMPLE) {
        tell(&format!("    {form}: {end:?} {rounds}\n"));
    }
    let told: Vec<&String> = tally.failures.iter().take(TOLD_MAX).collect();
    assert!(told.is_empty(), "{told:#?}");
    // That there is something of each kind to judge; of all, 9 of 100 are complete.
    let rounds_with_an_end = complete + partial + refused;
    assert!(count < SAMPLE || rounds_with_an_end > count / 2 && complete > count / 16 && partial > count / 10);
}

/// Every byte of the headers of pages of every kind, where all is asked for.
pub(crate) fn headers() {
    let forms = FORMS.len() as u64;
    let judge = move |patient: &Patient, number: u64| {
        let at = usize::try_from(number / forms).unwrap() % patient.headers.len();
        with(patient, &patient.headers[at..=at], by_svckit)
    };
    let count = variable("SVCKIT_HEADERS").unwrap_or(if is_thorough() { HEADERS } else { SAMPLE });
    // Of each form the same number, and over all kinds of pages.
    let step = if count < HEADERS { (HEADERS / count) / forms * forms + 1 } else { 1 };
    let tally = judged((0..count).map(|number| number * step), 0, judge);
    let [complete, partial] = [End::Complete, End::Partial].map(|end| tally.of(end));
    tell(&format!(
        "damage: {count} bytes of headers: {complete} repaired complete, {partial} in part, {} failures\n",
        tally.failures.len()
    ));
    assert!(tally.failures.is_empty(), "{:#?}", tally.failures);
    assert!(complete > count / 16 && partial > count / 16, "{:?}", tally.ends);
}

pub(crate) fn once_wrong() {
    let tally = rounds(ONCE_WRONG, SEED, by_svckit);
    assert!(tally.failures.is_empty(), "{:#?}", tally.failures);
}

/// What a naive script does: every row that SQLite reads goes into a new database, and the rest is not asked about.
fn careless(copy: &Path, work: &Path, _cancel: &Cancel) -> Result<(PathBuf, Option<Accounting>), String> {
    let (own, file) = (work.join("own.db"), work.join("new.db"));
    for suffix in ["", "-wal"] {
        drop(std::fs::copy(super::patient::side(copy, suffix), super::patient::side(&own, suffix)));
    }
    let connection = Connection::open(&own).map_err(|e| e.to_string())?;
    connection.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).map_err(|e| e.to_string())?;
    Ok((file, None))
}

pub(crate) fn a_careless_repair_is_caught() {
    let tally = rounds(0..SAMPLE, 7, careless);
    assert!(tally.failures.iter().any(|why| why.contains("called complete")), "{:?}", tally.failures.first());
}

/// Past the capture of the harness: the figures are the result.
fn tell(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}
