//! What was handed on: kept, claimed, lost.

use svckit_testbed::command::{run, sh, start};

use crate::place::{Gate, Place, WAIT_MAX};

pub(crate) fn deeply_nested() {
    let place = Place::new();
    // Each level runs the next through the program itself, and the last proves it.
    let script = "#!/bin/sh\nif [ \"$1\" = 0 ]; then svc-lock prove --name a && exit 42; fi\n\
                  exec svc-lock run --name a -- \"$0\" $(($1 - 1))\n";
    let path = place.path("level");
    std::fs::write(&path, script).unwrap();
    sh("chmod", ["+x".as_ref(), path.as_os_str()]).expect(0);
    let mut words: Vec<std::ffi::OsString> = ["run", "--name", "a", "--"].map(Into::into).to_vec();
    words.extend([path.into(), "30".into()]);
    place.lock(words).expect(42);
    place.is_free();
}

pub(crate) fn a_daemon_is_left_behind() {
    let place = Place::new();
    let go = Gate::new(place.path("go"));
    // It has the descriptor, as everything that a shell starts; the operation is over all the same.
    place.under_lock("(read line < go; echo ended > daemon) > /dev/null 2>&1 & echo started").expect(0);
    place.is_free();
    assert!(!place.path("daemon").exists());
    // Nor does it get it back, or prove it.
    let held = place.hold();
    go.open();
    drop(held.let_go());
}

pub(crate) fn a_claim_goes_on() {
    let place = Place::new();
    let (claimed, go) = (Gate::new(place.path("claimed")), Gate::new(place.path("go")));
    let background = "svc-lock run --name a -- sh -c 'echo claimed > claimed; read line < go' > /dev/null 2>&1 &";
    // The operation ends only after the claim was made: what it waits for is the gate, which the claim opens.
    let run = start(place.command(["run", "--name", "a", "--", "sh", "-c", &format!("{background} read line < over")]));
    let over = Gate::new(place.path("over"));
    assert_eq!(claimed.line().trim(), "claimed");
    over.open();
    run.finish(WAIT_MAX).expect(0);
    place.is_held();
    go.open();
    place.becomes_free();
}

pub(crate) fn lost_on_the_way() {
    let place = Place::new();
    let refused = |script: &str, why: &str| {
        let outcome = place.under_lock(&format!("{script}; test $? = 10"));
        assert_eq!(outcome.status, 0, "{script}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{script}: {}", outcome.stderr);
    };
    refused("env -u SVCKIT_LOCK svc-lock prove --name a", "was handed no lock");
    refused("SVCKIT_LOCK=rubbish svc-lock prove --name a", "was handed no lock");
    refused("svc-lock prove --name b", "other locks than that of name b");
    // sudo(8), ssh(1) and Python's subprocess close what they were handed.
    let python = "import subprocess, sys; sys.exit(subprocess.run(['svc-lock', 'prove', '--name', 'a']).returncode)";
    refused(&format!("python3 -c \"{python}\""), "is closed");
    let number = "n=${SVCKIT_LOCK%%:*}";
    refused(&format!("{number}; eval \"exec $n>/dev/null\"; svc-lock prove --name a"), "is another file now");
    refused(&format!("{number}; flock -u $n; svc-lock prove --name a"), "does not hold it any more");
    let taken = "env -u SVCKIT_LOCK svc-lock run --name a -- svc-lock prove --name a && \
                 (env -u SVCKIT_LOCK svc-lock run --name a -- sh -c 'echo in > in; read line < out' & \
                 read line < in; svc-lock prove --name a; code=$?; echo > out; wait; (exit $code))";
    sh("mkfifo", [place.path("in"), place.path("out")]).expect(0);
    refused(&format!("{number}; flock -u $n; {taken}"), "does not hold it any more: process");
    refused("rm state/lock/*; svc-lock prove --name a", "removed or replaced");
    place.becomes_free();
}

pub(crate) fn a_backup_below() {
    let place = Place::new();
    let schema = "PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1), (2);";
    sh("sqlite3", [place.path("a.db").as_os_str(), schema.as_ref()]).expect(0);
    let backup = "svc-backup backup --sqlite a.db --to store --name a --json";
    let below = |script: &str| place.lock(["run", "--database", "a.db", "--", "sh", "-c", script]);
    let stored = below(backup).expect(0).json();
    assert_eq!(stored["kind"], "done", "{stored}");
    // A program that does not inherit is anybody.
    let text = below(&format!("env -u SVCKIT_LOCK {backup}")).expect(20).stderr;
    assert!(text.contains("is in use: run of database"), "{text}");
    run(place.program("svc-backup", ["backup", "--sqlite", "a.db", "--to", "store", "--name", "a"]), WAIT_MAX)
        .expect(0);
}
