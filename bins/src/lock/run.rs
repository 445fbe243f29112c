//! `svc-lock run`.

use std::process::ExitCode;

use svckit::FailureKind;
use svckit::lock::{Holder, LockKey, LockRules, OperationLock, Wait};
use svckit::progress::Cancel;

use super::command::{self, Ended};
use super::handed;
use super::keys::keys;
use crate::app::App;
use crate::cli::lock::RunArgs;
use crate::error::ToolError;
use crate::{dirs, signals};

/// The status where svc-lock itself failed, as with env(1) and timeout(1).
pub(super) const FAILED: u8 = 125;

/// Runs the command under the locks; the exit code is the command's, or one of our own.
pub(super) fn run(app: &App, args: &RunArgs) -> ExitCode {
    match locked(app, args) {
        Ok(ended) => ExitCode::from(ended.status()),
        Err(error) => {
            app.output.failure(&error, None);
            ExitCode::from(if error.kind() == FailureKind::LockHeld { args.conflict_exit_code } else { FAILED })
        }
    }
}

fn locked(app: &App, args: &RunArgs) -> Result<Ended, ToolError> {
    let dirs = dirs::state()?;
    let keys = keys(app, &args.which)?;
    let target = keys.iter().map(LockKey::label).collect::<Vec<_>>().join(", ");
    let mut holder = Holder::own("run", &target).map_err(ToolError::io("look at", "our own process"))?;
    if let Some(step) = &args.step {
        holder = holder.at_step(step);
    }
    let rules = LockRules { handed: handed(), on_network: args.on_network.into() };
    // From here on a signal ends the wait, and later goes to the command.
    let cancel = Cancel::new().map_err(ToolError::io("make an eventfd for", "cancellation"))?;
    let relay = signals::Relay::start(cancel.clone())?;
    let wait = args.wait.map_or(Wait::No, Wait::AtMost);
    let lock = OperationLock::acquire(&dirs.lock, &rules, &keys, &holder, wait, &cancel)?;
    relay.starting();
    if cancel.is_requested() {
        return Err(ToolError::Other {
            what: format!("a signal came before {target} was locked: the command was not started"),
            kind: FailureKind::Failed,
            hint: None,
        });
    }
    let handed_on = lock.hand_on().map_err(ToolError::io("hand on", "the lock"))?;
    let ended = command::run(&args.command, &handed_on, &relay);
    drop(handed_on);
    lock.end();
    ended
}
