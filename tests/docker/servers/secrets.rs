//! A password is where it was put, and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use svckit_testbed::command::{run, start};
use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, Writer, alone, wait_until};
use crate::engine::QUICK;

pub(super) const STORIES: &[Story] = &[
    ("a planted password is in no argument, environment, log, event, error or backup", canary),
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
    // While it runs: every process of the machine but those that the story itself was given the password.
    let ours = [dump.pid()];
    let mut programs = 0;
    for process in procfs::process::all_processes().unwrap().flatten() {
        let words = process.cmdline().unwrap_or_default();
        let is_dumper = words.iter().any(|word| word.contains("mariadb-dump"));
        programs += usize::from(is_dumper);
        if is_dumper || ours.contains(&process.pid) {
            assert!(!words.join(" ").contains(CORE), "{words:?}");
            let environment = process.environ().unwrap_or_default();
            assert!(!format!("{environment:?}").contains("MYSQL_PWD"), "{environment:?}");
        }
    }
    assert!(programs > 0, "the dump was seen");
    lock.finish();
    let dumped = dump.finish(QUICK).expect(0);
    let verified = server.svc_backup(&["-vv", "verify", "--from", &store, "--restore"]).expect(0);
    let other = Server::mysql_empty("canary2", PASSWORD);
    let into = ["-vv", "restore", "--from", &store, "canary", "--container", "canary2", "--password-file", path];
    let restored = server.svc_backup(&into).expect(0);
    for outcome in [&dumped, &verified, &restored] {
        assert!(outcome.stderr.contains("running a program"), "it did log: {outcome:?}");
        assert!(!outcome.stderr.contains(CORE) && !outcome.stdout.contains(CORE), "{outcome:?}");
    }
    // What the engine tells whoever asks. Without the story's own programs, which have it in their environment.
    let told = events(&server, &began);
    assert!(told.contains("mariadb-dump") && !told.contains(CORE), "{told}");
    let shm = server.engine.docker(["exec", "canary2", "ls", "-A", "/dev/shm"]).expect(0);
    assert_eq!(shm.stdout, "", "the file of the restore is gone");
    let found = |place: &str| {
        let mut grep = Command::new("sh");
        grep.args([
            "-c",
            "{ grep -rlF -e \"$1\" \"$0\"; find \"$0\" -name '*.zst' -exec zstdcat {} + | grep -aF -e \"$1\"; }",
        ]);
        grep.args([place, CORE]);
        run(grep, Duration::from_secs(60)).stdout
    };
    assert_eq!(found(&store), "");
    assert_eq!(found(server.engine.path("state").to_str().unwrap()), "");
    // The control: one who hands it over as an argument is found.
    let began = events_now();
    let argument = format!("--password={PASSWORD}");
    server.engine.docker(["exec", "canary", "mariadb", &argument, "-e", "SELECT 1"]).expect(0);
    assert!(events(&server, &began).contains(CORE));
    assert_eq!(found(path).trim(), path, "and so is the file itself");
    drop(other);
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
