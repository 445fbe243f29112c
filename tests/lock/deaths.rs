//! Holders that are killed, stopped, replaced; files that are removed.

use rustix::process::Signal;
use svckit_testbed::command::{program, run, signal, start};

use crate::place::{Place, WAIT_MAX};

pub(crate) fn the_holder_is_killed() {
    let place = Place::new();
    let mut held = place.hold();
    let run_pid = held.run.pid();
    let text = place.is_held().stderr;
    assert!(text.contains(&format!("run of name a by process {run_pid}")) && text.contains("at waiting"), "{text}");
    held.run.kill();
    let _killed = held.run.finish(WAIT_MAX);
    let text = place.is_held().stderr;
    assert!(text.contains(&format!("which has ended; process {} still holds it", held.child)), "{text}");
    let status = place.lock(["status", "--name", "a", "--json"]).expect(0).json();
    let holders = status["locks"][0]["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{status}");
    assert_eq!(holders[0]["pid"], held.child);
    held.go.open();
    place.becomes_free();
}

pub(crate) fn the_child_is_killed() {
    let place = Place::new();
    let held = place.hold();
    assert!(signal(held.child, Signal::KILL));
    assert_eq!(held.run.finish(WAIT_MAX).status, 137);
    place.is_free();
}

pub(crate) fn both_are_killed() {
    let place = Place::new();
    let mut held = place.hold();
    assert!(signal(held.child, Signal::STOP));
    held.run.kill();
    assert!(signal(held.child, Signal::KILL));
    let _killed = held.run.finish(WAIT_MAX);
    place.becomes_free();
    place.lock(["status", "--name", "a"]).expect(10);
}

pub(crate) fn the_holder_is_stopped() {
    let place = Place::new();
    let held = place.hold();
    assert!(signal(held.run.pid(), Signal::STOP) && signal(held.child, Signal::STOP));
    place.lock(["run", "--name", "a", "--wait", "200ms", "--", "true"]).expect(75);
    assert!(signal(held.run.pid(), Signal::CONT) && signal(held.child, Signal::CONT));
    held.let_go().expect(0);
    place.is_free();
}

pub(crate) fn a_waiter_is_let_in() {
    let place = Place::new();
    let mut held = place.hold();
    let waiter = start(place.command(["run", "--name", "a", "--wait", "50s", "--", "echo", "in"]));
    // Seen to wait, by the kernel's own table.
    let deadline = std::time::Instant::now() + WAIT_MAX;
    loop {
        let status = place.lock(["status", "--name", "a", "--json"]).expect(0).json();
        if status["locks"][0]["waiting"][0]["pid"] == waiter.pid() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the waiter never waited: {status}");
    }
    held.run.kill();
    assert!(signal(held.child, Signal::KILL));
    let outcome = waiter.finish(WAIT_MAX).expect(0);
    assert_eq!(outcome.stdout, "in\n");
    let _killed = held.run.finish(WAIT_MAX);
}

pub(crate) fn the_file_is_removed() {
    let place = Place::new();
    let held = place.hold();
    let directory = place.path("state/lock");
    let path = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&path).unwrap();
    let text = place.is_held().stderr;
    assert!(text.contains("was removed from") && text.contains("never remove a lock file"), "{text}");
    // What came into its place is no better, nor is an edited one.
    assert!(path.exists());
    place.is_held();
    std::fs::write(place.path("edited"), "{}").unwrap();
    std::fs::rename(place.path("edited"), &path).unwrap();
    place.is_held();
    held.let_go().expect(0);
    place.becomes_free();
    // A file of before a crash, whatever is in it, blocks nobody.
    std::fs::write(&path, "\0garbage").unwrap();
    place.is_free();
}

/// The kernel is told to give the very pid of the dead holder away again, to a process that lives on.
pub(crate) fn the_pid_is_reused() {
    let place = Place::new();
    let mut held = place.hold();
    let pid = held.run.pid();
    held.run.kill();
    assert!(signal(held.child, Signal::KILL));
    let _killed = held.run.finish(WAIT_MAX);
    let other = (0..10_000).find_map(|_| {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut command = std::process::Command::new("tail");
        command.args(["-f", "/dev/null"]);
        let mut process = start(command);
        if process.pid() == pid {
            return Some(process);
        }
        process.kill();
        let _another = process.finish(WAIT_MAX);
        None
    });
    let mut other = other.expect("the pid came back");
    place.lock(["status", "--name", "a"]).expect(10);
    place.is_free();
    other.kill();
    let _killed = other.finish(WAIT_MAX);
}

/// In a time namespace (time_namespaces(7)), where the machine has run for years longer: nothing goes by a time.
pub(crate) fn another_clock() {
    let place = Place::new();
    let held = place.hold();
    let mut command = std::process::Command::new("unshare");
    command.args(["--time", "--boottime", "100000000", "--monotonic", "100000000", "--fork", "--"]);
    command.arg(program("svc-lock")).args(["run", "--name", "a", "--wait", "200ms", "--", "true"]);
    command.env("SVCKIT_STATE_DIR", place.path("state")).env_remove("SVCKIT_LOCK");
    run(command, WAIT_MAX).expect(75);
    held.let_go().expect(0);
    place.is_free();
}
