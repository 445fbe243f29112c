//! Hashes that were seen, in bounded memory: of what was not seen, a few seem to have been (a Bloom filter, each of whose
//! hashes is in one word).

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of one filter, or of all that are kept at once: 16 MiB.
pub(super) const KNOWN_MAX: u64 = 1 << 27;
const KNOWN_MIN: u64 = 1 << 16;

#[derive(Debug)]
pub(super) struct Known {
    words: Vec<AtomicU64>,
}

impl Known {
    /// For so many hashes, with `most` bits; more hashes only make it weaker.
    pub(super) fn new(hashes: u64, most: u64) -> Self {
        let bits = hashes.saturating_mul(32).clamp(KNOWN_MIN, most.clamp(KNOWN_MIN, KNOWN_MAX)).next_power_of_two();
        Self { words: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The word of a hash, and its bits there.
    fn place(&self, hash: u64) -> (usize, u64) {
        let bit = |shift: u32| 1_u64 << ((hash >> shift) & 63);
        let word = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        (word & (self.words.len() - 1), bit(0) | bit(13) | bit(26) | bit(39))
    }

    pub(super) fn add(&self, hash: u64) {
        let (word, bits) = self.place(hash);
        self.words[word].fetch_or(bits, Ordering::Relaxed);
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        let (word, bits) = self.place(hash);
        self.words[word].load(Ordering::Relaxed) & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_and_little_else() {
        let known = Known::new(10_000, KNOWN_MAX);
        let hash = |number: u64| {
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd1b5_4a32_d192_ed03)
        };
        (0..10_000).for_each(|number| known.add(hash(number)));
        assert!((0..10_000).all(|number| known.has(hash(number))));
        let wrong = (10_000..20_000).filter(|number| known.has(hash(*number))).count();
        assert!(wrong < 100, "{wrong}");
    }
}
