//! Dumps of servers: taken, and loaded.

use std::fmt::Write;
use std::path::PathBuf;

use svckit::controller::ContainerSpec;
use svckit::database::server::{Databases, EngineKind, ServerAddress, ServerSpec};
use svckit::discover::{ServiceRef, Target};
use svckit::lock::Wait;
use svckit::operation::{self, DumpReport, DumpRequest, LoadReport, LoadRequest, ServerPlace};
use svckit::quiesce::Context;

use super::taken::{Taken, stored_text};
use crate::app::App;
use crate::cli::backup::{BackupArgs, RestoreArgs};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, render, service};

pub(super) fn dump(app: &App, args: &BackupArgs, engine: EngineKind) -> Result<Outcome, ToolError> {
    let store = args.to.clone().ok_or_else(super::run::no_store)?;
    let databases = match args.server.database.as_slice() {
        [] => Databases::All,
        names => Databases::Named(names.to_vec()),
    };
    let server =
        ServerSpec { databases, user: args.login.user.clone(), secret: args.login.secret(), ..ServerSpec::new(engine) };
    let request = DumpRequest {
        place: place(app, args.service.container.as_deref(), args.at.address.as_ref())?,
        server,
        compression: args.compression.unwrap_or_default(),
        store: service::absolute(&store)?,
        name: args.name.clone(),
        credentials: dirs::credentials(),
        wait: args.stop.wait.map_or(Wait::No, Wait::AtMost),
        dry_run: args.dry_run,
    };
    shown(app, &operation::dump(&app.context()?, &request)?)
}

/// The server of a target.
pub(super) fn of_target(
    context: &Context,
    args: &BackupArgs,
    target: &Target,
    server: &ServerSpec,
) -> Result<Taken, ToolError> {
    let request = DumpRequest {
        place: place_of(target)?,
        server: server.clone(),
        compression: super::run::compression_of(args, target),
        store: super::run::store_of(args, target)?,
        name: Some(args.name.clone().unwrap_or_else(|| target.name.clone())),
        credentials: dirs::credentials(),
        wait: args.stop.wait.map_or(Wait::No, Wait::AtMost),
        dry_run: args.dry_run,
    };
    Ok(Taken::Dump(Box::new(operation::dump(context, &request)?)))
}

pub(super) fn shown(app: &App, report: &DumpReport) -> Result<Outcome, ToolError> {
    Ok(app.output.done(Outcome::Done, report, || dump_text(report)))
}

fn place(app: &App, container: Option<&str>, address: Option<&ServerAddress>) -> Result<ServerPlace, ToolError> {
    if let Some(address) = address {
        return Ok(ServerPlace::Address(address.clone()));
    }
    let absent =
        || ToolError::usage("no server was named", "add --container NAME, or --server HOST:PORT or its socket");
    let engine = dirs::discovery(app.config.as_deref())?.engine().clone();
    Ok(ServerPlace::Container(Box::new(ContainerSpec::named(container.ok_or_else(absent)?, engine))))
}

/// Where a target's server is.
pub(super) fn place_of(target: &Target) -> Result<ServerPlace, ToolError> {
    match (&target.address, &target.service) {
        (Some(address), _) => Ok(ServerPlace::Address(address.clone())),
        (None, Some(ServiceRef::Container(container))) => Ok(ServerPlace::Container(Box::new(container.clone()))),
        (None, _) => Err(ToolError::usage(
            format!("{} names neither a container of its server nor its address", target.name),
            "add: container = \"NAME\", or server = \"HOST:PORT\"",
        )),
    }
}

/// What a dump did, for people.
fn dump_text(report: &DumpReport) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    match (&report.backup, &report.path) {
        (Some(backup), Some(path)) => {
            let _infallible =
                writeln!(text, "{} {backup}: verified, in {}", report.target, render::path(path.as_ref()));
            text.push_str(&stored_text((report.content_bytes, report.stored_bytes), "dumped hot", &report.rungs));
        }
        _ => {
            let _infallible = writeln!(text, "{}: would be dumped", report.target);
        }
    }
    let server = format!("{} {} in {}", report.engine, report.server_version, report.place);
    let _infallible = writeln!(text, "  server: {}", render::one_line(&server));
    for database in &report.databases {
        let name = render::one_line(&database.name);
        let _infallible = match report.backup {
            Some(_) => writeln!(text, "  database: {name} ({} tables, {} rows)", database.tables, database.rows),
            None => writeln!(text, "  database: {name}"),
        };
    }
    if let Some(took) = report.dump_ms {
        let _infallible = writeln!(text, "  the dump itself took {}", render::milliseconds(took));
    }
    for step in report.plan.iter().filter(|_| report.backup.is_none()) {
        let _infallible = writeln!(text, "  would: {}", render::one_line(step));
    }
    for notice in &report.notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
    text
}

pub(super) fn load(app: &App, args: &RestoreArgs) -> Result<Outcome, ToolError> {
    let request = LoadRequest {
        store: service::absolute(&args.from)?,
        target: args.target.clone(),
        member: args.member.clone(),
        backup: args.backup.clone(),
        place: place(app, args.service.container.as_deref(), args.at.address.as_ref())?,
        user: args.login.user.clone(),
        secret: args.login.secret(),
        credentials: dirs::credentials(),
        overwrite: args.overwrite,
        keep: !args.discard,
        wait: args.stop.wait.map_or(Wait::No, Wait::AtMost),
        dry_run: args.dry_run,
    };
    let report = operation::load(&app.context()?, &request)?;
    Ok(app.output.done(Outcome::Done, &report, || load_text(&report, args.dry_run)))
}

fn load_text(report: &LoadReport, would: bool) -> String {
    let mut text = String::new();
    let end = if would { "would be restored" } else { "restored" };
    let _infallible = writeln!(text, "{} {}: {end} into {}", report.target, report.backup, report.place);
    for part in &report.loaded {
        let _infallible = writeln!(text, "  loaded: {part}");
    }
    if !report.rungs.is_empty() {
        let _infallible = writeln!(text, "  compared: {}", report.rungs.join(", "));
    }
    for name in report.replaced.iter().filter(|_| !would) {
        let _infallible = writeln!(text, "  replaced: {}", render::one_line(name));
    }
    if let Some((target, id)) = &report.kept {
        let _infallible = writeln!(text, "  what was there is backup {id} of {target}");
    }
    for step in report.plan.iter().filter(|_| would) {
        let _infallible = writeln!(text, "  would: {}", render::one_line(step));
    }
    for notice in &report.notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
    text
}

/// The path of a restore that goes to files.
pub(super) fn to_path(args: &RestoreArgs) -> Result<PathBuf, ToolError> {
    let to = args.to.as_deref();
    service::absolute(to.ok_or_else(|| {
        ToolError::usage("no place was named", "add --to PATH, or --container NAME or --server ADDRESS")
    })?)
}
