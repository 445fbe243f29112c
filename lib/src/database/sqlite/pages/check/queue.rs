//! Parts of b-trees that wait for a thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A key of an interior page.
type Bound = Option<Arc<[u8]>>;

/// Between which keys a page must lie.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    /// Above this rowid, and up to the other.
    pub(super) rowids: (Option<i64>, Option<i64>),
    /// Above this key, and below the other.
    pub(super) keys: (Bound, Bound),
}

/// A page of a tree and all below it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) tree: usize,
    pub(super) page: u32,
    pub(super) parent: u32,
    pub(super) depth: usize,
    pub(super) bounds: Bounds,
}

/// Bounded but for the roots: a thread that finds it full does the work itself.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    len: AtomicUsize,
    most: usize,
}

#[derive(Debug)]
struct Inner {
    waiting: VecDeque<Task>,
    active: usize,
}

impl Queue {
    pub(super) fn new(roots: Vec<Task>, threads: usize) -> Self {
        let len = AtomicUsize::new(roots.len());
        let inner = Mutex::new(Inner { waiting: roots.into(), active: 0 });
        Self { inner, changed: Condvar::new(), len, most: threads * 4 }
    }

    /// Whether other threads may soon have nothing to do.
    pub(super) fn is_hungry(&self) -> bool {
        self.len.load(Ordering::Relaxed) < self.most
    }

    pub(super) fn push(&self, task: Task) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting.push_back(task);
        self.len.store(inner.waiting.len(), Ordering::Relaxed);
        drop(inner);
        self.changed.notify_one();
    }

    /// Runs `work` on task after task until there are none, and nobody can make more.
    pub(super) fn drain(&self, mut work: impl FnMut(Task)) {
        loop {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let task = loop {
                if let Some(task) = inner.waiting.pop_front() {
                    break task;
                }
                if inner.active == 0 {
                    drop(inner);
                    self.changed.notify_all();
                    return;
                }
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
            };
            self.len.store(inner.waiting.len(), Ordering::Relaxed);
            inner.active += 1;
            drop(inner);
            let _active = Active { queue: self };
            work(task);
        }
    }
}

/// A task that is worked on: those who wait hear of its end, even of a bad one.
struct Active<'a> {
    queue: &'a Queue,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let mut inner = self.queue.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.active -= 1;
        let over = inner.active == 0 && inner.waiting.is_empty();
        drop(inner);
        if over {
            self.queue.changed.notify_all();
        }
    }
}
