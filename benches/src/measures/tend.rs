//! Pruning expired mailboxes: how long it takes, what it leaves, and how long a service that writes meanwhile has to wait.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Outcome;
use crate::bench::Bench;
use crate::report::{Section, goal};
use crate::samples::Samples;

/// The schema of magic-wormhole's mailbox server, with the indices that `svc-tend check` asks for.
const SCHEMA: &str = "
    CREATE TABLE version(version INTEGER); INSERT INTO version VALUES(1);
    CREATE TABLE mailboxes(app_id VARCHAR, id VARCHAR PRIMARY KEY, updated INTEGER, for_nameplate BOOLEAN);
    CREATE INDEX mailboxes_idx ON mailboxes(app_id, id);
    CREATE TABLE nameplates(id INTEGER PRIMARY KEY AUTOINCREMENT, app_id VARCHAR, name VARCHAR,
        mailbox_id VARCHAR REFERENCES mailboxes(id), request_id VARCHAR);
    CREATE INDEX nameplates_idx ON nameplates(app_id, name);
    CREATE INDEX nameplates_mailbox_idx ON nameplates(app_id, mailbox_id);
    CREATE INDEX nameplates_request_idx ON nameplates(app_id, request_id);
    CREATE INDEX nameplates_mailbox_id_idx ON nameplates(mailbox_id);
    CREATE TABLE nameplate_sides(nameplates_id REFERENCES nameplates(id), claimed BOOLEAN, side VARCHAR, added INTEGER);
    CREATE INDEX nameplate_sides_idx ON nameplate_sides(nameplates_id);
    CREATE TABLE mailbox_sides(mailbox_id REFERENCES mailboxes(id), opened BOOLEAN, side VARCHAR, added INTEGER, mood VARCHAR);
    CREATE INDEX mailbox_sides_idx ON mailbox_sides(mailbox_id);
    CREATE TABLE messages(app_id VARCHAR, mailbox_id VARCHAR, side VARCHAR, phase VARCHAR, body VARCHAR, server_rx INTEGER,
        msg_id VARCHAR);
    CREATE INDEX messages_idx ON messages(app_id, mailbox_id);
    CREATE INDEX messages_mailbox_id_idx ON messages(mailbox_id);
    CREATE TABLE live(n INTEGER); INSERT INTO live VALUES(0);";

/// Whoever prunes.
const NAMES: [&str; 4] = ["svc-tend", "the server's own prune", "a transaction per item", "one big transaction"];

/// The server's own code, without the server around it.
const SERVERS: &str = "
import sys, time
from wormhole_mailbox_server.database import open_existing_db
from wormhole_mailbox_server.server import make_server
server = make_server(open_existing_db(sys.argv[1]))
try:
    server.prune_all_apps(time.time(), time.time() - 660)
except Exception as error:
    print('it died of', repr(error), file=sys.stderr)
";

/// What a script does, item by item or all at once.
const SCRIPT: &str = "
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute('PRAGMA foreign_keys = on')
tables = [('nameplate_sides', 'nameplates_id IN (SELECT id FROM nameplates WHERE mailbox_id = ?)'), ('nameplates', 'mailbox_id = ?'),
    ('messages', 'mailbox_id = ?'), ('mailbox_sides', 'mailbox_id = ?'), ('mailboxes', 'id = ?')]
items = [row[0] for row in db.execute('SELECT id FROM mailboxes WHERE updated <= ?', (time.time() - 660,))]
if sys.argv[2] == 'all': db.execute('BEGIN IMMEDIATE')
for item in items:
    if sys.argv[2] == 'each': db.execute('BEGIN IMMEDIATE')
    for table, where in tables: db.execute(f'DELETE FROM {table} WHERE {where}', (item,))
    if sys.argv[2] == 'each': db.execute('COMMIT')
if sys.argv[2] == 'all': db.execute('COMMIT')
";

pub(crate) fn small(bench: &Bench) -> Outcome<Section> {
    measure(bench, "tend", 5_000, &[0, 1, 2, 3])
}

/// Without the transaction per item, which takes an hour of fsync(2).
pub(crate) fn large(bench: &Bench) -> Outcome<Section> {
    measure(bench, "tend-large", 1_000_000, &[0, 1, 3])
}

fn measure(bench: &Bench, name: &'static str, items: u32, contestants: &[usize]) -> Outcome<Section> {
    let scratch = bench.scratch()?;
    let template = template(scratch.path(), items)?;
    let mut rows = Vec::new();
    let mut p99s = Vec::new();
    for contestant in contestants {
        let (mut times, mut waits, mut left) = (Vec::new(), Vec::new(), 0);
        for run in 0..bench.runs {
            let database = scratch.path().join("relay.sqlite");
            std::fs::copy(&template, &database)?;
            rustix::fs::sync();
            let (took, waited, remain) = watched(bench, scratch.path(), &database, *contestant)?;
            eprintln!("  {}, run {run}: {:.2} s", NAMES[*contestant], took.as_secs_f64());
            times.push(took);
            waits.extend(waited);
            left = remain;
        }
        let (times, waits) = (Samples::new(times), Samples::new(waits));
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        p99s.push(waits.percentile(99));
        rows.push(vec![
            NAMES[*contestant].to_owned(),
            times.seconds(),
            format!("{left} of {items}"),
            ms(waits.percentile(99)),
            ms(waits.max()),
        ]);
    }
    Ok(Section {
        name,
        title: format!("{items} expired mailboxes, of which the first can't be summed up, are pruned"),
        columns: vec!["contestant", "time", "left", "a commit beside it waits, p99", "at most"],
        rows,
        notes: vec![
            "A service beside it commits one row every 5 ms; its waits are from BEGIN IMMEDIATE to the end of COMMIT. \
             Rollback journal, as the server has it. The scripts sum nothing up, and remove the first one too."
                .to_owned(),
            goal(
                "a service beside svc-tend waits for milliseconds (p99 below 100 ms)",
                p99s[0] < Duration::from_millis(100),
            ),
        ],
    })
}

fn template(directory: &Path, items: u32) -> Outcome<PathBuf> {
    let path = directory.join("template.sqlite");
    let db = Connection::open(&path)?;
    db.execute_batch(SCHEMA)?;
    db.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {items} - 1)
         INSERT INTO mailboxes SELECT 'app' || (n % 10), printf('%08x', n * 2654435761 % 4294967296), 1000, 1 FROM n;
         INSERT INTO nameplates(app_id, name, mailbox_id) SELECT app_id, rowid, id FROM mailboxes;
         INSERT INTO nameplate_sides SELECT id, 1, 'a', 1000 FROM nameplates;
         INSERT INTO mailbox_sides SELECT id, 1, 'a', 1000, NULL FROM mailboxes WHERE rowid > 1;
         INSERT INTO messages SELECT app_id, id, 'a', '1', hex(randomblob(40)), 1000, rowid FROM mailboxes;
         COMMIT;"
    ))?;
    Ok(path)
}

fn command(bench: &Bench, directory: &Path, database: &Path, contestant: usize) -> Outcome<Command> {
    if contestant == 0 {
        let rules = directory.join("tend.toml");
        std::fs::write(&rules, rule(database))?;
        let state = directory.join("state");
        if state.exists() {
            std::fs::remove_dir_all(&state)?;
        }
        let mut command = Command::new(bench.program("svc-tend")?);
        command.args(["--quiet", "once", "--config"]).arg(rules).env("SVCKIT_STATE_DIR", state);
        return Ok(command);
    }
    let venv = Path::new("target/testbed/venv/bin/python");
    let (python, script, word) = match contestant {
        1 if !venv.is_file() => return Err(format!("{} is missing: tests/run tend", venv.display()).into()),
        1 => (venv, SERVERS, ""),
        2 => (Path::new("python3"), SCRIPT, "each"),
        _ => (Path::new("python3"), SCRIPT, "all"),
    };
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(database).arg(word);
    Ok(command)
}

fn rule(database: &Path) -> String {
    format!(
        "[rule.mailboxes]\ndatabase = {database:?}\non-demand = true\ntable = \"mailboxes\"\nkey = \"id\"\n\
         expired = \"updated <= :now - 660\"\nfollow = true\npass = {{ items = 2000000, time = \"1h\" }}\n\
         [[rule.mailboxes.also]]\ntable = \"messages\"\nwhere = \"mailbox_id = :key\"\n\
         [[rule.mailboxes.summary]]\ndatabase = {:?}\ntable = \"mailboxes\"\nselect = \"SELECT min(added) AS started FROM \
         mailbox_sides WHERE mailbox_id = :key\"\nrequired = [\"started\"]\n",
        database.with_file_name("usage.sqlite")
    )
}

/// The time of one contestant, the waits of the writer beside it, and what is left.
fn watched(
    bench: &Bench,
    directory: &Path,
    database: &Path,
    contestant: usize,
) -> Outcome<(Duration, Vec<Duration>, i64)> {
    let usage = Connection::open(database.with_file_name("usage.sqlite"))?;
    usage.execute_batch("DROP TABLE IF EXISTS mailboxes; CREATE TABLE mailboxes(started INTEGER)")?;
    let (end, ended) = channel::<()>();
    let writes = database.to_owned();
    let writer = std::thread::spawn(move || -> rusqlite::Result<Vec<Duration>> {
        let db = Connection::open(writes)?;
        db.busy_timeout(Duration::from_secs(600))?;
        let mut waits = Vec::new();
        // Each commit is 5 ms behind the last one; the end of the sender ends it.
        while ended.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            let began = Instant::now();
            db.execute_batch("BEGIN IMMEDIATE; UPDATE live SET n = n + 1; COMMIT")?;
            waits.push(began.elapsed());
        }
        Ok(waits)
    });
    let mut command = command(bench, directory, database, contestant)?;
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = began.elapsed();
    drop(end);
    let waits = writer.join().map_err(|_| "the writer panicked")??;
    // svc-tend says by 32 that one item failed.
    if !output.status.success() && output.status.code() != Some(32) {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let left = Connection::open(database)?.query_row("SELECT count(*) FROM mailboxes", [], |row| row.get(0))?;
    Ok((took, waits, left))
}
