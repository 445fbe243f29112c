//! `svc-lock`: parse, one call, render, exit.

mod command;
mod keys;
mod run;
mod status;

use std::process::ExitCode;

use clap::Parser;
use svckit::lock::{NotHeld, TOKEN_VARIABLE, Token, prove};

use crate::app::{self, App};
use crate::cli::lock::{Cli, Command, Which};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, manual};

pub use keys::print as print_keys;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // A command's own status may be 2: what `run` itself does not understand is its 125.
        Err(error) if error.use_stderr() && std::env::args_os().nth(1).is_some_and(|word| word == "run") => {
            let _nobody_to_tell = error.print();
            return ExitCode::from(run::FAILED);
        }
        Err(_) => match app::parse::<Cli>() {
            Ok(cli) => cli,
            Err(code) => return code,
        },
    };
    let app = App::start("svc-lock", &cli.global);
    let result = match &cli.command {
        Command::Run(args) => return run::run(&app, args),
        Command::Status(args) => status::status(&app, args),
        Command::Prove(which) => prove_all(&app, which),
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
    };
    app.end(result)
}

fn prove_all(app: &App, which: &Which) -> Result<Outcome, ToolError> {
    let dirs = dirs::state()?;
    let tokens = handed();
    for key in keys::keys(app, which)? {
        prove(&dirs.lock, &key, &tokens).map_err(|why: NotHeld| ToolError::from(why))?;
    }
    Ok(Outcome::Done)
}

/// What this process was handed, by its own account.
#[must_use]
pub fn handed() -> Vec<Token> {
    std::env::var(TOKEN_VARIABLE).map(|text| Token::list(&text)).unwrap_or_default()
}
