//! Dumps of PostgreSQL and MariaDB in containers: against the same program of the server through `docker exec` and zstd(1).

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use svckit_testbed::docker::Engine;

use super::memory::peak;
use super::targets::docker;
use crate::Outcome;
use crate::bench::{Bench, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Measured, Ratio, Samples, in_turns};
use crate::tools::{engine, timed};

const PEAK_GOAL_KIB: u64 = 64 * 1024;
const PASSWORD: &str = "bench-7391";
/// Bytes of a dump for each row.
const ROW_BYTES: u64 = 185;

/// A kind of server, how it is filled, and how people dump it.
struct Kind {
    title: &'static str,
    image: &'static str,
    ready: &'static str,
    /// What its image is given.
    password: &'static str,
    /// Of the server itself.
    args: &'static [&'static str],
    /// What runs statements of its argument; `$DB` is the database.
    client: &'static str,
    create: &'static str,
    /// `$ROWS` rows.
    fill: &'static str,
    /// The dump, as svckit's own arguments have it; `$DB` is the database.
    dump: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        title: "PostgreSQL",
        image: "postgres",
        ready: "ready to accept connections",
        password: "POSTGRES_PASSWORD",
        args: &["-c", "max_wal_size=4GB"],
        client: "psql --username=postgres --quiet --dbname=$DB -c",
        create: "psql --username=postgres --quiet -c \"CREATE DATABASE $DB\"",
        fill: "CREATE TABLE orders AS SELECT n AS id, n % 5000 AS customer, timestamp '2024-01-01' + n * interval '37 s' AS placed,
            (ARRAY['new', 'paid', 'sent', 'returned'])[1 + n % 4] AS state, (n::bigint * 7919 % 100000) / 100.0 AS amount,
            md5(n::text) AS token, 'To be sent to ' || md5((n % 977)::text) || ', please leave it with the neighbour' AS note
            FROM generate_series(1, $ROWS) n; CREATE UNIQUE INDEX ON orders (id); CHECKPOINT",
        dump: "pg_dump --no-password --username=postgres --dbname=$DB --format=custom --compress=0",
    },
    Kind {
        title: "MariaDB",
        image: "mysql",
        ready: "port: 3306",
        password: "MARIADB_ROOT_PASSWORD",
        args: &["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G"],
        client: "mariadb --user=root --database=$DB -e",
        create: "mariadb --user=root -e \"CREATE DATABASE $DB\"",
        fill: "CREATE TABLE orders(id INT PRIMARY KEY, customer INT, placed DATETIME, state VARCHAR(10), amount DECIMAL(10, 2),
            token CHAR(32), note VARCHAR(200)); INSERT INTO orders SELECT seq, seq % 5000, '2024-01-01' + INTERVAL seq * 37 SECOND,
            ELT(1 + seq % 4, 'new', 'paid', 'sent', 'returned'), (seq * 7919 % 100000) / 100, MD5(seq), CONCAT('To be sent to ',
            MD5(seq % 977), ', please leave it with the neighbour') FROM seq_1_to_$ROWS",
        dump: "mariadb-dump --user=root --single-transaction --quick --routines --events --triggers --hex-blob \
            --default-character-set=utf8mb4 --no-tablespaces --max-allowed-packet=1073741824 --databases -- $DB",
    },
];

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let engine = engine()?;
    let mut section = Section {
        name: "dump",
        title: format!("dumps of about {} of a server in a container", megabytes(bench.size)),
        columns: vec!["contestant", "time", "MB/s", "by hand, synced = 1 (best runs)", "processor", "peak (ru_maxrss)"],
        rows: Vec::new(),
        notes: vec![
            "By hand: `docker exec NAME pg_dump|mariadb-dump ... | zstd -3 -T2 -q`, with the options that svckit gives the same \
             program of the container; `synced` has `sync FILE` behind it. svckit compresses at level 3 with two threads too."
                .to_owned(),
            "The dump alone: from the start of that program to the end of its stream, hashed before and after the compression, and \
             synced. The whole backup also finds out what there is, counts every row in the same snapshot (PostgreSQL), reads \
             the file back, decompresses it, compares both hashes, parses all of it (by pg_restore in the container, or by a \
             counter of rows), and publishes it."
                .to_owned(),
        ],
    };
    for kind in &KINDS {
        of_kind(bench, &engine, kind, &mut section)?;
    }
    Ok(section)
}

/// A server with two databases, each a target by its labels.
struct Bed<'a> {
    bench: &'a Bench,
    engine: &'a Engine,
    kind: &'a Kind,
    scratch: tempfile::TempDir,
}

fn of_kind(bench: &Bench, engine: &Engine, kind: &Kind, section: &mut Section) -> Outcome<()> {
    let bed = Bed::start(bench, engine, kind)?;
    let (dumps, synced) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let bytes = RefCell::new(0);
    let mut contestants = [
        Contestant {
            name: "svc-backup",
            run: Box::new(|| {
                let (took, report) = bed.back_up("large")?;
                let of_dump = report["dump_ms"].as_f64().ok_or("the report does not say how long the dump took")?;
                dumps.borrow_mut().push(Duration::from_secs_f64(of_dump / 1e3));
                *bytes.borrow_mut() = report["content_bytes"].as_u64().unwrap_or(0);
                Ok(took)
            }),
        },
        Contestant {
            name: "by hand",
            run: Box::new(|| {
                let took = timed(&mut bed.by_hand("large"))?;
                let sync = timed(Command::new("sync").arg(bed.by_hand_file()))?;
                synced.borrow_mut().push(took + sync);
                std::fs::remove_file(bed.by_hand_file())?;
                Ok(took)
            }),
        },
    ];
    let measured = in_turns(&mut contestants, bench.runs, || {
        rustix::fs::sync();
        Ok(())
    })?;
    drop(contestants);
    // The first was the warm-up.
    let of = |times: RefCell<Vec<Duration>>| Measured {
        time: Samples::new(times.into_inner().split_off(1)),
        ..Measured::default()
    };
    let (dump, synced, bytes) = (of(dumps), of(synced), bytes.into_inner());

    let mut peaks = (Vec::new(), Vec::new());
    let mut highest = 0;
    for (name, size) in [("small", bench.small), ("large", bench.size)] {
        let kib = peak(bench, bed.scratch.path(), &mut bed.command(name)?)?;
        std::fs::remove_dir_all(bed.store())?;
        highest = highest.max(kib);
        let text = |kib: u64| format!("{:.1} MiB at {}", kib as f64 / 1024.0, megabytes(size));
        peaks.0.push(text(kib));
        peaks.1.push(text(peak(bench, bed.scratch.path(), &mut bed.by_hand(name))?));
    }
    let row = |name: &str, one: &Measured, peaks: &[String]| {
        let cpu = if one.cpu.len() == 0 { "-".to_owned() } else { one.cpu.seconds() };
        vec![
            format!("{}: {name}", kind.title),
            one.time.seconds(),
            format!("{:.0}", bytes as f64 / 1e6 / one.time.median().as_secs_f64()),
            Ratio::of(&one.time, &synced.time).to_string(),
            cpu,
            if peaks.is_empty() { "-".to_owned() } else { peaks.join(", ") },
        ]
    };
    section.rows.extend([
        row("svc-backup, the dump alone", &dump, &[]),
        row("svc-backup, the whole backup", &measured[0], &peaks.0),
        row("by hand, synced", &synced, &[]),
        row("by hand", &measured[1], &peaks.1),
    ]);
    let ratio = Ratio::of(&dump.time, &synced.time);
    section.notes.extend([
        format!("{}: the dump has {}.", kind.title, megabytes(bytes)),
        goal(&format!("{}: the dump alone within 5 % of by hand, synced (best runs)", kind.title), ratio.best <= 1.05),
        goal(&format!("{}: a peak of 64 MiB at most, at either size", kind.title), highest <= PEAK_GOAL_KIB),
    ]);
    Ok(())
}

impl<'a> Bed<'a> {
    fn start(bench: &'a Bench, engine: &'a Engine, kind: &'a Kind) -> Outcome<Self> {
        let bed = Self { bench, engine, kind, scratch: bench.scratch()? };
        let image = engine.server_image(kind.image);
        let mut command = docker(engine, &["run", "-d", "--network=none", "--name", kind.image]);
        for name in ["small", "large"] {
            for (key, value) in [("engine", kind.image), ("database", name), ("name", name)] {
                command.arg(format!("--label=svckit.{name}.{key}={value}"));
            }
        }
        timed(command.args(["-e", &format!("{}={PASSWORD}", kind.password), &image]).args(kind.args))?;
        engine.wait_for_log(kind.image, kind.ready);
        for (name, size) in [("small", bench.small), ("large", bench.size)] {
            eprintln!("  filling {} with {}", kind.title, megabytes(size));
            let rows = (size / ROW_BYTES).to_string();
            timed(&mut bed.inside(name, kind.create, &[]))?;
            for statement in kind.fill.split(';') {
                let statement = statement.replace("$ROWS", &rows);
                timed(&mut bed.inside(name, &format!("{} \"$1\"", kind.client), &[&statement]))?;
            }
        }
        std::fs::write(bed.config(), format!("[defaults]\nstore = {:?}\n", bed.store()))?;
        Ok(bed)
    }

    /// A script of the shell in the container.
    fn inside(&self, database: &str, script: &str, arguments: &[&str]) -> Command {
        let login = format!("MYSQL_PWD={PASSWORD}");
        let name = format!("DB={database}");
        let words = ["exec", "-e", &login, "-e", &name, self.kind.image, "sh", "-euc", script, "sh"];
        let mut command = docker(self.engine, &words);
        command.args(arguments);
        command
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("svckit.toml")
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    fn by_hand_file(&self) -> PathBuf {
        self.scratch.path().join("by-hand.zst")
    }

    fn command(&self, target: &str) -> Outcome<Command> {
        let mut command = Command::new(self.bench.program("svc-backup")?);
        command.args(["backup", target, "--json", "--config"]).arg(self.config());
        command.env("DOCKER_HOST", self.engine.host()).env("SVCKIT_STATE_DIR", self.scratch.path().join("state"));
        Ok(command)
    }

    /// How long it took, and its report.
    fn back_up(&self, target: &str) -> Outcome<(Duration, Value)> {
        let file = self.scratch.path().join("report");
        let mut script = Command::new("sh");
        let command = self.command(target)?;
        script.args(["-euc", "exec \"$@\" >\"$0\""]).arg(&file).arg(command.get_program()).args(command.get_args());
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let took = timed(&mut script)?;
        std::fs::remove_dir_all(self.store())?;
        Ok((took, serde_json::from_str(&std::fs::read_to_string(file)?)?))
    }

    /// What careful people type.
    fn by_hand(&self, database: &str) -> Command {
        let dump = self.kind.dump.replace("$DB", database);
        let script =
            format!("docker exec -e MYSQL_PWD={PASSWORD} {} {dump} | zstd -3 -T2 -q -f -o \"$1\"", self.kind.image);
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script, "bash"]).arg(self.by_hand_file());
        command.env("DOCKER_HOST", self.engine.host());
        command
    }
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        // The next kind has the machine for itself. Best effort: the engine's end removes it too.
        drop(timed(&mut docker(self.engine, &["rm", "-f", "-v", self.kind.image])));
    }
}
