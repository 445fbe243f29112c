//! Whom a pid file names, and how a daemon is started again.

use std::os::unix::fs::PermissionsExt;

use super::*;

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
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(open(), Err(ControllerError::Invalid { .. })), "symlink");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(open(), Err(ControllerError::Invalid { .. })), "directory");
}

/// Makes a file older than every process.
fn age(path: &Path) {
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// A process that is no service of ours, ended with the test.
struct Stranger(std::process::Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn assert_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the stranger was ended");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Some(id) = ProcessId::of(i32::try_from(self.0.id()).unwrap()).unwrap() {
            family::send(&id, StopSignal::Term, "stranger").unwrap();
        }
        self.0.wait().unwrap();
    }
}

fn stale(path: &Path, command: Option<CommandLine>) -> PidFileService {
    let service = PidFileService::open(path, command).unwrap();
    let state = service.state().unwrap();
    assert_eq!((state.activity, state.main), (Activity::Down, None));
    assert!(state.detail.contains("stale") || state.detail.contains("doubtful"), "{}", state.detail);
    assert!(service.processes().unwrap().is_empty());
    // Whatever is asked of it, nobody is signalled.
    drop((service.request_stop(), service.signal(StopSignal::Term)));
    service
}

#[test]
fn a_dead_process_is_a_service_that_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    std::fs::write(&path, "4194303\n").unwrap();
    let service = stale(&path, None);
    service.lock_keys().unwrap();
    let refused = service.start().unwrap_err();
    assert!(refused.to_string().contains("command"), "{refused}");
    let service = stale(&path, Some(CommandLine::new(["/usr/bin/tail", "-f", "/dev/null"])));
    service.start().unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    stop(&service);
}

#[test]
fn a_pid_that_was_given_away_again_is_not_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    let mut stranger = Stranger::new();
    std::fs::write(&path, format!("{}\n", stranger.0.id())).unwrap();
    age(&path);
    // Its command is known, and the process runs another: it can be started.
    let tail = CommandLine::new(["/usr/bin/tail", "-f", "/dev/null"]);
    let service = stale(&path, Some(tail.clone()));
    service.start().unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    stop(&service);
    // Nothing is known: the file may be right, and the clock was set.
    std::fs::write(&path, format!("{}\n", stranger.0.id())).unwrap();
    age(&path);
    let refused = stale(&path, None).lock_keys().unwrap_err();
    assert!(matches!(refused, ControllerError::Unsafe { .. }), "{refused}");
    // The file is new, and anybody may have written it.
    std::fs::write(&path, format!("{}\n", stranger.0.id())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = stale(&path, None).lock_keys().unwrap_err();
    assert!(refused.to_string().contains("everybody can write to it (mode 0666)"), "{refused}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(PidFileService::open(&path, None).unwrap().lock_keys().is_ok());
    // The file is new, and names what the command does not.
    std::fs::write(&path, format!("{}\n", stranger.0.id())).unwrap();
    let service = stale(&path, Some(tail));
    for refused in [service.lock_keys().map(drop), service.start()] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ControllerError::Unsafe { .. }), "{refused}");
        assert!(refused.to_string().contains("sleep 600"), "{refused}");
    }
    stranger.assert_unharmed();
}

#[test]
fn the_number_of_a_thread_is_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
        assert!(ended.recv().is_err(), "nothing is ever sent");
    });
    std::fs::write(&path, format!("{}\n", told.recv().unwrap())).unwrap();
    let detail = stale(&path, None).state().unwrap().detail;
    assert!(detail.contains("thread"), "{detail}");
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_clock_that_was_set_does_not_make_a_service_stale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    daemon(&path, "exec tail -f /dev/null");
    age(&path);
    let service = PidFileService::open(&path, Some(CommandLine::new(["/usr/bin/tail", "-f", "/dev/null"]))).unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    stop(&service);
}

/// A virtual environment was upgraded while its service ran: the interpreter's link led to another file, and the old
/// one was gone.
#[test]
fn a_start_again_has_the_directory_the_umask_and_the_name_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let (path, link) = (place.join("app.pid"), place.join("noted"));
    std::fs::copy("/usr/bin/tail", place.join("old")).unwrap();
    std::os::unix::fs::symlink("old", &link).unwrap();
    let script = format!("cd '{}'; umask 0027; echo $$ > app.pid; exec ./noted -f /dev/null", place.display());
    let mut daemon = Command::new("/usr/bin/setsid");
    // No PATH in which setsid(1) would be found, and a name that a plain shell would drop.
    daemon.env_clear().envs([("PATH", "/nowhere"), ("app.url", "a=b c\nd")]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(daemon.args(["--fork", "/bin/bash", "-p", "-c", &script]).status().unwrap().success());
    until_program("old", &path);
    std::fs::copy("/usr/bin/tail", place.join("newer")).unwrap();
    std::fs::remove_file(place.join("old")).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("newer", &link).unwrap();
    let service = PidFileService::open(&path, None).unwrap();
    stop(&service);
    service.start().unwrap();
    wait_until(&service, "up", || is(&service, Activity::Up));
    until_program("newer", &path);
    let main = service.state().unwrap().main.unwrap();
    let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", main.pid)).unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", main.pid)).unwrap(), place);
    assert!(String::from_utf8_lossy(&read("status")).contains("Umask:\t0027"));
    let environment = read("environ");
    let has = |wanted: &[u8]| environment.split(|byte| *byte == 0).any(|variable| variable == wanted);
    assert!(has(b"PATH=/nowhere") && has(b"app.url=a=b c\nd"), "{}", String::from_utf8_lossy(&environment));
    assert!(String::from_utf8_lossy(&read("cmdline")).ends_with("/noted\0-f\0/dev/null\0"));
    stop(&service);
}

#[test]
fn a_child_that_waits_at_its_gate_is_no_run_however_often_it_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.pid");
    let command = CommandLine::new(["/bin/sleep", "600"]);
    let (mut child, gate) = launch::launch(&command, None).unwrap();
    std::fs::write(&path, format!("{}\n", child.id())).unwrap();
    // Whoever started it is about to die, and another program looks.
    let service = PidFileService::open(&path, Some(command)).unwrap();
    for _ in 0..3 {
        assert_ne!(service.state().unwrap().activity, Activity::Up);
        assert_eq!(service.stop_mark().unwrap().run, None, "it never ran");
    }
    drop(gate);
    child.wait().unwrap();
    wait_until(&service, "down", || is(&service, Activity::Down));
    assert_eq!(service.stop_mark().unwrap().run, None, "it never ran");
}
