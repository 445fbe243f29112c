//! Marks of what is in use that can't outlive what they describe.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Which of some things are in use now, and how often. A mark is a guard: it goes with whoever holds it, by a return, an
/// error, a panic or an abandoned thread alike. There is no way to set one and forget it.
///
/// ```
/// use svckit::tend::InUse;
/// let in_use = InUse::default();
/// let guard = in_use.mark("mailbox");
/// assert!(in_use.contains(&"mailbox"));
/// drop(guard);
/// assert!(!in_use.contains(&"mailbox"));
/// ```
#[derive(Debug)]
pub struct InUse<K: Eq + Hash>(Arc<Mutex<HashMap<K, usize>>>);

impl<K: Eq + Hash> Clone for InUse<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash> Default for InUse<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> InUse<K> {
    /// Marks it as in use for as long as the answer lives.
    #[must_use = "the mark goes with the guard"]
    pub fn mark(&self, key: K) -> InUseGuard<K> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_insert(0) += 1;
        InUseGuard { of: self.clone(), key }
    }

    /// The same, where nobody has it in use yet.
    #[must_use = "the mark goes with the guard"]
    pub fn mark_alone(&self, key: K) -> Option<InUseGuard<K>> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.contains_key(&key) {
            return None;
        }
        marks.insert(key.clone(), 1);
        Some(InUseGuard { of: self.clone(), key })
    }

    /// Whether somebody has it in use.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// How many things are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The mark of one user of one thing.
#[derive(Debug)]
pub struct InUseGuard<K: Eq + Hash + Clone> {
    of: InUse<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Drop for InUseGuard<K> {
    fn drop(&mut self) {
        let mut marks = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = marks.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                marks.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn each_way_out_takes_the_mark_away() {
        let in_use = InUse::default();
        let returned = |fails: bool| -> Result<(), String> {
            let _mark = in_use.mark("a");
            assert!(in_use.contains(&"a"));
            if fails { Err("no".to_owned()) } else { Ok(()) }
        };
        assert_eq!((returned(false), in_use.len()), (Ok(()), 0));
        assert!(returned(true).is_err() && in_use.is_empty());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _mark = in_use.mark("a");
            panic!("in the middle");
        }));
        assert!(panicked.is_err() && in_use.is_empty());
        let in_thread = in_use.clone();
        let thread = std::thread::spawn(move || {
            let _mark = in_thread.mark("a");
            panic!("in a thread");
        });
        assert!(thread.join().is_err() && in_use.is_empty());
    }

    #[test]
    fn the_last_of_several_users_takes_it_away() {
        let in_use = InUse::default();
        let (one, two) = (in_use.mark("a"), in_use.mark("a"));
        assert!(in_use.mark_alone("a").is_none() && in_use.mark_alone("b").is_some());
        drop(one);
        assert!(in_use.contains(&"a") && !in_use.contains(&"b"));
        drop(two);
        assert!(in_use.mark_alone("a").is_some());
    }
}
