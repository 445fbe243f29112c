//! `svc-backup backup`: of databases that are named, of targets, of everything that is configured.

use std::fmt::Write;
use std::path::PathBuf;

use svckit::FailureKind;
use svckit::compression::Compression;
use svckit::discover::{self, Discovery, Event, Mode, Origin, Target};
use svckit::operation::{self, BackupMode, BackupReport, BackupRequest, Includes, Records};
use svckit::quiesce::Context;

use super::several::{Several, error_of_vanished, vanished};
use super::store::expire_one;
use super::taken::{Taken, stored_text};
use super::targets::found;
use crate::app::App;
use crate::cli::backup::{BackupArgs, ModeArg};
use crate::ctl::resumed_word;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::service::Controller;
use crate::{dirs, render, service};

pub(super) fn backup(app: &App, args: &BackupArgs) -> Result<Outcome, ToolError> {
    if let Some(engine) = args.server.engine {
        return super::dump::dump(app, args, engine);
    }
    if args.at.address.is_some() {
        let hint = "add --engine mysql, postgres or redis";
        return Err(ToolError::usage("--server says where a server is, and not of which kind", hint));
    }
    let mut outcomes = Vec::new();
    let mut discovery = dirs::discovery(app.config.as_deref())?;
    let context = app.context()?;
    // The engine is asked only where somebody asks for what it may have.
    let needs_engine = |name: &String| !discovery.is_configured(name) || discovery.is_group(name);
    if args.all || args.targets.iter().chain(&args.group).any(needs_engine) {
        let patience = (!args.dry_run).then_some(&context.cancel);
        discovery = found(app, &mut outcomes, patience)?;
    }
    if !args.sqlite.is_empty() {
        let report = of_databases(&context, &discovery, args)?;
        return shown(app, &report);
    }
    if args.all && discovery.looks_at_labels() {
        for (name, container) in vanished(&discovery, &Records::below(&context.dirs.state))? {
            let error = error_of_vanished(&name, &container);
            app.output.failure(&error, Some(&name));
            outcomes.push(Outcome::Failed(error.kind()));
        }
    }
    if let Some(name) = args.group.iter().find(|name| !discovery.is_group(name)) {
        return Err(ToolError::usage(format!("there is no group {name:?}"), format!("add: [group.{name}]")));
    }
    let names = if args.all { discovery.of_all() } else { [&args.targets[..], &args.group].concat() };
    if names.is_empty() && outcomes.is_empty() {
        return Err(ToolError::Other {
            what: "no target is configured".to_owned(),
            kind: FailureKind::No,
            hint: Some(
                "add a [target.NAME] to the configuration or a label to a container, or see: svc-backup targets"
                    .to_owned(),
            ),
        });
    }
    if names.len() > 1 && args.name.is_some() {
        return Err(ToolError::usage("--name names one target, not several", "leave it out"));
    }
    Several { app, context: &context, discovery: &discovery, args }.run(&names, outcomes)
}

fn of_databases(context: &Context, discovery: &Discovery, args: &BackupArgs) -> Result<BackupReport, ToolError> {
    let (controller, target) = service::of_flags(&args.service, discovery, &context.dirs)?;
    let store = args.to.clone().or_else(|| target.as_ref()?.store.clone());
    let databases = args.sqlite.iter().map(|path| service::absolute(path)).collect::<Result<Vec<_>, _>>()?;
    let request = BackupRequest {
        includes: Includes { patterns: absolute_all(&args.include)? },
        store: service::absolute(&store.ok_or_else(no_store)?)?,
        name: args.name.clone(),
        mode: mode(args.mode, target.as_ref()),
        compression: args.compression.unwrap_or_default(),
        fence_hold_max: args.fence_hold_max,
        service: service::options(&databases, &args.stop, target.as_ref())?,
        dry_run: args.dry_run,
        databases,
    };
    Ok(operation::backup(context, controller.as_deref(), &request)?)
}

pub(super) fn of_target(
    context: &Context,
    discovery: &Discovery,
    args: &BackupArgs,
    name: &str,
    is_last: impl Fn(&ToolError) -> bool,
) -> Result<Taken, ToolError> {
    let (target, members) = match discovery.is_group(name) {
        true => {
            let group = discovery.group(name)?;
            (group.target, Some(group.members))
        }
        false => (discovery.target(name)?, None),
    };
    let take = || match &members {
        Some(members) => super::group::take(context, args, &target, members),
        None => take(context, discovery, args, &target),
    };
    if args.dry_run {
        return take();
    }
    tell(&target, Event::Start);
    let result = take().and_then(|mut report| {
        if let Some(retention) = &target.retention {
            let expired = expire_one(context, &store_of(args, &target)?, report.target(), retention)
                .map_err(|error| not_expired(&report, error))?;
            let gone = expired.iter().map(|expired| expired.removed.len()).sum::<usize>();
            report.notice(format!("{gone} older backups were no longer kept and removed"));
        }
        Ok(report)
    });
    match &result {
        Ok(_) => tell(&target, Event::Success),
        // It is tried again: nobody is to be woken for that.
        Err(error) if !is_last(error) => {}
        Err(error) => {
            tell(&target, Event::Fail);
            if let Some(command) = &target.alerts.on_failure
                && let Err(alert) = discover::run_on_failure(command, target.name.as_str(), &error.to_string())
            {
                tracing::warn!("{}: {alert}", target.name);
            }
        }
    }
    // Whether anybody could be told does not change what became of the backup.
    result
}

/// The backup is there all the same.
fn not_expired(report: &Taken, error: ToolError) -> ToolError {
    let id = report.backup().map(ToString::to_string).unwrap_or_default();
    ToolError::Other {
        what: format!("{} {id} is stored and verified, but older backups were not expired: {error}", report.target()),
        kind: error.kind(),
        hint: error.hint(),
    }
}

fn tell(target: &Target, event: Event) {
    if let Some(address) = &target.alerts.ping
        && let Err(error) = discover::ping(address, event)
    {
        tracing::warn!("{}: {error}", target.name);
    }
}

fn take(context: &Context, discovery: &Discovery, args: &BackupArgs, target: &Target) -> Result<Taken, ToolError> {
    if let Some(server) = &target.server {
        return super::dump::of_target(context, args, target, server);
    }
    let mode = mode(args.mode, Some(target));
    let (named, _) = service::of_flags(&args.service, discovery, &context.dirs)?;
    let controller = match named {
        Some(named) => Some(named),
        None => of_profile_or_target(target, context, mode)?,
    };
    let mut patterns = target.include.clone();
    patterns.extend(absolute_all(&args.include)?);
    let request = BackupRequest {
        databases: target.sqlite.clone(),
        includes: Includes { patterns },
        store: store_of(args, target)?,
        name: Some(args.name.clone().unwrap_or_else(|| target.name.clone())),
        mode,
        compression: compression_of(args, target),
        fence_hold_max: args.fence_hold_max,
        service: service::options(&target.sqlite, &args.stop, Some(target))?,
        dry_run: args.dry_run,
    };
    Ok(Taken::Snapshot(Box::new(operation::backup(context, controller.as_deref(), &request)?)))
}

/// The target's service. A known service whose data is here may run in a way that the profile does not know, or no
/// manager may be here: a backup that does not stop it needs neither.
pub(super) fn of_profile_or_target(
    target: &Target,
    context: &Context,
    mode: BackupMode,
) -> Result<Option<Controller>, ToolError> {
    let result = service::of_target(target, &context.dirs);
    let ToolError::Library(error) = (match result {
        Ok(controller) => return Ok(controller),
        Err(error) => error,
    }) else {
        return Ok(None);
    };
    if target.origin == Origin::Profile && mode != BackupMode::Cold {
        tracing::info!("{}: backed up without its service: {error}", target.name);
        return Ok(None);
    }
    Err(ToolError::Library(error))
}

pub(super) fn compression_of(args: &BackupArgs, target: &Target) -> Compression {
    args.compression.or(target.compression).unwrap_or_default()
}

pub(super) fn store_of(args: &BackupArgs, target: &Target) -> Result<PathBuf, ToolError> {
    let store = args.to.clone().or_else(|| target.store.clone());
    service::absolute(&store.ok_or_else(no_store)?)
}

pub(super) fn no_store() -> ToolError {
    ToolError::usage("no store was named", "add --to DIRECTORY, or store = \"/srv/backups\" to the configuration")
}

pub(super) fn absolute_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ToolError> {
    paths.iter().map(|path| service::absolute(path)).collect()
}

pub(super) fn mode(asked: Option<ModeArg>, target: Option<&Target>) -> BackupMode {
    match asked {
        Some(ModeArg::Hot) => BackupMode::Hot,
        Some(ModeArg::Fenced) => BackupMode::Fenced,
        Some(ModeArg::Cold) => BackupMode::Cold,
        None => match target.and_then(|target| target.mode) {
            None | Some(Mode::Hot) => BackupMode::Hot,
            Some(Mode::Fenced) => BackupMode::Fenced,
            Some(Mode::Cold) => BackupMode::Cold,
        },
    }
}

pub(super) fn shown(app: &App, report: &BackupReport) -> Result<Outcome, ToolError> {
    Ok(app.output.done(Outcome::Done, report, || text(report)))
}

fn text(report: &BackupReport) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    match (&report.backup, &report.path) {
        (Some(backup), Some(path)) => {
            let _infallible =
                writeln!(text, "{} {backup}: verified, in {}", report.target, render::path(path.as_ref()));
            text.push_str(&stored_text(
                (report.content_bytes, report.stored_bytes),
                &format!("taken {}", word(report.mode)),
                &report.rungs,
            ));
        }
        _ => {
            let _infallible = writeln!(text, "{}: would be backed up {}", report.target, word(report.mode));
        }
    }
    for database in &report.databases {
        let _infallible = writeln!(text, "  database: {}", render::path(database.as_ref()));
    }
    if let Some(stall) = report.writer_stall_ms {
        let _infallible = writeln!(text, "  writers waited at most {}", render::milliseconds(stall));
    }
    if let Some(downtime) = report.downtime_ms {
        let _infallible = writeln!(text, "  the service was down for {}", render::milliseconds(downtime));
    }
    if let Some(resumed) = report.service {
        let _infallible = writeln!(text, "  the service: {}", resumed_word(resumed));
    }
    for step in &report.plan {
        if report.backup.is_none() {
            let _infallible = writeln!(text, "  would: {}", render::one_line(step));
        }
    }
    for notice in &report.notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
    text
}

fn word(mode: BackupMode) -> &'static str {
    match mode {
        BackupMode::Hot => "hot",
        BackupMode::Fenced => "fenced",
        BackupMode::Cold => "cold",
    }
}
