//! Several locks at once, without waiting in a circle.

use std::time::Instant;

use super::bytes::LockRange;
use super::descriptor::{LockFile, LockMode};
use super::error::LocksError;
use crate::progress::Cancel;

/// One lock of several.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The file.
    pub file: &'a LockFile,
    /// How.
    pub mode: LockMode,
    /// What.
    pub range: LockRange,
    /// A byte that is locked for reading first and given up afterwards: PENDING, before SHARED.
    pub through: Option<LockRange>,
    /// For people: `the lock RESERVED`.
    pub what: &'static str,
}

impl Wanted<'_> {
    fn try_lock(&self) -> Result<bool, LocksError> {
        if let Some(gate) = self.through
            && !self.file.try_lock(LockMode::Read, gate)?
        {
            return Ok(false);
        }
        let got = self.file.try_lock(self.mode, self.range)?;
        self.leave_gate()?;
        Ok(got)
    }

    fn lock(&self, until: Instant, cancel: &Cancel) -> Result<(), LocksError> {
        if let Some(gate) = self.through {
            self.file.lock(LockMode::Read, gate, self.what, until, cancel)?;
        }
        self.file.lock(self.mode, self.range, self.what, until, cancel)?;
        self.leave_gate()
    }

    fn leave_gate(&self) -> Result<(), LocksError> {
        self.through.map_or(Ok(()), |gate| self.file.unlock(gate))
    }
}

/// Takes all of them, or none. The answer is when the first of those that are now held was taken.
///
/// While it waits for one it holds no other: a service that locks its databases in another order than we would wait
/// for us, and we for it.
///
/// # Errors
/// [`LocksError::Busy`] when they were not free together until `until`.
pub fn lock_together(wanted: &[Wanted<'_>], until: Instant, cancel: &Cancel) -> Result<Instant, LocksError> {
    let mut wait_for = 0;
    'anew: loop {
        let Some(first) = wanted.get(wait_for) else {
            return Ok(Instant::now());
        };
        first.lock(until, cancel)?;
        let since = Instant::now();
        for (index, other) in wanted.iter().enumerate().filter(|(index, _)| *index != wait_for) {
            let got = other.try_lock();
            if matches!(got, Ok(true)) {
                continue;
            }
            for held in wanted {
                held.file.unlock(held.range)?;
            }
            got?;
            wait_for = index;
            // The next turn blocks on it; without time left, it says who has it.
            continue 'anew;
        }
        return Ok(since);
    }
}
