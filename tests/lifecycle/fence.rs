//! The fenced kill: a service that never stops is killed only while nobody can be inside a transaction, and not at
//! all where that can't be proved.

use std::time::Duration;

use svckit_testbed::command::{Outcome, ended, signal, svc_ctl};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit};

use crate::stop::{arguments, assert_back};

pub(crate) const STORIES: &[Story] = &[
    ("fenced kill: journal mode WAL", || kills("wal", 1)),
    ("fenced kill: journal mode DELETE", || kills("delete", 1)),
    ("fenced kill: journal mode TRUNCATE", || kills("truncate", 1)),
    ("fenced kill: journal mode PERSIST", || kills("persist", 1)),
    ("fenced kill: journal mode MEMORY", || kills("memory", 1)),
    ("fenced kill: journal mode OFF", || kills("off", 1)),
    ("fenced kill: two databases that change together", || kills("wal", 2)),
    ("fenced kill is refused: locking_mode EXCLUSIVE in WAL mode", || refuses("excl-wal", "--exclusive", None)),
    ("fenced kill is refused: locking_mode EXCLUSIVE with a stale -shm", || {
        refuses("excl-shm", "--exclusive", Some("-shm"))
    }),
    ("fenced kill is refused: locking_mode EXCLUSIVE with a rollback journal", || {
        refuses_after_the_wait("excl-delete", "--exclusive --journal-mode delete");
    }),
    ("fenced kill is refused: the VFS unix-excl", || refuses("vfs-excl", "--vfs unix-excl", None)),
    ("fenced kill is refused: the VFS unix-excl with a rollback journal", || {
        refuses_after_the_wait("vfs-excl-delete", "--vfs unix-excl --journal-mode delete");
    }),
    ("fenced kill is refused: the VFS unix-none", || {
        refuses("vfs-none", "--vfs unix-none --journal-mode delete", None)
    }),
    ("fenced kill is refused: the VFS unix-dotfile", || {
        refuses("vfs-dotfile", "--vfs unix-dotfile --journal-mode delete", None)
    }),
    ("fenced kill: a transaction that never ends is waited for, and not killed (WAL)", || endless("wal")),
    ("fenced kill: a transaction that never ends is waited for, and not killed (DELETE)", || endless("delete")),
];

const FENCED: [&str; 4] = ["--stop-timeout", "2s", "--last-resort", "fenced-kill"];

fn kills(mode: &str, databases: usize) {
    let unit = Recipe::new()
        .databases(databases)
        .args(&format!("--on-term ignore --hold-open 3 --pause 2 --journal-mode {mode}"))
        .start(&format!("fence-{mode}-{databases}"));
    let (pid, observer) = (unit.main_pid(), unit.observe());
    let said = svc_ctl(arguments("restart", &unit, &FENCED)).expect(0).json();
    assert_eq!(said["stop"], "fenced-kill", "{said}");
    let deaths = observer.no_kill_inside_a_transaction();
    assert!(deaths.iter().any(|d| d.pid == pid && d.signal == "SIGKILL"), "{deaths:?}");
    assert_back(&unit);
}

/// The service goes on committing under a naive fence: it may not be killed.
fn refuses(name: &str, args: &str, stale: Option<&str>) {
    spares(name, args, stale, &[], 22);
}

/// An exclusive lock that is never given back looks like a write at first: it is waited for, and refused then.
fn refuses_after_the_wait(name: &str, args: &str) {
    let outcome = spares(name, args, None, &["--write-wait", "3s"], 22);
    assert!(outcome.took >= Duration::from_secs(5), "{outcome:?}");
    assert!(outcome.stderr.contains("locked as a whole"), "{outcome:?}");
}

/// Its lock lets readers in, so it is a transaction, and a longer wait may see its end.
fn endless(mode: &str) {
    let unit = Recipe::new().args(&format!("--on-term stuck --journal-mode {mode}")).start(&format!("endless-{mode}"));
    let (pid, observer) = (unit.main_pid(), unit.observe());
    let outcome = svc_ctl(arguments("restart", &unit, &[&FENCED[..], &["--write-wait", "3s"]].concat())).expect(31);
    assert!(outcome.stderr.contains("still in flight"), "{outcome:?}");
    assert!(unit.record.open_transaction(pid).is_some() && !ended(pid, Duration::ZERO));
    assert!(signal(pid, rustix::process::Signal::USR1));
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() == 2
    });
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    assert_eq!(unit.record.open_transaction(pid), None, "the transaction was not finished");
    assert_back(&unit);
}

fn spares(name: &str, args: &str, stale: Option<&str>, more: &[&str], status: i32) -> Outcome {
    let recipe = Recipe::new().args(&format!("--on-term ignore --hold-open 1 --pause 1 {args}"));
    let unit = match stale {
        None => recipe.start(name),
        Some(suffix) => {
            let unit = recipe.install(name);
            leave_behind(&unit, suffix);
            unit.systemctl("start").expect(0);
            unit.record.wait_for_commits(3, QUICK);
            unit
        }
    };
    let (pid, observer) = (unit.main_pid(), unit.observe());
    let outcome = svc_ctl(arguments("restart", &unit, &[&FENCED, more].concat())).expect(status);
    assert!(!ended(pid, Duration::ZERO), "{outcome:?}");
    unit.record.wait_for_commits(2, QUICK);
    assert!(signal(pid, rustix::process::Signal::USR1));
    unit.record.wait_for("it is started again", QUICK, |events| {
        events.iter().filter(|event| event.what == "start").count() == 2
    });
    unit.wait_clean(QUICK);
    assert_eq!(observer.no_kill(), []);
    unit.assert_running();
    unit.assert_clean();
    // Its own exclusive lock keeps others from reading until it has ended.
    let again = unit.main_pid();
    assert!(signal(again, rustix::process::Signal::USR1) && ended(again, QUICK));
    unit.assert_nothing_lost();
    outcome
}

/// What an ordinary run that was killed leaves: a WAL database with its side file.
fn leave_behind(unit: &Unit, suffix: &str) {
    let database = &unit.databases[0];
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("CREATE TABLE earlier (x); INSERT INTO earlier VALUES (1)").unwrap();
    let side = database.with_file_name(format!("{}{suffix}", database.file_name().unwrap().to_string_lossy()));
    let kept = std::fs::read(&side).unwrap();
    drop(connection);
    std::fs::write(side, kept).unwrap();
}
