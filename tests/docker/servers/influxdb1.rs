//! InfluxDB 1: databases as its own program writes them, proved and brought back.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use svckit_testbed::command::{Running, signal, start, start_with_input};
use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, Writer, alone, assert_no_scratch, wait_longer_until, wait_until};

pub(super) const STORIES: &[Story] = &[
    (
        "InfluxDB 1 is dumped under write load, proved by a restore, and restored elsewhere with its continuous queries",
        whole_way,
    ),
    ("an InfluxDB 1 database that is replaced keeps who may read it, and an empty one comes back", replaced),
    ("a dump of InfluxDB 1 that is killed anywhere leaves no backup, and nothing in the container", cut),
];

const PROGRAM: &str = "influxd backup -portable";
/// A dump asks a dozen questions, each by a program of its own, before it begins and when it has ended.
pub(super) const SLOW: Duration = Duration::from_secs(120);

/// One that asks for a password, ready.
pub(super) fn server(name: &str) -> Server {
    let password = format!("INFLUXDB_ADMIN_PASSWORD={PASSWORD}");
    let variables = ["INFLUXDB_ADMIN_USER=admin", &password, "INFLUXDB_HTTP_AUTH_ENABLED=true"];
    let client = &["influx", "-username", "admin", "-password", PASSWORD, "-format", "csv"];
    let server = Server::start_with("influxdb1", name, &variables, &[], client);
    server.wait_for_log("Listening on HTTP");
    server.sql("CREATE DATABASE shop; CREATE RETENTION POLICY long ON shop DURATION INF REPLICATION 1");
    server
}

/// One that asks for none.
fn open(name: &str) -> Server {
    let server = Server::start_with("influxdb1", name, &[], &[], &["influx", "-format", "csv"]);
    server.wait_for_log("Listening on HTTP");
    server
}

/// `curl` in its container, which writes points that it reads.
fn writing(server: &Server, script: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["exec", "-i", &server.name, "sh", "-c", script, &format!("admin:{PASSWORD}")]);
    command.env("DOCKER_HOST", server.engine.host());
    command
}

/// Points in the line protocol.
pub(super) fn write(server: &Server, policy: &str, lines: &str) {
    let file = server.engine.path(&format!("{}.points", server.name));
    std::fs::write(&file, lines).unwrap();
    let url = format!("http://127.0.0.1:8086/write?db=shop&rp={policy}");
    let curl = writing(server, &format!("exec curl -sS --fail -u \"$0\" --data-binary @- '{url}'"));
    start_with_input(curl, std::fs::File::open(&file).unwrap()).finish(Duration::from_secs(60)).expect(0);
    std::fs::remove_file(file).unwrap();
}

/// A point each minute, of some series and several kinds of fields.
pub(super) fn items(server: &Server, count: u64) {
    let point =
        |n: u64| format!("item\\ x,host=h{},t=a\\ b v={n},s=\"t{n}\",b=true {}\n", n % 50, 1_600_000_000 + n * 60);
    let lines: String = (0..count).map(|n| point(n).replace('\n', "000000000\n")).collect();
    write(server, "autogen", &lines);
    write(server, "long", "old f=1i 1000000000\nold f=2i 2000000000\n");
}

fn left_in(server: &Server) -> String {
    let listed = server.engine.docker(["exec", &server.name, "ls", "-A", "/tmp", "/dev/shm"]).expect(0).stdout;
    listed.lines().filter(|name| name.contains("svckit")).collect()
}

const QUERY: &str = "CREATE CONTINUOUS QUERY cq ON shop BEGIN SELECT mean(v) INTO shop.long.m FROM shop.autogen.\"item x\" GROUP BY time(1h) END";

fn whole_way() {
    let _alone = alone();
    let one = server("points");
    items(&one, 20_000);
    one.sql(&format!(
        "{QUERY}; CREATE DATABASE \"we ird\"; CREATE USER app WITH PASSWORD 'x'; GRANT READ ON shop TO app"
    ));
    let script = "while read -r line; do printf '%s' \"$line\" | tr ';' '\\n' | \
        curl -sS --fail -u \"$0\" --data-binary @- 'http://127.0.0.1:8086/write?db=shop&precision=s' || exit 1; done";
    // Many points at once: what waits in pipes is written before the writer has ended.
    let writer = Writer::of(writing(&one, script), |n| {
        let point = |of: u64| format!("load,part=p{} v={n} {};", of % 7, 1_700_000_000 + n * 500 + of);
        (0..500).map(point).collect()
    });
    wait_until(&one.engine.path("."), "the load", || one.sql("SELECT COUNT(v) FROM shop..load").contains("load"));
    let report = one.back_up("influxdb1", &["--json"]).expect(0).json();
    let written = writer.finish();
    assert!(written > 3, "there was a load: {written}");
    assert!(report["databases"][0]["rows"].as_u64().unwrap() >= 60_000, "{report}");
    assert!(report["notices"].to_string().contains("users and their rights are not in it"), "{report}");
    let rungs = report["rungs"].to_string();
    assert!(rungs.contains("its own manifest") && rungs.contains("the checksum of each shard"), "{rungs}");
    assert_eq!(left_in(&one), "");

    let store = one.store().display().to_string();
    let verify = ["verify", "--from", &store, "points", "--restore", "--query"];
    let count = "SELECT COUNT(v) FROM \"item x\" => 1970-01-01T00:00:00Z\t20000";
    let verified = one.svc_backup(&[&verify[..], &[count]].concat()).expect(0);
    assert!(verified.stdout.contains("counts within those before and after the dump"), "{verified:?}");
    // The other database did not change meanwhile.
    assert!(verified.stdout.contains("every definition, counts, queries"), "{verified:?}");
    assert_no_scratch(one.engine);
    let wrong = one.svc_backup(&[&verify[..], &[&count.replace("20000", "20001")]].concat()).expect(12);
    assert!(wrong.stdout.contains("20000\" in place of"), "{wrong:?}");

    // Nobody writes: the counts are the same before and after.
    one.back_up("influxdb1", &[]).expect(0);
    let other = open("points-elsewhere");
    let restore = ["restore", "--from", &store, "points", "--container", "points-elsewhere"];
    let restored = other.svc_backup(&restore).expect(0);
    assert!(restored.stdout.contains("compared: loaded, counts, every definition"), "{restored:?}");
    assert_eq!(left_in(&other), "");
    let look = "SELECT COUNT(*) FROM shop.autogen./.*/; SELECT f FROM shop.long.old; SHOW CONTINUOUS QUERIES;
        SHOW SERIES EXACT CARDINALITY ON shop; SHOW RETENTION POLICIES ON \"we ird\"; SELECT SUM(v) FROM shop..load";
    // Of continuous queries each database has a heading, and the server makes one of its own at some time after its start.
    let shown = |server: &Server| server.sql(look).replace("name,name,query\n", "");
    assert_eq!(shown(&other), shown(&one));
    let refused = other.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("shop (3 measurements)") && refused.stderr.contains("--overwrite"), "{refused:?}");
}

fn replaced() {
    let one = server("rights");
    items(&one, 500);
    one.sql("CREATE DATABASE bare; CREATE USER app WITH PASSWORD 'x'; GRANT READ ON shop TO app");
    one.back_up("influxdb1", &[]).expect(0);
    items(&one, 700);
    one.sql("DROP DATABASE bare; CREATE DATABASE other");
    let store = one.store().display().to_string();
    let restore = ["restore", "--from", &store, "rights", "--container", "rights", "--overwrite"];
    let done = one.svc_backup(&restore).expect(0);
    assert!(done.stdout.contains("of rights.replaced"), "{done:?}");
    assert!(
        one.sql("SELECT COUNT(v) FROM shop..\"item x\"").contains(",500"),
        "those that came later are in the other backup"
    );
    let databases = one.sql("SHOW DATABASES");
    assert!(databases.contains("bare") && databases.contains("other"), "{databases}");
    let rights = one.sql("SHOW GRANTS FOR app");
    assert!(rights.contains("shop,READ"), "{rights}");
    let named = one.back_up("influxdb1", &["--database", "bare", "--json"]).expect(0).json();
    assert_eq!(named["databases"].as_array().unwrap().len(), 1, "{named}");
    let absent = one.back_up("influxdb1", &["--database", "nothing"]).expect(10);
    assert!(absent.stderr.contains("it has: "), "{absent:?}");
    let none = one.back_up("influxdb1", &["--no-password"]).expect(23);
    assert!(none.stderr.contains("unable to parse authentication credentials"), "{none:?}");
    let file = super::secrets::password_file(&one, "Not-The-Word-5521");
    let wrong = one.back_up("influxdb1", &["--password-file", &file]).expect(23);
    assert!(wrong.stderr.contains("refuses user admin: authorization failed"), "{wrong:?}");
    assert!(!wrong.stderr.contains("5521"), "{wrong:?}");
}

/// In front of the real program, for as long as there is a gate: a dump waits there for a line.
const GATE: &str = r#"mkfifo /gate && mkdir -p /usr/local/bin && cat >/usr/local/bin/influxd <<'END' && chmod 755 /usr/local/bin/influxd
#!/bin/sh
if [ "$1" = backup ] && [ -p /gate ]; then read -r _ </gate; fi
exec /usr/bin/influxd "$@"
END
"#;

fn inside(server: &Server, script: &str) {
    server.engine.docker(["exec", &server.name, "sh", "-c", script]).expect(0);
}

/// A dump that waits in its middle; its program's pid.
pub(super) fn midway(server: &Server, more: &[&str]) -> (Running, i32) {
    inside(server, GATE);
    let store = server.store().display().to_string();
    let args = ["-vv", "backup", "--engine", "influxdb1", "--container", &server.name, "--to", &store];
    let dump = start(server.engine.tool("svc-backup", &[&args[..], more].concat()));
    let mut pid = None;
    wait_longer_until(&server.engine.path("."), "the middle of the dump", SLOW, || {
        pid = program(server);
        pid.is_some()
    });
    (dump, pid.unwrap())
}

/// What waits goes on, and nothing waits from now on.
pub(super) fn go_on(server: &Server, is_waiting: bool) {
    inside(server, if is_waiting { "echo >/gate && rm /gate" } else { "rm /gate" });
}

fn program(server: &Server) -> Option<i32> {
    let top = server.engine.docker(["top", &server.name, "-eo", "pid,args"]).stdout;
    let line = top.lines().find(|line| line.contains(PROGRAM))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cut() {
    let one = server("half");
    items(&one, 500);
    one.back_up("influxdb1", &[]).expect(0);
    let visible = || one.stored().into_iter().filter(|name| !name.starts_with('.')).count();

    let (dump, pid) = midway(&one, &[]);
    assert!(left_in(&one).contains("svckit-dump."), "a control: it is there while it is made");
    assert!(signal(pid, Signal::KILL));
    let failed = dump.finish(SLOW).expect(30);
    go_on(&one, false);
    assert!(failed.stderr.contains("influxd ended with 137"), "{failed:?}");
    assert_eq!((visible(), left_in(&one)), (1, String::new()));

    let (dump, _) = midway(&one, &[]);
    assert!(signal(dump.pid(), Signal::TERM));
    let ended = dump.finish(SLOW).expect(30);
    go_on(&one, false);
    assert!(ended.stderr.contains("cancelled"), "{ended:?}");
    assert_eq!((visible(), left_in(&one)), (1, String::new()), "one that is ended cleans up itself");

    let (mut dump, _) = midway(&one, &[]);
    dump.kill();
    dump.finish(SLOW).expect(128 + 9);
    assert!(left_in(&one).contains("svckit-dump."), "nobody is there to remove it");
    // Its program may still write.
    go_on(&one, true);
    one.back_up("influxdb1", &[]).expect(0);
    assert_eq!((visible(), left_in(&one)), (2, String::new()), "the next run does");

    let (dump, _) = midway(&one, &[]);
    one.engine.docker(["kill", "half"]).expect(0);
    let failed = dump.finish(SLOW).expect(30);
    assert!(failed.stderr.contains("in container half"), "{failed:?}");
    assert_eq!(visible(), 2);
    assert_eq!(one.stored().iter().filter(|name| name.starts_with(".partial-")).count(), 0, "{:?}", one.stored());
}
