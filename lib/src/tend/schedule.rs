//! When a pass is due. Pure: times in, a time out.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::retry::fraction;

/// When passes begin.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// Again and again.
    Every {
        /// From the beginning of one pass to that of the next; from a second.
        interval: Duration,
        /// Up to so much later, another part of it each time: several machines do not work in step.
        jitter: Duration,
    },
    /// At the times of a cron expression (crontab(5): five fields, or six with seconds), in the time zone of the machine.
    Cron(Box<Cron>),
    /// Never by itself.
    OnDemand,
}

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no cron expression: {reason}")]
pub struct ScheduleError {
    text: String,
    reason: String,
}

impl Schedule {
    /// Reads a cron expression.
    ///
    /// # Errors
    /// When it is none.
    pub fn cron(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |reason: String| ScheduleError { text: text.to_owned(), reason };
        let cron = Cron::from_str(text).map_err(|error| wrong(error.to_string()))?;
        // The 30th of February: valid, and never.
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        cron.find_next_occurrence(&now, false).map_err(|_| wrong("it names no time that ever comes".to_owned()))?;
        Ok(Self::Cron(Box::new(cron)))
    }

    /// When the next pass begins, where the last one began at `last`. What was missed while nothing ran is made up for by
    /// one pass, at once. A `last` that lies in the future is a clock that was set back, and counts as `now`;
    /// who asks again later has to correct it first, or the next pass is an interval away for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use svckit::tend::Schedule;
    /// let hourly = Schedule::Every { interval: Duration::from_secs(3600), jitter: Duration::ZERO };
    /// let now = jiff::Timestamp::from_second(100_000)?;
    /// let at = |second| jiff::Timestamp::from_second(second);
    /// assert_eq!(hourly.next(Some(at(99_000)?), now), Some(at(102_600)?));
    /// assert_eq!(hourly.next(Some(at(9_000)?), now), Some(now), "missed");
    /// assert_eq!(hourly.next(None, now), Some(now), "never yet");
    /// # Ok::<(), jiff::Error>(())
    /// ```
    #[must_use]
    pub fn next(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let last = last.map(|last| last.min(now));
        let next = match (self, last) {
            (Self::OnDemand, _) => return None,
            (Self::Every { .. }, None) => now,
            (Self::Every { interval, jitter }, Some(last)) => {
                let seed = u64::from_ne_bytes(last.as_millisecond().to_ne_bytes());
                let later = jitter.mul_f64(fraction("jitter", seed));
                last.saturating_add(interval.saturating_add(later)).unwrap_or(Timestamp::MAX)
            }
            (Self::Cron(cron), last) => {
                let from = last.unwrap_or(now).to_zoned(TimeZone::system());
                cron.find_next_occurrence(&from, false).ok()?.timestamp()
            }
        };
        Some(next.max(now))
    }
}
