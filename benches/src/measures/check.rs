//! A whole check of a database: the page-level check against SQLite's own integrity_check.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use svckit::database::sqlite::pages::{CheckOptions, check};
use svckit::progress::{Cancel, Silent};

use super::memory::peak;
use crate::Outcome;
use crate::bench::{Bench, cold, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Ratio, in_turns};
use crate::tools::{shell, timed};

const BY_SQLITE: &str = "test \"$(sqlite3 -readonly \"$1\" 'PRAGMA integrity_check')\" = ok";

const READ: &str = "exec dd if=\"$1\" of=/dev/null bs=1M status=none";
/// Beyond what is mapped: nothing is.
const PEAK_MAX_KIB: u64 = 64 * 1024;

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let database = bench.large()?;
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for (state, prepare) in [("warm", level as fn(&Path) -> Outcome<()>), ("cold", cold)] {
        let mut contestants = [
            Contestant { name: "svckit, every page", run: Box::new(|| pages(&database, None)) },
            Contestant { name: "svckit, on one thread", run: Box::new(|| pages(&database, Some(1))) },
            Contestant {
                name: "sqlite3, integrity_check",
                run: Box::new(|| timed(&mut shell(BY_SQLITE, &[&database]))),
            },
            Contestant { name: "reading the file", run: Box::new(|| timed(&mut shell(READ, &[&database]))) },
        ];
        let names = contestants.each_ref().map(|contestant| contestant.name);
        let measured = in_turns(&mut contestants, bench.runs, || prepare(&database))?;
        drop(contestants);
        let faster = Ratio::of(&measured[2].time, &measured[0].time);
        let slower = Ratio::of(&measured[0].time, &measured[3].time);
        rows.extend(names.iter().zip(&measured).map(|(name, one)| {
            vec![
                format!("{name}, {state}"),
                one.time.seconds(),
                Ratio::of(&measured[2].time, &one.time).to_string(),
                Ratio::of(&one.time, &measured[3].time).to_string(),
                one.cpu.seconds(),
            ]
        }));
        notes.push(goal(&format!("{state}: at least 15 times as fast as integrity_check"), faster.best >= 15.0));
        notes.push(goal(&format!("{state}: within 6 times of reading the file"), slower.best <= 6.0));
    }
    notes.push(memory(bench)?);
    notes.push(
        "Both compare every index with its table. integrity_check also evaluates CHECK constraints; svckit's also looks for \
         commits that the log has lost. Warm: in the page cache; cold: nothing of it is, as far as the kernel tells."
            .to_owned(),
    );
    Ok(Section {
        name: "check",
        title: format!("a check of {} with 29 indices", megabytes(bench.size)),
        columns: vec![
            "contestant",
            "time",
            "times as fast as integrity_check (best runs)",
            "times as long as reading (best runs)",
            "processor",
        ],
        rows,
        notes,
    })
}

/// The peak of the program, for a small and a large database.
fn memory(bench: &Bench) -> Outcome<String> {
    let program = bench.program("svc-repair")?;
    let scratch = bench.scratch()?;
    let (mut highest, mut told) = (0, Vec::new());
    for size in [bench.small, bench.size] {
        let database = crate::data::database(&bench.dir, size)?;
        let kib = peak(bench, scratch.path(), Command::new(&program).arg("check").arg(&database))?;
        highest = highest.max(kib);
        told.push(format!("{:.1} MiB at {}", kib as f64 / 1024.0, megabytes(size)));
    }
    let goal = goal("64 MiB at most, at either size", highest <= PEAK_MAX_KIB);
    Ok(format!("Peak memory of svc-repair check (ru_maxrss): {}. {goal}", told.join(", ")))
}

fn pages(database: &Path, threads: Option<usize>) -> Outcome<Duration> {
    let cancel = Cancel::new()?;
    let options = CheckOptions { threads, ..CheckOptions::default() };
    let began = Instant::now();
    let report = check(database, &options, &cancel, &Silent)?;
    let took = began.elapsed();
    if !report.is_clean() || report.indices_compared != 29 {
        return Err(format!("{:?}, {} indices", report.findings, report.indices_compared).into());
    }
    Ok(took)
}
