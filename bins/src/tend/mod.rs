//! `svc-tend`: parse, one call, render, exit.

mod figures;
mod listen;
mod metrics;
mod munin;
mod once;
mod quarantine;
mod run;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use svckit::Failure;
use svckit::controller::ServiceController;
use svckit::operation::lock_for_maintenance;
use svckit::quiesce::Context;
use svckit::tend::Gate;
use svckit::tend::rule::{OfService, Rule, TendConfig};

use crate::app::{self, App};
use crate::cli::ServiceFlags;
use crate::cli::tend::{Cli, Command, QuarantineCommand};
use crate::error::ToolError;
use crate::{dirs, manual, service};

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match app::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let app = App::start("svc-tend", &cli.global);
    let result = match &cli.command {
        Command::Run(args) => run::run(&app, args),
        Command::Once(args) => once::once(&app, args),
        Command::Check(args) => once::check(&app, args),
        Command::Status(args) => status::status(&app, args),
        Command::Munin(args) => munin::munin(&app, args.word),
        Command::Metrics(args) => metrics::metrics(&app, args),
        Command::Quarantine(QuarantineCommand::List) => quarantine::list(&app),
        Command::Quarantine(QuarantineCommand::Retry(item)) => quarantine::retry(&app, item),
        Command::Quarantine(QuarantineCommand::Drop(item)) => quarantine::drop_item(&app, item),
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
    };
    app.end(result)
}

/// What is said when a signal asks for the end.
const ENDING: &str = "ending: what is in work is finished first";

/// The rules of the configuration; only those that are named, where some are.
fn rules(app: &App, named: &[String]) -> Result<Vec<Rule>, ToolError> {
    let path = app.config.clone().or_else(dirs::tend_config_file).ok_or_else(|| {
        let places: Vec<String> =
            dirs::tend_config_candidates().iter().map(|path| path.display().to_string()).collect();
        ToolError::usage(
            format!("there are no rules: looked for {}", places.join(" and ")),
            "write some (svc-tend(1)), or name a file with --config".to_owned(),
        )
    })?;
    let mut rules = TendConfig::read(&path)?.rules;
    for name in named {
        if !rules.iter().any(|rule| rule.name == *name) {
            let known: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            return Err(ToolError::usage(
                format!("there is no rule {name:?} in {}", path.display()),
                format!("it has {}", known.join(", ")),
            ));
        }
    }
    rules.retain(|rule| named.is_empty() || named.contains(&rule.name));
    Ok(rules)
}

/// Where the state of the rules is.
fn state_dir() -> Result<PathBuf, ToolError> {
    Ok(dirs::state()?.state.join("tend"))
}

/// The service of a rule, where it names one.
fn service_of(rule: &Rule) -> Result<Option<Box<dyn ServiceController>>, ToolError> {
    let of = &rule.service;
    if *of == OfService::default() {
        return Ok(None);
    }
    let flags = ServiceFlags {
        unit: of.unit.clone(),
        user_unit: of.user_unit.clone(),
        container: of.container.clone(),
        pid_file: of.pid_file.clone(),
        ..ServiceFlags::default()
    };
    // Engines of containers are named by svckit.toml; `--config` is that of the rules here.
    Ok(service::of_flags(&flags, &dirs::discovery(None)?, &dirs::state()?)?.0)
}

/// Takes the locks of a rule, each time anew: the service may be another container since.
fn gate(context: &Arc<Context>, rule: &Rule) -> Gate {
    let (context, rule) = (Arc::clone(context), rule.clone());
    Box::new(move || {
        let lock =
            locks(&context, &rule).map_err(|error| svckit::failure::with_causes(error.to_string(), error.cause()))?;
        Ok(Box::new(lock))
    })
}

fn locks(context: &Context, rule: &Rule) -> Result<svckit::lock::OperationLock, ToolError> {
    let service = service_of(rule)?;
    let mut databases = vec![rule.database.clone()];
    databases.extend(rule.summaries.iter().map(|summary| summary.database.clone()));
    databases.sort();
    databases.dedup();
    Ok(lock_for_maintenance(context, &rule.name, service.as_deref(), &databases, &rule.locks)?)
}

/// An item as a person knows it.
fn shown(item: &str) -> String {
    svckit::tend::rule::Key::parse(item).map_or_else(|| item.to_owned(), |key| key.to_string())
}

/// For messages that are not errors of ours.
fn said(error: &dyn Failure) -> String {
    svckit::failure::with_causes(error.to_string(), error.source())
}
