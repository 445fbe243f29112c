//! `svc-ctl`: parse, one call, render, exit.

use std::fmt::Write;
use std::process::ExitCode;

use svckit::FailureKind;
use svckit::operation::{self, ResumeReport, Resumed, ServiceReport};

use crate::app::{self, App};
use crate::cli::ctl::{ChangeService, Cli, Command, OnService};
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, manual, render, service};

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match app::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let app = App::start("svc-ctl", &cli.global);
    let result = run(&app, &cli.command);
    app.end(result)
}

fn run(app: &App, command: &Command) -> Result<Outcome, ToolError> {
    match command {
        Command::Status(on) => on_service(app, on, |c, s, o| operation::status(c, s, o)),
        Command::Wait(on) => on_service(app, on, |c, s, o| operation::wait(c, s, o)),
        Command::Audit(on) => on_service(app, on, |c, s, o| operation::audit(c, s, o)),
        Command::Stop(ChangeService { on, dry_run }) => {
            on_service(app, on, |c, s, o| operation::stop(c, s, o, *dry_run))
        }
        Command::Start(ChangeService { on, dry_run }) => {
            on_service(app, on, |c, s, o| operation::start(c, s, o, *dry_run))
        }
        Command::Restart(ChangeService { on, dry_run }) => {
            on_service(app, on, |c, s, o| operation::restart(c, s, o, *dry_run))
        }
        Command::Resume(args) => {
            let report = operation::resume(&app.context()?, args.boot)?;
            Ok(app.output.done(Outcome::Done, &report, || resumed_text(&report)))
        }
        Command::Completions(args) => manual::completions::<Cli>(&app.output, args.shell),
        Command::Man(args) => manual::write::<Cli>(&args.directory),
        Command::Guard(args) => app::guard(args),
        Command::LockKeys(which) => crate::lock::print_keys(app, which),
    }
}

type Call<'a> = &'a svckit::quiesce::Context;

fn on_service(
    app: &App,
    on: &OnService,
    call: impl FnOnce(
        Call<'_>,
        &dyn svckit::controller::ServiceController,
        &operation::ServiceOptions,
    ) -> Result<ServiceReport, operation::OperationError>,
) -> Result<Outcome, ToolError> {
    let context = app.context()?;
    let discovery = dirs::discovery(app.config.as_deref())?;
    let (controller, target) = service::of_flags(&on.service, &discovery, &context.dirs)?;
    let controller = controller.ok_or_else(|| {
        ToolError::usage("no service was named", "name one: --unit U, --user-unit U, --pid-file F or --service NAME")
    })?;
    let options = service::options(&on.database, &on.stop, target.as_ref())?;
    let report = call(&context, controller.as_ref(), &options)?;
    let outcome = outcome_of(&report);
    Ok(app.output.done(outcome, &report, || report_text(&report)))
}

/// What a report of a call that did not fail means: 'it does not run' and 'somebody could kill it' are answers.
fn outcome_of(report: &ServiceReport) -> Outcome {
    if report.outcome == "unsafe" {
        return Outcome::Failed(FailureKind::Unsafe);
    }
    match report.outcome.as_str() {
        "not-running" | "failed" | "processes-left" => Outcome::Failed(FailureKind::No),
        _ => Outcome::Done,
    }
}

fn report_text(report: &ServiceReport) -> String {
    let mut text = format!("{}: {}", render::one_line(&report.service), report.outcome.replace('-', " "));
    let mut put = |line: String| text.push_str(&line);
    if let Some(took) = report.took_ms {
        put(format!(" in {}", render::milliseconds(took)));
    }
    match report.stop.as_deref() {
        None => {}
        Some("end-not-seen") => put(", its end was not seen (svckit had not started it)".to_owned()),
        Some(stop) => put(format!(", {stop} stop")),
    }
    put(format!(" ({})\n", render::one_line(&report.state.detail)));
    if !report.processes.is_empty() {
        let pids: Vec<String> = report.processes.iter().map(ToString::to_string).collect();
        put(format!("  processes: {}\n", pids.join(" ")));
    }
    for database in &report.databases {
        put(format!("  database: {}\n", render::path(database.as_ref())));
    }
    for (what, units) in [("needs it", &report.dependants), ("starts it", &report.triggers)] {
        for unit in units {
            put(format!("  {what}: {}\n", render::one_line(unit)));
        }
    }
    for source in &report.kill_sources {
        let end = source
            .neutralised_by
            .as_deref()
            .map_or_else(|| "NOT neutralised: a stop is refused".to_owned(), |how| format!("neutralised by {how}"));
        put(format!("  could kill it: {}: {}\n", render::one_line(&source.what), render::one_line(&end)));
    }
    for step in &report.plan {
        put(format!("  would: {}\n", render::one_line(step)));
    }
    for notice in &report.notices {
        put(format!("  note: {}\n", render::one_line(notice)));
    }
    text
}

/// How a service came back, for people.
#[must_use]
pub fn resumed_word(resumed: Resumed) -> &'static str {
    match resumed {
        Resumed::Started => "started, and ready",
        Resumed::WasNotRunning => "had not been running, and was not started",
        Resumed::StillUp => "never stopped",
        Resumed::LeftToItsOwner => "left to whoever acted on it since",
        Resumed::AfterItsStop => "still runs its stop; it is started afterwards",
    }
}

fn resumed_text(report: &ResumeReport) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for (service, resumed) in &report.services {
        let _infallible = writeln!(text, "{}: {}", render::one_line(service), resumed_word(*resumed));
    }
    for path in &report.replaced {
        let _infallible = writeln!(text, "{}: its replacement was brought to an end", render::path(path.as_ref()));
    }
    for left in &report.left {
        let _infallible = writeln!(text, "left alone: {}", render::one_line(left));
    }
    if text.is_empty() {
        text.push_str("nothing to resume\n");
    }
    text
}
