//! A whole check of a database: the page-level check against SQLite's own integrity_check.

use std::path::Path;
use std::time::{Duration, Instant};

use svckit::database::sqlite::pages::{CheckOptions, check};
use svckit::progress::{Cancel, Silent};

use crate::Outcome;
use crate::bench::{Bench, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Ratio, in_turns};
use crate::tools::{shell, timed};

const BY_SQLITE: &str = "test \"$(sqlite3 -readonly \"$1\" 'PRAGMA integrity_check')\" = ok";

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let database = bench.large()?;
    let mut contestants = [
        Contestant { name: "svckit, every page", run: Box::new(|| pages(&database, None)) },
        Contestant { name: "svckit, on one thread", run: Box::new(|| pages(&database, Some(1))) },
        Contestant { name: "sqlite3, integrity_check", run: Box::new(|| timed(&mut shell(BY_SQLITE, &[&database]))) },
        Contestant {
            name: "reading the file",
            run: Box::new(|| timed(&mut shell("exec dd if=\"$1\" of=/dev/null bs=1M status=none", &[&database]))),
        },
    ];
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let measured = in_turns(&mut contestants, bench.runs, || level(&database))?;
    let faster = Ratio::of(&measured[2].time, &measured[0].time);
    let slower = Ratio::of(&measured[0].time, &measured[3].time);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![
            (*name).to_owned(),
            one.time.seconds(),
            Ratio::of(&measured[2].time, &one.time).to_string(),
            one.cpu.seconds(),
        ]
    });
    Ok(Section {
        name: "check",
        title: format!("a check of {} with 29 indices, in memory", megabytes(bench.size)),
        columns: vec!["contestant", "time", "times as fast as integrity_check (best runs)", "processor"],
        rows: rows.collect(),
        notes: vec![
            "Both compare every index with its table. integrity_check also evaluates CHECK constraints; svckit's also \
             looks for commits that the log has lost."
                .to_owned(),
            goal("at least 15 times as fast as integrity_check", faster.best >= 15.0),
            goal("within 6 times of reading the file", slower.best <= 6.0),
        ],
    })
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
