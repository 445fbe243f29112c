//! A consistent copy of a live database, on the disk: svckit's hot snapshot against `.backup` of the CLI.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use svckit::database::sqlite::{SnapshotRequest, snapshot_hot};
use svckit::progress::{Cancel, Silent};

use crate::Outcome;
use crate::bench::{Bench, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Ratio, in_turns};
use crate::service::Service;
use crate::tools::{shell, timed};

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let database = bench.large()?;
    let scratch = bench.scratch()?;
    let service = Service::new(bench, scratch.path(), &database, Duration::ZERO)?;
    service.start()?;
    let copy = scratch.path().join("copy");
    let mut contestants = [
        Contestant { name: "svckit, hot", run: Box::new(|| hot(&database, scratch.path())) },
        Contestant {
            name: "sqlite3 .backup",
            run: Box::new(|| {
                let took = timed(&mut shell("exec sqlite3 \"$1\" \".backup '$2'\"", &[&database, &copy]))?;
                std::fs::remove_file(&copy)?;
                Ok(took)
            }),
        },
    ];
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let measured = in_turns(&mut contestants, bench.runs, || level(&database))?;
    let faster = Ratio::of(&measured[1].time, &measured[0].time);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![
            (*name).to_owned(),
            one.time.seconds(),
            Ratio::of(&measured[1].time, &one.time).to_string(),
            one.cpu.seconds(),
        ]
    });
    Ok(Section {
        name: "snapshot",
        title: format!("a hot snapshot of {}", megabytes(bench.size)),
        columns: vec!["contestant", "time", "times as fast as .backup (best runs)", "processor"],
        rows: rows.collect(),
        notes: vec![
            "A service holds the database open, with frames in its -wal. Both copies are synced to the disk."
                .to_owned(),
            goal("at least 3 times as fast", faster.best >= 3.0),
        ],
    })
}

/// The library's own snapshot, and what a caller adds to have it on the disk.
fn hot(database: &Path, scratch: &Path) -> Outcome<Duration> {
    let into = scratch.join("snapshot");
    std::fs::create_dir(&into)?;
    let databases = [database.to_owned()];
    let cancel = Cancel::new()?;
    let request = SnapshotRequest {
        databases: &databases,
        into: &into,
        fence_hold_max: Duration::from_secs(2),
        cancel: &cancel,
        observer: &Silent,
    };
    let began = Instant::now();
    let taken = snapshot_hot(&request)?;
    for snapshot in &taken {
        File::open(&snapshot.file)?.sync_all()?;
    }
    let took = began.elapsed();
    std::fs::remove_dir_all(&into)?;
    Ok(took)
}
