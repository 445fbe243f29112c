//! What wakes a wait: the engine's events of one container, and the answer to our stop.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::EventMessage;
use tokio::task::JoinHandle;

use super::engine::{Engine, EngineError};
use crate::world::wake::Wake;

/// The events of a container, seen from the creation on.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    events: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
    state: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    ended: bool,
    /// Signals that the engine says it has sent.
    signals: u64,
    /// The answer to our stop, once it is there.
    stop: Option<Result<(), EngineError>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// `since`: seconds since 1970, with a fraction; the engine tells again what happened from then on, so nothing is missed between
    /// the look before and the moment in which it begins to tell.
    pub(super) fn start(engine: &Engine, id: &str, since: String) -> std::io::Result<Self> {
        let wake = Wake::new()?;
        let shared = Arc::new(Shared { wake, state: Mutex::default() });
        let of_events = shared.clone();
        let events = engine.on_event(id, since, move |event| {
            let mut state = of_events.state();
            match event {
                Some(event) => {
                    state.signals += u64::from(tells_of_signal(event));
                }
                None => state.ended = true,
            }
            drop(state);
            of_events.wake.wake();
        });
        shared.wake.wake();
        Ok(Self { shared, events })
    }

    /// Whoever gives the answer to a stop here wakes the wait.
    pub(super) fn stop_answer(&self) -> impl FnOnce(Result<(), EngineError>) + Send + 'static {
        let shared = self.shared.clone();
        shared.state().stop = None;
        move |answer| {
            shared.state().stop = Some(answer);
            shared.wake.wake();
        }
    }

    /// The answer to the last stop.
    pub(super) fn stop_result(&self) -> Option<Result<(), EngineError>> {
        self.shared.state().stop.clone()
    }

    /// How many signals the engine has told of.
    pub(super) fn signals(&self) -> u64 {
        self.shared.state().signals
    }

    /// Whether no event will come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Makes the next wait return at once.
    pub(super) fn wake(&self) {
        self.shared.wake.wake();
    }

    /// What to poll.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Forgets what was seen so far: called after a wait, before the state is read.
    pub(super) fn drain(&self) {
        self.shared.wake.drain();
    }
}

/// Each signal that the engine sends is an event with its number, the orderly one too.
fn tells_of_signal(event: &EventMessage) -> bool {
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    attributes.is_some_and(|attributes| attributes.contains_key("signal"))
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.events.abort();
    }
}
