//! The ladder: pure decisions about how long to wait and what to send next.
//!
//! | now | writes | last resort | step |
//! |---|---|---|---|
//! | a rung's time has come | any | any | its signal |
//! | before `stop_wait_max` | any | any | wait |
//! | after it | in flight, extension left | any | wait |
//! | after it | in flight, extension used up | any | give up |
//! | after it | locked as a whole at every look, extension used up | fenced kill | refuse: it can't be fenced |
//! | after it | unknown | never | give up |
//! | after it | unknown | fenced kill | fenced kill: the fence needs positive evidence, and refuses with the reason |
//! | after it | none | never | give up |
//! | after it | none | fenced kill | fenced kill |

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sqlite_locks::WriteState;
use crate::world::StopSignal;

/// What may happen when a service does not stop in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastResort {
    /// Nothing: the service goes on stopping, and is started when it has ended.
    Never,
    /// SIGKILL, only while we hold the write lock of every database of the service.
    FencedKill,
}

/// A signal to send when the stop has lasted so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// The signal.
    pub signal: StopSignal,
    /// How long after the request.
    pub after: Duration,
}

/// How a service is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopPolicy {
    /// How long the stop may last when no write is in flight.
    pub stop_wait_max: Duration,
    /// How much longer, at most, while a write is in flight.
    pub write_extension_max: Duration,
    /// Signals beyond the manager's own, in the order of their times.
    pub rungs: Vec<Rung>,
    /// What follows when all that was in vain.
    pub last_resort: LastResort,
    /// How long the fence may take to acquire before a fenced kill.
    pub fence_wait_max: Duration,
}

impl Default for StopPolicy {
    /// 90 s, ten minutes more for a write, no further signal, no kill.
    fn default() -> Self {
        Self {
            stop_wait_max: Duration::from_secs(90),
            write_extension_max: Duration::from_secs(600),
            rungs: Vec::new(),
            last_resort: LastResort::Never,
            fence_wait_max: Duration::from_secs(10),
        }
    }
}

impl StopPolicy {
    /// The longest time that a stop under this policy can last, with some room for the calls themselves. The shield
    /// outlasts it.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.stop_wait_max + self.write_extension_max + self.fence_wait_max + Duration::from_secs(30)
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait for an event, at most until the stop has lasted so long.
    WaitUntil(Duration),
    /// Send this signal: rung number such-and-such.
    Signal(StopSignal),
    /// Stop waiting; bring the service back when its old process has ended.
    GiveUp(&'static str),
    /// Kill it under the fence.
    FencedKill,
    /// The kill that was asked for can't be made: stop waiting, and say so.
    RefuseKill,
}

/// How often a write in flight is looked at again: SQLite's locks have no event.
const WRITE_PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Decides the next step of a stop that has lasted `elapsed` and of which the first `rungs_sent` rungs are sent.
/// `writes` is asked only when the answer matters.
pub fn next_step(
    elapsed: Duration,
    rungs_sent: usize,
    policy: &StopPolicy,
    writes: impl FnOnce() -> WriteState,
) -> Step {
    let rung = policy.rungs.get(rungs_sent);
    if let Some(rung) = rung
        && elapsed >= rung.after
        && rung.after <= policy.stop_wait_max
    {
        return Step::Signal(rung.signal);
    }
    if elapsed < policy.stop_wait_max {
        let next = rung.map_or(policy.stop_wait_max, |rung| rung.after.min(policy.stop_wait_max));
        return Step::WaitUntil(next);
    }
    match writes() {
        WriteState::Writing { .. } if elapsed < policy.stop_wait_max + policy.write_extension_max => {
            Step::WaitUntil(elapsed + WRITE_PROBE_INTERVAL)
        }
        // A transaction ends. What was never once free is how the service works, and no fence would hold it.
        WriteState::Writing { whole: true, .. } if policy.last_resort == LastResort::FencedKill => Step::RefuseKill,
        WriteState::Writing { .. } => Step::GiveUp("a database write is still in flight"),
        // What a look can't tell, the fence proves or refuses with its reason.
        WriteState::Idle | WriteState::Unknown { .. } if policy.last_resort == LastResort::FencedKill => {
            Step::FencedKill
        }
        WriteState::Unknown { .. } => Step::GiveUp("it is not known whether a database write is in flight"),
        WriteState::Idle => Step::GiveUp("it did not stop in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idle() -> WriteState {
        WriteState::Idle
    }

    #[test]
    fn the_default_ladder_ends_without_a_kill() {
        let policy = StopPolicy::default();
        assert_eq!(next_step(Duration::ZERO, 0, &policy, idle), Step::WaitUntil(policy.stop_wait_max));
        assert!(matches!(next_step(policy.stop_wait_max, 0, &policy, idle), Step::GiveUp(_)));
    }

    #[test]
    fn a_rung_is_sent_at_its_time_and_once() {
        let rung = Rung { signal: StopSignal::Int, after: Duration::from_secs(5) };
        let policy = StopPolicy { rungs: vec![rung], ..StopPolicy::default() };
        assert_eq!(next_step(Duration::from_secs(1), 0, &policy, idle), Step::WaitUntil(rung.after));
        assert_eq!(next_step(Duration::from_secs(5), 0, &policy, idle), Step::Signal(StopSignal::Int));
        assert_eq!(next_step(Duration::from_secs(5), 1, &policy, idle), Step::WaitUntil(policy.stop_wait_max));
    }

    proptest! {
        #[test]
        fn a_kill_follows_only_the_word_and_only_without_a_write(
            elapsed in 0u64..2000, sent in 0usize..3, word in any::<bool>(), writes in 0u8..4,
        ) {
            let policy = StopPolicy {
                rungs: vec![Rung { signal: StopSignal::Int, after: Duration::from_secs(10) }],
                last_resort: if word { LastResort::FencedKill } else { LastResort::Never },
                ..StopPolicy::default()
            };
            let state = match writes {
                0 => WriteState::Idle,
                1 => WriteState::Writing { pid: None, whole: false },
                2 => WriteState::Writing { pid: None, whole: true },
                _ => WriteState::Unknown { reason: "network file system".to_owned() },
            };
            let step = next_step(Duration::from_secs(elapsed), sent, &policy, || state.clone());
            if step == Step::FencedKill {
                let writing = matches!(state, WriteState::Writing { .. });
                prop_assert!(word && !writing && elapsed >= 90);
            }
            if step == Step::RefuseKill {
                prop_assert!(word && elapsed >= 690);
            }
            if let Step::WaitUntil(until) = step {
                prop_assert!(until > Duration::from_secs(elapsed), "a wait that is over would spin");
                prop_assert!(until <= policy.bound());
            }
        }
    }
}
