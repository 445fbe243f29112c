//! One way to wait: for descriptors, until an instant, ended early by a cancellation.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of `fds` is readable or has hung up, or until `until`. The answer has the indices of those that
/// are ready; it is empty when the time is over.
///
/// # Errors
/// Those of poll(2); an interruption by a signal is no error, the wait goes on.
pub fn readable(fds: &[BorrowedFd<'_>], until: Instant) -> std::io::Result<Vec<usize>> {
    polled(|| fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect(), until)
}

/// The same, where the first (index 0) is to become writable, and the `others` (from index 1) readable.
pub(crate) fn writable(fd: BorrowedFd<'_>, others: &[BorrowedFd<'_>], until: Instant) -> std::io::Result<Vec<usize>> {
    let first = || PollFd::from_borrowed_fd(fd, PollFlags::OUT);
    let rest = || others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    polled(|| std::iter::once(first()).chain(rest()).collect(), until)
}

fn polled<'a>(descriptors: impl Fn() -> Vec<PollFd<'a>>, until: Instant) -> std::io::Result<Vec<usize>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut polls = descriptors();
        match poll(&mut polls, Some(&timespec(left))) {
            Ok(0) if until > Instant::now() => {}
            Ok(_) => {
                return Ok(polls.iter().enumerate().filter(|(_, p)| !p.revents().is_empty()).map(|(i, _)| i).collect());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up by the nanosecond part as it is: poll never returns early by more than the clock's grain.
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
