//! SIGINT, SIGTERM and SIGHUP become a request to end early. None of them ends the process itself, however often it
//! is sent: what was stopped must be started first. (After a SIGKILL the guard does that.) Nor does SIGXFSZ: a write
//! beyond a limit on the size of files is an error like that of a full disk.

use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGXFSZ};
use signal_hook::iterator::exfiltrator::raw::WithRawSiginfo;
use signal_hook::iterator::{Signals, SignalsInfo};
use svckit::operation::Slots;
use svckit::progress::Cancel;
use svckit::world::{Pidfd, StopSignal};

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

/// Passes signals on to a command. Before there is one, a signal that asks to end is a cancellation; while it is being
/// started, every signal is kept for it.
#[derive(Debug)]
pub struct Relay {
    phase: Arc<Mutex<Phase>>,
}

#[derive(Debug)]
enum Phase {
    NoCommand,
    Starting(Vec<StopSignal>),
    Runs(Pidfd),
}

fn pass_on(process: &Pidfd, signal: StopSignal) {
    if let Err(error) = process.signal(signal) {
        tracing::warn!(%error, "{signal} could not be passed on");
    }
}

impl Relay {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the system refuses a handler or a thread.
    pub fn start(cancel: Cancel) -> Result<Self, ToolError> {
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT];
        let mut signals =
            SignalsInfo::<WithRawSiginfo>::new(all).map_err(ToolError::io("handle", "the signals of the command"))?;
        let phase = Arc::new(Mutex::new(Phase::NoCommand));
        let shared = Arc::clone(&phase);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for info in signals.forever() {
                    let Some(signal) = passed_on(info.si_signo) else { continue };
                    let asks_to_end =
                        matches!(signal, StopSignal::Hup | StopSignal::Int | StopSignal::Quit | StopSignal::Term);
                    match &mut *shared.lock().unwrap_or_else(PoisonError::into_inner) {
                        Phase::NoCommand if asks_to_end => cancel.request(),
                        Phase::NoCommand => {}
                        Phase::Starting(kept) => kept.push(signal),
                        // A terminal sends to its whole foreground group: the command has that one already.
                        Phase::Runs(_) if info.si_code == SI_KERNEL => {}
                        Phase::Runs(process) => pass_on(process, signal),
                    }
                }
            })
            .map_err(ToolError::io("start the thread for", "signals"))?;
        Ok(Self { phase })
    }

    /// The command is being started. What came before is a cancellation, which whoever starts it looks for now.
    pub fn starting(&self) {
        self.enter(Phase::Starting(Vec::new()));
    }

    /// From now on to this process, what was kept for it first; or to nobody any more.
    pub fn to(&self, process: Option<Pidfd>) {
        let Some(process) = process else { return self.enter(Phase::NoCommand) };
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Starting(kept) = &*phase {
            kept.iter().for_each(|signal| pass_on(&process, *signal));
        }
        *phase = Phase::Runs(process);
    }

    fn enter(&self, next: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// `si_code` of what the kernel itself sends (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

fn passed_on(signal: i32) -> Option<StopSignal> {
    Some(match signal {
        SIGHUP => StopSignal::Hup,
        SIGINT => StopSignal::Int,
        SIGQUIT => StopSignal::Quit,
        SIGTERM => StopSignal::Term,
        SIGUSR1 => StopSignal::Usr1,
        SIGUSR2 => StopSignal::Usr2,
        SIGWINCH => StopSignal::Winch,
        SIGCONT => StopSignal::Cont,
        _ => return None,
    })
}
