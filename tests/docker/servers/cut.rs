//! A dump that is cut in the middle is never a backup, whoever dies.

use rustix::process::Signal;
use svckit_testbed::command::{Running, signal, start};
use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, Writer, alone, assert_no_scratch, wait_until};
use svckit_testbed::docker::QUICK;

pub(super) const STORIES: &[Story] = &[
    ("a container that is killed in the middle of its dump leaves no backup", the_container),
    ("a dump program or its connection that is killed in the middle leaves no backup", the_program),
    ("a dump program that leaves something out and says nothing makes no backup", the_liar),
    ("a tool that is killed or ended in the middle leaves no backup, and the next run cleans up", the_tool),
    ("a restore test that is killed leaves a scratch container, and the next one removes it", the_restore_test),
];

/// A dump that waits in its middle: somebody has locked the table that comes last.
struct Midway {
    server: Server,
    lock: Writer,
    dump: Running,
}

impl Midway {
    fn reach(name: &str) -> Self {
        let server = Server::mysql(name);
        server.back_up("mysql", &[]).expect(0);
        // The lock is held as long as its connection lives.
        let lock = Writer::start(&server, |n| match n {
            0 => "LOCK TABLES shop.zlast WRITE;".to_owned(),
            _ => "SELECT 1 FROM shop.zlast;".to_owned(),
        });
        let is_listed = |text: &str| server.sql("SHOW FULL PROCESSLIST").contains(text);
        wait_until(&server.store(), "the lock", || is_listed("SELECT 1 FROM shop.zlast"));
        let store = server.store().display().to_string();
        let args = ["backup", "--engine", "mysql", "--container", name, "--to", &store];
        let dump = start(server.engine.tool("svc-backup", &args));
        let store = server.store().join(name);
        wait_until(&store, "the middle of the dump", || is_listed("Waiting for table metadata lock"));
        assert!(server.stored().iter().any(|name| name.starts_with(".partial-")), "{:?}", server.stored());
        Self { server, lock, dump }
    }

    /// One backup is there, the one before.
    #[track_caller]
    fn assert_one_backup(&self) {
        let stored = self.server.stored();
        assert_eq!(stored.iter().filter(|name| !name.starts_with('.')).count(), 1, "{stored:?}");
    }
}

fn the_container() {
    let Midway { server, lock, dump } = Midway::reach("dies");
    server.engine.docker(["kill", "dies"]).expect(0);
    let failed = dump.finish(QUICK).expect(30);
    assert!(failed.stderr.contains("can't dump the databases in container dies"), "{failed:?}");
    lock.finish();
    assert_eq!(server.stored().len(), 2, "the lock file and the backup before: {:?}", server.stored());
    let down = server.back_up("mysql", &[]).expect(10);
    assert!(down.stderr.contains("svc-ctl start --container dies"), "{down:?}");
}

fn the_program() {
    let midway = Midway::reach("cut");
    let id = midway.server.sql("SELECT id FROM information_schema.processlist WHERE state LIKE 'Waiting for table m%'");
    let id = id.lines().nth(1).unwrap().to_owned();
    midway.server.sql(&format!("KILL {id}"));
    midway.assert_one_backup();
    let Midway { server, lock, dump } = midway;
    let failed = dump.finish(QUICK).expect(30);
    assert!(failed.stderr.contains("mariadb-dump ended with"), "{failed:?}");
    assert!(failed.stderr.contains("Lost connection") || failed.stderr.contains("killed"), "{failed:?}");
    assert_eq!(server.stored().len(), 2, "{:?}", server.stored());

    // And the program itself.
    let store = server.store().display().to_string();
    let args = ["backup", "--engine", "mysql", "--container", "cut", "--to", &store];
    let dump = start(server.engine.tool("svc-backup", &args));
    wait_until(&server.store().join("cut"), "the middle of the dump", || {
        server.sql("SHOW FULL PROCESSLIST").contains("Waiting for table metadata lock")
    });
    let pid = dump_program(&server).unwrap();
    assert!(signal(pid, Signal::KILL));
    let failed = dump.finish(QUICK).expect(30);
    assert!(failed.stderr.contains("mariadb-dump ended with 137"), "{failed:?}");
    lock.finish();
    assert_eq!(server.stored().len(), 2, "{:?}", server.stored());
    server.back_up("mysql", &[]).expect(0);
}

/// The dump program of a container, by its pid here.
fn dump_program(server: &Server) -> Option<i32> {
    let top = server.engine.docker(["top", &server.name, "-eo", "pid,args"]).stdout;
    let line = top.lines().find(|line| line.contains("mariadb-dump") && line.contains("--databases"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The end is looked at when it passes, everything else when what was written is read back.
fn the_liar() {
    let server = Server::mysql("liar");
    let inside = |script: &str| super::standins::inside(&server, script);
    inside("mv /usr/bin/mariadb-dump /usr/bin/honest-dump");
    let part = "payload databases.sql of ";
    for (edit, wanted) in [
        ("$d", ["the dump of database", "mariadb-dump ended with 0, and its last line is not `-- Dump completed`"]),
        (
            "s/^-- Dump completed/SELECT '\\n&/",
            [part, "does not end with the comment `-- Dump completed`, behind a whole"],
        ),
        ("s/^USE `shop`/USE `other`/", [part, "is not complete: shop is not in it"]),
    ] {
        let edit = edit.replace('\'', "'\\''");
        let script = format!(
            "case \"$*\" in *--databases*) honest-dump \"$@\" | sed '{edit}';; *) exec honest-dump \"$@\";; esac"
        );
        super::standins::put(&server, format!("#!/bin/sh\n{script}\n").as_bytes(), "/usr/bin/mariadb-dump");
        inside("chmod 755 /usr/bin/mariadb-dump");
        let failed = server.back_up("mysql", &[]).expect(30);
        assert!(wanted.iter().all(|text| failed.stderr.contains(text)), "{edit}: {failed:?}");
        super::standins::assert_none(&server, 0);
    }
    inside("mv /usr/bin/honest-dump /usr/bin/mariadb-dump");
    server.back_up("mysql", &[]).expect(0);
}

fn the_tool() {
    let mut midway = Midway::reach("orphan");
    midway.dump.kill();
    midway.assert_one_backup();
    let Midway { server, lock, dump } = midway;
    dump.finish(QUICK).expect(128 + 9);
    let partial = || server.stored().into_iter().find(|name| name.starts_with(".partial-"));
    let of_the_dead = partial().expect("what the dead one left");
    let store = server.store().display().to_string();
    let args = ["backup", "--engine", "mysql", "--container", "orphan", "--to", &store];
    // The next is ended in order, in its middle too.
    let next = start(server.engine.tool("svc-backup", &args));
    wait_until(&server.store().join("orphan"), "the middle of the next dump", || {
        // The dead one's program waits there too.
        let waiting = server.sql("SHOW FULL PROCESSLIST").matches("Waiting for table metadata lock").count();
        waiting == 2 && partial().is_some_and(|name| name != of_the_dead)
    });
    let pid = next.pid();
    assert!(signal(pid, Signal::TERM));
    let ended = next.finish(QUICK).expect(30);
    assert!(ended.stderr.contains("cancelled"), "{ended:?}");
    assert_eq!(server.stored().len(), 2, "nothing of the dead one's, nor of its own: {:?}", server.stored());
    lock.finish();
    wait_until(&server.store(), "the end of its program", || dump_program(&server).is_none());
    server.back_up("mysql", &[]).expect(0);
}

fn the_restore_test() {
    let _alone = alone();
    let server = Server::mysql("proved");
    server.back_up("mysql", &["--password-env", "MARIADB_ROOT_PASSWORD"]).expect(0);
    let store = server.store().display().to_string();
    let verify = ["verify", "--from", &store, "--restore"];
    let mut running = start(server.engine.tool("svc-backup", &verify));
    let scratch = || server.engine.docker(["ps", "-q", "--filter", "label=svckit.scratch"]).stdout;
    wait_until(&server.store(), "the scratch container", || !scratch().is_empty());
    let left = scratch();
    running.kill();
    running.finish(QUICK).expect(128 + 9);
    assert_eq!(scratch(), left, "nobody else removes it");
    let done = server.svc_backup(&verify).expect(0);
    assert!(done.stdout.contains("every row"), "{done:?}");
    assert_no_scratch(server.engine);
    // Whoever restores has no use for the password of the dumped server.
    assert!(!done.stdout.contains(PASSWORD));
}
