//! Real processes. `tail -f /dev/null` stands for a service that runs until it is told otherwise.

use std::path::Path;
use std::process::Command;
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
    let status = Command::new("setsid").args(["--fork", "sh", "-c", &script]).status().unwrap();
    assert!(status.success());
    let deadline = Instant::now() + BOUND;
    while std::fs::read_to_string(pid_file).unwrap_or_default().is_empty() {
        assert!(Instant::now() < deadline, "the daemon wrote no pid file");
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
    assert!(is(&service, Activity::Up));
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

#[test]
fn wrong_pid_files_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    let open = || PidFileService::open(&path, None).map(|service| service.label());
    assert!(matches!(open(), Err(ControllerError::NotFound { .. })), "missing");
    for content in ["garbage", "0", "1", "-5", &std::process::id().to_string(), &"9".repeat(200)] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(open(), Err(ControllerError::Invalid { .. })), "{content}");
    }
    std::fs::write(&path, "4194303").unwrap();
    assert!(matches!(open(), Err(ControllerError::NotFound { .. })), "dead");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(open(), Err(ControllerError::Invalid { .. })), "symlink");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(open(), Err(ControllerError::Invalid { .. })), "directory");
}

#[test]
fn a_pid_that_was_given_away_again_is_not_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    daemon(&path, "exec tail -f /dev/null");
    let live = PidFileService::open(&path, None).unwrap();
    // The same pid in a file from long before the process began.
    let old = dir.path().join("old.pid");
    std::fs::copy(&path, &old).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    assert!(matches!(PidFileService::open(&old, None), Err(ControllerError::NotFound { .. })));
    stop(&live);
}
