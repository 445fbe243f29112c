//! Many rounds, on all processors.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use svckit::database::sqlite::repair::Accounting;
use svckit::progress::Cancel;
use svckit_testbed::random::Random;

use super::patient::{FORMS, Patient};
use super::round::{End, Repairer, by_svckit, round};

/// Rounds of a complete run.
const COMPLETE: u64 = 10_000;
/// Rounds of every other.
const SAMPLE: u64 = 160;
/// Where nothing else is asked for: what fails today has failed yesterday.
const SEED: u64 = 20_778;
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

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn rounds(from: u64, count: u64, seed: u64, repairer: Repairer) -> Tally {
    let patients: Arc<Vec<Patient>> = Arc::new(FORMS.into_iter().map(Patient::new).collect());
    let next = Arc::new(AtomicU64::new(from));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
        let (patients, next, sender) = (Arc::clone(&patients), Arc::clone(&next), sender.clone());
        // Not joined: one that hangs is told by its silence.
        std::thread::spawn(move || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= from + count {
                    return;
                }
                let patient = &patients[usize::try_from(number).unwrap() % patients.len()];
                let began = Instant::now();
                let own = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)).bits();
                let end = catch_unwind(AssertUnwindSafe(|| round(patient, own, repairer)));
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
                "no round has ended for {ROUND_MAX:?}, of those before {}: seed {seed}",
                next.load(Ordering::Relaxed)
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
    let is_thorough = std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1");
    let count = variable("SVCKIT_DAMAGES").unwrap_or(if is_thorough { COMPLETE } else { SAMPLE });
    let seed = variable("SVCKIT_SEED").unwrap_or(SEED);
    let began = Instant::now();
    let tally = rounds(variable("SVCKIT_DAMAGES_FROM").unwrap_or(0), count, seed, by_svckit);
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
    let tally = rounds(0, SAMPLE, 7, careless);
    assert!(tally.failures.iter().any(|why| why.contains("called complete")), "{:?}", tally.failures.first());
}

/// Past the capture of the harness: the figures are the result.
fn tell(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}
