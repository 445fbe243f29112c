//! A whole backup: snapshot, compression, verification.

use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Ratio, in_turns};
use crate::service::Service;
use crate::tools::{shell, timed};

/// What careful people write into their crontab.
const BY_HAND: &str = "sqlite3 \"$1\" \".backup '$2'\"; zstd -3 -T2 -q \"$2\" -o \"$2.zst\"; \
    test \"$(sqlite3 \"$2\" 'PRAGMA integrity_check')\" = ok";

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let program = bench.program("svc-backup")?;
    let database = bench.large()?;
    let scratch = bench.scratch()?;
    let service = Service::new(bench, scratch.path(), &database, Duration::ZERO)?;
    service.start()?;
    let (store, copy, state) =
        (scratch.path().join("store"), scratch.path().join("copy"), scratch.path().join("state"));
    let mut contestants = [
        Contestant {
            name: "svc-backup, hot",
            run: Box::new(|| {
                let mut command = Command::new(&program);
                command.env("SVCKIT_STATE_DIR", &state).args(["backup", "--mode", "hot", "--name", "library"]);
                let took = timed(command.arg("--sqlite").arg(&database).arg("--to").arg(&store))?;
                std::fs::remove_dir_all(&store)?;
                Ok(took)
            }),
        },
        Contestant {
            name: "sqlite3 .backup + zstd -3 -T2 + integrity_check",
            run: Box::new(|| {
                let took = timed(&mut shell(BY_HAND, &[&database, &copy]))?;
                std::fs::remove_file(&copy)?;
                std::fs::remove_file(copy.with_extension("zst"))?;
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
        name: "backup",
        title: format!("a whole backup of {}", megabytes(bench.size)),
        columns: vec!["contestant", "time", "times as fast as by hand (best runs)", "processor"],
        rows: rows.collect(),
        notes: vec![
            "svc-backup also reads the written file back, decompresses it, compares both hashes, checks the \
             decompressed copy (structure, every index, foreign keys, counts), and syncs all of it."
                .to_owned(),
            goal("faster", faster.best > 1.0),
        ],
    })
}
