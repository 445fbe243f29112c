//! `svc-publish`: parse, one call, render, exit.

mod mirror;
mod render;
mod update;

use std::os::unix::process::CommandExt;
use std::process::{Command as Program, ExitCode};
use std::time::Duration;

use svckit::FailureKind;
use svckit::lock::Wait;
use svckit::operation::publish::{self, SwitchTo};
use svckit::publish::{Keep, Lease, Tree};

use crate::app::{self, App};
use crate::cli::publish::{Cli, Command, GcArgs, GraceFlag, ReadArgs, StatusArgs, SwitchArgs, WaitFlags};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::manual;
use crate::service::absolute;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match app::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let app = App::start("svc-publish", &cli.global);
    // What is published is for others, and commands make it.
    app::keep_callers_umask();
    let result = run(&app, &cli.command);
    app.end(result)
}

fn run(app: &App, command: &Command) -> Result<Outcome, ToolError> {
    match command {
        Command::Update(args) => update::update(app, args),
        Command::Switch(args) => switch(app, args),
        Command::Gc(args) => gc(app, args),
        Command::Read(args) => read(args),
        Command::Mirror(args) => mirror::mirror(app, args),
        Command::Receive(args) => mirror::receive(app, args),
        Command::Status(args) => status(app, args),
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
    }
}

/// What is said when a signal asks for the end.
const ENDING: &str = "ending: what is served stays as it is";

fn wait(flags: &WaitFlags) -> Wait {
    if flags.wait == Duration::ZERO { Wait::No } else { Wait::AtMost(flags.wait) }
}

fn keep(newest: u32, grace: &GraceFlag) -> Keep {
    Keep { newest: newest as usize, grace: grace.grace }
}

fn switch(app: &App, args: &SwitchArgs) -> Result<Outcome, ToolError> {
    let to = match args.generation {
        Some(generation) => SwitchTo::Number(generation),
        None if args.back => SwitchTo::Back,
        None => SwitchTo::Newest,
    };
    let context = app.context_saying(ENDING)?;
    let report = publish::switch(&context, &absolute(&args.tree)?, to, wait(&args.wait), args.dry_run)?;
    Ok(app.output.done(Outcome::Done, &report, || render::switch(&report)))
}

fn gc(app: &App, args: &GcArgs) -> Result<Outcome, ToolError> {
    let context = app.context_saying(ENDING)?;
    let keep = keep(args.keep, &args.grace);
    let report = publish::collect(&context, &absolute(&args.tree)?, keep, wait(&args.wait), args.dry_run)?;
    Ok(app.output.done(Outcome::Done, &report, || render::collect(&report)))
}

fn status(app: &App, args: &StatusArgs) -> Result<Outcome, ToolError> {
    let report = publish::status(&absolute(&args.tree)?)?;
    let is_known = report.generations.iter().all(|one| one.problem.is_none());
    let outcome = if is_known { Outcome::Done } else { Outcome::Failed(FailureKind::Unverified) };
    app.output.result(outcome, &report, || render::status(&report))?;
    Ok(outcome)
}

/// Becomes the command, in the generation's directory, with the lease among its descriptors.
fn read(args: &ReadArgs) -> Result<Outcome, ToolError> {
    let lease = Lease::take(&Tree::open(&absolute(&args.tree)?)?)?;
    let path = lease.path();
    rustix::process::fchdir(&lease).map_err(|error| ToolError::io("enter", path)(error.into()))?;
    let _inherited = lease.hand_on().map_err(ToolError::io("hand on the lease of", path))?;
    let Some((program, words)) = args.words.split_first() else {
        return Err(ToolError::usage("no command was named", "write it behind --"));
    };
    // Shells believe PWD where it leads to the working directory.
    let error = Program::new(program).args(words).env("PWD", path).exec();
    Err(ToolError::io("run", program)(error))
}
