//! Two hundred containers with labels, most of them idle: found, and planned in one run, beside a look at all of them by hand.

use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use svckit_testbed::docker::Engine;

use super::memory::peak;
use crate::Outcome;
use crate::bench::Bench;
use crate::report::Section;
use crate::samples::{Contestant, Ratio, in_turns};
use crate::tools::{engine, shell, timed};

/// Made and never started, each with a database of its own.
const IDLE: usize = 190;
/// Running, with their databases open.
const RUNNING: usize = 8;
/// Running database servers: image, label, and what they say when they are ready.
const SERVERS: [(&str, &str, &str, &str); 2] = [
    ("postgres", "svckit.engine=postgres", "POSTGRES_PASSWORD=bench-7391", "ready to accept connections"),
    ("mysql", "svckit.engine=mysql", "MARIADB_ROOT_PASSWORD=bench-7391", "port: 3306"),
];
const ALL: usize = IDLE + RUNNING + SERVERS.len();

const NAMES: [&str; 3] =
    ["svc-backup targets --json", "svc-backup backup --all --dry-run", "docker ps -aq, xargs docker inspect"];

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let engine = engine()?;
    let scratch = bench.scratch()?;
    let config = scratch.path().join("svckit.toml");
    std::fs::write(&config, format!("[defaults]\nstore = {:?}\n", scratch.path().join("store")))?;
    populate(bench, &engine)?;

    let program = bench.program("svc-backup")?;
    let command = |contestant: usize| {
        let mut command = match contestant {
            0 | 1 => Command::new(&program),
            _ => shell("docker ps -aq | xargs docker inspect", &[]),
        };
        match contestant {
            0 => drop(command.args(["targets", "--json", "--config"]).arg(&config)),
            1 => drop(command.args(["backup", "--all", "--dry-run", "--json", "--config"]).arg(&config)),
            _ => {}
        }
        command.env("DOCKER_HOST", engine.host()).env("SVCKIT_STATE_DIR", scratch.path().join("state"));
        command
    };
    for contestant in [0, 1] {
        let output = command(contestant).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().filter(|line| line.contains("\"target\"")).count();
        if !output.status.success() || told != ALL {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} told of {told} targets, not of {ALL}: {said}", NAMES[contestant]).into());
        }
    }
    let run = |contestant: usize| move || -> Outcome<Duration> { timed(&mut command(contestant)) };
    let mut contestants = [0, 1, 2].map(|n| Contestant { name: NAMES[n], run: Box::new(run(n)) });
    let measured = in_turns(&mut contestants, bench.runs, || Ok(()))?;
    drop(contestants);
    let mut rows = Vec::new();
    for (contestant, one) in measured.iter().enumerate() {
        let kib = peak(bench, scratch.path(), &mut command(contestant))?;
        rows.push(vec![
            NAMES[contestant].to_owned(),
            one.time.seconds(),
            Ratio::of(&one.time, &measured[2].time).to_string(),
            one.cpu.seconds(),
            format!("{:.1} MiB", kib as f64 / 1024.0),
        ]);
    }
    Ok(Section {
        name: "targets",
        title: format!("{ALL} labelled containers are found and planned"),
        columns: vec!["contestant", "time", "by hand = 1 (best runs)", "processor", "peak (ru_maxrss)"],
        rows,
        notes: vec![
            format!(
                "{IDLE} were made and never started, {RUNNING} run a service with an SQLite database, one runs PostgreSQL and \
                 one MariaDB. Labels are read from one list of the engine; the dry run looks at every database and server too, \
                 two at once, and each of the 200 plans is checked to be there."
            ),
            "By hand: descriptions of all containers that nobody has read yet. The engine's own time is in the times and not \
             in the processor's."
                .to_owned(),
        ],
    })
}

fn populate(bench: &Bench, engine: &Engine) -> Outcome<()> {
    for number in 0..IDLE + RUNNING {
        let name = format!("app-{number:03}");
        let directory = engine.path(&name);
        std::fs::create_dir(&directory)?;
        let database = directory.join("data.db");
        Connection::open(&database)?.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE notes(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes(text) VALUES('one')",
        )?;
        let mut service = Command::new(&bench.own);
        service.arg("service").arg("--database").arg(&database).args(["--log", "/dev/stdout"]);
        let label = format!("--label=svckit.sqlite={}", database.display());
        let options = [label.as_str(), "--label=svckit.keep-daily=14"];
        if number < IDLE {
            engine.create(&name, &options, &directory, &service);
        } else {
            engine.run(&name, &options, &directory, &service);
            engine.wait_for_log(&name, "ready");
        }
    }
    for (kind, label, password, ready) in SERVERS {
        let image = engine.server_image(kind);
        let mut command = docker(engine, &["run", "-d", "--network=none", "--name", kind, "--label", label]);
        timed(command.args(["-e", password, &image]))?;
        engine.wait_for_log(kind, ready);
    }
    let sql = "CREATE TABLE notes(id INTEGER)";
    timed(&mut docker(engine, &["exec", "postgres", "psql", "--username=postgres", "-c", sql]))?;
    let sql = "CREATE DATABASE shop; CREATE TABLE shop.notes(id INTEGER)";
    let login = "MYSQL_PWD=bench-7391";
    timed(&mut docker(engine, &["exec", "-e", login, "mysql", "mariadb", "--user=root", "-e", sql]))?;
    Ok(())
}

/// `docker WORDS` against this engine, without a bound of its own.
pub(super) fn docker(engine: &Engine, words: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(words).env("DOCKER_HOST", engine.host());
    command
}
