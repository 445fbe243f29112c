//! `svc-repair repair`, `undo` and `list`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use svckit::FailureKind;
use svckit::database::sqlite::repair::{Accounting, Step};
use svckit::discover::Target;
use svckit::operation::{
    self, Listing, ReferenceRequest, RepairOutcome, RepairReport, RepairRequest, ServiceOptions, UndoReport,
    UndoRequest,
};
use svckit::quiesce::Context;

use crate::app::App;
use crate::cli::repair::{ListArgs, RepairArgs, StrategyArg, UndoArgs};
use crate::cli::{ServiceFlags, StopFlags};
use crate::ctl::resumed_word;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::service::Controller;
use crate::{dirs, render, service};

/// How long writers may be kept waiting by a check that comes first.
const HOLD_MAX: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) fn repair(app: &App, args: &RepairArgs) -> Result<Outcome, ToolError> {
    let context = app.context()?;
    if !args.no_service && !args.dry_run {
        a_service(&args.service)?;
    }
    let (controller, options) = of_flags(app, &context, &args.path, &args.service, &args.stop)?;
    let reference = reference(app, args)?;
    if args.strategy == StrategyArg::Restore && reference.is_none() {
        return Err(ToolError::usage(
            "--strategy restore needs the backups of the database",
            "name their store: --from STORE (no target of the configuration has this database and a store)",
        ));
    }
    let request = RepairRequest {
        database: service::absolute(&args.path)?,
        service: options,
        only: match args.strategy {
            StrategyArg::Auto => None,
            StrategyArg::Recovery => Some(Step::Recovery),
            StrategyArg::Indices => Some(Step::Indices),
            StrategyArg::Salvage => Some(Step::Salvage),
            StrategyArg::Restore => Some(Step::Restore),
        },
        reference,
        sqlite_program: sqlite_program(app, args)?,
        accept_loss: args.accept_loss,
        dry_run: args.dry_run,
        hold_max: HOLD_MAX,
    };
    let report = operation::repair(&context, controller.as_deref(), &request)?;
    let outcome = if report.outcome.is_partial() { Outcome::Failed(FailureKind::Partial) } else { Outcome::Done };
    Ok(app.output.done(outcome, &report, || text(&report)))
}

/// The store that was named, else that of the target which has this database.
fn reference(app: &App, args: &RepairArgs) -> Result<Option<ReferenceRequest>, ToolError> {
    if let Some(store) = &args.from {
        let store = service::absolute(store)?;
        return Ok(Some(ReferenceRequest { store, target: args.target.clone(), optional: false }));
    }
    let mut stores = targets_with(app, args)?.into_iter().filter_map(|target| Some((target.store?, target.name)));
    Ok(stores.next().map(|(store, name)| ReferenceRequest {
        store,
        target: Some(name),
        optional: args.strategy != StrategyArg::Restore,
    }))
}

/// The program that was named, else that of the service, or of the target which has this database.
fn sqlite_program(app: &App, args: &RepairArgs) -> Result<Option<PathBuf>, ToolError> {
    if let Some(program) = &args.sqlite_program {
        return Ok(Some(service::absolute(program)?));
    }
    if let Some(name) = &args.service.service_name
        && let Some(program) = dirs::discovery(app.config.as_deref())?.service(name)?.sqlite_program
    {
        return Ok(Some(program));
    }
    Ok(targets_with(app, args)?.into_iter().find_map(|target| target.sqlite_program))
}

fn targets_with(app: &App, args: &RepairArgs) -> Result<Vec<Target>, ToolError> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let database = real(&service::absolute(&args.path)?);
    let targets = dirs::discovery(app.config.as_deref())?.targets();
    let known = targets.into_iter().filter_map(|(_, target)| target.ok());
    Ok(known.filter(|target| target.sqlite.iter().any(|path| real(path) == database)).collect())
}

pub(super) fn undo(app: &App, args: &UndoArgs) -> Result<Outcome, ToolError> {
    let context = app.context()?;
    if !args.no_service && !args.dry_run {
        a_service(&args.service)?;
    }
    let (controller, service) = of_flags(app, &context, &args.path, &args.service, &args.stop)?;
    let database = service::absolute(&args.path)?;
    let request = UndoRequest { database, set: args.set.clone(), service, dry_run: args.dry_run };
    let report = operation::undo(&context, controller.as_deref(), &request)?;
    Ok(app.output.done(Outcome::Done, &report, || undo_text(&report)))
}

pub(super) fn list(app: &App, args: &ListArgs) -> Result<Outcome, ToolError> {
    let path = service::absolute(args.path.as_deref().unwrap_or(Path::new(".")))?;
    let listing = operation::preserved(&path)?;
    for damaged in &listing.unreadable {
        let (directory, reason) = (render::path(damaged.directory.as_ref()), render::one_line(&damaged.reason));
        tracing::warn!("what is preserved in {directory} can't be used: {reason}");
    }
    if app.output.is_json() {
        for set in &listing.sets {
            app.output.result(Outcome::Done, set, String::new)?;
        }
        return Ok(Outcome::Done);
    }
    app.output.text(&list_text(&listing))?;
    Ok(Outcome::Done)
}

fn a_service(flags: &ServiceFlags) -> Result<(), ToolError> {
    if flags.is_given() {
        return Ok(());
    }
    Err(ToolError::usage(
        "nobody said which service uses the database",
        "name it (--unit U, --user-unit U, --pid-file F, --service NAME), or say --no-service",
    ))
}

fn of_flags(
    app: &App,
    context: &Context,
    path: &Path,
    flags: &ServiceFlags,
    stop: &StopFlags,
) -> Result<(Option<Controller>, ServiceOptions), ToolError> {
    let discovery = dirs::discovery(app.config.as_deref())?;
    let (controller, target) = service::of_flags(flags, &discovery, &context.dirs)?;
    let options = service::options(&[service::absolute(path)?], stop, target.as_ref())?;
    Ok((controller, options))
}

fn word(outcome: RepairOutcome) -> &'static str {
    match outcome {
        RepairOutcome::Whole => "nothing is damaged, and nothing was done",
        RepairOutcome::Complete => "repaired, complete",
        RepairOutcome::PartialReplaced => "repaired IN PART, as was accepted",
        RepairOutcome::PartialNotReplaced => "NOT repaired: it would lose what is told below; --accept-loss takes it",
        RepairOutcome::WouldBeComplete => "would be repaired, complete",
        RepairOutcome::WouldBePartial => "would be repaired IN PART",
    }
}

fn text(report: &RepairReport) -> String {
    let mut text = format!("{}: {}\n", render::path(report.database.as_ref()), word(report.outcome));
    // Writing to a String can't fail.
    if let Some(accounting) = &report.accounting {
        account(accounting, &mut text);
    }
    for loss in &report.losses {
        let _infallible = writeln!(text, "  LOST OR DOUBTFUL: {}", render::one_line(loss));
    }
    if let Some(backup) = &report.backup {
        let store = render::path(backup.store.as_ref());
        let _infallible =
            writeln!(text, "  the backup: {} of {} in {store}, of {}", backup.id, backup.target, backup.created);
    }
    if let Some(next) = &report.next {
        let _infallible = writeln!(text, "  next, to fill what is lost from it: {}", render::one_line(next));
    }
    if let Some(preserved) = &report.preserved {
        let _infallible = writeln!(text, "  the original: {}", render::path(preserved.as_ref()));
    }
    if let Some(aside) = &report.set_aside {
        let _infallible = writeln!(text, "  set aside: {}", render::path(aside.as_ref()));
    }
    closing(&mut text, report.downtime_ms, report.service, &report.notices);
    if matches!(report.outcome, RepairOutcome::WouldBeComplete | RepairOutcome::WouldBePartial) {
        for step in &report.plan {
            let _infallible = writeln!(text, "  would: {}", render::one_line(step));
        }
    }
    text
}

fn account(accounting: &Accounting, text: &mut String) {
    let how = match accounting.step {
        Step::Recovery => "by its log or journal alone",
        Step::Indices => "by building indices anew",
        Step::Salvage => "by reading every row into a new database",
        Step::Restore => "by the rows that could be read, and those of the backup for what is lost",
    };
    let (before, after) = (accounting.objects_before, accounting.objects_after);
    let _infallible = writeln!(text, "  {how}; {after} of {before} tables, indices, views and triggers");
    let heading = ["  TABLE", "READABLE BEFORE", "BY INDEX", "NOW", "FROM LOST PAGES", "DOUBTFUL", "SET ASIDE", "LOST"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let restored = accounting.step == Step::Restore;
    if restored {
        rows[0].extend(["FROM BACKUP", "OF THESE PROVED"].map(str::to_owned));
    }
    for table in &accounting.tables {
        let lost = match (table.lost, table.lost_at_most) {
            (Some(lost), _) => lost.to_string(),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => "unknown".to_owned(),
        };
        rows.push(vec![
            format!("  {}", render::one_line(&table.table)),
            table.readable_before.to_string(),
            table.by_index.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
            table.after.to_string(),
            table.from_orphans.to_string(),
            table.doubtful.to_string(),
            table.set_aside.to_string(),
            lost,
        ]);
        if let Some(row) = rows.last_mut().filter(|_| restored) {
            row.extend([table.from_backup.to_string(), table.proved.to_string()]);
        }
    }
    text.push_str(&render::table(&rows));
    for note in &accounting.notes {
        let _infallible = writeln!(text, "  note: {}", render::one_line(note));
    }
}

fn closing(text: &mut String, downtime: Option<f64>, resumed: Option<operation::Resumed>, notices: &[String]) {
    if let Some(downtime) = downtime {
        let _infallible = writeln!(text, "  the service was down for {}", render::milliseconds(downtime));
    }
    if let Some(resumed) = resumed {
        let _infallible = writeln!(text, "  the service: {}", resumed_word(resumed));
    }
    for notice in notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
}

fn undo_text(report: &UndoReport) -> String {
    let what = if report.done { "is in place again" } else { "would be put in place again" };
    let mut text = format!("{}: the original {} {what}\n", render::path(report.database.as_ref()), report.set);
    if let Some(preserved) = &report.preserved {
        let _infallible = writeln!(text, "  what it replaced: {}", render::path(preserved.as_ref()));
    }
    closing(&mut text, report.downtime_ms, report.service, &report.notices);
    if !report.done {
        for step in &report.plan {
            let _infallible = writeln!(text, "  would: {}", render::one_line(step));
        }
    }
    text
}

fn list_text(listing: &Listing) -> String {
    let sets = &listing.sets;
    if sets.is_empty() && !listing.unreadable.is_empty() {
        return "nothing that is preserved here can be used\n".to_owned();
    }
    if sets.is_empty() {
        return "nothing is preserved here\n".to_owned();
    }
    let mut rows = vec![["DATABASE", "PRESERVED", "SIZE", "BEFORE", "WHAT CAME OF IT"].map(str::to_owned).to_vec()];
    for set in sets {
        rows.push(vec![
            render::path(set.database.as_ref()),
            set.id.to_string(),
            render::bytes(set.bytes),
            render::one_line(&set.before),
            set.outcome.map_or_else(|| "-".to_owned(), |outcome| word(outcome).to_owned()),
        ]);
    }
    render::table(&rows)
}
