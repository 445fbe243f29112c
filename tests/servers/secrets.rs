//! A password is where it was put, and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use svckit_testbed::command::{Outcome, run, sh};
use svckit_testbed::stories::Story;

use super::bed::{CORE, Kind, PASSWORD, SOON, Server, secret_file, words};

pub(super) const STORIES: &[Story] = &[
    ("a planted password of PostgreSQL is in no argument, environment, log, error or backup", || {
        canary(&Server::postgres())
    }),
    ("a planted password of MariaDB is in no argument, environment, log, error or backup", || {
        canary(&Server::mariadb())
    }),
    ("a planted password of Redis is in no argument, environment, log, error or backup", || canary(&Server::redis())),
    ("a wrong password is a clear error, and is tried once", wrong),
    ("a password comes from a command or a systemd credential too", elsewhere),
];

/// Looks at every process again and again: who has the password, and which programs there were.
struct Watch {
    end: Arc<AtomicBool>,
    looks: JoinHandle<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Watch {
    fn begin() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ends = end.clone();
        let looks = std::thread::spawn(move || {
            let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
            while !ends.load(Ordering::SeqCst) {
                for process in procfs::process::all_processes().unwrap().flatten() {
                    let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
                    let (words, environment) = (read("cmdline"), read("environ"));
                    let shown = String::from_utf8_lossy(&words).replace('\0', " ");
                    for (what, bytes) in [("argument", &words), ("environment", &environment)] {
                        if String::from_utf8_lossy(bytes).contains(CORE) {
                            found.insert(format!("{what} of {shown}"));
                        }
                    }
                    let program = shown.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                    seen.insert(program.to_owned());
                }
            }
            (found, seen)
        });
        Self { end, looks }
    }

    /// What was found, and what was seen.
    fn finish(self) -> (BTreeSet<String>, BTreeSet<String>) {
        self.end.store(true, Ordering::SeqCst);
        self.looks.join().unwrap()
    }
}

fn canary(server: &Server) {
    let (other, dumper) = match server.kind {
        Kind::Postgres => {
            server.sql(include_str!("../docker/servers/shop.pg.sql"));
            (Server::postgres(), "pg_dump")
        }
        Kind::Mariadb => {
            server.sql(include_str!("../docker/servers/shop.sql"));
            (Server::mariadb(), "mariadb-dump")
        }
        Kind::Redis => (Server::redis(), "redis-cli"),
    };
    let store = server.store();
    let watch = Watch::begin();
    let mut outcomes = vec![server.back_up(&["-vv"]).expect(0)];
    outcomes.push(server.svc_backup(&words(&server.backup_args(&server.tcp(), &["-vv"]))));
    outcomes.push(server.svc_backup(&["-vv", "verify", "--from", &store, "shop", "--restore"]).expect(0));
    let login = other.login();
    let args = ["-vv", "restore", "--from", &store, "shop", "--server", &other.socket()].map(str::to_owned);
    outcomes.push(other.svc_backup(&words(&[&args[..], &login].concat())).expect(0));
    let (found, seen) = watch.finish();
    assert!(found.is_empty(), "{found:?}");
    assert!(seen.contains(dumper), "the dump was not seen: {seen:?}");
    assert!(outcomes[0].stderr.contains("running a program"), "it did log: {:?}", outcomes[0]);
    for outcome in &outcomes {
        assert!(!outcome.stderr.contains(CORE) && !outcome.stdout.contains(CORE), "{outcome:?}");
    }
    for place in [server.path("store"), server.path("state"), server.path("scratch")] {
        let found = sh("grep", ["-rlF", "--", CORE, place.to_str().unwrap()]);
        assert_eq!(found.stdout, "", "it is kept");
    }
    assert_eq!(server.secrets(), Vec::<String>::new());

    // The control: who hands it over as an argument is found, and so is its file.
    let watch = Watch::begin();
    run(wait_with(PASSWORD), SOON);
    assert!(watch.finish().0.iter().any(|found| found.starts_with("argument of sh ")));
    let own = sh("grep", ["-rlF", "--", CORE, server.path("password").to_str().unwrap()]);
    assert_ne!(own.stdout, "");
}

/// A program with this argument that lives for a while.
fn wait_with(argument: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "head -c 200000000 /dev/zero | sha256sum; true", argument]);
    command
}

fn wrong() {
    let server = Server::postgres();
    server.sql("CREATE DATABASE shop;");
    secret_file(&server.path("password"), "not-this-7392\n");
    let before = server.log().matches("password authentication failed").count();
    let refused = server.back_up(&[]).expect(23);
    assert!(refused.stderr.contains("refuses user admin") && refused.stderr.contains("--password-file"), "{refused:?}");
    assert_eq!(server.log().matches("password authentication failed").count(), before + 1, "{}", server.log());
    // A run of targets tries again what may pass by itself: not this.
    let config = server.path("svckit.toml");
    let text = format!(
        "[target.shop]\nstore = {:?}\nengine = \"postgres\"\nserver = {:?}\nuser = \"admin\"\npassword-file = {:?}\n",
        server.store(),
        server.tcp(),
        server.path("password")
    );
    std::fs::write(&config, text).unwrap();
    let of_target = server.svc_backup(&["--config", config.to_str().unwrap(), "backup", "shop"]).expect(23);
    assert!(!of_target.stderr.contains("7392"), "{of_target:?}");
    assert_eq!(server.log().matches("password authentication failed").count(), before + 2, "{}", server.log());
    server.assert_only(0);

    let server = Server::mariadb();
    secret_file(&server.path("password"), "not-this-7392\n");
    let refused: Outcome = server.back_up(&[]).expect(23);
    assert!(refused.stderr.contains("refuses user root") && !refused.stderr.contains("7392"), "{refused:?}");
    server.assert_only(0);
}

fn elsewhere() {
    let server = Server::postgres();
    server.sql("CREATE DATABASE shop;");
    let config = server.path("svckit.toml");
    let target = |name: &str, password: &str| {
        let (store, address) = (server.store(), server.socket());
        format!(
            "[target.{name}]\nstore = {store:?}\nengine = \"postgres\"\nserver = {address:?}\nuser = \"admin\"\n{password}\n"
        )
    };
    let command = format!("password-command = [\"/usr/bin/cat\", {:?}]", server.path("password"));
    let text = target("by-command", &command) + &target("by-credential", "password-credential = \"password\"");
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    server.svc_backup(&["--config", config, "backup", "by-command"]).expect(0);
    let mut command = server.tool(&["--config", config, "backup", "by-credential"]);
    command.env("CREDENTIALS_DIRECTORY", server.dir.path());
    run(command, SOON).expect(0);
    let absent = server.svc_backup(&["--config", config, "backup", "by-credential"]).expect(10);
    assert!(absent.stderr.contains("LoadCredential="), "{absent:?}");
}
