//! Stops and resumes of real processes. `tail -f /dev/null` stands for a service that runs until it is told otherwise;
//! a `sh` that says that it waits stands for the guard.

mod moody;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::controller::process::CommandService;
use crate::controller::{Activity, CommandLine, ServiceController};
use crate::journal::{Entry, JOURNAL_VERSION, Journal, OpenEntry, ServiceRecord, ServiceStage};
use crate::lock::{Holder, LockRules, OperationLock, Wait};
use crate::progress::Silent;
use crate::world::{ProcessId, clock};

/// Says that it waits, and ends: nothing dies in these tests but services.
const GUARD: &str = "echo waiting";

struct Bench {
    dir: tempfile::TempDir,
    context: Context,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context = Context {
            dirs: StateDirs::below(dir.path().join("svckit")),
            locks: LockRules::default(),
            guard_argv: ["sh", "-c", GUARD].map(PathBuf::from).to_vec(),
            cancel: Cancel::new().unwrap(),
            observer: Arc::new(Silent),
        };
        Self { dir, context }
    }

    fn service(&self, script: &str) -> CommandService {
        let command = CommandLine::new(["/bin/sh", "-c", script]);
        CommandService::open("app".parse().unwrap(), command, &self.dir.path().join("records")).unwrap()
    }

    fn running(&self, script: &str) -> CommandService {
        let service = self.service(script);
        start_service(&service, &[]).unwrap();
        service
    }

    fn lock(&self, service: &dyn ServiceController) -> OperationLock {
        let holder = Holder::own("test", "app").unwrap();
        let keys = service.lock_keys().unwrap();
        OperationLock::acquire(
            &self.context.dirs.lock,
            &self.context.locks,
            &keys,
            &holder,
            Wait::No,
            &self.context.cancel,
        )
        .unwrap()
    }

    fn entries(&self) -> Vec<OpenEntry> {
        Journal::at(self.context.dirs.journal()).entries().unwrap().into_iter().map(Result::unwrap).collect()
    }

    fn entry(&self, service: &dyn ServiceController, stage: ServiceStage, was_up: bool) -> OpenEntry {
        let record = ServiceRecord {
            spec: serde_json::to_value(service.spec()).unwrap(),
            label: service.label(),
            was_up,
            run: service.state().unwrap().run,
            start_state: None,
            triggers: Vec::new(),
            stage,
            stop_mark: None,
            ready: Vec::new(),
        };
        Journal::at(self.context.dirs.journal())
            .create(Entry {
                version: JOURNAL_VERSION,
                id: crate::name::BackupId::fresh(),
                operation: "test".to_owned(),
                owner: ProcessId::own().unwrap(),
                created: clock::now_rfc3339(),
                lock_keys: service.lock_keys().unwrap(),
                services: vec![record],
                replacements: Vec::new(),
                staging: Vec::new(),
            })
            .unwrap()
    }
}

fn policy(stop_wait: Duration) -> StopPolicy {
    StopPolicy { stop_wait_max: stop_wait, ..StopPolicy::default() }
}

fn plan<'a>(policy: &'a StopPolicy, databases: &'a [PathBuf]) -> StopPlan<'a> {
    StopPlan { operation: "test", databases, policy, ready: &[], persistent_hold: false, stays_stopped: false }
}

fn up(service: &dyn ServiceController) -> bool {
    service.state().unwrap().activity == Activity::Up
}

fn end(service: &dyn ServiceController) {
    service.request_stop().unwrap();
    let gone = |_| Ok(service.processes()?.is_empty().then_some(()));
    let ended = member::wait_for(service, Duration::from_secs(20), &Cancel::new().unwrap(), gone).unwrap();
    assert_eq!(ended, Some(()));
}

fn end_by_itself(service: &dyn ServiceController) {
    for process in service.processes().unwrap() {
        if let Some(pidfd) = crate::world::Pidfd::open(&process).unwrap() {
            pidfd.signal(crate::world::StopSignal::Usr1).unwrap();
        }
    }
}

fn wait_for_file(path: &Path) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline, "{} never came", path.display());
        std::thread::yield_now();
    }
}

const RUNS: &str = "exec tail -f /dev/null";

#[test]
fn a_stopped_service_is_in_the_journal_until_it_is_back() {
    let bench = Bench::new();
    let service = bench.running(RUNS);
    let before = service.state().unwrap().run;
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    let quiesced = quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap();
    assert!(service.processes().unwrap().is_empty());
    let entries = bench.entries();
    assert_eq!(entries[0].entry().services[0].stage, ServiceStage::Stopped);
    assert_eq!(entries[0].entry().services[0].run, before);
    assert_eq!(quiesced.resume().unwrap(), Return::Started);
    assert!(up(&service));
    assert_ne!(service.state().unwrap().run, before);
    assert!(bench.entries().is_empty());
    end(&service);
}

/// Says that its trap is set, and waits.
fn trapping(on_term: &str, ready: &Path) -> String {
    format!("trap '{on_term}' TERM; : > '{}'; tail -f /dev/null & while :; do wait; done", ready.display())
}

#[test]
fn how_our_own_child_ended_is_known() {
    for (on_term, wanted) in [
        ("kill $!; exit 0", Ok(StopOutcome::Clean)),
        ("kill $!; trap - TERM; kill -TERM $$", Ok(StopOutcome::Clean)),
        ("kill $!; exit 3", Ok(StopOutcome::Unclean)),
        ("kill $!; kill -USR2 $$", Ok(StopOutcome::Unclean)),
        // Never a success, whoever it was.
        ("kill $!; kill -KILL $$", Err(crate::failure::FailureKind::Failed)),
        ("kill $!; exit 137", Err(crate::failure::FailureKind::Failed)),
    ] {
        let bench = Bench::new();
        let ready = bench.dir.path().join("ready");
        let service = bench.running(&trapping(on_term, &ready));
        wait_for_file(&ready);
        let lock = bench.lock(&service);
        let policy = policy(Duration::from_secs(20));
        let stopped = quiesce(&lock, &bench.context, &service, &plan(&policy, &[]));
        let outcome = stopped.as_ref().map(Quiesced::outcome).map_err(crate::Failure::kind);
        assert_eq!(outcome, wanted, "{on_term}");
        drop(stopped);
        assert!(up(&service), "{on_term}: it is back");
        assert!(bench.entries().is_empty());
        end_by_itself(&service);
    }
}

#[test]
fn how_somebody_else_s_child_ended_is_not_said() {
    let bench = Bench::new();
    let started = bench.running(RUNS);
    // Another program's view of it.
    let service = crate::controller::open(&started.spec()).unwrap();
    let lock = bench.lock(service.as_ref());
    let policy = policy(Duration::from_secs(20));
    let database = bench.dir.path().join("app.db");
    for (wal, wanted) in [(None, StopOutcome::EndNotSeen), (Some("left"), StopOutcome::Unclean)] {
        std::fs::write(&database, "").unwrap();
        if let Some(text) = wal {
            std::fs::write(bench.dir.path().join("app.db-wal"), text).unwrap();
        }
        let databases = [database.clone()];
        let view = crate::controller::open(&started.spec()).unwrap();
        let quiesced = quiesce(&lock, &bench.context, view.as_ref(), &plan(&policy, &databases)).unwrap();
        assert_eq!(quiesced.outcome(), wanted);
        quiesced.resume().unwrap();
    }
    end(service.as_ref());
}

#[test]
fn a_token_that_is_dropped_brings_the_service_back() {
    let bench = Bench::new();
    let service = bench.running(RUNS);
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    drop(quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap());
    assert!(up(&service));
    assert!(bench.entries().is_empty());
    end(&service);
}

#[test]
fn a_service_that_was_not_running_is_not_started() {
    let bench = Bench::new();
    let service = bench.service(RUNS);
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    let quiesced = quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap();
    assert_eq!(quiesced.resume().unwrap(), Return::WasNotRunning);
    assert!(!up(&service));
    assert!(bench.entries().is_empty());
}

#[test]
fn a_service_that_ignores_the_signal_is_never_killed_and_its_return_is_left_to_the_guard() {
    let bench = Bench::new();
    let ready = bench.dir.path().join("ready");
    let service = bench.running(&format!("trap '' TERM; : > '{}'; exec tail -f /dev/null", ready.display()));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !ready.exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_millis(100));
    let error = quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap_err();
    assert!(matches!(error, StopError::TimedOut { .. }), "{error}");
    assert_eq!(service.processes().unwrap().len(), 1, "it runs on");
    let entries = bench.entries();
    assert_eq!(entries[0].entry().services[0].stage, ServiceStage::GivenUp);
    // Its own end comes at last; whoever replays the entry then starts it.
    service.signal(crate::world::StopSignal::Usr1).unwrap();
    let gone = |_| Ok(service.processes()?.is_empty().then_some(()));
    member::wait_for(&service, Duration::from_secs(20), &Cancel::new().unwrap(), gone).unwrap().unwrap();
    let done = replay(bench.entries().remove(0), ResumeMode::Now).unwrap();
    assert_eq!(done[0].1, Return::Started);
    let again = bench.service(RUNS);
    assert!(up(&again));
    again.signal(crate::world::StopSignal::Usr1).unwrap();
}

#[test]
fn nothing_is_stopped_without_a_guard_or_a_journal() {
    let mut bench = Bench::new();
    let service = bench.running(RUNS);
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    bench.context.guard_argv = vec!["/bin/false".into()];
    let error = quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap_err();
    assert!(matches!(error, StopError::Guard { .. }), "{error}");
    assert!(up(&service));
    assert!(bench.entries().is_empty());
    bench.context.dirs.state = "/proc/nowhere".into();
    let error = quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap_err();
    assert!(matches!(error, StopError::Journal(_)), "{error}");
    assert!(up(&service));
    end(&service);
}

#[test]
fn replay_starts_what_was_up_at_every_stage_and_nothing_else() {
    use ServiceStage::{GivenUp, Recorded, Shielding, Starting, Stopped, Stopping, Waiting};
    for stage in [Recorded, Shielding, Stopping, Waiting, Stopped, GivenUp, Starting] {
        let bench = Bench::new();
        let service = bench.service(RUNS);
        let done = replay(bench.entry(&service, stage, false), ResumeMode::Now).unwrap();
        assert_eq!(done[0].1, Return::WasNotRunning, "{stage:?}");
        assert!(!up(&service));
        let done = replay(bench.entry(&service, stage, true), ResumeMode::Now).unwrap();
        assert_eq!(done[0].1, Return::Started, "{stage:?}");
        assert!(up(&service));
        assert!(bench.entries().is_empty());
        if !matches!(stage, Stopping | Waiting | GivenUp) {
            let done = replay(bench.entry(&service, stage, true), ResumeMode::Now).unwrap();
            assert_eq!(done[0].1, Return::StillUp, "{stage:?}");
        }
        end(&service);
    }
}

/// The guard of a program that was killed during a stop once took the service, which had not obeyed yet, for one that
/// was simply up, and forgot it; then it ended.
#[test]
fn a_start_that_died_in_the_middle_is_made_again_and_what_somebody_else_did_is_left() {
    let bench = Bench::new();
    let service = bench.running(RUNS);
    let first = service.stop_mark().unwrap();
    end(&service);
    // Another run since: that of the start which was begun, or somebody's.
    start_service(&service, &[]).unwrap();
    end(&service);
    for (stage, wanted) in [(ServiceStage::Stopped, Return::LeftToItsOwner), (ServiceStage::Starting, Return::Started)]
    {
        let mut entry = bench.entry(&service, stage, true);
        entry.update(|entry| entry.services[0].stop_mark = Some(first.clone())).unwrap();
        let done = replay(entry, ResumeMode::Now).unwrap();
        assert_eq!((done[0].1, up(&bench.service(RUNS))), (wanted, wanted == Return::Started));
    }
    end(&service);
}

#[test]
fn replay_waits_for_a_stop_that_still_runs() {
    for (stage, signal) in
        [(ServiceStage::Waiting, true), (ServiceStage::GivenUp, true), (ServiceStage::Stopping, false)]
    {
        let bench = Bench::new();
        // Obeys, but only once it is told so through the file.
        let go = bench.dir.path().join("go");
        assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
        let script =
            format!("trap 'read x < {0}; kill $!; exit 0' TERM; tail -f /dev/null & : > {0}.up; wait", go.display());
        let script = if signal { script } else { RUNS.to_owned() };
        let service = bench.running(&script);
        let before = service.state().unwrap().run;
        let entry = bench.entry(&service, stage, true);
        if signal {
            let up = PathBuf::from(format!("{}.up", go.display()));
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while !up.exists() {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            service.request_stop().unwrap();
        }
        let guard = std::thread::spawn(move || replay(entry, ResumeMode::Guard));
        if signal {
            // Opened for writing once the service reads it, which it does when it has got the signal.
            std::fs::write(&go, "go\n").unwrap();
        }
        let done = guard.join().unwrap().unwrap();
        assert_eq!(done[0].1, Return::Started, "{stage:?}");
        let again = bench.service(RUNS);
        assert_ne!(again.state().unwrap().run, before);
        for process in again.processes().unwrap() {
            if let Some(pidfd) = crate::world::Pidfd::open(&process).unwrap() {
                pidfd.signal(crate::world::StopSignal::Usr1).unwrap();
            }
        }
    }
}

#[test]
fn an_entry_that_was_written_by_a_person_s_stop_is_left_alone() {
    let bench = Bench::new();
    let service = bench.running(RUNS);
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    quiesce(&lock, &bench.context, &service, &plan(&policy, &[])).unwrap().leave_stopped().unwrap();
    assert!(!up(&service));
    assert!(is_left_stopped(&bench.entries()[0]));
}

#[test]
fn a_database_that_a_stranger_has_open_stops_the_stop() {
    let bench = Bench::new();
    let database = bench.dir.path().join("app.db");
    rusqlite::Connection::open(&database).unwrap().execute_batch("create table t(x)").unwrap();
    let mut stranger = std::process::Command::new("tail")
        .args(["-f"])
        .arg(&database)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let opened = || {
        std::fs::read_dir(format!("/proc/{}/fd", stranger.id())).is_ok_and(|fds| {
            fds.filter_map(Result::ok)
                .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&database)))
        })
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !opened() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let service = bench.running(RUNS);
    let lock = bench.lock(&service);
    let policy = policy(Duration::from_secs(20));
    let databases = [database];
    let error = quiesce(&lock, &bench.context, &service, &plan(&policy, &databases)).unwrap_err();
    assert!(matches!(error, StopError::StillOpen { .. }), "{error}");
    assert!(up(&service), "it is back");
    assert!(bench.entries().is_empty());
    end(&service);
    let id = ProcessId::of(i32::try_from(stranger.id()).unwrap()).unwrap().unwrap();
    crate::world::Pidfd::open(&id).unwrap().unwrap().signal(crate::world::StopSignal::Term).unwrap();
    stranger.wait().unwrap();
}
