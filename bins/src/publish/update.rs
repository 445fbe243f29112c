//! `svc-publish update`.

use std::process::Stdio;

use svckit::FailureKind;
use svckit::operation::publish::{self, UpdateFrom, UpdateRequest};
use svckit::publish::{Carry, Commands, Comparison, Seed};

use super::mirror::{destination, transport};
use super::{ENDING, keep, render, wait};
use crate::app::App;
use crate::cli::publish::{SeedArg, UpdateArgs};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::service::absolute;

pub(super) fn update(app: &App, args: &UpdateArgs) -> Result<Outcome, ToolError> {
    let (context, tree) = (app.context_saying(ENDING)?, absolute(&args.tree)?);
    if let Some(from) = args.from.as_ref().filter(|_| args.dry_run) {
        let built = publish::preview(&context, &tree, &absolute(from)?)?;
        app.output.result(Outcome::Done, &built, || render::preview(&tree, &built))?;
        return Ok(Outcome::Done);
    }
    let report = if args.resume {
        publish::resume(&context, &tree, wait(&args.wait))?
    } else {
        let from = match &args.from {
            Some(path) => {
                let comparison = if args.checksum { Comparison::Content } else { Comparison::Metadata };
                UpdateFrom::Directory { path: absolute(path)?, comparison }
            }
            None => UpdateFrom::Command { argv: args.words.clone(), seed: seed(args.seed) },
        };
        let pattern = |why| ToolError::usage(format!("a pattern can't be meant: {why}"), "write it as '**/by-hash/**'");
        let to_stderr = |command: &mut std::process::Command| {
            // Standard output is for our result. No other copy of it stays with what a command leaves behind.
            match rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3) {
                Ok(copy) => drop(command.stdout(Stdio::from(copy))),
                Err(_) => drop(command.stdout(Stdio::null())),
            }
        };
        let request = UpdateRequest {
            tree,
            from,
            checks: args.check.iter().map(|words| words.0.clone()).collect(),
            commands: Commands { wait_max: args.command_timeout, prepare: &to_stderr },
            carry: Carry::new(&args.carry, args.carry_for).map_err(pattern)?,
            serve: !args.no_switch,
            keep: args.keep.map(|newest| keep(newest, &args.grace)),
            mirrors: args.mirror.iter().map(destination).collect::<Result<_, _>>()?,
            transport: transport(&args.transport, args.command_timeout),
            wait: wait(&args.wait),
        };
        publish::update(&context, &request)?
    };
    let all_done = report.not_collected.is_none() && report.not_mirrored.is_empty();
    let outcome = if all_done { Outcome::Done } else { Outcome::Failed(FailureKind::SomeFailed) };
    Ok(app.output.done(outcome, &report, || render::update(&report)))
}

fn seed(word: SeedArg) -> Seed {
    match word {
        SeedArg::Auto => Seed::Auto,
        SeedArg::Reflink => Seed::Reflink,
        SeedArg::Copy => Seed::Copy,
        SeedArg::Hardlink => Seed::Hardlink,
        SeedArg::None => Seed::None,
    }
}
