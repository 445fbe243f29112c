//! A run of several targets: some at once, in their order, again where it may help, and none a prisoner of another.

mod queue;
mod record;
mod slots;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use queue::RunItem;
pub use record::{Failed, RecordError, Records, RunRecord, Succeeded, TargetOfRun, TargetRecord};
pub use slots::Slots;

use self::queue::Queue;
use crate::progress::Cancel;
use crate::world::wait;
use crate::world::wake::Wake;

/// How often, and after which pauses, a target is tried whose failure may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often it is tried in all; 1: once.
    pub attempts: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub pause: Duration,
    /// No pause is longer.
    pub pause_max: Duration,
}

impl Default for Retries {
    /// Four attempts within about a minute: for an engine that is restarted, a network that comes back.
    fn default() -> Self {
        Self { attempts: 4, pause: Duration::from_secs(5), pause_max: Duration::from_secs(300) }
    }
}

impl Retries {
    /// The pause after so many failures: at least half of it, so that targets that failed together part.
    #[must_use]
    pub fn pause_after(&self, failures: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.pause_max);
        let mut random = [0u8; 1];
        // Without it they come back together, which is a pity and no harm.
        let _filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        doubled / 2 + doubled.mul_f64(f64::from(random[0]) / 512.0)
    }
}

/// An error that knows whether another attempt is worth its time; mostly by [`crate::Failure::is_transient`].
pub trait MayPass {
    /// Whether it may pass by itself.
    fn may_pass(&self) -> bool;
}

/// How a target of a run ended.
#[derive(Debug)]
pub enum Ended<T, E> {
    /// It was done, at this attempt.
    Done(T, u32),
    /// It failed, at this attempt.
    Failed(E, u32),
    /// A mistake in svckit ended its thread; the others went on.
    Panicked(String),
    /// One that it comes after failed.
    Needs(String),
    /// It waits for others that wait for it.
    InACircle,
    /// The run was cancelled before its turn.
    Cancelled,
}

/// How many times a wait may be cut into: for a clock that jumps.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Works on all items, as many at once as there are slots, and tells each one's end from the calling thread. The work is
/// told which attempt it is, from 1.
///
/// A failure that may pass ([`MayPass`]) is tried again. A cancellation begins nothing any more; what runs
/// sees it by itself, and is waited for.
///
/// # Errors
/// When the system has no descriptor left, or refuses a thread: what runs is waited for, what has not begun is told as
/// [`Ended::Cancelled`].
pub fn run_all<T, E, W>(
    items: Vec<RunItem>,
    slots: &Slots,
    retries: &Retries,
    cancel: &Cancel,
    work: W,
    mut ended: impl FnMut(&RunItem, Ended<T, E>),
) -> std::io::Result<()>
where
    T: Send,
    E: MayPass + std::fmt::Display + Send,
    W: Fn(&RunItem, u32) -> Result<T, E> + Sync,
{
    let mut queue = Queue::new(items);
    let mut attempts: HashMap<usize, u32> = HashMap::new();
    let done = Wake::new()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut running = 0usize;
        let mut outcome = Ok(());
        loop {
            for (index, because) in queue.give_up() {
                ended(queue.item(index), Ended::Needs(because));
            }
            while outcome.is_ok() && running < slots.get() && !cancel.is_requested() {
                let Some(index) = queue.next(Instant::now()) else { break };
                let (sender, item, work, done) = (sender.clone(), queue.item(index).clone(), &work, &done);
                let attempt = attempts.get(&index).map_or(1, |made| made + 1);
                let thread = std::thread::Builder::new().name(item.name.clone());
                let started = thread.spawn_scoped(scope, move || {
                    let result = catch_unwind(AssertUnwindSafe(|| work(&item, attempt)));
                    let _the_run_has_ended = sender.send((index, result));
                    done.wake();
                });
                match started {
                    Ok(_) => running += 1,
                    Err(error) => {
                        queue.end(index, false);
                        ended(queue.item(index), Ended::Cancelled);
                        outcome = Err(error);
                    }
                }
            }
            if running == 0 {
                let stops = outcome.is_err() || cancel.is_requested();
                if stops || queue.wakes_at().is_none() {
                    for index in queue.take_out_the_rest() {
                        ended(queue.item(index), if stops { Ended::Cancelled } else { Ended::InACircle });
                    }
                    return outcome;
                }
            }
            let until = queue.wakes_at().unwrap_or_else(|| Instant::now() + WAIT_MAX).min(Instant::now() + WAIT_MAX);
            // A request to end stays readable: once seen, only the ends of those that run are waited for.
            let awaited = [done.as_fd(), slots.as_fd(), cancel.as_fd()];
            let awaited = if cancel.is_requested() { &awaited[..1] } else { &awaited[..] };
            if let Err(error) = wait::readable(awaited, until) {
                outcome = outcome.and(Err(error));
            }
            done.drain();
            slots.drain();
            while let Ok((index, result)) = receiver.try_recv() {
                running -= 1;
                let attempt = attempts.entry(index).and_modify(|n| *n += 1).or_insert(1);
                match result {
                    Ok(Err(error)) if error.may_pass() && *attempt < retries.attempts && !cancel.is_requested() => {
                        let pause = retries.pause_after(*attempt);
                        tracing::warn!("{}: {error}; tried again in {} s", queue.item(index).name, pause.as_secs());
                        queue.rest(index, Instant::now() + pause);
                        continue;
                    }
                    Ok(Ok(value)) => {
                        queue.end(index, true);
                        ended(queue.item(index), Ended::Done(value, *attempt));
                    }
                    Ok(Err(error)) => {
                        queue.end(index, false);
                        ended(queue.item(index), Ended::Failed(error, *attempt));
                    }
                    Err(panic) => {
                        queue.end(index, false);
                        ended(queue.item(index), Ended::Panicked(words_of(panic.as_ref())));
                    }
                }
            }
        }
    })
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "for a reason without words".to_owned())
}
