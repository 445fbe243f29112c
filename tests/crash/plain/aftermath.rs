//! What must hold of a state directory after anything, and who brings the service back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, ended, ours, picture, run};

use super::data::{entries, strangers};
use super::fixture::Guard;
use super::service;

/// How long the guard may take.
const GUARD_MAX: Duration = Duration::from_secs(60);

fn resume(root: &Path) -> Outcome {
    let mut command = ours("svc-ctl", ["resume"]);
    command.env("SVCKIT_STATE_DIR", root.join("state"));
    run(command, GUARD_MAX)
}

pub(crate) fn await_helpers(root: &Path) -> Result<(), String> {
    let until = Instant::now() + GUARD_MAX;
    loop {
        let helpers = service::helpers(root);
        let Some(first) = helpers.first() else { return Ok(()) };
        if !ended(*first, until.saturating_duration_since(Instant::now())) {
            return Err(format!("process {first} is still at it after {GUARD_MAX:?}:\n{}", picture()));
        }
    }
}

pub(crate) fn journal(root: &Path) -> Vec<PathBuf> {
    let all = entries(&root.join("state/state/journal"));
    all.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json") && !is_hidden(path)).collect()
}

/// Whether all that is in the journal is the announcement of a copy beside the database, or was never an entry.
fn is_only_staging(root: &Path) -> bool {
    journal(root).iter().all(|path| {
        let entry: Option<serde_json::Value> =
            std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        entry.is_some_and(|entry| entry["services"] == serde_json::json!([]) && !entry["staging"].is_null())
    })
}

/// Brings back what is to be brought back by hand in this sweep, and leaves no entry.
pub(crate) fn recover(root: &Path, guard: Guard) -> Result<Option<&'static str>, String> {
    let mut remark = None;
    if guard == Guard::Killed {
        let outcome = resume(root);
        if outcome.status != 0 {
            return Err(format!("svc-ctl resume ends with {}: {}", outcome.status, outcome.stderr));
        }
    } else if !entries(&root.join("state/state/journal")).is_empty() {
        // Between the entry and the guard nothing has been done to the service: nobody is needed to undo it. Nor is
        // anybody for a copy that nobody uses: it takes space until the next resume or operation.
        let is_untouched = !service::record(root).events().iter().any(|event| event.what == "signal");
        let only_staging = is_only_staging(root);
        if !is_untouched && !only_staging {
            return Err(format!("the guard left a journal entry: {:?}", journal(root)));
        }
        let outcome = resume(root);
        if outcome.status != 0 {
            return Err(format!("svc-ctl resume ends with {}: {}", outcome.status, outcome.stderr));
        }
        remark = Some(match only_staging {
            true => "left a copy or a torn entry that touched nothing; resume took it away",
            false => "died before its guard waited, with the service untouched; resume took the entry away",
        });
    }
    let left = journal(root);
    if left.is_empty() { Ok(remark) } else { Err(format!("a journal entry remains: {left:?}")) }
}

pub(crate) fn check_state(root: &Path) -> Result<(), String> {
    let mut todo = vec![root.join("state")];
    while let Some(directory) = todo.pop() {
        for path in entries(&directory) {
            if path.is_dir() {
                // Lock files stay by design; the lock is the kernel's.
                if !path.ends_with("lock") {
                    todo.push(path);
                }
            } else {
                return Err(format!("{} remains", path.display()));
            }
        }
    }
    match strangers(root).first() {
        Some(name) => Err(format!("{name} lies beside the database")),
        None => Ok(()),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
