//! How long a cold backup keeps a service away, as the service itself measures it.

use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Ratio, in_turns};
use crate::service::Service;
use crate::tools::timed;

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let program = bench.program("svc-backup")?;
    let database = bench.large()?;
    let scratch = bench.scratch()?;
    let service = Service::new(bench, scratch.path(), &database, Duration::ZERO)?;
    service.start()?;
    let (store, copy, state) =
        (scratch.path().join("store"), scratch.path().join("copy"), scratch.path().join("state"));
    // From the signal to the first moment at which it could serve again.
    let away = || Ok(Duration::from_nanos(service.last("ready")?.saturating_sub(service.last("stopping")?)));
    let mut contestants = [
        Contestant {
            name: "svc-backup, cold",
            run: Box::new(|| {
                let mut command = Command::new(&program);
                command.env("SVCKIT_STATE_DIR", &state).args(["backup", "--mode", "cold", "--name", "library"]);
                command.args(service.flag()).arg("--sqlite").arg(&database).arg("--to").arg(&store);
                timed(&mut command)?;
                std::fs::remove_dir_all(&store)?;
                away()
            }),
        },
        Contestant {
            name: "stop + cp + start by hand",
            run: Box::new(|| {
                service.stop()?;
                timed(Command::new("cp").arg(&database).arg(&copy))?;
                service.start()?;
                std::fs::remove_file(&copy)?;
                away()
            }),
        },
    ];
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let measured = in_turns(&mut contestants, bench.runs, || level(&database))?;
    let longer = Ratio::of(&measured[0].time, &measured[1].time);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![(*name).to_owned(), one.time.seconds(), Ratio::of(&one.time, &measured[1].time).to_string()]
    });
    let manager = if service.unit().is_some() { "a unit of systemd" } else { "a service with a pid file" };
    Ok(Section {
        name: "downtime",
        title: format!("the service is away while {} are copied", megabytes(bench.size)),
        columns: vec!["contestant", "away", "by hand = 1 (best runs)"],
        rows: rows.collect(),
        notes: vec![
            format!(
                "{manager}, from the signal to its being ready again; by hand there is no pause between the steps."
            ),
            goal("1.05 at most", longer.best <= 1.05),
        ],
    })
}
