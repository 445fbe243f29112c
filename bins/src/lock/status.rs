//! `svc-lock status`.

use std::time::Duration;

use serde::Serialize;
use svckit::FailureKind;
use svckit::lock::{LockKey, LockStatus, Party, status as look};

use crate::app::App;
use crate::cli::lock::StatusArgs;
use crate::dirs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render::one_line;

#[derive(Serialize)]
struct Shown<'a> {
    locks: &'a [LockStatus],
}

/// Prints every lock that is held or waited for.
pub(super) fn status(app: &App, args: &StatusArgs) -> Result<Outcome, ToolError> {
    let dirs = dirs::state()?;
    let key = args.name.as_deref().map(LockKey::named);
    let locks = look(&dirs.lock, key.as_ref(), args.all)?;
    let is_held = locks.iter().any(|lock| !lock.holders.is_empty());
    let outcome = if key.is_some() && !is_held { Outcome::Failed(FailureKind::No) } else { Outcome::Done };
    Ok(app.output.done(outcome, &Shown { locks: &locks }, || text(&locks)))
}

fn text(locks: &[LockStatus]) -> String {
    if locks.is_empty() {
        return "no lock is held\n".to_owned();
    }
    let mut text = String::new();
    for lock in locks {
        let state = if lock.holders.is_empty() { "free" } else { "held" };
        text.push_str(&format!("{}: {state}\n", one_line(&lock.lock)));
        if let (Some(record), false) = (&lock.record, lock.holders.is_empty()) {
            let step = record.step.as_ref().map_or_else(String::new, |step| format!(", at {}", one_line(step)));
            let host = if record.host.is_empty() { String::new() } else { format!(" on {}", one_line(&record.host)) };
            text.push_str(&format!("  {} since {}{host}{step}\n", one_line(&record.operation), record.since));
        }
        for holder in &lock.holders {
            text.push_str(&format!("  held by {}\n", party(holder)));
        }
        for waiting in &lock.waiting {
            text.push_str(&format!("  waited for by {}\n", party(waiting)));
        }
    }
    text
}

fn party(party: &Party) -> String {
    let age = humantime::format_duration(Duration::from_secs(party.age_seconds));
    format!("process {}, {age} old: {}", party.process.pid, one_line(&party.command.join(" ")))
}
