//! A password is where it was put, and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use svckit_testbed::command::{Outcome, Running, run, start};
use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, Writer, alone, wait_until};
use super::standins::{self, Kind};
use svckit_testbed::docker::QUICK;

pub(super) const STORIES: &[Story] = &[
    ("a planted password is in no argument, environment, log, event, error or backup", canary),
    ("a password planted for Redis is nowhere else either", canary_of_redis),
    ("a password planted for PostgreSQL is nowhere else either", canary_of_postgres),
    ("a password planted for InfluxDB 1 is nowhere else either", canary_of_influxdb1),
    ("a password planted for MongoDB's stand-in is nowhere else either", canary_of_mongodb),
    ("a token planted for InfluxDB 2's stand-in is nowhere else either", canary_of_influxdb2),
    ("a wrong password is a clear error, and is tried once", wrong),
];

/// What an escaped form of it would still have.
const CORE: &str = "-7391";

fn canary() {
    let _alone = alone();
    let server = Server::mysql("canary");
    let file = server.engine.path("canary.password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let began = events_now();
    let lock = Writer::start(&server, |n| match n {
        0 => "LOCK TABLES shop.zlast WRITE;".to_owned(),
        _ => "SELECT 1 FROM shop.zlast;".to_owned(),
    });
    let store = server.store().display().to_string();
    let path = file.to_str().unwrap();
    let args = ["-vv", "backup", "--engine", "mysql", "--container", "canary", "--to", &store, "--password-file", path];
    let dump = start(server.engine.tool("svc-backup", &args));
    wait_until(&server.store(), "the middle of the dump", || {
        server.sql("SHOW FULL PROCESSLIST").contains("Waiting for table metadata lock")
    });
    while_it_runs(&dump, "mariadb-dump", CORE);
    lock.finish();
    let dumped = dump.finish(QUICK).expect(0);
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    let other = Server::mysql_empty("canary2", PASSWORD);
    let into = ["-vv", "restore", "--from", &store, "canary", "--container", "canary2", "--password-file", path];
    let restored = server.svc_backup(&into).expect(0);
    no_trace(&server, ("mariadb-dump", CORE), &began, &[dumped, verified, restored]);
    let shm = server.engine.docker(["exec", "canary2", "ls", "-A", "/dev/shm"]).expect(0);
    assert_eq!(shm.stdout, "", "the file of the restore is gone");
    // The control: one who hands it over as an argument is found.
    let began = events_now();
    let argument = format!("--password={PASSWORD}");
    server.engine.docker(["exec", "canary", "mariadb", &argument, "-e", "SELECT 1"]).expect(0);
    assert!(events(&server, &began).contains(CORE));
    assert_eq!(found(path, CORE).trim(), path, "and so is the file itself");
    drop(other);
}

/// The program of ours and the one that dumps, in the middle of the dump. Others of the container have the variable that
/// its image wants.
fn while_it_runs(dump: &Running, dumper: &str, core: &str) {
    let ours = dump.pid();
    let mut programs = 0;
    for process in procfs::process::all_processes().unwrap().flatten() {
        let words = process.cmdline().unwrap_or_default();
        // Or the interpreter of a script.
        let is_dumper = words.iter().take(2).any(|word| word.ends_with(dumper));
        programs += usize::from(is_dumper);
        if is_dumper || process.pid == ours {
            assert!(!words.join(" ").contains(core), "{words:?}");
            let environment = format!("{:?}", process.environ().unwrap_or_default());
            for added in ["MYSQL_PWD", "PGPASSWORD", "REDISCLI_AUTH"] {
                assert!(!environment.contains(added), "{environment}");
            }
            assert!(is_dumper || !environment.contains(core), "{environment}");
        }
    }
    assert!(programs > 0, "the dump was seen");
}

/// In nothing that was said, that the engine tells whoever asks, or that is kept.
fn no_trace(server: &Server, (dumper, core): (&str, &str), began: &str, outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.stderr.contains("running a program"), "it did log: {outcome:?}");
        assert!(!outcome.stderr.contains(core) && !outcome.stdout.contains(core), "{outcome:?}");
    }
    let told = events(server, began);
    assert!(told.contains(dumper) && !told.contains(core), "{told}");
    let inspected = inspected_execs(server, began);
    assert!(inspected.contains(dumper) && !inspected.contains(core), "{inspected}");
    let shm = server.engine.docker(["exec", &server.name, "ls", "-A", "/dev/shm"]).expect(0).stdout;
    assert!(!shm.contains("svckit"), "a file is left: {shm}");
    for place in [server.store(), server.engine.path("state"), server.engine.path("log")] {
        assert_eq!(found(place.to_str().unwrap(), core), "");
    }
}

/// The files below it that have it, compressed or not.
fn found(place: &str, core: &str) -> String {
    let script = "{ grep -rlF -e \"$1\" \"$0\"; find \"$0\" -name '*.zst' -exec zstdcat {} + | grep -aF -e \"$1\"; }";
    let mut grep = Command::new("sh");
    grep.args(["-c", script, place, core]);
    run(grep, Duration::from_secs(60)).stdout
}

/// What the engine says of each program that was run in the container since.
fn inspected_execs(server: &Server, since: &str) -> String {
    let filter = format!("container={}", server.name);
    let format = "--format={{.Actor.Attributes.execID}}";
    let until = events_now();
    let events = ["events", "--since", since, "--until", &until, "--filter", &filter, format];
    let ids = server.engine.docker(events).expect(0).stdout;
    let ids: std::collections::BTreeSet<&str> = ids.lines().filter(|id| id.len() == 64).collect();
    let socket = server.engine.path("sock");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--unix-socket"]).arg(socket);
    curl.args(ids.iter().map(|id| format!("http://docker/exec/{id}/json")));
    run(curl, Duration::from_secs(60)).expect(0).stdout
}

/// A file with the password, for its owner alone.
pub(super) fn password_file(server: &Server, password: &str) -> String {
    let file = server.engine.path(&format!("{}.password", server.name));
    std::fs::write(&file, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

fn canary_of_redis() {
    let _alone = alone();
    let password = super::redis::PASSWORD;
    let server = super::redis::server("canary-redis");
    // Time to look at the client that waits for it.
    server.sql("SET key value\nCONFIG SET repl-diskless-sync-delay 5\n");
    let (core, file) = ("Vesper7393", password_file(&server, password));
    let store = server.store().display().to_string();
    let began = events_now();
    let args = ["-vv", "backup", "--engine", "redis", "--container", "canary-redis", "--to", &store];
    let dump = start(server.engine.tool("svc-backup", &[&args[..], &["--password-file", &file]].concat()));
    let top = || server.engine.docker(["top", "canary-redis", "-eo", "pid,args"]).stdout;
    wait_until(&server.store(), "the middle of the dump", || top().lines().any(|line| line.contains("--rdb")));
    while_it_runs(&dump, "redis-cli", core);
    let dumped = dump.finish(QUICK).expect(0);
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    std::fs::remove_file(file).unwrap();
    no_trace(&server, ("redis-cli", core), &began, &[dumped, verified]);
}

fn canary_of_postgres() {
    let _alone = alone();
    let password = super::postgres::PASSWORD;
    let server = super::postgres::server("canary-pg", "scram-sha-256");
    let other = super::postgres::server("canary-pg2", "scram-sha-256");
    // Handed over by these, before anybody looks.
    let variable = format!("PGPASSWORD={password}");
    let ask = |option: &str, database: &str, sql: &str| {
        let name = format!("--dbname={database}");
        let words = ["exec", option, "-e", &variable, "canary-pg", "psql", "--username=postgres", &name, "-c", sql];
        server.engine.docker(words).expect(0);
    };
    ask("-i", "postgres", "CREATE DATABASE shop");
    ask("-i", "shop", "CREATE TABLE zlast AS SELECT 1 AS a");
    ask("-d", "shop", "BEGIN; LOCK TABLE zlast IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)");
    let top = || server.engine.docker(["top", "canary-pg", "-eo", "pid,args"]).stdout;
    let shows = |words: &[&str]| top().lines().any(|line| words.iter().all(|word| line.contains(word)));
    wait_until(&server.engine.path(""), "the lock", || shows(&["postgres shop", "SELECT"]));
    let (core, file) = ("-7392", password_file(&server, password));
    let store = server.store().display().to_string();
    let began = events_now();
    let args = ["-vv", "backup", "--engine", "postgres", "--container", "canary-pg", "--to", &store];
    let dump = start(server.engine.tool("svc-backup", &[&args[..], &["--password-file", &file]].concat()));
    wait_until(&server.engine.path(""), "the middle of the dump", || shows(&["postgres shop", "LOCK TABLE waiting"]));
    while_it_runs(&dump, "pg_dump", core);
    let shm = server.engine.docker(["exec", "canary-pg", "ls", "-lA", "/dev/shm"]).expect(0).stdout;
    assert!(shm.lines().any(|line| line.starts_with("-rw-------") && line.contains("svckit-secret.")), "{shm}");
    let sleeper = top().lines().find(|line| line.contains("pg_sleep") && line.contains("psql")).unwrap().to_owned();
    let sleeper = sleeper.split_whitespace().next().unwrap().parse().unwrap();
    assert!(svckit_testbed::command::signal(sleeper, rustix::process::Signal::TERM));
    let backend =
        top().lines().find(|line| line.contains("postgres shop") && line.contains("SELECT")).unwrap().to_owned();
    let backend = backend.split_whitespace().next().unwrap().parse().unwrap();
    assert!(svckit_testbed::command::signal(backend, rustix::process::Signal::TERM));
    let dumped = dump.finish(QUICK).expect(0);
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    let into = ["-vv", "restore", "--from", &store, "canary-pg", "--container", "canary-pg2", "--password-file", &file];
    let restored = server.svc_backup(&into).expect(0);
    std::fs::remove_file(file).unwrap();
    no_trace(&server, ("pg_dump", core), &began, &[dumped, verified, restored]);
    let shm = other.engine.docker(["exec", "canary-pg2", "ls", "-A", "/dev/shm"]).expect(0).stdout;
    assert!(!shm.contains("svckit"), "a file is left: {shm}");
}

fn canary_of_influxdb1() {
    let _alone = alone();
    let server = super::influxdb1::server("canary-influxdb1");
    super::influxdb1::items(&server, 500);
    let file = password_file(&server, PASSWORD);
    let began = events_now();
    let (dump, _) = super::influxdb1::midway(&server, &["--password-file", &file]);
    while_it_runs(&dump, "influxd", CORE);
    super::influxdb1::go_on(&server, true);
    let dumped = dump.finish(super::influxdb1::SLOW).expect(0);
    let store = server.store().display().to_string();
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    let into = ["-vv", "restore", "--from", &store, "canary-influxdb1", "--container", "canary-influxdb1"];
    let restored = server.svc_backup(&[&into[..], &["--overwrite", "--password-file", &file]].concat()).expect(0);
    std::fs::remove_file(file).unwrap();
    no_trace(&server, ("influxd", CORE), &began, &[dumped, verified, restored]);
}

fn canary_of_mongodb() {
    let server = super::mongodb::server("canary-mongodb");
    super::mongodb::documents(&server);
    canary_of(super::mongodb::KIND, &server);
}

fn canary_of_influxdb2() {
    let server = super::influxdb2::server("canary-influxdb2");
    super::influxdb2::points(&server, 500);
    canary_of(super::influxdb2::KIND, &server);
}

/// The whole way of what a stand-in is the server of.
fn canary_of(kind: Kind, server: &Server) {
    let _alone = alone();
    let (file, name) = (password_file(server, PASSWORD), server.name.as_str());
    let began = events_now();
    let (dump, _) = standins::midway(kind, server, &["--password-file", &file]);
    while_it_runs(&dump, kind.program, CORE);
    standins::go_on(server, true);
    let dumped = dump.finish(standins::SLOW).expect(0);
    let store = server.store().display().to_string();
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    let into = ["-vv", "restore", "--from", &store, name, "--container", name, "--overwrite", "--password-file", &file];
    let restored = server.svc_backup(&into).expect(0);
    std::fs::remove_file(file).unwrap();
    no_trace(server, (kind.program, CORE), &began, &[dumped, verified, restored]);
    assert_eq!(standins::left_in(server), "");
}

fn events_now() -> String {
    format!("{:.3}", std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64())
}

fn events(server: &Server, since: &str) -> String {
    let until = events_now();
    server.engine.docker(["events", "--since", since, "--until", &until]).expect(0).stdout
}

fn wrong() {
    let server = Server::mysql_empty("closed", PASSWORD);
    let file = server.engine.path("wrong.password");
    std::fs::write(&file, "Not-The-Word-5521\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let path = file.to_str().unwrap();
    mode(0o644);
    let open = server.back_up("mysql", &["--password-file", path]).expect(23);
    assert!(open.stderr.contains("others can read") && open.stderr.contains("chmod 600"), "{open:?}");
    mode(0o600);
    let began = events_now();
    let refused = server.back_up("mysql", &["--password-file", path]).expect(23);
    assert!(refused.stderr.contains("the server refuses user root"), "{refused:?}");
    assert!(refused.stderr.contains("--password-file"), "the hint says where one is taken from: {refused:?}");
    assert!(!refused.stderr.contains("5521"), "{refused:?}");
    assert_eq!(events(&server, &began).matches("exec_start: mariadb --defaults").count(), 1, "tried once");
    assert!(server.stored().is_empty());
    let absent = server.back_up("mysql", &["--docker-secret", "nothing"]).expect(30);
    assert!(absent.stderr.contains("/run/secrets/nothing"), "{absent:?}");
    let none = server.back_up("mysql", &["--no-password"]).expect(23);
    assert!(none.stderr.contains("Access denied"), "{none:?}");
}
