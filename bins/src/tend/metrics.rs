//! `svc-tend metrics`: Prometheus' text format. Times are timestamps of events: how old a figure is, is for Prometheus to
//! say. What is unknown is NaN.

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;
use svckit::tend::rule::Rule;
use svckit::world::disk::write_durably;

use super::figures::{OfRule, as_float, read};
use super::{rules, state_dir};
use crate::app::App;
use crate::cli::tend::MetricsArgs;
use crate::error::ToolError;
use crate::exit::Outcome;

/// Prints or writes the figures.
///
/// # Errors
/// When there are no rules, or nothing can be written.
pub(super) fn metrics(app: &App, args: &MetricsArgs) -> Result<Outcome, ToolError> {
    let rules = rules(app, &[])?;
    match &args.to {
        Some(file) => write(&rules, file)?,
        None => app.output.text(&of(&rules)?)?,
    }
    Ok(Outcome::Done)
}

/// Writes the figures into a file, which is read by another user as a rule.
pub(super) fn write(rules: &[Rule], file: &Path) -> Result<(), ToolError> {
    Ok(write_durably(file, of(rules)?.as_bytes(), 0o644)?)
}

/// The figures as they are now.
pub(super) fn of(rules: &[Rule]) -> Result<String, ToolError> {
    Ok(text(&read(rules, &state_dir()?)))
}

struct Family<'a> {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: &'a dyn Fn(&OfRule) -> Option<f64>,
}

fn text(all: &[OfRule]) -> String {
    let counted = |of: fn(&svckit::tend::Counters) -> u64| {
        move |rule: &OfRule| rule.state.as_ref().map(|state| as_float(of(&state.counters)))
    };
    let time = |of: fn(&svckit::tend::Times) -> Option<Timestamp>| {
        move |rule: &OfRule| rule.state.as_ref().and_then(|state| of(&state.times)).map(seconds)
    };
    let families = [
        Family {
            name: "svc_tend_last_start_timestamp_seconds",
            help: "When a pass last began.",
            kind: "gauge",
            value: &time(|t| t.start),
        },
        Family {
            name: "svc_tend_last_end_timestamp_seconds",
            help: "When a pass last ended, however.",
            kind: "gauge",
            value: &time(|t| t.end),
        },
        Family {
            name: "svc_tend_last_success_timestamp_seconds",
            help: "When a pass last succeeded.",
            kind: "gauge",
            value: &time(|t| t.success),
        },
        Family {
            name: "svc_tend_last_progress_timestamp_seconds",
            help: "When something was last dealt with.",
            kind: "gauge",
            value: &time(|t| t.progress),
        },
        Family {
            name: "svc_tend_items_removed_total",
            help: "Items that were removed.",
            kind: "counter",
            value: &counted(|c| c.done),
        },
        Family {
            name: "svc_tend_item_failures_total",
            help: "Failures of items.",
            kind: "counter",
            value: &counted(|c| c.failed),
        },
        Family {
            name: "svc_tend_passes_total",
            help: "Passes that began.",
            kind: "counter",
            value: &counted(|c| c.passes),
        },
        Family {
            name: "svc_tend_passes_failed_total",
            help: "Passes that ended early.",
            kind: "counter",
            value: &counted(|c| c.passes_failed),
        },
        Family {
            name: "svc_tend_passes_deferred_total",
            help: "Passes that were put off.",
            kind: "counter",
            value: &counted(|c| c.passes_deferred),
        },
        Family {
            name: "svc_tend_passes_abandoned_total",
            help: "Passes that were given up.",
            kind: "counter",
            value: &counted(|c| c.passes_abandoned),
        },
        Family {
            name: "svc_tend_items_quarantined",
            help: "Items that are set aside.",
            kind: "gauge",
            value: &|rule| rule.state.as_ref().map(|state| as_float(state.quarantined)),
        },
        Family {
            name: "svc_tend_items_waiting",
            help: "Items that failed and are tried again.",
            kind: "gauge",
            value: &|rule| rule.state.as_ref().map(|state| as_float(state.waiting)),
        },
        Family {
            name: "svc_tend_foreign_key_violations",
            help: "Rows that refer to rows that are not there.",
            kind: "gauge",
            value: &OfRule::violations,
        },
        Family {
            name: "svc_tend_foreign_keys_looked_at_timestamp_seconds",
            help: "When the foreign keys were last looked at.",
            kind: "gauge",
            value: &|rule| rule.violations.map(|look| seconds(look.at)),
        },
    ];
    let mut text = String::new();
    for family in families {
        head(&mut text, family.name, family.help, family.kind);
        for rule in all {
            line(&mut text, family.name, &[("rule", &rule.name)], (family.value)(rule));
        }
    }
    if all.iter().any(|rule| rule.outbox.is_some()) {
        head(&mut text, "svc_tend_outbox_rows", "Summaries that are not in their database yet.", "gauge");
        for rule in all {
            if let Some(rows) = rule.outbox {
                line(&mut text, "svc_tend_outbox_rows", &[("rule", &rule.name)], rows);
            }
        }
    }
    if all.iter().any(|rule| !rule.figures.is_empty()) {
        head(&mut text, "svc_tend_figure", "A query of a rule on its database.", "gauge");
        for rule in all {
            for (name, value) in &rule.figures {
                line(&mut text, "svc_tend_figure", &[("rule", &rule.name), ("figure", name)], *value);
            }
        }
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Names of rules and figures hold nothing that would have to be escaped: they were checked when they were read.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: Option<f64>) {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let value = value.map_or_else(|| "NaN".to_owned(), |value| value.to_string());
    let _infallible = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}
