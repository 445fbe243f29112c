//! A signal to the process that a manager calls the main one.

use super::ControllerError;
use crate::world::{Pidfd, ProcessId, StopSignal};

/// Sends it by a pidfd. `pid` asks the manager: before the descriptor is opened, and after it. A manager gives a pid up
/// when it reaps the process; while it still has it, it was not given away before the descriptor was opened. A process
/// that is gone is no error.
pub(crate) fn signal_main(
    label: &str,
    signal: StopSignal,
    pid: impl Fn() -> Result<Option<i32>, ControllerError>,
) -> Result<(), ControllerError> {
    const ACTION: &str = "signal";
    let failed = |error: std::io::Error| ControllerError::Failed {
        action: ACTION,
        service: label.to_owned(),
        reason: error.to_string(),
    };
    let Some(named) = pid()?.filter(|pid| *pid > 0) else { return Ok(()) };
    let Some(main) = ProcessId::of(named).map_err(failed)? else { return Ok(()) };
    let Some(pidfd) = Pidfd::open(&main).map_err(failed)? else { return Ok(()) };
    if pid()? != Some(named) {
        return Ok(());
    }
    match pidfd.signal(signal) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(ControllerError::Permission {
            action: ACTION,
            service: label.to_owned(),
            reason: format!("{signal} to process {named}: {error}"),
        }),
        Err(error) => Err(failed(error)),
    }
}
