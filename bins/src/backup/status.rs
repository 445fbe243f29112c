//! What became of the targets and of the last run.

use svckit::FailureKind;
use svckit::name::TargetName;
use svckit::operation::{Records, RunRecord, TargetRecord};
use svckit::world::ProcessId;

use crate::app::App;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, render};

pub(super) fn status(app: &App) -> Result<Outcome, ToolError> {
    let records = Records::below(&dirs::state()?.state);
    let (mut outcomes, mut rows) = (Vec::new(), Vec::new());
    for record in records.targets()? {
        match record {
            Ok(record) => {
                let outcome = if record.is_good() { Outcome::Done } else { Outcome::Failed(FailureKind::No) };
                if app.output.is_json() {
                    app.output.done(outcome, &record, String::new);
                }
                rows.push(row(&record));
                outcomes.push(outcome);
            }
            Err(error) => {
                let error = ToolError::from(error);
                app.output.failure(&error, None);
                outcomes.push(Outcome::Failed(error.kind()));
            }
        }
    }
    let last = records.last_run()?;
    if !app.output.is_json() {
        app.output.text(&text(&rows, last.as_ref()))?;
    }
    match outcomes.is_empty() {
        true => Ok(Outcome::Failed(FailureKind::No)),
        false if outcomes.iter().all(|outcome| *outcome == Outcome::Done) => Ok(Outcome::Done),
        false => Ok(Outcome::Failed(FailureKind::No)),
    }
}

fn text(rows: &[Vec<String>], last: Option<&RunRecord>) -> String {
    if rows.is_empty() {
        return "nothing was backed up yet\n".to_owned();
    }
    let head = ["TARGET", "LAST GOOD BACKUP", "TAKES", "STATE"].map(str::to_owned).to_vec();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().cloned()).collect();
    let mut text = render::table(&all);
    if let Some(run) = last {
        text.push_str(&run_text(run));
    }
    text
}

fn row(record: &TargetRecord) -> Vec<String> {
    let (when, takes) = match &record.succeeded {
        Some(done) => (done.at.clone(), render::bytes(done.stored_bytes)),
        None => ("never".to_owned(), "-".to_owned()),
    };
    let state = match (&record.failed, record.failures) {
        (_, 0) => "good".to_owned(),
        (Some(failed), failures) => {
            let times = if failures == 1 { "failed".to_owned() } else { format!("failed {failures} times") };
            format!("{times}, last at {}: {}", failed.at, render::one_line(&failed.error))
        }
        (None, failures) => format!("failed {failures} times"),
    };
    vec![record.target.to_string(), when, takes, state]
}

fn run_text(run: &RunRecord) -> String {
    let good = run.targets.iter().filter(|target| target.kind == Outcome::Done.word()).count();
    let of = format!("{good} of {} good", run.targets.len());
    match &run.ended {
        Some(ended) => format!("last run: {} to {ended}, {of}\n", run.began),
        None if is_alive(run.pid) => format!("a run is under way since {}, {of} so far\n", run.began),
        None => format!("last run: {}, interrupted, {of} by then\n", run.began),
    }
}

/// Whether there may be the process that wrote it; another of its number is taken for it.
fn is_alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| matches!(ProcessId::of(pid), Ok(Some(_))))
}

/// Forgets what is known of a target; its backups stay.
pub(super) fn forget(app: &App, name: &TargetName) -> Result<Outcome, ToolError> {
    let known = Records::below(&dirs::state()?.state).forget(name)?;
    if !known {
        return Err(ToolError::Other {
            what: format!("forget {name}: nothing is known of it"),
            kind: FailureKind::No,
            hint: Some("see: svc-backup status".to_owned()),
        });
    }
    let value = serde_json::json!({ "target": name });
    Ok(app.output.done(Outcome::Done, &value, || format!("{name}: forgotten; its backups stay where they are\n")))
}
