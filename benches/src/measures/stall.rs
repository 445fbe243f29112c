//! What a copy of a live database costs a writer that never rests: the latency of its commits.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_open, pidfd_send_signal};
use svckit::database::sqlite::{SnapshotRequest, snapshot_hot};
use svckit::progress::{Cancel, Silent};

use crate::Outcome;
use crate::actors::now;
use crate::bench::{Bench, level, megabytes};
use crate::report::Section;
use crate::samples::Samples;
use crate::tools::{shell, timed};

/// How long the writer is watched undisturbed.
const BEFORE: Duration = Duration::from_secs(5);

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let database = bench.large()?;
    let names = ["nobody copies", "svckit, hot", "sqlite3 VACUUM INTO", "cp (its copy is worth nothing)"];
    let mut commits = vec![Vec::new(); names.len()];
    for _ in 0..bench.runs {
        for (contestant, all) in commits.iter_mut().enumerate() {
            all.extend(watched(bench, &database, contestant)?);
        }
    }
    let rows = names.iter().zip(commits).map(|(name, commits)| {
        let samples = Samples::new(commits);
        let figure = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let times = [samples.median(), samples.percentile(99), samples.max()].map(figure);
        [vec![(*name).to_owned(), samples.len().to_string()], times.to_vec()].concat()
    });
    Ok(Section {
        name: "stall",
        title: format!("commits of a busy WAL writer while {} are copied", megabytes(bench.size)),
        columns: vec!["meanwhile", "commits", "p50", "p99", "max"],
        rows: rows.collect(),
        notes: vec![
            "The writer commits one row, pauses 2 ms, and so on, with SQLite's own automatic checkpoints. `.backup` \
             is not among them: it begins anew at every commit of another, and does not end while this writer runs."
                .to_owned(),
        ],
    })
}

/// The latencies of the commits that were under way while this contestant copied.
fn watched(bench: &Bench, database: &Path, contestant: usize) -> Outcome<Vec<Duration>> {
    let scratch = bench.scratch()?;
    let (log, copy) = (scratch.path().join("writer.log"), scratch.path().join("copy"));
    level(database)?;
    let mut command = Command::new(&bench.own);
    command.arg("writer").arg("--database").arg(database).arg("--log").arg(&log);
    let mut writer = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let outcome = (|| {
        // Its first seconds fill the log and the caches; nobody sends on this channel.
        let (_sender, quiet) = channel::<()>();
        let _ = quiet.recv_timeout(Duration::from_secs(1));
        let began = now();
        match contestant {
            0 => quiet.recv_timeout(BEFORE).err().map_or((), drop),
            1 => hot(database, scratch.path())?,
            2 => drop(timed(&mut shell("exec sqlite3 \"$1\" \"VACUUM INTO '$2'\"", &[database, &copy]))?),
            _ => drop(timed(Command::new("cp").arg(database).arg(&copy))?),
        }
        Ok((began, now()))
    })();
    end(&mut writer)?;
    let (from, to): (u64, u64) = outcome.map_err(|error: Box<dyn std::error::Error>| error)?;
    let text = std::fs::read_to_string(&log)?;
    let mut latencies = Vec::new();
    for line in text.lines() {
        let (at, took) = line.split_once(' ').ok_or("the writer's log is torn")?;
        let (at, took): (u64, u64) = (at.parse()?, took.parse()?);
        if at + took >= from && at <= to {
            latencies.push(Duration::from_nanos(took));
        }
    }
    eprintln!("  {contestant}: {} commits in {:.2} s", latencies.len(), (to - from) as f64 / 1e9);
    Ok(latencies)
}

fn hot(database: &Path, into: &Path) -> Outcome<()> {
    let databases = [database.to_owned()];
    let cancel = Cancel::new()?;
    let request = SnapshotRequest {
        databases: &databases,
        into,
        fence_hold_max: Duration::from_secs(2),
        cancel: &cancel,
        observer: &Silent,
    };
    snapshot_hot(&request)?;
    Ok(())
}

fn end(writer: &mut Child) -> Outcome<()> {
    let pid = Pid::from_raw(i32::try_from(writer.id())?).ok_or("no process id")?;
    pidfd_send_signal(pidfd_open(pid, rustix::process::PidfdFlags::empty())?, Signal::TERM)?;
    let status = writer.wait()?;
    if !status.success() {
        return Err(format!("the writer ended with {status}").into());
    }
    Ok(())
}
