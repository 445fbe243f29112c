//! The command under the lock, and what people and scripts are told.

use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{program, run, sh, signal, start};

use crate::place::{Gate, Place, WAIT_MAX};

pub(crate) fn as_if_it_ran_alone() {
    let place = Place::new();
    for status in [0, 1, 3, 75, 125, 255] {
        place.under_lock(&format!("exit {status}")).expect(status);
    }
    assert_eq!(place.under_lock("kill -USR1 $$").status, 128 + 10);
    assert_eq!(place.under_lock("umask 0").expect(0).stderr, "");
    let mut command = std::process::Command::new("sh");
    let line = format!("umask 027; exec {} run --name a -- sh -c umask", program("svc-lock").display());
    command.args(["-c", &line]).env("SVCKIT_STATE_DIR", place.path("state"));
    assert_eq!(run(command, WAIT_MAX).expect(0).stdout.trim(), "0027");
    // What is sent to svc-lock reaches the command, which decides.
    let (ready, go) = (Gate::new(place.path("ready")), Gate::new(place.path("go")));
    for (name, sent) in [("HUP", Signal::HUP), ("INT", Signal::INT), ("TERM", Signal::TERM), ("USR2", Signal::USR2)] {
        let script = format!("trap 'echo {name}; exit 9' {name}; echo r > ready; read line < go; exit 1");
        let held = start(place.command(["run", "--name", "a", "--", "sh", "-c", &script]));
        ready.line();
        assert!(signal(held.pid(), sent));
        let outcome = held.finish(WAIT_MAX).expect(9);
        assert_eq!(outcome.stdout.trim(), name);
    }
    drop(go);
    // And one that comes while svc-lock waits for the lock ends the wait.
    let held = place.hold();
    let waiter = start(place.command(["run", "--name", "a", "--wait", "50s", "--", "true"]));
    let deadline = std::time::Instant::now() + WAIT_MAX;
    while place.lock(["status", "--json"]).json()["locks"][0]["waiting"][0]["pid"] != waiter.pid() {
        assert!(std::time::Instant::now() < deadline, "it never waited");
    }
    assert!(signal(waiter.pid(), Signal::TERM));
    let outcome = waiter.finish(Duration::from_secs(20)).expect(125);
    assert!(outcome.stderr.contains("cancelled"), "{}", outcome.stderr);
    held.let_go().expect(0);
}

pub(crate) fn who_and_what() {
    let place = Place::new();
    let held = place.hold();
    let text = place.is_held().stderr;
    for word in ["svc-lock: name a is in use", "run of name a by process", "since 20", "at waiting", "hint: wait"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    place.lock(["run", "--name", "a", "--conflict-exit-code", "3", "--", "true"]).expect(3);
    place.lock(["run", "--name", "b", "--", "true"]).expect(0);
    let status = place.lock(["status", "--json"]).expect(0).json();
    let locks = status["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 1, "a free one is not shown: {status}");
    assert_eq!(locks[0]["lock"], "name a");
    assert_eq!(locks[0]["record"]["step"], "waiting");
    assert_eq!(locks[0]["record"]["host"], sh("uname", ["-n"]).stdout.trim());
    let pids: Vec<_> = locks[0]["holders"].as_array().unwrap().iter().map(|h| h["pid"].as_i64().unwrap()).collect();
    let mut wanted = vec![i64::from(held.run.pid()), i64::from(held.child)];
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
    let text = place.lock(["status", "--all"]).expect(0).stdout;
    assert!(text.contains("name a: held") && text.contains("name b: free"), "{text}");
    // A step that a nested run is at.
    held.let_go().expect(0);
    let nested = "svc-lock run --name a --step contents -- svc-lock status --json";
    let status = place.under_lock(nested).expect(0).json();
    assert_eq!(status["locks"][0]["record"]["step"], "contents");
    place.lock(["status", "--name", "a"]).expect(10);
    place.lock(["prove", "--name", "a"]).expect(10);
}

/// The command runs already, and svc-lock does not know its pidfd yet.
pub(crate) fn a_signal_while_it_starts() {
    let place = Place::new();
    let go = Gate::new(place.path("go"));
    for name in ["TERM", "USR2", "WINCH"] {
        let script = format!("trap 'exit 9' {name}; kill -{name} $PPID; read line < go; exit 1");
        let lock = place.command(["run", "--name", "a", "--", "sh", "-c", &script]);
        let mut traced = std::process::Command::new("strace");
        traced.args(["-o", "/dev/null", "-e", "inject=pidfd_open:delay_enter=300000"]).arg(lock.get_program());
        traced.args(lock.get_args()).current_dir(place.dir.path()).env_remove("SVCKIT_LOCK");
        traced.env("SVCKIT_STATE_DIR", place.path("state"));
        run(traced, WAIT_MAX).expect(9);
    }
    drop(go);
}

pub(crate) fn of_a_service() {
    let place = Place::new();
    let (ready, go) = (Gate::new(place.path("ready")), Gate::new(place.path("go")));
    let notes =
        start(place.program("svc-lock", ["run", "--name", "notes", "--", "sh", "-c", "echo $$ > ready; read x"]));
    std::fs::write(place.path("notes.pid"), ready.line()).unwrap();
    sh("sqlite3", [place.path("notes.db").as_os_str(), "CREATE TABLE t(a)".as_ref()]).expect(0);
    let at = |name: &str| place.path(name).display().to_string();
    let target = format!("[target.notes]\npid-file = {:?}\nsqlite = [{:?}]\n", at("notes.pid"), at("notes.db"));
    std::fs::write(place.path("svckit.toml"), target).unwrap();
    let service = ["--config", "svckit.toml", "--service", "notes"];
    let script = "echo $$ > ready; read line < go";
    let held = start(place.command(["run"].into_iter().chain(service).chain(["--", "sh", "-c", script])));
    ready.line();
    for same in [&["--pid-file", "notes.pid"][..], &["--database", "notes.db"], &service] {
        place.lock(["run"].iter().chain(same).chain(&["--", "true"])).expect(75);
    }
    run(place.program("svc-ctl", ["stop", "--pid-file", "notes.pid"]), WAIT_MAX).expect(20);
    go.open();
    held.finish(WAIT_MAX).expect(0);
    let proved = "svc-lock prove --pid-file notes.pid && svc-lock prove --database notes.db";
    place.lock(["run"].into_iter().chain(service).chain(["--", "sh", "-c", proved])).expect(0);

    let told = place.lock(["run", "--config", "svckit.toml", "--service", "note", "--", "true"]).expect(125).stderr;
    assert!(told.starts_with("svc-lock: ") && told.contains("note") && told.contains("\nhint: "), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    place.lock(["prove", "--config", "svckit.toml", "--service", "note"]).expect(2);
    // What asks for keys is another program of the same release.
    let copy = place.path("alone");
    std::fs::create_dir(&copy).unwrap();
    // By another process: a file that is open for writing here, or in what another story forks meanwhile, can't be executed.
    sh("cp", [program("svc-lock"), copy.join("svc-lock")]).expect(0);
    let words = ["run", "--pid-file", "notes.pid", "--", "true"];
    let mut alone = std::process::Command::new(copy.join("svc-lock"));
    alone.args(words).current_dir(place.dir.path()).env("SVCKIT_STATE_DIR", place.path("state"));
    assert!(run(alone, WAIT_MAX).expect(125).stderr.contains("alone/svc-ctl"));
    drop(notes);
}

pub(crate) fn own_failures() {
    let place = Place::new();
    std::fs::write(place.path("plain"), "no program").unwrap();
    place.lock(["run", "--name", "a", "--", "./none"]).expect(127);
    place.lock(["run", "--name", "a", "--", "./plain"]).expect(126);
    for usage in [&["run", "--name", "a"][..], &["run", "--", "true"], &["run", "--name", "", "--", "true"]] {
        place.lock(usage.iter().copied()).expect(125);
    }
    place.lock(["run", "--name", "a", "--wait", "soon", "--", "true"]).expect(125);
    place.lock(["run", "--name", "a\nb", "--", "true"]).expect(125);
    place.lock(["status", "--nme", "a"]).expect(2);
    sh("chmod", ["0777".as_ref(), place.path("state/lock").as_os_str()]).expect(0);
    let text = place.lock(["run", "--name", "a", "--", "true"]).expect(125).stderr;
    assert!(text.contains("has mode 0777") && text.contains("chmod go-w"), "{text}");
    // A secret in an argument is shown by nobody.
    let secret = place.lock(["run", "--name", "a", "--", "./none", "--password=canary"]);
    assert!(!secret.stderr.contains("canary"), "{}", secret.stderr);
    assert!(!sh("grep", ["-r".as_ref(), "canary".as_ref(), place.path("state").as_os_str()]).stdout.contains("canary"));
}

/// As nobody, on a lock file of root's.
pub(crate) fn no_permission() {
    let place = Place::new();
    place.is_free();
    let lock = std::fs::read_dir(place.path("state/lock")).unwrap().next().unwrap().unwrap().path();
    sh("chmod", ["-R".as_ref(), "go+rX".as_ref(), place.dir.path().as_os_str()]).expect(0);
    sh("chmod", ["0444".as_ref(), lock.as_os_str()]).expect(0);
    place.is_free();
    let text = run(as_nobody(&place, &["run", "--name", "a", "--", "true"]), WAIT_MAX).expect(125).stderr;
    assert!(text.contains("open the lock") && text.contains("Permission denied"), "{text}");
}

/// A user's other programs can't look into svckit's own: the kernel's list of locks has them all the same.
pub(crate) fn hidden_descriptors() {
    let place = Place::new();
    let (ready, go) = (Gate::new(place.path("ready")), Gate::new(place.path("go")));
    sh("chown", ["-R".as_ref(), "65534:65534".as_ref(), place.dir.path().as_os_str()]).expect(0);
    let script = "echo $$ > ready; read line < go";
    let held = start(as_nobody(&place, &["run", "--name", "a", "--", "sh", "-c", script]));
    let child: i64 = ready.line().trim().parse().unwrap();
    let status = run(as_nobody(&place, &["status", "--name", "a", "--json"]), WAIT_MAX).expect(0).json();
    let holders = status["locks"][0]["holders"].as_array().unwrap();
    let pids: Vec<i64> = holders.iter().map(|holder| holder["pid"].as_i64().unwrap()).collect();
    assert!(pids.contains(&child) && pids.contains(&held.pid().into()), "{status}");
    go.open();
    held.finish(WAIT_MAX).expect(0);
}

fn as_nobody(place: &Place, args: &[&str]) -> std::process::Command {
    let copy = place.path("svc-lock");
    if !copy.exists() {
        sh("cp", [program("svc-lock"), copy.clone()]).expect(0);
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(copy).args(args);
    command.env("SVCKIT_STATE_DIR", place.path("state")).env_remove("SVCKIT_LOCK").current_dir(place.dir.path());
    command
}

pub(crate) fn a_shared_file_system() {
    let place = Place::new();
    let (real, mounted) = (place.path("real"), place.path("state"));
    std::fs::create_dir(&real).unwrap();
    std::fs::create_dir(&mounted).unwrap();
    sh("bindfs", [&real, &mounted]).expect(0);
    let refused = place.lock(["run", "--name", "a", "--", "true"]);
    let warned = place.lock(["run", "--name", "a", "--on-network", "warn", "--", "true"]);
    // The other programs go by the configuration, and so does the guard that they start.
    sh("sqlite3", [place.path("a.db").as_os_str(), "CREATE TABLE t(a)".as_ref()]).expect(0);
    std::fs::write(place.path("svckit.toml"), "[locks]\non-network = \"warn\"\n").unwrap();
    let mut service = std::process::Command::new("sleep");
    service.arg("60");
    let service = start(service);
    std::fs::write(place.path("a.pid"), service.pid().to_string()).unwrap();
    let words = "backup --sqlite a.db --to store --name a --mode cold --pid-file a.pid --start-command";
    let again = format!("sh -c 'sleep 60 & echo $! > {}'", place.path("a.pid").display());
    let words: Vec<&str> = words.split(' ').chain([again.as_str()]).collect();
    let backup_refused = run(place.program("svc-backup", &words), WAIT_MAX);
    let configured = ["--config", "svckit.toml"].iter().chain(&words);
    let backed_up = run(place.program("svc-backup", configured), WAIT_MAX);
    sh("fusermount", ["-u".as_ref(), mounted.as_os_str()]).expect(0);
    let text = refused.expect(125).stderr;
    assert!(text.contains("lies on FUSE") && text.contains("SVCKIT_STATE_DIR"), "{text}");
    assert!(warned.expect(0).stderr.contains("may be worth nothing"));
    assert!(backup_refused.expect(22).stderr.contains("on-network = \"warn\""));
    assert!(backed_up.expect(0).stderr.contains("may be worth nothing"));
}
