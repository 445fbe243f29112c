//! Servers that Debian does not have: programs of their names stand in for them (`tests/testbed/standins`). So what is
//! tried is how they are called, what becomes of their secrets, and what follows when they fail; not whether a real one
//! does what is asked of it.

use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{Running, signal, start};

use super::bed::{PASSWORD, Server, wait_longer_until};

/// A dump asks several questions, each by a program of its own.
pub(super) const SLOW: Duration = Duration::from_secs(120);
pub(super) const WRONG: &str = "Not-The-Word-5521";

/// A server's kind, and the program that dumps it.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) engine: &'static str,
    pub(super) program: &'static str,
    /// What its command line has while it dumps.
    pub(super) dumping: &'static str,
}

pub(super) fn inside(server: &Server, script: &str) -> String {
    server.engine.docker(["exec", &server.name, "sh", "-c", script]).expect(0).stdout
}

/// What is left in the container, in memory and in files.
pub(super) fn left_in(server: &Server) -> String {
    inside(server, "ls -A /tmp /dev/shm").lines().filter(|name| name.contains("svckit")).collect()
}

/// A file of this machine as one of the container.
pub(super) fn put(server: &Server, content: &[u8], path: &str) {
    let file = server.engine.path(&format!("{}.content", server.name));
    std::fs::write(&file, content).unwrap();
    let to = format!("{}:{path}", server.name);
    server.engine.docker(["cp", file.to_str().unwrap(), &to]).expect(0);
    std::fs::remove_file(file).unwrap();
}

/// A dump that waits in its middle; its program's pid.
pub(super) fn midway(kind: Kind, server: &Server, more: &[&str]) -> (Running, i32) {
    inside(server, "mkfifo /gate");
    let store = server.store().display().to_string();
    let args = ["-vv", "backup", "--engine", kind.engine, "--container", &server.name, "--to", &store];
    let dump = start(server.engine.tool("svc-backup", &[&args[..], more].concat()));
    let mut pid = None;
    wait_longer_until(&server.engine.path("."), "the middle of the dump", SLOW, || {
        pid = pid_of(kind, server);
        pid.is_some()
    });
    (dump, pid.unwrap())
}

/// What waits goes on, and nothing waits from now on.
pub(super) fn go_on(server: &Server, is_waiting: bool) {
    inside(server, if is_waiting { "echo >/gate && rm /gate" } else { "rm /gate" });
}

fn pid_of(kind: Kind, server: &Server) -> Option<i32> {
    let top = server.engine.docker(["top", &server.name, "-eo", "pid,args"]).stdout;
    let line = top.lines().find(|line| line.contains(kind.program) && line.contains(kind.dumping))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Backups that are there.
pub(super) fn visible(server: &Server) -> usize {
    server.stored().into_iter().filter(|name| !name.starts_with('.')).count()
}

/// Nothing but what was there before, and nothing in the container.
#[track_caller]
pub(super) fn assert_none(server: &Server, backups: usize) {
    let stored = server.stored();
    assert_eq!((visible(server), left_in(server)), (backups, String::new()), "{stored:?}");
    assert!(!stored.iter().any(|name| name.starts_with(".partial-")), "{stored:?}");
}

/// Ends early in every way there is: none leaves a backup, and the next run clears away what a killed one left.
pub(super) fn cut(kind: Kind, server: &Server) {
    let dump = || server.back_up(kind.engine, &[]);
    dump().expect(0);
    assert_none(server, 1);

    inside(server, "touch /cut");
    let silent = dump().expect(30);
    assert!(silent.stderr.contains("is not complete"), "{silent:?}");
    assert_none(server, 1);
    inside(server, "rm /cut; touch /fail");
    let failed = dump().expect(30);
    assert!(failed.stderr.contains(&format!("{} ended with 1: ", kind.program)), "{failed:?}");
    assert_none(server, 1);
    inside(server, "rm /fail");

    let (dumping, pid) = midway(kind, server, &[]);
    assert!(left_in(server).contains("svckit-secret."), "a control: it is there while it is used");
    assert!(signal(pid, Signal::KILL));
    let failed = dumping.finish(SLOW).expect(30);
    go_on(server, false);
    assert!(failed.stderr.contains(&format!("{} ended with 137", kind.program)), "{failed:?}");
    assert_none(server, 1);

    let (dumping, _) = midway(kind, server, &[]);
    assert!(signal(dumping.pid(), Signal::TERM));
    let ended = dumping.finish(SLOW).expect(30);
    go_on(server, false);
    assert!(ended.stderr.contains("cancelled"), "{ended:?}");
    assert_none(server, 1);

    let (mut dumping, pid) = midway(kind, server, &[]);
    dumping.kill();
    dumping.finish(SLOW).expect(128 + 9);
    assert!(left_in(server).contains("svckit-secret."), "nobody is there to remove it");
    assert!(signal(pid, Signal::KILL));
    go_on(server, false);
    dump().expect(0);
    assert_none(server, 2);

    inside(server, &format!("mv /usr/local/bin/{0} /{0}", kind.program));
    let missing = dump().expect(30);
    assert!(missing.stderr.contains(&format!("it has none of {}", kind.program)), "{missing:?}");
    assert!(missing.stderr.contains("check --engine"), "{missing:?}");
    inside(server, &format!("mv /{0} /usr/local/bin/{0}", kind.program));
    assert_none(server, 2);

    let (dumping, _) = midway(kind, server, &[]);
    server.engine.docker(["kill", &server.name]).expect(0);
    let failed = dumping.finish(SLOW).expect(30);
    assert!(failed.stderr.contains(&format!("in container {}", server.name)), "{failed:?}");
    assert_eq!(visible(server), 2, "{:?}", server.stored());
}

/// A wrong password, and none: clear errors that have neither.
pub(super) fn wrong(kind: Kind, server: &Server) {
    let file = super::secrets::password_file(server, WRONG);
    let refused = server.back_up(kind.engine, &["--password-file", &file]).expect(23);
    assert!(refused.stderr.contains("the server refuses user"), "{refused:?}");
    assert!(refused.stderr.contains("--password-file"), "the hint says where one is taken from: {refused:?}");
    assert!(!refused.stderr.contains("5521") && !refused.stderr.contains(PASSWORD), "{refused:?}");
    let none = server.back_up(kind.engine, &["--no-password"]).expect(23);
    assert!(none.stderr.contains("the server refuses user"), "{none:?}");
    assert!(server.stored().is_empty(), "{:?}", server.stored());
    std::fs::remove_file(file).unwrap();
}
