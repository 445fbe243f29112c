//! A dump or a restore test that is cut in the middle: never a backup, and nothing left that the next run does not sweep.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use svckit_testbed::command::{Running, ended, signal, start};
use svckit_testbed::stories::Story;

use super::bed::{Held, Kind, SOON, Server, names, until, words};

pub(super) const STORIES: &[Story] = &[
    ("a PostgreSQL server that is killed in the middle of its dump leaves no backup", || {
        the_server(&Server::postgres())
    }),
    ("a MariaDB server that is killed in the middle of its dump leaves no backup", || the_server(&Server::mariadb())),
    ("a connection that is cut in the middle of a dump leaves no backup", the_connection),
    ("a dump program that is killed leaves no backup", the_program),
    ("a tool that is ended in the middle takes its programs along", the_tool_in_order),
    ("a tool that is killed in the middle of a dump leaves what the next one sweeps", the_tool),
    ("a restore test that is killed leaves a private server, and the next one removes it", the_restore_test),
];

/// A dump that waits in its middle: somebody has locked the table that comes last.
struct Midway<'a> {
    server: &'a Server,
    lock: Held,
    dump: Running,
}

/// How many wait for the lock.
fn waiting(server: &Server) -> usize {
    let question = match server.kind {
        Kind::Postgres => "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        _ => "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata%'",
    };
    server.sql(question).trim().parse().unwrap()
}

fn lock(server: &Server) -> Held {
    server.hold(match server.kind {
        Kind::Postgres => "\\c shop\nBEGIN; LOCK TABLE zlast IN ACCESS EXCLUSIVE MODE;",
        _ => "LOCK TABLES shop.zlast WRITE;",
    })
}

fn fill(server: &Server) {
    server.sql(match server.kind {
        Kind::Postgres => include_str!("../docker/servers/shop.pg.sql"),
        _ => include_str!("../docker/servers/shop.sql"),
    });
}

impl<'a> Midway<'a> {
    fn reach(server: &'a Server, address: &str) -> Self {
        fill(server);
        server.back_up(&[]).expect(0);
        let lock = lock(server);
        let dump = start(server.tool(&words(&server.backup_args(address, &[]))));
        until("the middle of the dump", || waiting(server) == 1);
        assert!(server.stored().iter().any(|name| name.starts_with(".partial-")), "{:?}", server.stored());
        Self { server, lock, dump }
    }
}

/// The programs of ours that dump this server, by their pids.
fn dumpers(server: &Server) -> Vec<i32> {
    let (place, port) = (server.path("server").display().to_string(), server.port().to_string());
    let is_one = |process: &procfs::process::Process| {
        let words = process.cmdline().unwrap_or_default();
        let dumps = words.first().is_some_and(|word| word.contains("dump"));
        dumps && words.iter().any(|word| word.contains(&place) || word.ends_with(&port))
    };
    let all = procfs::process::all_processes().unwrap().flatten();
    all.filter(is_one).map(|process| process.pid).collect()
}

fn the_server(server: &Server) {
    let Midway { lock, dump, .. } = Midway::reach(server, &server.socket());
    // A killed main process of PostgreSQL leaves its children to notice that: they are killed with it.
    let pids = svckit::world::process::tree_of(server.pid()).unwrap();
    for one in pids {
        signal(one.pid, Signal::KILL);
    }
    let failed = dump.finish(SOON).expect(30);
    let program = if server.kind == Kind::Postgres { "pg_dump ended with" } else { "mariadb-dump ended with" };
    assert!(
        failed.stderr.contains(program) && failed.stderr.contains(&server.path("server").display().to_string()),
        "{failed:?}"
    );
    drop(lock);
    server.assert_only(1);
    let down = server.back_up(&[]);
    assert!(matches!(down.status, 10 | 30) && !down.stderr.contains("panicked"), "{down:?}");
}

/// Lets everything through until it is cut.
struct Proxy {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let keep = open.clone();
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let there = TcpStream::connect(("127.0.0.1", port)).unwrap();
                keep.lock().unwrap().extend([here.try_clone().unwrap(), there.try_clone().unwrap()]);
                for (from, to) in [(&here, &there), (&there, &here)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 64 << 10];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port: own, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().iter() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn the_connection() {
    let server = Server::postgres();
    let proxy = Proxy::to(server.port());
    let Midway { lock, dump, .. } = Midway::reach(&server, &format!("127.0.0.1:{}", proxy.port));
    proxy.cut();
    let failed = dump.finish(SOON).expect(30);
    assert!(failed.stderr.contains("can't dump the databases in server 127.0.0.1:"), "{failed:?}");
    assert!(failed.stderr.contains("server closed the connection"), "{failed:?}");
    lock.release();
    server.assert_only(1);
    server.back_up(&[]).expect(0);
}

fn the_program() {
    let server = Server::mariadb();
    let Midway { lock, dump, .. } = Midway::reach(&server, &server.socket());
    for pid in dumpers(&server) {
        assert!(signal(pid, Signal::KILL));
    }
    let failed = dump.finish(SOON).expect(30);
    assert!(failed.stderr.contains("mariadb-dump ended with 137"), "{failed:?}");
    drop(lock);
    server.assert_only(1);
}

fn the_tool_in_order() {
    let server = Server::postgres();
    let Midway { lock, dump, .. } = Midway::reach(&server, &server.tcp());
    let programs = dumpers(&server);
    assert!(!programs.is_empty());
    assert!(signal(dump.pid(), Signal::INT));
    let cancelled = dump.finish(SOON).expect(30);
    assert!(cancelled.stderr.contains("cancelled"), "{cancelled:?}");
    assert!(programs.iter().all(|pid| ended(*pid, SOON)), "a program is left");
    server.assert_only(1);
    lock.release();
}

fn the_tool() {
    for server in [Server::postgres(), Server::mariadb()] {
        let Midway { server, lock, mut dump } = Midway::reach(&server, &server.socket());
        dump.kill();
        dump.finish(SOON).expect(128 + 9);
        let left = dumpers(server);
        assert!(!left.is_empty(), "the program waits for the lock");
        assert_eq!(server.stored().iter().filter(|name| !name.starts_with('.')).count(), 1, "{:?}", server.stored());
        if server.kind == Kind::Postgres {
            let secrets = server.secrets();
            assert!(!secrets.is_empty(), "its password lies in memory");
            let file = std::fs::metadata(format!("/dev/shm/{}", secrets[0])).unwrap();
            assert_eq!((file.mode() & 0o777, file.uid()), (0o600, rustix::process::geteuid().as_raw()));
        }
        let next = start(server.tool(&words(&server.backup_args(&server.socket(), &[]))));
        // Ended while the lock is still held: not by what it waited for.
        assert!(left.iter().all(|pid| ended(*pid, SOON)), "a program of the dead one is left");
        lock.release();
        next.finish(SOON).expect(0);
        server.assert_only(2);
    }
}

fn the_restore_test() {
    for server in [Server::postgres(), Server::mariadb()] {
        fill(&server);
        server.back_up(&[]).expect(0);
        let store = server.store();
        let args = ["verify", "--from", &store, "shop", "--restore"];
        let mut test = start(server.tool(&args));
        let scratch = server.path("scratch");
        let sockets = || {
            let private = names(&scratch).into_iter().next()?;
            let inside = names(&scratch.join(private).join("s"));
            inside.into_iter().find(|name| name == "sock" || name == ".s.PGSQL.5432")
        };
        until("the private server", || sockets().is_some());
        test.kill();
        test.finish(SOON).expect(128 + 9);
        assert!(!working_in(&scratch).is_empty(), "the private server runs on");
        let swept = server.svc_backup(&args).expect(0);
        assert!(swept.stdout.contains("counts"), "{swept:?}");
        assert_eq!(working_in(&scratch), Vec::<String>::new());
        server.assert_only(1);

        // Ended in order, it leaves nothing itself.
        let test = start(server.tool(&args));
        until("the private server", || sockets().is_some());
        assert!(signal(test.pid(), Signal::TERM));
        test.finish(SOON).expect(30);
        assert_eq!(working_in(&scratch), Vec::<String>::new());
        server.assert_only(1);
    }
}

/// What works there, each with its directory and its command.
fn working_in(directory: &std::path::Path) -> Vec<String> {
    let all = procfs::process::all_processes().unwrap().flatten();
    let shown = |process: procfs::process::Process| {
        let cwd = process.cwd().ok().filter(|cwd| cwd.starts_with(directory))?;
        let stat = process.stat().ok()?;
        Some(format!(
            "{} of {} ({}) in {}: {:?}",
            stat.pid,
            stat.ppid,
            stat.state,
            cwd.display(),
            process.cmdline().ok()?
        ))
    };
    all.filter_map(shown).collect()
}
