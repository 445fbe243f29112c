//! What both programs begin and end with.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use svckit::lock::{LockRules, OnNetwork};
use svckit::operation;
use svckit::progress::{Cancel, Observer, Silent};
use svckit::quiesce::Context;
use svckit::world::StateDirs;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Global, GuardArgs};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render::Output;
use crate::{dirs, progress, signals};

/// Parses the command line; prints help, versions and mistakes itself.
///
/// # Errors
/// The exit code, where there is nothing left to do.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        // clap's own codes: 0 for help, 2 for a mistake. A closed output is no mistake.
        let _nobody_to_tell = error.print();
        if !error.use_stderr() {
            return ExitCode::SUCCESS;
        }
        // What could not be parsed does not tell; a script that asks for JSON gets it all the same.
        let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
        Output::new("", json).failure_as_json(&mistake(&error.to_string()), None);
        Outcome::Failed(svckit::FailureKind::Usage).into()
    })
}

/// What clap says, as an error of ours: the first paragraph tells what is wrong, the others what to write.
fn mistake(said: &str) -> ToolError {
    let (what, hint) = said.trim().split_once("\n\n").unwrap_or((said.trim(), ""));
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    ToolError::usage(
        line(what.strip_prefix("error: ").unwrap_or(what)),
        hint.split("\n\n").map(line).collect::<Vec<_>>().join("; "),
    )
}

/// One run of a program.
#[derive(Clone)]
pub struct App {
    /// Where results go.
    pub output: Output,
    /// The configuration that was named.
    pub config: Option<PathBuf>,
    quiet: bool,
    verbose: u8,
}

impl App {
    /// Sets the process up: rights, and messages on standard error.
    #[must_use]
    pub fn start(program: &'static str, global: &Global) -> Self {
        protect();
        say(global);
        Self {
            output: Output::new(program, global.json),
            config: global.config.clone(),
            quiet: global.quiet,
            verbose: global.verbose,
        }
    }

    /// Whether only errors are to be told.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The option by which another program of ours says as much on standard error.
    #[must_use]
    pub fn verbosity(&self) -> Option<&'static str> {
        match (self.quiet, self.verbose) {
            (true, _) => Some("-q"),
            (false, 0) => None,
            (false, 1) => Some("-v"),
            (false, _) => Some("-vv"),
        }
    }

    /// What the library needs: directories, cancellation by signals, progress.
    ///
    /// # Errors
    /// When the directories can't be told or signals can't be handled.
    pub fn context(&self) -> Result<Context, ToolError> {
        self.context_saying("ending: first the service is brought back")
    }

    /// The same; `ending` is said when a signal asks for the end.
    ///
    /// # Errors
    /// The same.
    pub fn context_saying(&self, ending: &'static str) -> Result<Context, ToolError> {
        let observer = progress::observer(self.quiet);
        let teller = Arc::clone(&observer);
        let cancel = signals::cancel_on_signal(move || teller.notice(ending))?;
        context_in(dirs::state()?, dirs::locks_on_network(self.config.as_deref()), cancel, observer)
    }

    /// Turns the result of a run into the process's exit code, and tells a failure.
    #[must_use]
    pub fn end(&self, result: Result<Outcome, ToolError>) -> ExitCode {
        match result {
            Ok(outcome) => outcome.into(),
            Err(error) => {
                self.output.failure(&error, None);
                Outcome::Failed(error.kind()).into()
            }
        }
    }
}

/// A context in these directories, with our own `guard` entry as the guard.
///
/// # Errors
/// When our own program can't be found.
pub fn context_in(
    dirs: StateDirs,
    on_network: OnNetwork,
    cancel: Cancel,
    observer: Arc<dyn Observer>,
) -> Result<Context, ToolError> {
    let program = std::env::current_exe().map_err(ToolError::io("find", "the program that runs"))?;
    let directory = |flag: &str, dir: &PathBuf| [PathBuf::from(flag), dir.clone()];
    let mut guard_argv = vec![program, "guard".into()];
    // Spelt out: the guard may run in another environment, and must meet us in the same directories.
    guard_argv.extend(directory("--lock-dir", &dirs.lock));
    guard_argv.extend(directory("--state-dir", &dirs.state));
    guard_argv.extend(directory("--runtime-dir", &dirs.runtime));
    if on_network == OnNetwork::Warn {
        guard_argv.push("--on-network=warn".into());
    }
    let locks = LockRules { handed: crate::lock::handed(), on_network };
    Ok(Context { dirs, locks, guard_argv, cancel, observer })
}

/// The hidden `guard` entry: waits for the end of its owner. Says one byte on standard output once it can't miss it.
///
/// # Errors
/// When the services could not be brought back.
pub fn guard(args: &GuardArgs) -> Result<Outcome, ToolError> {
    let dirs =
        StateDirs { lock: args.lock_dir.clone(), state: args.state_dir.clone(), runtime: args.runtime_dir.clone() };
    // No handlers: whoever ends the guard by a signal means it, and `resume` still has the journal.
    let cancel = Cancel::new().map_err(ToolError::io("make an eventfd for", "cancellation"))?;
    let context = context_in(dirs, args.on_network.into(), cancel, Arc::new(Silent))?;
    operation::guard(&context, &args.owner, &args.entry, || {
        // The owner may be gone already; then the wait ends at once.
        let _owner_gone = Output::new("guard", false).text("w");
    })?;
    Ok(Outcome::Done)
}

/// The umask that we were started with.
static CALLERS_UMASK: OnceLock<u32> = OnceLock::new();

/// The umask of whoever started this program: for a service that is started by it, and does not run yet.
#[must_use]
pub fn callers_umask() -> Option<u32> {
    CALLERS_UMASK.get().copied()
}

/// From here on files are made with the caller's umask again: for a program that makes them for others.
pub fn keep_callers_umask() {
    if let Some(umask) = callers_umask() {
        let _ours = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
}

/// Files that we make are the user's alone, and no other process of the user reads our memory: it may hold what a
/// database holds.
fn protect() {
    let callers = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Of several starts in one process only the first has the caller's.
    let _ours = CALLERS_UMASK.set(callers.as_raw_mode());
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::debug!(%error, "this process can be dumped");
    }
}

fn say(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::WARN,
        (false, 1) => tracing::Level::INFO,
        (false, _) => tracing::Level::DEBUG,
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .without_time()
        .with_target(global.verbose > 1)
        .compact();
    // Of the libraries below ours only what is wrong: their debugging output may hold what they carry.
    let filter = tracing_subscriber::filter::Targets::new()
        .with_target("svckit", level)
        .with_target("svckit_tools", level)
        .with_default(tracing::Level::ERROR);
    if let Err(error) = tracing_subscriber::registry().with(to_stderr).with(filter).try_init() {
        tracing::debug!(%error, "messages were set up before");
    }
}
