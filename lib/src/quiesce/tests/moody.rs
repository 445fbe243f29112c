//! A manager that fails once: every call of it, one after the other, during a stop and the return after it.

use std::cell::Cell;
use std::time::Instant;

use super::*;
use crate::controller::{ControllerError, KillSource, ServiceSpec, ServiceState};
use crate::journal::StopMark;
use crate::lock::LockKey;
use crate::world::StopSignal;

/// A stop and a return make fewer calls.
const CALLS_MAX: u32 = 200;

/// Fails its n-th call, and does what the service does in all others.
struct Moody {
    service: CommandService,
    left: Cell<Option<u32>>,
}

impl Moody {
    fn call<T>(&self, action: &'static str, made: Result<T, ControllerError>) -> Result<T, ControllerError> {
        match self.left.get() {
            Some(1) => {
                self.left.set(None);
                let reason = "the look failed".to_owned();
                Err(ControllerError::Failed { action, service: self.label(), reason })
            }
            Some(left) => {
                self.left.set(Some(left - 1));
                made
            }
            None => made,
        }
    }

    fn has_failed(&self) -> bool {
        self.left.get().is_none()
    }
}

impl ServiceController for Moody {
    fn spec(&self) -> ServiceSpec {
        self.service.spec()
    }
    fn label(&self) -> String {
        self.service.label()
    }
    fn lock_keys(&self) -> Result<Vec<LockKey>, ControllerError> {
        self.service.lock_keys()
    }
    fn state(&self) -> Result<ServiceState, ControllerError> {
        self.call("look at", self.service.state())
    }
    fn processes(&self) -> Result<Vec<ProcessId>, ControllerError> {
        self.call("list the processes of", self.service.processes())
    }
    fn request_stop(&self) -> Result<(), ControllerError> {
        self.call("stop", self.service.request_stop())
    }
    fn signal(&self, signal: StopSignal) -> Result<(), ControllerError> {
        self.call("signal", self.service.signal(signal))
    }
    /// Done all the same: the worse case.
    fn start(&self) -> Result<(), ControllerError> {
        self.call("start", self.service.start())
    }
    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), ControllerError> {
        self.call("watch", self.service.wait_change(until, cancel))
    }
    fn hold(&self, persistent: bool) -> Result<(), ControllerError> {
        self.call("hold", self.service.hold(persistent))
    }
    fn release(&self) -> Result<(), ControllerError> {
        self.call("release", self.service.release())
    }
    fn shield(&self, stop_wait_max: Duration) -> Result<(), ControllerError> {
        self.call("shield", self.service.shield(stop_wait_max))
    }
    fn unshield(&self) -> Result<(), ControllerError> {
        self.call("unshield", self.service.unshield())
    }
    fn kill_sources(&self, stop_wait_max: Duration) -> Result<Vec<KillSource>, ControllerError> {
        self.call("audit", self.service.kill_sources(stop_wait_max))
    }
    fn stop_mark(&self) -> Result<StopMark, ControllerError> {
        self.call("look at", self.service.stop_mark())
    }
}

#[test]
fn one_failing_call_of_the_manager_leaves_no_service_stopped() {
    let policy = policy(Duration::from_secs(20));
    for call in 1..CALLS_MAX {
        let bench = Bench::new();
        let moody = Moody { service: bench.running(RUNS), left: Cell::new(Some(call)) };
        let service = &moody.service;
        let lock = bench.lock(service);
        let stopped = quiesce(&lock, &bench.context, &moody, &plan(&policy, &[]));
        let has_failed_the_stop = moody.has_failed();
        let end_of_it = match stopped {
            Ok(quiesced) => {
                let back = quiesced.resume();
                // Nobody was told to end yet, or a second attempt did it.
                assert!(back.is_ok(), "call {call}: {back:?}");
                "stopped and back".to_owned()
            }
            Err(error) => {
                assert!(has_failed_the_stop, "call {call}: {error}");
                error.to_string()
            }
        };
        assert!(up(service), "call {call}: {end_of_it}");
        assert_eq!(service.processes().unwrap().len(), 1, "call {call}: {end_of_it}");
        assert!(bench.entries().is_empty(), "call {call}: {end_of_it}");
        end(service);
        if !moody.has_failed() {
            assert!(call > 10, "there are only {call} calls");
            return;
        }
    }
    panic!("more calls than expected");
}
