//! The exit codes of all programs, a stable interface: a change of a number is a breaking change.
//!
//! The library gives every failure a [`FailureKind`]; the one match below gives every kind its number and its word
//! (the `kind` of `--json`). A new kind does not compile until it has both.

use std::process::ExitCode;

use svckit::FailureKind;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not.
    Failed(FailureKind),
}

impl Outcome {
    /// The number that the process exits with.
    #[must_use]
    pub fn code(self) -> u8 {
        self.entry().0
    }

    /// The word in `--json`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.entry().1
    }

    /// What it means, for the manual.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> (u8, &'static str, &'static str) {
        match self {
            Self::Done => (0, "done", "done"),
            Self::Failed(kind) => match kind {
                FailureKind::Usage => (2, "usage", "usage"),
                FailureKind::Config => (3, "config", "configuration or label invalid"),
                FailureKind::No => (10, "no", "the answer is no (not running, not ready, nothing to do)"),
                FailureKind::Corrupt => (11, "corrupt", "the database is corrupt"),
                FailureKind::Unverified => (12, "unverified", "a backup, or a published generation, does not verify"),
                FailureKind::Partial => {
                    (13, "partial", "repaired in part: losses reported, and accepted or waiting to be")
                }
                FailureKind::LockHeld => (20, "lock-held", "refused: another operation holds the lock"),
                FailureKind::WriteInFlight => {
                    (21, "write-in-flight", "refused: a database write is in flight, or it can't be known")
                }
                FailureKind::Unsafe => (22, "unsafe", "refused: unsafe, for the reason that is given"),
                FailureKind::Permission => (23, "permission", "refused: permission or unsafe file rights"),
                FailureKind::Failed => (30, "failed", "failed; the service is as it was"),
                FailureKind::StopTimedOut => (
                    31,
                    "stop-timed-out",
                    "the stop timed out; the service still runs its stop, unharmed, and will be started after it",
                ),
                FailureKind::SomeFailed => (32, "some-failed", "some targets failed, others succeeded"),
                FailureKind::NotBack => (40, "not-back", "the service is not back (outranks the rest)"),
            },
        }
    }

    /// The outcome of several targets: 'not back' outranks everything, and one kind stands for all that have it.
    #[must_use]
    pub fn of_several(outcomes: &[Self]) -> Self {
        let failed: Vec<FailureKind> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Self::Done => None,
                Self::Failed(kind) => Some(*kind),
            })
            .collect();
        match failed.first() {
            None => Self::Done,
            Some(_) if failed.contains(&FailureKind::NotBack) => Self::Failed(FailureKind::NotBack),
            Some(_) if failed.len() < outcomes.len() => Self::Failed(FailureKind::SomeFailed),
            Some(first) if failed.iter().all(|kind| kind == first) => Self::Failed(*first),
            Some(_) => Self::Failed(FailureKind::Failed),
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Every outcome, in the order of the codes.
pub const ALL: [Outcome; 15] = [
    Outcome::Done,
    Outcome::Failed(FailureKind::Usage),
    Outcome::Failed(FailureKind::Config),
    Outcome::Failed(FailureKind::No),
    Outcome::Failed(FailureKind::Corrupt),
    Outcome::Failed(FailureKind::Unverified),
    Outcome::Failed(FailureKind::Partial),
    Outcome::Failed(FailureKind::LockHeld),
    Outcome::Failed(FailureKind::WriteInFlight),
    Outcome::Failed(FailureKind::Unsafe),
    Outcome::Failed(FailureKind::Permission),
    Outcome::Failed(FailureKind::Failed),
    Outcome::Failed(FailureKind::StopTimedOut),
    Outcome::Failed(FailureKind::SomeFailed),
    Outcome::Failed(FailureKind::NotBack),
];

/// The table for `--help` and the manual pages.
#[must_use]
pub fn table() -> String {
    ALL.iter().map(|outcome| format!("  {:>2}  {}\n", outcome.code(), outcome.meaning())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_stay() {
        let numbers: Vec<(u8, &str)> = ALL.iter().map(|outcome| (outcome.code(), outcome.word())).collect();
        assert_eq!(
            numbers,
            [
                (0, "done"),
                (2, "usage"),
                (3, "config"),
                (10, "no"),
                (11, "corrupt"),
                (12, "unverified"),
                (13, "partial"),
                (20, "lock-held"),
                (21, "write-in-flight"),
                (22, "unsafe"),
                (23, "permission"),
                (30, "failed"),
                (31, "stop-timed-out"),
                (32, "some-failed"),
                (40, "not-back"),
            ]
        );
    }

    #[test]
    fn a_service_that_is_not_back_outranks_every_success() {
        let not_back = Outcome::Failed(FailureKind::NotBack);
        let corrupt = Outcome::Failed(FailureKind::Corrupt);
        assert_eq!(Outcome::of_several(&[Outcome::Done, not_back, corrupt]), not_back);
        assert_eq!(Outcome::of_several(&[Outcome::Done, corrupt]), Outcome::Failed(FailureKind::SomeFailed));
        assert_eq!(Outcome::of_several(&[corrupt, corrupt]), corrupt);
        assert_eq!(Outcome::of_several(&[corrupt, Outcome::Failed(FailureKind::No)]).code(), 30);
        assert_eq!(Outcome::of_several(&[Outcome::Done]), Outcome::Done);
    }
}
