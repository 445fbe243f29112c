//! What is done with backups that are there: list, verify, restore, expire.

use std::fmt::Write;
use std::path::Path;

use svckit::FailureKind;
use svckit::archive::retention;
use svckit::database::server::ValidationQuery;
use svckit::discover::Retention;
use svckit::name::TargetName;
use svckit::operation::{self, Expired, ListedBackup, RestoreReport, RestoreRequest, RestoreTest, VerifiedBackup};
use svckit::quiesce::Context;

use crate::app::App;
use crate::cli::backup::{ExpireArgs, ListArgs, RestoreArgs, VerifyArgs};
use crate::ctl::resumed_word;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, render, service};

pub(super) fn list(app: &App, args: &ListArgs) -> Result<Outcome, ToolError> {
    let listed = operation::list(&service::absolute(&args.from)?, args.target.as_ref())?;
    if app.output.is_json() {
        for backup in &listed {
            app.output.done(outcome_of(backup.error.is_none()), backup, String::new);
        }
    } else {
        app.output.text(&list_text(&listed))?;
    }
    Ok(outcome_of(listed.iter().all(|backup| backup.error.is_none())))
}

fn outcome_of(ok: bool) -> Outcome {
    if ok { Outcome::Done } else { Outcome::Failed(FailureKind::Unverified) }
}

fn list_text(listed: &[ListedBackup]) -> String {
    if listed.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut rows = vec![["TARGET", "BACKUP", "MODE", "HOLDS", "TAKES", "VERIFIED"].map(str::to_owned).to_vec()];
    for backup in listed {
        let head = [backup.target.to_string(), backup.backup.to_string()];
        let rest = match &backup.error {
            Some(error) => vec![format!("UNREADABLE: {}", render::one_line(error))],
            None => vec![
                backup.mode.clone().unwrap_or_default(),
                render::bytes(backup.content_bytes),
                render::bytes(backup.stored_bytes),
                backup.verified_at.clone().unwrap_or_else(|| "never".to_owned()),
            ],
        };
        rows.push(head.into_iter().chain(rest).collect());
    }
    render::table(&rows)
}

pub(super) fn verify(app: &App, args: &VerifyArgs) -> Result<Outcome, ToolError> {
    let store = service::absolute(&args.from)?;
    let context = app.context()?;
    let test = match args.restore {
        true => {
            let endpoint = dirs::discovery(app.config.as_deref())?.engine().clone();
            Some(RestoreTest { endpoint, scratch: dirs::scratch()?, queries: queries(&args.query) })
        }
        false => None,
    };
    let (target, backup) = (args.target.as_ref(), args.backup.as_ref());
    let verified = operation::verify(&context, &store, target, backup, test.as_ref())?;
    if verified.is_empty() {
        return Err(ToolError::Other {
            what: format!("verify {}: there is no backup in it", render::path(&store)),
            kind: FailureKind::No,
            hint: None,
        });
    }
    for backup in &verified {
        app.output.done(outcome_of(backup.ok), backup, || verify_text(backup));
    }
    Ok(outcome_of(verified.iter().all(|backup| backup.ok)))
}

/// `STATEMENT`, or `STATEMENT => FIRST LINE OF THE ANSWER`.
fn queries(all: &[String]) -> Vec<ValidationQuery> {
    let query = |text: &String| {
        let (statement, expect) = match text.rsplit_once(" => ") {
            Some((statement, expect)) => (statement, Some(expect.to_owned())),
            None => (text.as_str(), None),
        };
        ValidationQuery { database: None, statement: statement.to_owned(), expect }
    };
    all.iter().map(query).collect()
}

fn verify_text(backup: &VerifiedBackup) -> String {
    let end = match &backup.error {
        None => format!("verified by: {}", backup.rungs.join(", ")),
        Some(error) => format!("DOES NOT VERIFY: {}", render::one_line(error)),
    };
    format!("{} {}: {end}\n", backup.target, backup.backup)
}

pub(super) fn restore(app: &App, args: &RestoreArgs) -> Result<Outcome, ToolError> {
    if args.to.is_none() {
        return super::dump::load(app, args);
    }
    let discovery = dirs::discovery(app.config.as_deref())?;
    let context = app.context()?;
    let (controller, target) = service::of_flags(&args.service, &discovery, &context.dirs)?;
    let request = RestoreRequest {
        store: service::absolute(&args.from)?,
        target: args.target.clone(),
        member: args.member.clone(),
        backup: args.backup.clone(),
        to: super::dump::to_path(args)?,
        service: service::options(&[], &args.stop, target.as_ref())?,
        dry_run: args.dry_run,
    };
    let report = operation::restore(&context, controller.as_deref(), &request)?;
    Ok(app.output.done(Outcome::Done, &report, || restore_text(&report, args.dry_run)))
}

fn restore_text(report: &RestoreReport, would: bool) -> String {
    let end = if would { "would be restored" } else { "restored" };
    let mut text = format!("{} {}: {end}\n", report.target, report.backup);
    // Writing to a String can't fail.
    for (what, paths) in [
        (if would { "to be replaced" } else { "in place" }, &report.restored),
        ("what was there is kept in", &report.kept),
    ] {
        for path in paths {
            let _infallible = writeln!(text, "  {what}: {}", render::path(path.as_ref()));
        }
    }
    if let Some(downtime) = report.downtime_ms {
        let _infallible = writeln!(text, "  the service was down for {}", render::milliseconds(downtime));
    }
    if let Some(resumed) = report.service {
        let _infallible = writeln!(text, "  the service: {}", resumed_word(resumed));
    }
    for step in report.plan.iter().filter(|_| would) {
        let _infallible = writeln!(text, "  would: {}", render::one_line(step));
    }
    for notice in &report.notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
    text
}

pub(super) fn expire(app: &App, args: &ExpireArgs) -> Result<Outcome, ToolError> {
    let given = [args.keep_last, args.keep_daily, args.keep_weekly, args.keep_monthly, args.keep_yearly];
    let retention = if given.iter().all(Option::is_none) {
        configured(app, args)?
    } else {
        let [last, daily, weekly, monthly, yearly] = given.map(|count| count.unwrap_or(0));
        Retention { last, daily, weekly, monthly, yearly }
    };
    if retention == Retention::default() {
        return Err(ToolError::usage("nothing would be kept", "add a rule: --keep-last 7"));
    }
    let context = app.context()?;
    let store = service::absolute(&args.from)?;
    let expired = operation::expire(&context, &store, args.target.as_ref(), &policy(&retention), args.dry_run)?;
    for target in &expired {
        app.output.done(Outcome::Done, target, || expire_text(target, args.dry_run));
    }
    Ok(Outcome::Done)
}

/// The rule of the target's own configuration.
fn configured(app: &App, args: &ExpireArgs) -> Result<Retention, ToolError> {
    let discovery = dirs::discovery(app.config.as_deref())?;
    let target = args.target.as_ref().and_then(|name| discovery.target(name.as_str()).ok());
    target.and_then(|target| target.retention).ok_or_else(|| {
        ToolError::usage(
            "no rule says what is kept",
            "add one: --keep-last 7, or retention = { last = 7 } to the target's configuration",
        )
    })
}

fn expire_text(expired: &Expired, dry_run: bool) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for kept in &expired.kept {
        let reasons: Vec<String> = kept.reasons.iter().map(word).collect();
        let _infallible = writeln!(text, "{} {}: kept ({})", expired.target, kept.backup, reasons.join(", "));
    }
    for backup in &expired.removed {
        let end = if dry_run { "would be removed" } else { "removed" };
        let _infallible = writeln!(text, "{} {backup}: {end}", expired.target);
    }
    text
}

/// A reason, as JSON has it.
fn word(reason: &retention::Reason) -> String {
    serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Applies a target's own rule after its backup.
pub(super) fn expire_one(
    context: &Context,
    store: &Path,
    target: &TargetName,
    retention: &Retention,
) -> Result<Vec<Expired>, ToolError> {
    Ok(operation::expire(context, store, Some(target), &policy(retention), false)?)
}

fn policy(retention: &Retention) -> retention::Policy {
    retention::Policy {
        keep_last: retention.last,
        daily: retention.daily,
        weekly: retention.weekly,
        monthly: retention.monthly,
        yearly: retention.yearly,
    }
}
