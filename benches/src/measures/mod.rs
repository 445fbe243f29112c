//! The measures, one per file.

mod backup;
mod check;
mod downtime;
mod dump;
mod lock;
mod memory;
mod publish;
mod salvage;
mod snapshot;
mod stall;
mod stop;
mod targets;
mod tend;

use crate::Outcome;
use crate::bench::Bench;
use crate::report::Section;

/// In the order of the report.
pub(crate) const ALL: &[&str] = &[
    "stop",
    "downtime",
    "snapshot",
    "backup",
    "memory",
    "stall",
    "check",
    "salvage",
    "lock",
    "lock-wait",
    "publish",
    "publish-large",
    "tend",
    "tend-large",
    "targets",
    "dump",
];

pub(crate) fn run(name: &str, bench: &Bench) -> Outcome<Section> {
    match name {
        "stop" => stop::measure(bench),
        "downtime" => downtime::measure(bench),
        "snapshot" => snapshot::measure(bench),
        "backup" => backup::measure(bench),
        "memory" => memory::measure(bench),
        "stall" => stall::measure(bench),
        "check" => check::measure(bench),
        "salvage" => salvage::measure(bench),
        "lock" => lock::uncontended(bench),
        "lock-wait" => lock::hand_over(bench),
        "publish" => publish::small(bench),
        "publish-large" => publish::large(bench),
        "tend" => tend::small(bench),
        "tend-large" => tend::large(bench),
        "targets" => targets::measure(bench),
        "dump" => dump::measure(bench),
        other => Err(format!("no measure is called {other}").into()),
    }
}
