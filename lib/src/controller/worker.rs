//! A thread for the asynchronous clients of service managers, driven from synchronous code.
//!
//! Invariants: every exchange has a deadline; the caller only waits for the answer on a channel, so that it may itself
//! be on an asynchronous runtime.

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// No answer came in time.
pub(crate) struct TimedOut;

/// One thread with a runtime.
#[derive(Debug)]
pub(crate) struct Worker {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn new(name: &str) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs on the worker, and waits for at most `max`, also where the worker itself is stuck.
    pub(crate) fn run<F>(&self, max: Duration, future: F) -> Result<F::Output, TimedOut>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = self.spawn(async move {
            // Nobody listens any more after the deadline.
            drop(sender.send(future.await));
        });
        receiver.recv_timeout(max).map_err(|_| {
            task.abort();
            TimedOut
        })
    }

    /// Runs on the worker beside everything else.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        #[allow(clippy::expect_used, reason = "taken in drop only")]
        self.runtime.as_ref().expect("a live worker has its runtime").spawn(future)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Waiting for the thread here could hang, and would panic on a caller's own runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
