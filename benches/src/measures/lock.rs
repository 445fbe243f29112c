//! A command under a lock: what it costs where nobody else wants it, and how soon a waiter is let in.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Outcome;
use crate::actors::now;
use crate::bench::Bench;
use crate::report::{Section, goal};
use crate::samples::{Contestant, in_turns};
use crate::tools::timed;

/// Runs of each contestant per run: one takes a millisecond.
const PER_RUN: usize = 40;

/// `svc-lock run --name measured -- WORDS`, in a state directory of its own.
fn ours(bench: &Bench, state: &Path, options: &[&str], words: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(bench.program("svc-lock")?);
    command.env("SVCKIT_STATE_DIR", state).env_remove("SVCKIT_LOCK");
    command.args(["run", "--name", "measured"]).args(options).arg("--").args(words);
    Ok(command)
}

/// `flock FILE WORDS`, of util-linux.
fn theirs(file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("flock");
    command.arg(file).args(words);
    command
}

pub(crate) fn uncontended(bench: &Bench) -> Outcome<Section> {
    let scratch = bench.scratch()?;
    let (state, file) = (scratch.path().join("state"), scratch.path().join("lock"));
    let mut contestants = vec![
        Contestant { name: "svc-lock run true", run: Box::new(|| timed(&mut ours(bench, &state, &[], &["true"])?)) },
        Contestant { name: "flock true", run: Box::new(|| timed(&mut theirs(&file, &["true"]))) },
    ];
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let measured = in_turns(&mut contestants, bench.runs * PER_RUN, || Ok(()))?;
    let of_flock = measured[1].time.median().as_secs_f64();
    let ratio = measured[0].time.median().as_secs_f64() / of_flock;
    let figure = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        let ratio = format!("{:.2}", one.time.median().as_secs_f64() / of_flock);
        vec![(*name).to_owned(), figure(one.time.median()), figure(one.time.percentile(99)), ratio]
    });
    Ok(Section {
        name: "lock",
        title: "a command under a lock that nobody else wants".to_owned(),
        columns: vec!["contestant", "p50", "p99", "flock = 1"],
        rows: rows.collect(),
        notes: vec![
            format!("{} runs of each, from the start to the end of the program.", measured[0].time.len()),
            goal("1.5 times flock(1) at most", ratio <= 1.5),
        ],
    })
}

pub(crate) fn hand_over(bench: &Bench) -> Outcome<Section> {
    let scratch = bench.scratch()?;
    let (state, file) = (scratch.path().join("state"), scratch.path().join("lock"));
    let stamp = scratch.path().join("stamp");
    let line = format!("{} clock > {}", bench.own.display(), stamp.display());
    let waiting = ["sh", "-c", line.as_str()];
    let holding = ["tail", "-f", "/dev/null"];
    let mut contestants = vec![
        Contestant {
            name: "svc-lock run --wait",
            run: Box::new(|| {
                let (holder, waiter) =
                    (ours(bench, &state, &[], &holding)?, ours(bench, &state, &["--wait", "60s"], &waiting)?);
                killed_to_started(bench, holder, waiter, &stamp)
            }),
        },
        Contestant {
            name: "flock",
            run: Box::new(|| killed_to_started(bench, theirs(&file, &holding), theirs(&file, &waiting), &stamp)),
        },
    ];
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let measured = in_turns(&mut contestants, bench.runs * PER_RUN / 4, || Ok(()))?;
    let figure = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![(*name).to_owned(), figure(one.time.median()), figure(one.time.percentile(99)), figure(one.time.max())]
    });
    Ok(Section {
        name: "lock-wait",
        title: "from the SIGKILL of a holder and its command to the waiter's command".to_owned(),
        columns: vec!["contestant", "p50", "p99", "max"],
        rows: rows.collect(),
        notes: vec![format!(
            "{} runs of each; the command of the waiter, a shell and a program that tells the time, is in it.",
            measured[0].time.len()
        )],
    })
}

/// Starts both, kills the holder's group once the waiter is seen to wait, and reads when the waiter's command ran.
fn killed_to_started(bench: &Bench, mut holder: Command, mut waiter: Command, stamp: &Path) -> Outcome<Duration> {
    let mut holder = holder.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    seen(bench, || tail_runs(&holder))?;
    let mut waiter = waiter.stdin(Stdio::null()).spawn()?;
    seen(bench, || Ok(waits(i32::try_from(waiter.id())?)))?;
    let group = Pid::from_raw(i32::try_from(holder.id())?).ok_or("a process without a pid")?;
    let began = now();
    kill_process_group(group, Signal::KILL)?;
    let status = waiter.wait()?;
    holder.wait()?;
    if !status.success() {
        return Err(format!("the waiter ended with {status}").into());
    }
    let started: u64 = std::fs::read_to_string(stamp)?.trim().parse()?;
    Ok(Duration::from_nanos(started.saturating_sub(began)))
}

/// Whether the command below a holder runs: then the lock is held.
fn tail_runs(holder: &Child) -> Outcome<bool> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id()))?;
    let names = children.split_whitespace().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")));
    Ok(names.flatten().any(|name| name.trim() == "tail"))
}

/// Whether the kernel has the process in line for a flock(2) (proc_locks(5)).
fn waits(pid: i32) -> bool {
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = pid.to_string();
    table.lines().any(|line| line.contains("-> FLOCK") && line.split_whitespace().any(|word| word == pid))
}

fn seen(bench: &Bench, mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let deadline = Instant::now() + bench.wait_max;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err("a process did not come to its place in time".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
