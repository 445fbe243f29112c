//! `svc-tend run`.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use svckit_testbed::command::{run, sh, signal, start};

use crate::bed::{Bed, QUICK, until};

/// One message a second, for a minute.
const TOLD_MAX: usize = 60;

/// Under the eyes of a notify socket (sd_notify(3)), with a writer beside it.
pub(crate) fn runs() {
    let bed = Bed::new();
    bed.notes(1, 500);
    let socket = UnixDatagram::bind(bed.path("notify")).unwrap();
    socket.set_read_timeout(Some(QUICK)).unwrap();
    // As systemd does it: read at once, whatever else happens.
    let (heard, hears) = std::sync::mpsc::channel();
    let listener = std::thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let last = said.contains("STOPPING=1");
            drop(heard.send(said));
            if last {
                return;
            }
        }
    });
    let mut command = bed.tend(&["run", "--textfile", bed.path("svc.prom").to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", bed.path("notify"));
    command.env("WATCHDOG_USEC", "3000000");
    let daemon = start(command);
    let first = hears.recv_timeout(QUICK).unwrap();
    assert!(first.starts_with("READY=1") && first.contains("WATCHDOG=1"), "{first}");
    until("all is pruned", || bed.count("notes") == 0);
    assert_eq!(bed.count("words"), 0);
    // Further ones come, by a service that goes on.
    for round in 1..=5 {
        bed.notes(round * 1_000, 10);
    }
    until("the next passes prune too", || bed.count("notes") == 0);
    until("each was summed up", || bed.usage("SELECT count(*) FROM gone") == 550);
    assert!(std::fs::read_to_string(bed.path("svc.prom")).unwrap().contains("svc_tend_passes_total"));
    // On a busy machine a pass may be under way each time that systemd is told.
    let mut told = std::iter::repeat_with(|| hears.recv_timeout(QUICK).unwrap()).take(TOLD_MAX);
    assert!(told.any(|one| one.contains("STATUS=notes: next at")));
    assert!(signal(daemon.pid(), Signal::TERM));
    let ended = daemon.finish(QUICK).expect(0);
    listener.join().unwrap();
    let said: Vec<String> = hears.iter().collect();
    assert!(said.last().is_some_and(|last| last.contains("STOPPING=1")), "{said:?}");
    assert_eq!(bed.usage("SELECT count(*) - count(DISTINCT note) FROM gone"), 0, "{ended:?}");
    bed.run(&["status"]).expect(0);
}

/// A repair, a restore or a cold backup holds the same lock.
pub(crate) fn excluded() {
    let bed = Bed::new();
    bed.notes(1, 3);
    let path = bed.path("notes.db");
    let daemon = {
        let mut lock =
            bed.tool("svc-lock", &["run", "--database", path.to_str().unwrap(), "--wait", "30s", "--", "cat"]);
        lock.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        let mut holder = lock.spawn().unwrap();
        let asks = ["run", "--database", path.to_str().unwrap(), "--", "true"];
        until("it is held", || run(bed.tool("svc-lock", &asks), QUICK).status == 75);
        bed.run(&["once"]).expect(20);
        assert_eq!(bed.count("notes"), 3);
        let daemon = start(bed.tend(&["run"]));
        until("the pass is put off, and told", || {
            bed.run(&["status", "--json"]).json()["passes_deferred"].as_u64().is_some_and(|passes| passes > 0)
        });
        assert_eq!(bed.count("notes"), 3);
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        daemon
    };
    assert!(signal(daemon.pid(), Signal::TERM));
    daemon.finish(QUICK).expect(0);
    bed.run(&["once"]).expect(0);
    assert_eq!(bed.count("notes"), 0);
}

/// What happens to services: the disk is full, and a writer is stopped with the lock in its hand.
pub(crate) fn faults() {
    let bed = Bed::new();
    bed.notes(1, 50);
    let writer = start({
        let mut python = std::process::Command::new("python3");
        let script = "import sqlite3, signal, sys, os\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
            db.execute('BEGIN IMMEDIATE')\nopen(sys.argv[2], 'w').close()\nos.kill(os.getpid(), signal.SIGSTOP)\ndb.execute('COMMIT')";
        python.args(["-c", script]).arg(bed.path("notes.db")).arg(bed.path("held"));
        python
    });
    until("the writer has the lock", || bed.path("held").exists());
    let said = bed.run(&["once", "--json"]).expect(30).json();
    assert_eq!((said["end"].as_str(), said["removed"].as_u64()), (Some("unavailable"), Some(0)), "{said}");
    assert!(signal(writer.pid(), Signal::CONT));
    writer.finish(QUICK).expect(0);
    bed.run(&["once"]).expect(0);
    assert_eq!(bed.count("notes"), 0);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A disk that is full: nothing of the database or of our state can be written.
    let small = Bed::new();
    let at = small.path("disk");
    std::fs::create_dir(&at).unwrap();
    sh("mount", ["-t", "tmpfs", "-o", "size=2m", "svckit-testbed", at.to_str().unwrap()]).expect(0);
    small.notes(1, 200);
    std::fs::copy(small.path("notes.db"), at.join("notes.db")).unwrap();
    std::fs::copy(small.path("usage.db"), at.join("usage.db")).unwrap();
    let rules = std::fs::read_to_string(small.path("tend.toml")).unwrap();
    let here = small.directory.path().display().to_string();
    std::fs::write(small.path("on-disk.toml"), rules.replace(&here, at.to_str().unwrap())).unwrap();
    let once =
        || run(crate::bed::tend_with(&at.join("state"), &small.path("on-disk.toml"), &["once", "--json"]), QUICK);
    // And one whose state lies elsewhere: what fails is written down then, and no item is to blame for it.
    let plain = at.join("plain.db");
    rusqlite::Connection::open(&plain)
        .unwrap()
        .execute_batch(
            "CREATE TABLE s(id INTEGER PRIMARY KEY, seen INT, pad);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
             INSERT INTO s SELECT i, iif(i <= 3, 1, 99999999999), zeroblob(900) FROM n;",
        )
        .unwrap();
    let rule = "[rule.r]\ntable = 's'\nkey = 'id'\nexpired = 'seen < :now'\non-demand = true\nretries = 1\n";
    std::fs::write(small.path("plain.toml"), format!("{rule}database = {plain:?}\n")).unwrap();
    let plainly =
        || run(crate::bed::tend_with(&small.path("state"), &small.path("plain.toml"), &["once", "--json"]), QUICK);
    let fill = at.join("fill");
    let filled = sh("dd", ["if=/dev/zero", &format!("of={}", fill.display()), "bs=4k"]);
    let (full, plainly_full) = (once(), plainly());
    std::fs::remove_file(&fill).unwrap();
    let (after, plainly_after) = (once(), plainly());
    let left: i64 = rusqlite::Connection::open(at.join("notes.db"))
        .unwrap()
        .query_row("SELECT (SELECT count(*) FROM notes) + (SELECT count(*) FROM words)", [], |row| row.get(0))
        .unwrap();
    sh("umount", [at.to_str().unwrap()]).expect(0);
    assert_ne!(filled.status, 0);
    assert_eq!((full.status, after.status), (30, 0), "{full:?} {after:?}");
    assert_eq!(left, 0);
    assert_eq!((plainly_full.status, plainly_after.status), (30, 0), "{plainly_full:?} {plainly_after:?}");
    assert_eq!(plainly_after.json()["removed"], 3);
}
