//! What a manager's thread tells a waiting caller: something was seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd(2): readable when something was seen since it was last drained.
#[derive(Debug)]
pub(crate) struct Wake {
    seen: OwnedFd,
}

impl Wake {
    /// Nothing is seen yet.
    pub(crate) fn new() -> rustix::io::Result<Self> {
        Ok(Self { seen: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Something is.
    pub(crate) fn wake(&self) {
        // A counter that is full is readable all the same.
        let _ignored = rustix::io::write(&self.seen, &1u64.to_ne_bytes());
    }

    /// Forgets what was seen so far: called after a wait, before the state is read.
    pub(crate) fn drain(&self) {
        let mut count = [0_u8; 8];
        while rustix::io::read(&self.seen, &mut count).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.seen.as_fd()
    }
}
