//! From the real end of a service to the return of whoever stopped it.

use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::actors::now;
use crate::bench::Bench;
use crate::report::{Section, goal};
use crate::samples::{Contestant, in_turns};
use crate::service::Service;
use crate::tools::timed;

/// Stops of each contestant, per run: a median of few would be luck.
const STOPS_PER_RUN: usize = 10;

const LINGER: Duration = Duration::from_millis(900);

/// How scripts wait, under systemd and by a process id.
const POLL_UNIT: &str = "systemctl stop --no-block \"$1\"; \
    while [ \"$(systemctl show -p ActiveState --value \"$1\")\" != inactive ]; do sleep 1; done";
const POLL_PID: &str = "kill -TERM \"$1\"; while kill -0 \"$1\" 2>/dev/null; do sleep 1; done";

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let program = bench.program("svc-ctl")?;
    let database = crate::data::database(&bench.dir, 1_000_000)?;
    let scratch = bench.scratch()?;
    let state = scratch.path().join("state");
    let service = Service::new(bench, scratch.path(), &database, LINGER)?;
    let returned = |command: &mut Command| {
        timed(command)?;
        let end = service.last("end")?;
        Ok(Duration::from_nanos(now().saturating_sub(end)))
    };
    let mut contestants = vec![Contestant {
        name: "svc-ctl stop",
        run: Box::new(|| {
            let mut command = Command::new(&program);
            returned(command.env("SVCKIT_STATE_DIR", &state).arg("stop").args(service.flag()))
        }),
    }];
    if let Some(unit) = service.unit() {
        contestants.push(Contestant {
            name: "systemctl stop",
            run: Box::new(move || returned(Command::new("systemctl").args(["stop", unit]))),
        });
    }
    contestants.push(Contestant {
        name: "a loop that looks every second",
        run: Box::new(|| {
            let mut command = Command::new("sh");
            match service.unit() {
                Some(unit) => command.args(["-euc", POLL_UNIT, "sh", unit]),
                None => command.args(["-euc", POLL_PID, "sh", &service.pid()?.to_string()]),
            };
            returned(&mut command)
        }),
    });
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let measured = in_turns(&mut contestants, bench.runs * STOPS_PER_RUN, || service.start())?;
    let figure = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![(*name).to_owned(), figure(one.time.median()), figure(one.time.percentile(99)), figure(one.time.max())]
    });
    let manager = if service.unit().is_some() { "a unit of systemd" } else { "a service with a pid file" };
    Ok(Section {
        name: "stop",
        title: "from a service's real end to the return of its stop".to_owned(),
        columns: vec!["contestant", "p50", "p99", "max"],
        rows: rows.collect(),
        notes: vec![
            format!(
                "{manager}, {} stops of each; the service writes the time as its last act, after a stop of up to {} ms.",
                measured[0].time.len(),
                LINGER.as_millis()
            ),
            goal("p50 within 10 ms", measured[0].time.median() <= Duration::from_millis(10)),
        ],
    })
}
