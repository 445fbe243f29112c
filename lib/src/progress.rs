//! What long work tells the caller while it runs, and how the caller ends it early.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Receives the steps and the byte counts of an operation. Every method has a default that ignores it.
pub trait Observer: Send + Sync {
    /// A step begins: a short phrase in the present tense, as `compressing library.db`.
    fn step(&self, _what: &str) {}
    /// `done` of `total` bytes of the current step are through.
    fn bytes(&self, _done: u64, _total: u64) {}
    /// Something that the person should know, and that is no failure.
    fn notice(&self, _what: &str) {}
}

/// The observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// A request to end early, shared between a signal handler and the work. Waits react to it at once through its
/// descriptor; copy loops look at it between blocks.
///
/// ```
/// let cancel = svckit::progress::Cancel::new()?;
/// assert!(!cancel.is_requested());
/// cancel.request();
/// assert!(cancel.is_requested());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requested: AtomicBool,
    event: OwnedFd,
}

impl Cancel {
    /// A token on which nothing is requested yet.
    ///
    /// # Errors
    /// When the system has no descriptor left for the eventfd(2).
    pub fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inner: Arc::new(Inner { requested: AtomicBool::new(false), event }) })
    }

    /// Asks the work to end at its next safe point.
    pub fn request(&self) {
        self.inner.requested.store(true, Ordering::SeqCst);
        // The counter can't overflow by one write per request; a full counter is readable all the same.
        let _ignored = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
    }

    /// Whether the end was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable from the request on, for ever.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }
}
