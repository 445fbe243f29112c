//! Real processes. `tail -f /dev/null` stands for a service that runs until it is told otherwise.

mod pid_files;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::controller::{Activity, ExitCause};
use crate::controller::{CommandLine, ServiceController, ServiceSpec};
use crate::progress::Cancel;
use crate::world::StopSignal;

const BOUND: Duration = Duration::from_secs(20);

fn wait_until(service: &dyn ServiceController, what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    let cancel = Cancel::new().unwrap();
    while !reached() {
        assert!(Instant::now() < deadline, "never: {what}");
        let soon = Instant::now() + Duration::from_millis(20);
        service.wait_change(soon, &cancel).unwrap();
    }
}

fn is(service: &dyn ServiceController, activity: Activity) -> bool {
    service.state().unwrap().activity == activity
}

fn stop(service: &dyn ServiceController) {
    service.request_stop().unwrap();
    wait_until(service, "stopped", || service.processes().unwrap().is_empty());
}

fn shell(script: &str) -> CommandLine {
    CommandLine::new(["/bin/sh", "-c", script])
}

fn command(dir: &Path, script: &str) -> CommandService {
    CommandService::open("app".parse().unwrap(), shell(script), dir).unwrap()
}

/// Starts a daemon that writes its own pid file: its session is new, its parent is gone.
fn daemon(pid_file: &Path, then: &str) {
    let script = format!("echo $$ > '{}'; {then}", pid_file.display());
    let mut daemon = Command::new("/usr/bin/setsid");
    // Left behind by a test that fails, it would keep the harness waiting for the end of its output.
    daemon.args(["--fork", "sh", "-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(daemon.status().unwrap().success());
    until_program("tail", pid_file);
}

/// Waits until the process that the file names runs a program of this name.
fn until_program(name: &str, pid_file: &Path) {
    let deadline = Instant::now() + BOUND;
    let runs = || {
        let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
        std::fs::read_link(format!("/proc/{}/exe", pid.trim())).is_ok_and(|exe| exe.ends_with(name))
    };
    while !runs() {
        assert!(Instant::now() < deadline, "{name} does not run");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_is_started_stopped_and_found_again_by_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "echo hello; exec tail -f /dev/null");
    assert!(is(&service, Activity::Down));
    service.start().unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    assert!(service.start().is_err(), "twice");
    wait_until(&service, "logged", || service.log_since_start(10).unwrap() == ["hello"]);
    let again = crate::controller::open(&service.spec()).unwrap();
    assert_eq!(again.state().unwrap().run, service.state().unwrap().run);
    assert_eq!(again.lock_keys().unwrap(), service.lock_keys().unwrap());
    stop(again.as_ref());
    assert!(is(again.as_ref(), Activity::Down));
    assert!(!service.state().unwrap().activity.is_up());
}

#[test]
fn a_service_that_ignores_the_signal_goes_on_and_a_gentler_one_may_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!("trap '' TERM; : > '{}'; exec tail -f /dev/null", ready.display());
    let service = command(dir.path(), &script);
    service.start().unwrap();
    wait_until(&service, "ready", || ready.exists());
    service.request_stop().unwrap();
    assert!(is(&service, Activity::Stopping));
    service.signal(StopSignal::Usr1).unwrap();
    wait_until(&service, "ended", || service.processes().unwrap().is_empty());
}

#[test]
fn a_child_that_is_left_behind_still_is_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "(trap '' TERM; exec tail -f /dev/null) & exec tail -f /dev/null");
    service.start().unwrap();
    wait_until(&service, "both", || service.processes().unwrap().len() == 2);
    service.request_stop().unwrap();
    wait_until(&service, "main gone", || service.state().unwrap().main.is_none());
    assert_eq!(service.processes().unwrap().len(), 1);
    assert!(is(&service, Activity::Stopping));
    let left = service.processes().unwrap().remove(0);
    family::send(&left, StopSignal::Usr1, "left").unwrap();
    wait_until(&service, "all gone", || service.processes().unwrap().is_empty());
}

#[test]
fn a_failure_tells_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "exit 3");
    service.start().unwrap();
    wait_until(&service, "failed", || is(&service, Activity::Failed));
    assert_eq!(service.state().unwrap().exit, Some(ExitCause::Exited(3)));
}

#[test]
fn a_daemon_is_started_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("app.pid");
    daemon(&pid_file, "exec tail -f /dev/null");
    let service = PidFileService::open(&pid_file, None).unwrap();
    // In the middle of its execve it might still be a child at its gate.
    wait_until(&service, "up", || is(&service, Activity::Up));
    let before = service.state().unwrap().run;
    let ServiceSpec::PidFile { command: Some(command), .. } = service.spec() else { panic!("no command") };
    assert_eq!(command.argv.last().unwrap().0, Path::new("/dev/null"));
    stop(&service);
    assert!(is(&service, Activity::Down));
    // Another program does the rest, from the description alone.
    let later = crate::controller::open(&service.spec()).unwrap();
    later.start().unwrap();
    wait_until(later.as_ref(), "up again", || is(later.as_ref(), Activity::Up));
    assert_ne!(later.state().unwrap().run, before);
    let main = later.state().unwrap().main.unwrap();
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), main.pid.to_string());
    stop(later.as_ref());
}

/// A guard once started a second instance beside a child that went on writing after the main process had obeyed.
#[test]
fn another_program_knows_the_children_that_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "(trap '' TERM; exec tail -f /dev/null) & exec tail -f /dev/null");
    service.start().unwrap();
    wait_until(&service, "both", || service.processes().unwrap().len() == 2);
    let spec = serde_json::to_string(&service.spec()).unwrap();
    service.request_stop().unwrap();
    wait_until(&service, "main gone", || service.state().unwrap().main.is_none());
    let later = crate::controller::open(&serde_json::from_str(&spec).unwrap()).unwrap();
    assert!(is(later.as_ref(), Activity::Stopping));
    assert!(later.start().is_err(), "beside the child");
    let left = later.processes().unwrap();
    assert_eq!(left.len(), 1);
    family::send(&left[0], StopSignal::Usr1, "left").unwrap();
    wait_until(later.as_ref(), "all gone", || later.processes().unwrap().is_empty());
    assert!(is(later.as_ref(), Activity::Down));
}

#[test]
fn what_ends_at_once_has_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "exit 3");
    service.start().unwrap();
    assert!(!is(&service, Activity::Up));
    wait_until(&service, "failed", || is(&service, Activity::Failed));
    // By a pid file, too.
    let path = dir.path().join("app.pid");
    std::fs::write(&path, "4194303").unwrap();
    let service = PidFileService::open(&path, Some(CommandLine::new(["/bin/false"]))).unwrap();
    service.start().unwrap();
    assert!(!is(&service, Activity::Up));
    wait_until(&service, "failed", || is(&service, Activity::Failed));
}

#[test]
fn a_process_that_ends_during_a_look_ends_the_wait_after_it() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let main = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let running = running::Running::new("app".to_owned(), &dir.path().join("pid")).unwrap();
    running.state(Some(&main), None).unwrap();
    let until = Instant::now() + BOUND;
    running.wait_change(until, &Cancel::new().unwrap()).unwrap();
    assert!(Instant::now() < until, "nothing woke it");
}

#[test]
fn a_start_that_settles_between_look_and_wait_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let running = running::Running::new("service".to_owned(), &dir.path().join("pid")).unwrap();
    let own = ProcessId::own().unwrap();
    running.begin();
    assert_eq!(running.state(Some(&own), None).unwrap().activity, Activity::Starting);
    let settled = Instant::now() + Duration::from_millis(250);
    while Instant::now() < settled {
        std::thread::yield_now();
    }
    let began = Instant::now();
    running.wait_change(began + BOUND, &Cancel::new().unwrap()).unwrap();
    assert!(began.elapsed() < BOUND / 2, "nothing wakes it");
    assert_eq!(running.state(Some(&own), None).unwrap().activity, Activity::Up);
}

#[test]
fn a_process_that_is_just_ending_is_no_proof_that_a_service_is_up() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let main = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
    let pidfd = crate::world::Pidfd::open(&main).unwrap().unwrap();
    let deadline = Instant::now() + BOUND;
    // In the middle of its execve it shows no words yet.
    while launch::is_at_gate(&main) {
        assert!(Instant::now() < deadline, "cat is never itself");
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    while !pidfd.has_ended().unwrap() {
        assert!(Instant::now() < deadline, "cat does not end");
        std::thread::yield_now();
    }
    // It has no memory any more, and nobody has taken its end in.
    assert!(launch::is_at_gate(&main));
    child.wait().unwrap();
    assert!(!launch::is_at_gate(&main), "nobody is there");
}

#[test]
fn the_end_of_the_last_process_between_two_looks_ends_the_wait_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let service = command(dir.path(), "exec tail -f /dev/null");
    service.start().unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    let main = service.state().unwrap().main.unwrap();
    let pidfd = crate::world::Pidfd::open(&main).unwrap().unwrap();
    service.request_stop().unwrap();
    let deadline = Instant::now() + BOUND;
    while !pidfd.has_ended().unwrap() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    assert!(service.processes().unwrap().is_empty());
    let began = Instant::now();
    service.wait_change(began + BOUND, &Cancel::new().unwrap()).unwrap();
    assert!(began.elapsed() < BOUND / 2, "nothing wakes it");
}
