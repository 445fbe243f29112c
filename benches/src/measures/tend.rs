//! Pruning expired mailboxes: how long it takes, what it leaves, and how long a service that writes meanwhile has to wait.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Outcome;
use crate::bench::{Bench, level};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pruner {
    Nobody,
    SvcTend,
    Server,
    ServerUnpoisoned,
    Each,
    All,
}

impl Pruner {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::SvcTend => "svc-tend",
            Self::Server => "the server's own prune",
            Self::ServerUnpoisoned => "the same, where every one can be summed up",
            Self::Each => "a transaction per item",
            Self::All => "one big transaction",
        }
    }
}

/// How often the service commits.
const EVERY: Duration = Duration::from_millis(5);
/// How long its commits are watched while nobody prunes.
const ALONE: Duration = Duration::from_secs(3);

/// Nobody takes longer; svc-tend's pass at a million takes minutes.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// So long others are watched at a million: they would take hours, and wait for nothing but the processor.
const PATIENCE_LARGE: Duration = Duration::from_secs(120);

/// What scripts do when their time is over: they tell how far they came, in what they would have committed.
const FAR: &str = "
except KeyboardInterrupt:
    print(*(len(db.execute(f'SELECT 1 FROM {table}').fetchall()) for table in ('nameplates', 'mailboxes')))
";

/// The server's own code, without the server around it.
const SERVERS: &str = "
import sys, time
from wormhole_mailbox_server.database import open_existing_db, create_or_upgrade_usage_db
from wormhole_mailbox_server.server import make_server
server = make_server(open_existing_db(sys.argv[1]), usage_db=create_or_upgrade_usage_db(sys.argv[1] + '.usage'))
db = server._db
db.execute('PRAGMA busy_timeout = 600000')
try:
    server.prune_all_apps(time.time(), time.time() - 660)
except IndexError as error:
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
try:
    if sys.argv[2] == 'all': db.execute('BEGIN IMMEDIATE')
    for item in items:
        if sys.argv[2] == 'each': db.execute('BEGIN IMMEDIATE')
        for table, where in tables: db.execute(f'DELETE FROM {table} WHERE {where}', (item,))
        if sys.argv[2] == 'each': db.execute('COMMIT')
    if sys.argv[2] == 'all': db.execute('COMMIT')
";

pub(crate) fn small(bench: &Bench) -> Outcome<Section> {
    use Pruner::{All, Each, Nobody, Server, ServerUnpoisoned, SvcTend};
    measure(bench, "tend", 5_000, &[Nobody, SvcTend, Server, ServerUnpoisoned, Each, All])
}

/// With a bound for all but svc-tend.
pub(crate) fn large(bench: &Bench) -> Outcome<Section> {
    use Pruner::{All, Each, Nobody, Server, SvcTend};
    measure(bench, "tend-large", 1_000_000, &[Nobody, SvcTend, Server, Each, All])
}

/// What was measured of one contestant.
#[derive(Debug, Clone, Default)]
struct Found {
    times: Vec<Duration>,
    waits: Vec<Duration>,
    left: i64,
    /// Nameplates and mailboxes that it saw when its time was over.
    far: Option<String>,
}

fn measure(bench: &Bench, name: &'static str, items: u32, pruners: &[Pruner]) -> Outcome<Section> {
    let scratch = bench.scratch()?;
    let template = template(scratch.path(), items)?;
    let mut found = vec![Found::default(); pruners.len()];
    for round in 0..bench.runs {
        let mut order: Vec<usize> = (0..pruners.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let database = scratch.path().join("relay.sqlite");
            std::fs::copy(&template, &database)?;
            if pruners[at] == Pruner::ServerUnpoisoned {
                let db = Connection::open(&database)?;
                db.execute_batch(
                    "INSERT INTO mailbox_sides SELECT id, 1, 'a', 1000, NULL FROM mailboxes WHERE rowid = 1",
                )?;
            }
            level(&database)?;
            let patience = if items > 100_000 && pruners[at] != Pruner::SvcTend { PATIENCE_LARGE } else { PATIENCE };
            let (took, waits, left, far) = watched(bench, scratch.path(), &database, pruners[at], patience)?;
            eprintln!("  round {round}: {} {:.2} s, {left} left, {far:?}", pruners[at].name(), took.as_secs_f64());
            found[at].times.push(took);
            found[at].waits.extend(waits);
            (found[at].left, found[at].far) = (left, far);
        }
    }
    let mut rows = Vec::new();
    let mut p99 = Duration::ZERO;
    for (pruner, found) in pruners.iter().zip(found) {
        let time = match &found.far {
            _ if *pruner == Pruner::Nobody => "-".to_owned(),
            Some(far) => format!("ended by us; nameplates and mailboxes left to it then: {far}"),
            None => Samples::new(found.times.clone()).seconds(),
        };
        let waits = Samples::new(found.waits);
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        if *pruner == Pruner::SvcTend {
            p99 = waits.percentile(99);
        }
        rows.push(vec![
            pruner.name().to_owned(),
            time,
            format!("{} of {items}", found.left),
            ms(waits.median()),
            ms(waits.percentile(99)),
            ms(waits.max()),
        ]);
    }
    Ok(Section {
        name,
        title: format!("{items} expired mailboxes, of which the first can't be summed up, are pruned"),
        columns: vec!["contestant", "time", "left", "a commit beside it takes, p50", "p99", "at most"],
        rows,
        notes: vec![
            "A service beside it commits one row every 5 ms, from BEGIN IMMEDIATE to the end of COMMIT; while one waits, the \
             commits that would have come wait behind it, and count as well. Rollback journal, as the server has it."
                .to_owned(),
            "All have the indices that `svc-tend check` asks for, which the server does not make. The server's own prune is its \
             own code in a process of its own; it ends at the first mailbox that can't be summed up, and what it did is taken \
             back. The scripts sum nothing up, and remove that one too."
                .to_owned(),
            goal("a service beside svc-tend waits for milliseconds (p99 below 100 ms)", p99 < Duration::from_millis(100)),
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

fn command(bench: &Bench, directory: &Path, database: &Path, pruner: Pruner) -> Outcome<Command> {
    let script = |python: &Path, script: &str, word: &str| {
        let mut command = Command::new(python);
        command.args(["-c", script]).arg(database).arg(word);
        command
    };
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/testbed/venv/bin/python");
    match pruner {
        Pruner::Nobody => Err("nobody has no command".into()),
        Pruner::SvcTend => {
            let rules = directory.join("tend.toml");
            std::fs::write(&rules, rule(database))?;
            let state = directory.join("state");
            if state.exists() {
                std::fs::remove_dir_all(&state)?;
            }
            let mut command = Command::new(bench.program("svc-tend")?);
            command.args(["once", "--config"]).arg(rules).env("SVCKIT_STATE_DIR", state);
            Ok(command)
        }
        Pruner::Server | Pruner::ServerUnpoisoned if venv.is_file() => {
            Ok(script(&venv, &format!("{}{FAR}", SERVERS.trim_end()), ""))
        }
        Pruner::Server | Pruner::ServerUnpoisoned => {
            Err(format!("{} is missing: tests/run tend", venv.display()).into())
        }
        Pruner::Each => Ok(script(Path::new("python3"), &format!("{}{FAR}", SCRIPT.trim_end()), "each")),
        Pruner::All => Ok(script(Path::new("python3"), &format!("{}{FAR}", SCRIPT.trim_end()), "all")),
    }
}

fn rule(database: &Path) -> String {
    format!(
        "[rule.mailboxes]\ndatabase = {database:?}\non-demand = true\ntable = \"mailboxes\"\nkey = \"id\"\n\
         expired = \"updated <= :now - 660\"\nfollow = true\npass = {{ items = 2000000, time = \"20m\" }}\n\
         [[rule.mailboxes.also]]\ntable = \"messages\"\nwhere = \"mailbox_id = :key\"\n\
         [[rule.mailboxes.summary]]\ndatabase = {:?}\ntable = \"mailboxes\"\nselect = \"SELECT min(added) AS started FROM \
         mailbox_sides WHERE mailbox_id = :key\"\nrequired = [\"started\"]\n",
        database.with_file_name("usage.sqlite")
    )
}

/// The time of one contestant, what the commits beside it took, what is left, and how far it was when its time was over.
fn watched(
    bench: &Bench,
    directory: &Path,
    database: &Path,
    pruner: Pruner,
    patience: Duration,
) -> Outcome<(Duration, Vec<Duration>, i64, Option<String>)> {
    let usage = Connection::open(database.with_file_name("usage.sqlite"))?;
    usage.execute_batch("DROP TABLE IF EXISTS mailboxes; CREATE TABLE mailboxes(started INTEGER)")?;
    let servers_usage = database.with_file_name("relay.sqlite.usage");
    if servers_usage.exists() {
        std::fs::remove_file(servers_usage)?;
    }
    let (end, ended) = channel::<()>();
    let writes = database.to_owned();
    let writer = std::thread::spawn(move || write(&writes, &ended));
    let began = Instant::now();
    let mut far = None;
    if pruner == Pruner::Nobody {
        // The writer ends for nothing but us: this is the time, or the writer's error.
        while began.elapsed() < ALONE && !writer.is_finished() {
            svckit::world::wait::readable(&[], Instant::now() + EVERY)?;
        }
    } else {
        let contestant = command(bench, directory, database, pruner)?;
        let mut command = Command::new("timeout");
        command.args(["--signal=INT", "--kill-after=60", &patience.as_secs().to_string()]);
        command.arg(contestant.get_program()).args(contestant.get_args());
        command.envs(contestant.get_envs().filter_map(|(name, value)| Some((name, value?))));
        loop {
            let output = command.stdin(Stdio::null()).output()?;
            match output.status.code() {
                // svc-tend says by 32 that one item failed.
                Some(0 | 32) => break,
                Some(124) => {
                    far = Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
                    break;
                }
                // It waits for two seconds for its turn, and leaves the rest to the next pass.
                code if pruner == Pruner::SvcTend && began.elapsed() < patience => {
                    eprintln!("  a pass ended with {code:?}: {}", String::from_utf8_lossy(&output.stdout).trim());
                }
                _ => return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
            }
        }
    }
    let took = began.elapsed();
    drop(end);
    let waits = writer.join().map_err(|_| "the writer panicked")??;
    let left = Connection::open(database)?.query_row("SELECT count(*) FROM mailboxes", [], |row| row.get(0))?;
    Ok((took, waits, left, far))
}

/// The service: a commit every so often, until the sender is gone.
fn write(database: &Path, ended: &Receiver<()>) -> rusqlite::Result<Vec<Duration>> {
    let db = Connection::open(database)?;
    db.busy_timeout(Duration::from_secs(600))?;
    let mut waits = Vec::new();
    while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let began = Instant::now();
        db.execute_batch("BEGIN IMMEDIATE; UPDATE live SET n = n + 1; COMMIT")?;
        let took = began.elapsed();
        waits.push(took);
        // Those that would have come meanwhile: else a single commit would stand for a stall of minutes.
        let mut behind = took.saturating_sub(EVERY);
        while behind > EVERY {
            waits.push(behind);
            behind -= EVERY;
        }
    }
    Ok(waits)
}
