//! A clock that jumps makes everything look old. What a pass removes then would not come back.

use std::time::Duration;

use jiff::Timestamp;

/// The two clocks at one moment: the one that can be set, and the one that only runs (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instants {
    /// As people see it.
    pub wall: Timestamp,
    /// Since boot, sleep included.
    pub running: Duration,
}

impl Instants {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let running = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(running.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(running.tv_nsec).unwrap_or(0);
        Self { wall: Timestamp::now(), running: Duration::new(seconds, nanoseconds) }
    }
}

/// Compares both clocks from look to look. After a jump forward nothing is pruned until the clock has gone on steadily for
/// a while: a wrong time from a broken source is mostly set right soon, and what was pruned by it is lost.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    last: Instants,
    settle: Duration,
    /// What may lie between the clocks without being a jump: a correction in small steps.
    slack: Duration,
    trusted_from: Duration,
}

impl ClockWatch {
    /// Trusts the clock as it is at the beginning, and one that jumped after it has gone on steadily for `settle`.
    #[must_use]
    pub fn new(settle: Duration, now: Instants) -> Self {
        Self { last: now, settle, slack: Duration::from_secs(5), trusted_from: Duration::ZERO }
    }

    /// Looks at the clocks. The answer is how long to wait until the wall clock can be trusted; `None`: it can be now.
    pub fn look(&mut self, now: Instants) -> Option<Duration> {
        let wall = now.wall.duration_since(self.last.wall);
        let running = now.running.saturating_sub(self.last.running);
        let ahead = wall.as_millis() - i128::try_from(running.as_millis()).unwrap_or(i128::MAX);
        if ahead > i128::try_from(self.slack.as_millis()).unwrap_or(i128::MAX) {
            tracing::warn!(seconds = %(ahead / 1000), "the clock jumped forward: nothing is pruned until it has settled");
            self.trusted_from = now.running.saturating_add(self.settle);
        }
        self.last = now;
        self.trusted_from.checked_sub(now.running).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, running: u64) -> Instants {
        Instants { wall: Timestamp::from_second(wall).unwrap(), running: Duration::from_secs(running) }
    }

    #[test]
    fn only_a_jump_forward_makes_it_wait() {
        let mut watch = ClockWatch::new(Duration::from_secs(600), at(1_000, 10));
        assert_eq!(watch.look(at(1_600, 611)), None, "it goes a second slow");
        assert_eq!(watch.look(at(1_100, 700)), None, "back is harmless: nothing gets old by it");
        assert_eq!(watch.look(at(1_000_000, 800)), Some(Duration::from_secs(600)));
        assert_eq!(watch.look(at(1_000_100, 900)), Some(Duration::from_secs(500)));
        assert_eq!(watch.look(at(1_000_600, 1_400)), None, "it has settled: it was meant");
    }

    #[test]
    fn a_second_jump_begins_the_wait_anew() {
        let mut watch = ClockWatch::new(Duration::from_secs(600), at(1_000, 10));
        assert!(watch.look(at(100_000, 20)).is_some());
        assert_eq!(watch.look(at(1_300, 320)), Some(Duration::from_secs(300)), "set right");
        assert_eq!(watch.look(at(200_000, 330)), Some(Duration::from_secs(600)));
    }
}
