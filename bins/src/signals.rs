//! SIGINT, SIGTERM and SIGHUP become a request to end early. None of them ends the process itself, however often it
//! is sent: what was stopped must be started first. (After a SIGKILL the guard does that.) Nor does SIGXFSZ: a write
//! beyond a limit on the size of files is an error like that of a full disk.

use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use svckit::operation::Slots;
use svckit::progress::Cancel;

use crate::error::ToolError;

/// Installs the handlers. `on_first` runs, in an ordinary thread, when the first signal comes.
///
/// # Errors
/// When the system refuses a handler, a thread or a descriptor.
pub fn cancel_on_signal(on_first: impl Fn() + Send + 'static) -> Result<Cancel, ToolError> {
    let cancel = Cancel::new().map_err(ToolError::io("make an eventfd for", "cancellation"))?;
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(ToolError::io("handle", "SIGINT, SIGTERM and SIGHUP"))?;
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(ToolError::io("handle", "SIGXFSZ"))?;
    let to_request = cancel.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if !to_request.is_requested() {
                    to_request.request();
                    on_first();
                }
            }
        })
        .map_err(ToolError::io("start the thread for", "signals"))?;
    Ok(cancel)
}

/// SIGUSR1: one more target at once, SIGUSR2: one fewer.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub fn change_slots_on_signal(slots: &Slots) -> Result<(), ToolError> {
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).map_err(ToolError::io("handle", "SIGUSR1 and SIGUSR2"))?;
    let slots = slots.clone();
    std::thread::Builder::new()
        .name("slots".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let now = slots.change(if signal == SIGUSR1 { 1 } else { -1 });
                tracing::warn!("from now on {now} at once");
            }
        })
        .map_err(ToolError::io("start the thread for", "signals"))?;
    Ok(())
}
