//! Repeated measurements of contestants, fairly: in turns, after a warm-up, from the same state.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Outcome;

/// The times of one contestant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `percent` of all do not exceed (nearest rank); zero where nothing was measured.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn min(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// Median, and the range in brackets, in seconds.
    pub(crate) fn seconds(&self) -> String {
        let [median, min, max] = [self.median(), self.min(), self.max()].map(|time| time.as_secs_f64());
        format!("{median:.2} s ({min:.2} to {max:.2})")
    }
}

/// One who is measured: its name, and one run, which says how long it took.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() -> Outcome<Duration> + 'a>,
}

/// What one contestant needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// What its run answered.
    pub(crate) time: Samples,
    /// Processor time of user and kernel, of this program and of the programs that it waited for: where the machine has
    /// other work, this is what can still be compared.
    pub(crate) cpu: Samples,
    /// Bytes that the same programs wrote in the median run, as the kernel counts them (getrusage(2), `ru_oublock`).
    pub(crate) written: u64,
}

/// Runs all in turns, with a warm-up round that does not count; whoever began a round ends the next.
pub(crate) fn in_turns(
    contestants: &mut [Contestant<'_>],
    runs: usize,
    mut prepare: impl FnMut() -> Outcome<()>,
) -> Outcome<Vec<Measured>> {
    let mut found = vec![(Vec::new(), Vec::new(), Vec::new()); contestants.len()];
    for round in 0..=runs {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for i in order {
            prepare()?;
            let contestant = &mut contestants[i];
            let (cpu_before, written_before) = used()?;
            let took = (contestant.run)().map_err(|error| format!("{}: {error}", contestant.name))?;
            let (cpu, written) = used()?;
            let (cpu, written) = (cpu.saturating_sub(cpu_before), written.saturating_sub(written_before));
            let (time, of_cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
            eprintln!("  round {round}: {} {time:.3} s, processor {of_cpu:.3} s", contestant.name);
            if round > 0 {
                found[i].0.push(took);
                found[i].1.push(cpu);
                found[i].2.push(written);
            }
        }
    }
    let measured = found.into_iter().map(|(time, cpu, mut written)| {
        written.sort_unstable();
        let median = written.get(written.len() / 2).copied().unwrap_or_default();
        Measured { time: Samples::new(time), cpu: Samples::new(cpu), written: median }
    });
    Ok(measured.collect())
}

/// Processor time and bytes written so far, of this program and of those that it waited for.
fn used() -> Outcome<(Duration, u64)> {
    let (mut sum, mut blocks) = (0, 0);
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        sum += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        blocks += usage.block_writes();
    }
    // Blocks of 512 bytes, whatever the file system's.
    Ok((Duration::from_micros(u64::try_from(sum)?), u64::try_from(blocks)? * 512))
}

/// The ratios of two contestants: of the medians, and of the best runs, which other work disturbed least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) medians: f64,
    pub(crate) best: f64,
}

impl Ratio {
    pub(crate) fn of(numerator: &Samples, denominator: &Samples) -> Self {
        let divided = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        Self {
            medians: divided(numerator.median(), denominator.median()),
            best: divided(numerator.min(), denominator.min()),
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2})", self.medians, self.best)
    }
}
