//! The peak memory of a backup, for a small and a large database.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, megabytes};
use crate::report::{Section, goal};
use crate::service::Service;
use crate::tools::{shell, timed};

const GOAL_KIB: u64 = 48 * 1024;

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let program = bench.program("svc-backup")?;
    let mut rows = Vec::new();
    let mut highest = 0;
    for size in [bench.small, bench.size] {
        let database = crate::data::database(&bench.dir, size)?;
        let scratch = bench.scratch()?;
        let service = Service::new(bench, scratch.path(), &database, Duration::ZERO)?;
        service.start()?;
        let (store, copy) = (scratch.path().join("store"), scratch.path().join("copy"));
        let mut peaks = Vec::new();
        for _ in 0..bench.runs {
            let mut command = Command::new(&program);
            command.args(["backup", "--mode", "hot", "--name", "library", "--sqlite"]).arg(&database);
            peaks.push(peak(bench, scratch.path(), command.arg("--to").arg(&store))?);
            std::fs::remove_dir_all(&store)?;
        }
        let ours = peaks.iter().copied().max().unwrap_or(0);
        highest = highest.max(ours);
        rows.push(row(size, "svc-backup, hot", ours));
        let by_hand = [
            ("sqlite3 .backup", "exec sqlite3 \"$1\" \".backup '$2'\""),
            ("zstd -3 -T2", "exec zstd -3 -T2 -q \"$2\" -o \"$2.zst\""),
            ("sqlite3 integrity_check", "exec sqlite3 \"$2\" 'PRAGMA integrity_check'"),
        ];
        for (name, script) in by_hand {
            rows.push(row(size, name, peak(bench, scratch.path(), &mut shell(script, &[&database, &copy]))?));
        }
    }
    Ok(Section {
        name: "memory",
        title: "the peak memory of a backup".to_owned(),
        columns: vec!["database", "contestant", "peak (ru_maxrss)"],
        rows,
        notes: vec![
            "As the kernel counts it for the largest of the program and its children; svc-backup: the highest of all runs."
                .to_owned(),
            goal("48 MiB at most, at either size", highest <= GOAL_KIB),
        ],
    })
}

fn row(size: u64, name: &str, kib: u64) -> Vec<String> {
    vec![megabytes(size), name.to_owned(), format!("{:.1} MiB", kib as f64 / 1024.0)]
}

/// Runs a command; its peak, in KiB.
pub(super) fn peak(bench: &Bench, scratch: &Path, command: &mut Command) -> Outcome<u64> {
    let output = scratch.join("peak");
    let mut wrapper = Command::new(&bench.own);
    wrapper.env("SVCKIT_STATE_DIR", scratch.join("state")).arg("peak").arg("--output").arg(&output).arg("--");
    wrapper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    timed(wrapper.arg(command.get_program()).args(command.get_args()))?;
    Ok(std::fs::read_to_string(&output)?.trim().parse()?)
}
