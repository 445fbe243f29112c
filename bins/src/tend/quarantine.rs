//! `svc-tend quarantine`.

use jiff::Timestamp;
use serde_json::json;
use svckit::tend::rule::Key;
use svckit::tend::{State, StateError};

use super::{shown, state_dir};
use crate::app::App;
use crate::cli::tend::ItemArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// What failed, and what of it is set aside.
///
/// # Errors
/// When the state can't be read, or standard output can't be written to.
pub(super) fn list(app: &App) -> Result<Outcome, ToolError> {
    let states = State::all(&state_dir()?)?;
    let mut rows = vec![["RULE", "ITEM", "FAILURES", "SINCE", "NEXT ATTEMPT", "WHY"].map(str::to_owned).to_vec()];
    for state in &states {
        for one in state.failing() {
            let item = shown(&one.item);
            if app.output.is_json() {
                let value = json!({
                    "rule": state.task(), "item": item, "failures": one.failures, "first": one.first.to_string(),
                    "next": one.next.map(|next| next.to_string()), "quarantined": one.next.is_none(), "reason": one.reason,
                });
                app.output.result(Outcome::Done, &value, String::new)?;
            }
            let next = match one.next {
                None => "none: in quarantine".to_owned(),
                Some(next) if next <= Timestamp::now() => "at the next pass".to_owned(),
                Some(next) => at(next),
            };
            rows.push(vec![
                state.task().to_owned(),
                render::one_line(&item),
                one.failures.to_string(),
                at(one.first),
                next,
                render::one_line(&one.reason),
            ]);
        }
    }
    if !app.output.is_json() {
        let text = if rows.len() == 1 { "nothing has failed\n".to_owned() } else { render::table(&rows) };
        app.output.text(&text)?;
    }
    Ok(Outcome::Done)
}

fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Once more.
///
/// # Errors
/// When it is not in quarantine, or the state can't be written.
pub(super) fn retry(app: &App, args: &ItemArgs) -> Result<Outcome, ToolError> {
    changed(app, args, "is tried again at the next pass", State::release)
}

/// Forgotten.
///
/// # Errors
/// The same.
pub(super) fn drop_item(app: &App, args: &ItemArgs) -> Result<Outcome, ToolError> {
    changed(app, args, "is forgotten", State::drop_item)
}

fn changed(
    app: &App,
    args: &ItemArgs,
    what: &str,
    change: fn(&std::path::Path, &str, &str) -> Result<(), StateError>,
) -> Result<Outcome, ToolError> {
    let directory = state_dir()?;
    for item in Key::meant_by(&args.item) {
        match change(&directory, &args.rule, &item) {
            Err(StateError::NotThere { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                let value = json!({ "rule": args.rule, "item": args.item, "done": what });
                let text = || format!("{} of {} {what}\n", render::one_line(&args.item), args.rule);
                return Ok(app.output.done(Outcome::Done, &value, text));
            }
        }
    }
    Err(StateError::NotThere { task: args.rule.clone(), item: args.item.clone() }.into())
}
