//! `svc-tend status`.

use jiff::Timestamp;
use serde_json::json;
use svckit::FailureKind;
use svckit::tend::Schedule;

use super::figures::read;
use super::{rules, state_dir};
use crate::app::App;
use crate::cli::tend::RulesArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// So many intervals without a success are too many.
const LATE: u32 = 3;

/// How each rule is doing.
///
/// # Errors
/// When there are no rules, or standard output can't be written to.
pub(super) fn status(app: &App, args: &RulesArgs) -> Result<Outcome, ToolError> {
    let rules = rules(app, &args.rules)?;
    let now = Timestamp::now();
    let mut outcomes = Vec::new();
    for (rule, of) in rules.iter().zip(read(&rules, &state_dir()?)) {
        let times = of.state.as_ref().map(|state| state.times).unwrap_or_default();
        let bound = match &rule.schedule {
            Schedule::Every { interval, jitter } => Some((*interval + *jitter) * LATE),
            Schedule::Cron(_) | Schedule::OnDemand => None,
        };
        let age = times.success.map(|success| now.duration_since(success).unsigned_abs());
        let late = bound.is_some_and(|bound| age.is_none_or(|age| age > bound));
        let outcome = if late { Outcome::Failed(FailureKind::No) } else { Outcome::Done };
        let time = |time: Option<Timestamp>| time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let counters = of.state.as_ref().map(|state| state.counters).unwrap_or_default();
        let (waiting, quarantined) = of.state.as_ref().map_or((0, 0), |state| (state.waiting, state.quarantined));
        let error = of.state.as_ref().and_then(|state| state.last_error.clone());
        let figures: serde_json::Map<_, _> =
            of.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let value = json!({
            "rule": rule.name, "late": late,
            "last_start": time(times.start), "last_end": time(times.end),
            "last_success": time(times.success), "last_progress": time(times.progress),
            "removed": counters.done, "failures": counters.failed, "panics": counters.panics,
            "passes": counters.passes, "passes_failed": counters.passes_failed,
            "passes_deferred": counters.passes_deferred, "passes_abandoned": counters.passes_abandoned,
            "waiting": waiting, "quarantined": quarantined, "outbox": of.outbox.flatten(),
            "violations": of.violations.map(|look| look.count),
            "foreign_keys_looked_at": time(of.violations.map(|look| look.at)),
            "last_error": error, "figures": figures,
        });
        app.output.done(outcome, &value, || {
            let shown = |at: Option<Timestamp>| time(at).unwrap_or_else(|| "never".to_owned());
            let mut text = format!("{}{}\n", rule.name, if late { ": LATE" } else { "" });
            for (what, at) in
                [("success", times.success), ("start", times.start), ("end", times.end), ("progress", times.progress)]
            {
                text.push_str(&format!("  last {what:<9} {}\n", shown(at)));
            }
            text.push_str(&format!(
                "  items          {} removed, {waiting} waiting for another attempt, {quarantined} in quarantine\n",
                counters.done
            ));
            for (name, value) in &of.figures {
                text.push_str(&format!(
                    "  {name:<14} {}\n",
                    value.map_or_else(|| "unknown".to_owned(), |v| v.to_string())
                ));
            }
            if let Some(look) = of.violations.filter(|look| look.count > 0) {
                let (count, at) = (look.count, shown(Some(look.at)));
                text.push_str(&format!("  violations     {count} of foreign keys, seen {at}\n"));
            }
            if let Some(error) = &error {
                text.push_str(&format!("  last error     {}\n", render::one_line(error)));
            }
            text
        });
        outcomes.push(outcome);
    }
    Ok(Outcome::of_several(&outcomes))
}
