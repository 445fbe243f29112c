//! `svc-repair`: parse, one call, render, exit.

mod check;
mod run;

use std::process::ExitCode;

use crate::app::{self, App};
use crate::cli::repair::{Cli, Command};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::manual;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match app::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let app = App::start("svc-repair", &cli.global);
    let result = run(&app, &cli.command);
    app.end(result)
}

fn run(app: &App, command: &Command) -> Result<Outcome, ToolError> {
    match command {
        Command::Check(args) => check::check(app, args),
        Command::Repair(args) => run::repair(app, args),
        Command::Undo(args) => run::undo(app, args),
        Command::List(args) => run::list(app, args),
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
        Command::Guard(args) => app::guard(args),
    }
}
