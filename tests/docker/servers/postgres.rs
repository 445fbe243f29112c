//! PostgreSQL: the whole way, and a dump that is cut.

use rustix::process::Signal;
use svckit_testbed::command::{signal, start};
use svckit_testbed::stories::Story;

use super::bed::{Server, Writer, alone, assert_no_scratch, wait_until};
use svckit_testbed::docker::QUICK;

pub(super) const STORIES: &[Story] = &[
    (
        "a PostgreSQL server is dumped under write load, proved by a restore, and restored elsewhere with its roles",
        whole_way,
    ),
    ("a PostgreSQL dump whose program is killed leaves no backup", cut),
];

pub(super) const PASSWORD: &str = "Kan:arie\\n-7392";

pub(crate) fn server(name: &str, local: &str) -> Server {
    let variable = format!("LOCAL_AUTH={local}");
    let more = format!("POSTGRES_PASSWORD={PASSWORD}");
    let client = &["psql", "--username=postgres", "--no-psqlrc", "-AtqX", "-v", "ON_ERROR_STOP=1"];
    let server = Server::start_with("postgres", name, &[&variable, &more], &["-c", "fsync=off"], client);
    server.wait_for_log("ready to accept connections");
    server
}

fn whole_way() {
    let _alone = alone();
    let one = server("pg", "trust");
    one.sql(include_str!("shop.pg.sql"));
    let writer = Writer::start(&one, |n| match n {
        0 => "\\c shop".to_owned(),
        n => format!("BEGIN; INSERT INTO debit VALUES ({n}, -1); INSERT INTO credit VALUES ({n}, 1); COMMIT;"),
    });
    let report = one.back_up("postgres", &["--json"]).expect(0).json();
    assert!(writer.finish() > 100);
    assert!(report["position"].as_str().unwrap().contains('/'), "{report}");
    let store = one.store().display().to_string();
    // The counts of the manifest are those of the dump's own snapshot, although the server was written to.
    let query = "SELECT (SELECT count(*) FROM debit) = (SELECT count(*) FROM credit)
        AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') => t";
    let verified = one.svc_backup(&["verify", "--from", &store, "pg", "--restore", "--query", query]).expect(0);
    assert!(verified.stdout.contains("counts, every definition, queries"), "{verified:?}");
    assert_no_scratch(one.engine);

    // Elsewhere a password is asked for; it is the image's own variable, and nothing of it is left.
    let other = server("pg-elsewhere", "scram-sha-256");
    let restore = ["restore", "--from", &store, "pg", "--container", "pg-elsewhere"];
    let restored = other.svc_backup(&restore).expect(0);
    assert!(restored.stdout.contains("compared: loaded, counts, every definition"), "{restored:?}");
    let left = other.engine.docker(["exec", "pg-elsewhere", "ls", "-A", "/dev/shm"]).expect(0).stdout;
    assert!(!left.contains("svckit-secret"), "{left}");
    let refused = other.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("shop (") && refused.stderr.contains("--overwrite"), "{refused:?}");
    other.svc_backup(&[&restore[..], &["--overwrite", "--discard"]].concat()).expect(0);
    let wrong = other.back_up("postgres", &["--no-password"]).expect(23);
    assert!(wrong.stderr.contains("refuses user postgres"), "{wrong:?}");
    let dumped = other.back_up("postgres", &["--database", "shop", "--json"]).expect(0).json();
    assert_eq!(dumped["databases"].as_array().unwrap().len(), 1, "{dumped}");
    assert!(dumped["databases"][0]["rows"].as_u64().unwrap() > 20_000, "{dumped}");
}

fn cut() {
    let one = server("pg-cut", "trust");
    one.sql(include_str!("shop.pg.sql"));
    one.back_up("postgres", &[]).expect(0);
    let lock = Writer::start(&one, |n| match n {
        0 => "\\c shop".to_owned(),
        1 => "BEGIN; LOCK TABLE zlast IN ACCESS EXCLUSIVE MODE;".to_owned(),
        _ => "SELECT 1 FROM zlast;".to_owned(),
    });
    let waiting = |of: &str| {
        one.sql(&format!("SELECT count(*) FROM pg_locks WHERE mode = '{of}' AND locktype = 'relation'")).trim() != "0"
    };
    wait_until(&one.store(), "the lock", || waiting("AccessExclusiveLock"));
    let store = one.store().display().to_string();
    let args = ["backup", "--engine", "postgres", "--container", "pg-cut", "--to", &store];
    let dump = start(one.engine.tool("svc-backup", &args));
    let program = || {
        let top = one.engine.docker(["top", "pg-cut", "-eo", "pid,args"]).stdout;
        let line = top.lines().find(|line| line.contains("pg_dump ") && line.contains("--snapshot"))?.to_owned();
        line.split_whitespace().next()?.parse::<i32>().ok()
    };
    wait_until(&one.store(), "the middle of the dump", || {
        one.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").trim() == "1"
    });
    assert!(signal(program().unwrap(), Signal::KILL));
    let failed = dump.finish(QUICK).expect(30);
    assert!(failed.stderr.contains("pg_dump ended with 137"), "{failed:?}");
    lock.finish();
    assert_eq!(one.stored().len(), 2, "the lock file and the backup before: {:?}", one.stored());
}
