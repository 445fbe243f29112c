//! `svc-backup`: parse, one call, render, exit.

mod dump;
mod group;
mod import;
mod run;
mod several;
mod status;
mod store;
mod taken;
mod targets;

use std::process::ExitCode;

use crate::app::{self, App};
use crate::cli::backup::{Cli, Command, ConfigCommand, ImportCommand};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{demo, manual, units};

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match app::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Command::DemoService(args) = &cli.command {
        return demo::service::main(args);
    }
    let app = App::start("svc-backup", &cli.global);
    let result = run(&app, &cli.command);
    app.end(result)
}

fn run(app: &App, command: &Command) -> Result<Outcome, ToolError> {
    match command {
        Command::Backup(args) => run::backup(app, args),
        Command::Restore(args) => store::restore(app, args),
        Command::List(args) => store::list(app, args),
        Command::Verify(args) => store::verify(app, args),
        Command::Expire(args) => store::expire(app, args),
        Command::Demo(args) => demo::run(app, args),
        Command::Targets => targets::list(app),
        Command::Status => status::status(app),
        Command::Forget(args) => status::forget(app, &args.target),
        Command::Labels => targets::labels(app),
        Command::Config { command: ConfigCommand::Check } => targets::check(app),
        Command::Import { command: ImportCommand::Baktainer(args) } => import::baktainer(app, args),
        Command::InstallUnits(args) => units::install(app, args),
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
        Command::Guard(args) => app::guard(args),
        // It never comes here: it runs before the process is set up.
        Command::DemoService(_) => Ok(Outcome::Done),
    }
}
