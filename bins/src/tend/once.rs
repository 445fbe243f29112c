//! `svc-tend once` and `svc-tend check`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use svckit::FailureKind;
use svckit::tend::rule::{Checked, Rule, RuleTask, Violations};
use svckit::tend::{Control, PassEnd, PassReport, State, Worker};

use super::{ENDING, locks, rules, state_dir};
use crate::app::App;
use crate::cli::tend::{OnceArgs, RulesArgs};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// A pass of each rule.
///
/// # Errors
/// When there are no rules, or standard output can't be written to.
pub(super) fn once(app: &App, args: &OnceArgs) -> Result<Outcome, ToolError> {
    let rules = rules(app, &args.which.rules)?;
    let context = Arc::new(app.context_saying(ENDING)?);
    let mut outcomes = Vec::new();
    for rule in &rules {
        let result = if args.dry_run { preview(app, rule) } else { pass(app, &context, rule) };
        outcomes.push(result.unwrap_or_else(|error| {
            app.output.failure(&error, Some(&rule.name));
            Outcome::Failed(error.kind())
        }));
        if context.cancel.is_requested() {
            break;
        }
    }
    Ok(Outcome::of_several(&outcomes))
}

fn pass(app: &App, context: &Arc<svckit::quiesce::Context>, rule: &Rule) -> Result<Outcome, ToolError> {
    let directory = state_dir()?;
    let _lock = locks(context, rule)?;
    Checked::under_lock(rule)?;
    let state = State::open(&directory, &rule.name)?;
    let mut task = RuleTask::new(rule.clone(), &directory);
    let violations = task.look_for_violations(Timestamp::now()).unwrap_or_else(|error| {
        tracing::warn!(rule = rule.name, %error, "violated foreign keys were not looked for");
        Violations::default()
    });
    let mut worker = Worker::new(Box::new(task), state, rule.policy.clone());
    let control = Control::stopped_by(&rule.policy.limits, context.cancel.clone());
    let report = worker.pass(Timestamp::now(), &control);
    let outcome = match &report.end {
        PassEnd::Complete | PassEnd::Bounded if report.failed == 0 => Outcome::Done,
        PassEnd::Complete | PassEnd::Bounded => Outcome::Failed(FailureKind::SomeFailed),
        PassEnd::Unavailable(_) | PassEnd::Broken(_) | PassEnd::Abandoned => Outcome::Failed(FailureKind::Failed),
    };
    let (word, why) = end(&report);
    let value = json!({
        "rule": rule.name, "removed": report.done, "failed": report.failed, "held": report.held, "end": word, "why": why,
        "violations": violations.count, "violating": as_json(&violations),
    });
    Ok(app.output.done(outcome, &value, || told(&rule.name, &report, &worker) + &shown(&violations)))
}

fn as_json(violations: &Violations) -> serde_json::Value {
    let one =
        |one: &svckit::tend::rule::Violation| json!({ "table": one.table, "rowid": one.rowid, "parent": one.parent });
    violations.named.iter().map(one).collect()
}

/// Nothing, where there is none and all was looked at.
fn shown(violations: &Violations) -> String {
    let mut text = String::new();
    for one in &violations.named {
        let row = one.rowid.map_or_else(|| "a row".to_owned(), |rowid| format!("row {rowid}"));
        let (table, parent) = (render::one_line(&one.table), render::one_line(&one.parent));
        text.push_str(&format!("  violation: {row} of {table} refers to one of {parent} that is not there\n"));
    }
    let more = violations.count.saturating_sub(violations.named.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    if !violations.complete {
        text.push_str("  not all foreign keys were looked at: PRAGMA foreign_key_check does\n");
    }
    text
}

fn end(report: &PassReport) -> (&'static str, Option<&str>) {
    match &report.end {
        PassEnd::Complete => ("complete", None),
        PassEnd::Bounded => ("bounded", None),
        PassEnd::Unavailable(why) => ("unavailable", Some(why)),
        PassEnd::Broken(why) => ("broken", Some(why)),
        PassEnd::Abandoned => ("abandoned", None),
    }
}

fn told(rule: &str, report: &PassReport, worker: &Worker) -> String {
    let mut text = format!("{rule}: {} removed, {} failed, {} left alone", report.done, report.failed, report.held);
    match end(report) {
        ("complete", _) => text.push('\n'),
        ("bounded", _) => text.push_str("; there may be more: the next pass goes on behind them\n"),
        (word, why) => text.push_str(&format!(
            "; {word}{}\n",
            why.map_or_else(String::new, |why| format!(": {}", render::one_line(why)))
        )),
    }
    if report.failed > 0 {
        for failing in worker.state().failing() {
            text.push_str(&format!(
                "  {}: {}\n",
                render::one_line(&super::shown(&failing.item)),
                render::one_line(&failing.reason)
            ));
        }
    }
    text
}

fn preview(app: &App, rule: &Rule) -> Result<Outcome, ToolError> {
    Checked::new(rule)?;
    let counts = RuleTask::new(rule.clone(), &state_dir()?).preview(Timestamp::now())?;
    let violations = Violations::look(&rule.database)?;
    let tables: serde_json::Map<_, _> = counts.iter().map(|(table, rows)| (table.clone(), (*rows).into())).collect();
    let items = counts.last().map_or(0, |(_, rows)| *rows);
    let value = json!({
        "rule": rule.name, "would_remove": items, "rows": tables,
        "violations": violations.count, "violating": as_json(&violations),
    });
    app.output.result(Outcome::Done, &value, || {
        let rows: Vec<String> = counts.iter().map(|(table, rows)| format!("  {rows} rows of {table}\n")).collect();
        format!("{}: {items} would be removed\n{}{}", rule.name, rows.concat(), shown(&violations))
    })?;
    Ok(Outcome::Done)
}

/// Rules against their databases.
///
/// # Errors
/// When there are no rules, or standard output can't be written to.
pub(super) fn check(app: &App, args: &RulesArgs) -> Result<Outcome, ToolError> {
    let mut outcomes = Vec::new();
    for rule in rules(app, &args.rules)? {
        match Checked::new(&rule) {
            Ok(checked) => {
                let advice: Vec<_> =
                    checked.advice.iter().map(|one| json!({ "what": one.what, "statement": one.statement })).collect();
                let deletes: Vec<_> =
                    checked.deletes().map(|(table, rows)| json!({ "table": table, "where": rows })).collect();
                let value = json!({ "rule": rule.name, "deletes": deletes, "advice": advice });
                app.output.result(Outcome::Done, &value, || fits(&rule, &checked))?;
                outcomes.push(Outcome::Done);
            }
            Err(error) => {
                let error = ToolError::from(error);
                app.output.failure(&error, None);
                outcomes.push(Outcome::Failed(error.kind()));
            }
        }
    }
    Ok(Outcome::of_several(&outcomes))
}

fn fits(rule: &Rule, checked: &Checked) -> String {
    let mut text = format!("{}: fits {}; for each item goes:\n", rule.name, render::path(&rule.database));
    for (table, rows) in checked.deletes() {
        text.push_str(&format!("  {table} where {rows}\n"));
    }
    for advice in &checked.advice {
        text.push_str(&format!("  advice: {}\n", advice.what));
        if let Some(statement) = &advice.statement {
            text.push_str(&format!("    {statement};\n"));
        }
    }
    text
}
