//! When an item that failed is tried again, and when no more.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// The pauses between the attempts at an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure; each further one is twice as long.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
    /// So many failures, and the item is set aside; from 1.
    pub attempts: u32,
}

impl Default for Backoff {
    /// Five attempts within about five hours.
    fn default() -> Self {
        Self { first: Duration::from_secs(20 * 60), longest: Duration::from_secs(6 * 3600), attempts: 5 }
    }
}

impl Backoff {
    /// The pause before the next attempt after so many failures, or `None` where the item is set aside. The pause lies
    /// between half of its length and all of it, by the item's name: items that failed together part.
    ///
    /// ```
    /// use svckit::tend::Backoff;
    /// let backoff = Backoff { attempts: 3, ..Backoff::default() };
    /// assert!(backoff.pause("a", 1) >= Some(backoff.first / 2));
    /// assert_eq!(backoff.pause("a", 3), None);
    /// ```
    #[must_use]
    pub fn pause(&self, item: &str, failures: u32) -> Option<Duration> {
        if failures >= self.attempts.max(1) {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(self.longest);
        Some(doubled / 2 + (doubled / 2).mul_f64(fraction(item, u64::from(failures))))
    }
}

/// A number from 0 up to 1 that is the same for the same words.
pub(super) fn fraction(word: &str, number: u64) -> f64 {
    let digest = Sha256::new().chain_update(word).chain_update(number.to_le_bytes()).finalize();
    let bytes = [digest[0], digest[1], digest[2], digest[3]];
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
