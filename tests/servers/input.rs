//! Addresses and hosts that can't do it: a clear error, and nothing changed.

use std::process::Command;

use svckit_testbed::command::run;
use svckit_testbed::stories::Story;

use super::bed::{SOON, Server, names};

pub(super) const STORIES: &[Story] =
    &[("a malformed address is told with its line, and what to write instead", malformed)];

pub(super) const AS_ROOT: &[Story] =
    &[("a host without the server's programs is told what to install", without_programs)];

fn malformed() {
    let server = Server::postgres();
    let config = server.path("svckit.toml");
    let file = config.to_str().unwrap();
    for (text, wanted) in [
        ("engine = \"postgres\"\nserver = \"localhost\"", "it is unix:/PATH or HOST:PORT"),
        ("engine = \"postgres\"\nserver = \"localhost:\"", "a port is a number"),
        ("engine = \"postgres\"\nserver = \"::1:5432\"", "stands in brackets"),
        ("engine = \"postgres\"\nserver = \"unix:run/x\"", "whole path"),
        ("engine = \"postgres\"\nserver = \"/a\\u0007b\"", "control character"),
        ("engine = \"postgres\"\nserver = 5432", "not a string"),
        ("engine = \"influxdb1\"\nserver = \"localhost:8086\"", "in its container only"),
        ("engine = \"postgres\"\nserver = \"localhost:1\"\ncontainer = \"db\"", "reached by its address"),
        ("engine = \"postgres\"\nserver = \"localhost:1\"\nunit = \"a.service\"", "reached by its address"),
        ("engine = \"postgres\"\nserver = \"localhost:1\"\npassword-env = \"A\"", "found in a container"),
        ("engine = \"postgres\"\nserver = \"localhost:1\"\npassword-secret = \"a\"", "found in a container"),
        ("sqlite = [\"/a\"]\nserver = \"localhost:1\"", "no engine is named"),
        ("engine = \"postgres\"", "lacks its container, or its address"),
    ] {
        std::fs::write(&config, format!("[target.shop]\n{text}\n")).unwrap();
        let told = server.svc_backup(&["--config", file, "config", "check"]).expect(3);
        assert!(told.stdout.contains(wanted) && told.stdout.contains("svckit.toml:"), "{text}: {told:?}");
        assert!(!told.stderr.contains("panicked"), "{told:?}");
    }
    let store = server.store();
    let tool = |more: &[&str]| server.svc_backup(&[&["backup", "--to", &store][..], more].concat());
    for bad in ["localhost", "host:0", "user@host:1", "unix:x", "-x:1"] {
        let told = tool(&["--engine", "postgres", &format!("--server={bad}")]).expect(2);
        assert!(told.stderr.contains("the server's address"), "{bad}: {told:?}");
    }
    tool(&["--engine", "postgres", "--server", "localhost:1", "--container", "db"]).expect(2);
    tool(&["--engine", "postgres"]).expect(2);
    tool(&["--server", "localhost:1"]).expect(2);
    tool(&["--server", "localhost:1", "shop"]).expect(2);
    tool(&["--engine", "influxdb1", "--server", "localhost:8086"]).expect(2);
    tool(&["--engine", "postgres", "--server", "localhost:1", "--password-env", "PASSWORD"]).expect(2);
    let nobody = tool(&["--engine", "mysql", "--server", "/nonexistent/mysqld.sock"]).expect(10);
    assert!(nobody.stderr.contains("no server listens on /nonexistent/mysqld.sock"), "{nobody:?}");
    // Free again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = format!("127.0.0.1:{port}");
    let another = tool(&["--engine", "mysql", "--server", &closed, "--user", "x", "--no-password"]).expect(30);
    assert!(another.stderr.contains("can't look at the databases"), "{another:?}");
    assert_eq!(names(&server.path("store")), Vec::<String>::new());
}

fn without_programs() {
    let server = Server::postgres();
    server.sql(include_str!("../docker/servers/shop.pg.sql"));
    server.back_up(&[]).expect(0);
    let empty = server.path("empty");
    std::fs::create_dir(&empty).unwrap();
    // A mount that nobody else sees.
    let hidden = |tool: Command| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /usr/lib/postgresql && exec \"$@\""]).arg(&empty);
        command.arg(tool.get_program()).args(tool.get_args());
        for (name, value) in tool.get_envs() {
            value.map(|value| command.env(name, value));
        }
        run(command, SOON)
    };
    let verified = hidden(server.tool(&["verify", "--from", &server.store(), "--restore"]));
    assert_ne!(verified.status, 0);
    assert!(
        verified.stderr.contains("initdb") && verified.stderr.contains("install the server: postgresql"),
        "{verified:?}"
    );
    let args = server.backup_args(&server.socket(), &[]);
    let dumped = hidden(server.tool(&super::bed::words(&args)));
    assert_eq!(dumped.status, 30, "{dumped:?}");
    server.assert_only(1);
}
