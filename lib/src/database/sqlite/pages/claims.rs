//! Which pages have a use: one bit each.

use std::sync::atomic::{AtomicU64, Ordering};

/// The pages of a database; shared by all threads.
#[derive(Debug)]
pub(super) struct Claims {
    words: Vec<AtomicU64>,
    count: u32,
}

impl Claims {
    /// For pages 1 to `count`.
    pub(super) fn new(count: u32) -> Self {
        let words = (0..=count / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, count }
    }

    /// Gives a page its use; `false` where it has one already, or does not exist.
    pub(super) fn claim(&self, page: u32) -> bool {
        if page == 0 || page > self.count {
            return false;
        }
        let bit = 1 << (page % 64);
        self.words.get(page as usize / 64).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    pub(super) fn is_claimed(&self, page: u32) -> bool {
        self.words.get(page as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (page % 64)) != 0)
    }

    pub(super) fn exists(&self, page: u32) -> bool {
        page != 0 && page <= self.count
    }

    /// Ranges of pages without a use, first and last.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 1;
        std::iter::from_fn(move || {
            let is_claimed = |page: u32| {
                let word = self.words.get(page as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
                (word == u64::MAX, word & (1 << (page % 64)) != 0)
            };
            while at <= self.count {
                match is_claimed(at) {
                    // A whole word at once.
                    (true, _) => at = (at / 64 + 1).saturating_mul(64),
                    (_, true) => at += 1,
                    _ => break,
                }
            }
            if at > self.count {
                return None;
            }
            let first = at;
            while at <= self.count && !is_claimed(at).1 {
                at += 1;
            }
            Some((first, at - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_claimed_once_and_the_others_are_told_as_ranges() {
        let pages = Claims::new(200);
        assert!(!pages.claim(0) && !pages.claim(201));
        for page in (1..=200).filter(|p| !matches!(p, 1 | 63..=65 | 130 | 200)) {
            assert!(pages.claim(page) && !pages.claim(page));
        }
        assert_eq!(pages.unclaimed().collect::<Vec<_>>(), [(1, 1), (63, 65), (130, 130), (200, 200)]);
    }
}
