//! How many targets of a run are worked on at once; can be changed while it runs.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::world::wake::Wake;

/// So many at once, from 1 to [`Slots::MAX`]. Clones are the same slots.
///
/// ```
/// let slots = svckit::operation::Slots::new(2)?;
/// slots.change(-5);
/// assert_eq!(slots.get(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Slots {
    inner: Arc<(AtomicUsize, Wake)>,
}

impl Slots {
    /// The most that there can be.
    pub const MAX: usize = 64;

    /// So many.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(count: usize) -> std::io::Result<Self> {
        Ok(Self { inner: Arc::new((AtomicUsize::new(count.clamp(1, Self::MAX)), Wake::new()?)) })
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> usize {
        self.inner.0.load(Ordering::SeqCst)
    }

    /// More or fewer. What runs goes on: with fewer, less is begun. Answers how many there are now.
    pub fn change(&self, by: isize) -> usize {
        let changed = |count: usize| Some(count.saturating_add_signed(by).clamp(1, Self::MAX));
        let before = self.inner.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
        self.inner.1.wake();
        before.ok().and_then(changed).unwrap_or(1)
    }

    /// Forgets the changes that were seen.
    pub(super) fn drain(&self) {
        self.inner.1.drain();
    }
}

impl AsFd for Slots {
    /// Readable when the number was changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.1.as_fd()
    }
}
