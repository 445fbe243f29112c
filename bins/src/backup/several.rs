//! Several targets in one run: some at once, each with a record of what became of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use svckit::discover::{Discovery, Origin};
use svckit::operation::{
    self, Ended, Failed, MayPass, Records, Retries, RunItem, RunRecord, Slots, Succeeded, TargetOfRun,
};
use svckit::quiesce::Context;
use svckit::world::clock;
use svckit::{Failure, FailureKind};

use super::run::of_target;
use super::taken::Taken;
use super::targets::service_of;
use crate::app::App;
use crate::cli::backup::BackupArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{progress, signals};

/// So many at once, if nobody says otherwise: one compresses while another waits for its server or its disk.
const AT_ONCE: usize = 2;

/// A report, and how long it took.
type Timed = (Taken, Duration);

/// Everything that one run needs.
pub(super) struct Several<'a> {
    pub(super) app: &'a App,
    pub(super) context: &'a Context,
    pub(super) discovery: &'a Discovery,
    pub(super) args: &'a BackupArgs,
}

impl Several<'_> {
    /// Backs all of them up; `outcomes` has what went wrong before.
    pub(super) fn run(&self, names: &[String], mut outcomes: Vec<Outcome>) -> Result<Outcome, ToolError> {
        let at_once = self.args.at_once.map_or(AT_ONCE, usize::from);
        let slots = Slots::new(at_once).map_err(ToolError::io("make an eventfd for", "the run"))?;
        signals::change_slots_on_signal(&slots)?;
        let of_one = Context { observer: progress::of_many(self.app.is_quiet()), ..self.context.clone() };
        let context = if names.len() > 1 { &of_one } else { self.context };
        // A name that is a slip leaves no trace.
        let is_run = !self.args.dry_run && names.iter().any(|name| self.is_known(name));
        let records = is_run.then(|| Records::below(&context.dirs.state));
        let run = Mutex::new(RunRecord::begin());
        let keep = |ended: bool| self.keep_run(records.as_ref(), &run, ended);
        keep(false);
        let retries = Retries::default();
        let work = |item: &RunItem, attempt: u32| {
            let began = Instant::now();
            let is_last =
                |error: &ToolError| attempt >= retries.attempts || !error.may_pass() || context.cancel.is_requested();
            let taken = of_target(context, self.discovery, self.args, &item.name, is_last)?;
            Ok((taken, began.elapsed()))
        };
        let mut unwritten = None;
        let ended = |item: &RunItem, end: Ended<Timed, ToolError>| {
            let end = match end {
                Ended::Done((report, took), _) => {
                    self.keep_success(records.as_ref(), &item.name, &report, took.as_secs_f64() * 1e3);
                    report.show(self.app).map(|outcome| (outcome, None))
                }
                other => {
                    let (error, attempts) = self.error_of(&item.name, other);
                    self.keep_failure(records.as_ref(), &item.name, &error, attempts);
                    self.app.output.failure(&error, Some(&item.name));
                    Ok((Outcome::Failed(error.kind()), Some(error.to_string())))
                }
            };
            match end {
                Ok((outcome, error)) => {
                    let of_run = TargetOfRun { target: item.name.clone(), kind: outcome.word().to_owned(), error };
                    if let Ok(mut run) = run.lock() {
                        run.targets.push(of_run);
                    }
                    outcomes.push(outcome);
                }
                // Nobody reads any more. That is no reason to leave the others without a backup.
                Err(error) => unwritten = Some(error),
            }
            keep(false);
        };
        operation::run_all(self.items(names), &slots, &retries, &self.context.cancel, work, ended)
            .map_err(ToolError::io("begin", "the work on a target"))?;
        keep(true);
        match unwritten {
            Some(error) => Err(error),
            None => Ok(Outcome::of_several(&outcomes)),
        }
    }

    fn items(&self, names: &[String]) -> Vec<RunItem> {
        let item = |name: &String| {
            // One that can't be read fails when its turn comes.
            let target = self.discovery.target(name).ok();
            let service = target.as_ref().and_then(service_of);
            let order = target.map(|target| target.order).unwrap_or_default();
            let after = order.after.iter().map(ToString::to_string).collect();
            RunItem { name: name.clone(), priority: order.priority, after, service }
        };
        names.iter().map(item).collect()
    }

    fn error_of(&self, name: &str, end: Ended<Timed, ToolError>) -> (ToolError, u32) {
        let what = |why: String| format!("back up {name}: {why}");
        let other = |why, kind| ToolError::Other { what: what(why), kind, hint: None };
        match end {
            Ended::Failed(error, attempts) => (error, attempts),
            Ended::Panicked(why) => (other(format!("a mistake in svckit: {why}"), FailureKind::Failed), 1),
            Ended::Needs(needed) => (other(format!("it comes after {needed}, which failed"), FailureKind::Failed), 0),
            Ended::InACircle => (other("it waits for others that wait for it".to_owned(), FailureKind::Config), 0),
            Ended::Cancelled | Ended::Done(..) => (other("cancelled".to_owned(), FailureKind::Failed), 0),
        }
    }

    /// Whether there is such a target, be it one that can't be read.
    fn is_known(&self, name: &str) -> bool {
        self.discovery.is_group(name)
            || self.discovery.configured().any(|known| known == name)
            || self.discovery.target(name).is_ok()
    }

    /// The container whose labels name it.
    fn container_of(&self, name: &str) -> Option<String> {
        match self.discovery.target(name).ok()?.origin {
            Origin::Labels { container } => Some(container),
            _ => None,
        }
    }

    fn keep_success(&self, records: Option<&Records>, name: &str, report: &Taken, took_ms: f64) {
        let (Some(records), Ok(name)) = (records, name.parse()) else { return };
        let done = Succeeded {
            at: clock::now_rfc3339(),
            backup: report.backup().cloned(),
            stored_bytes: report.stored_bytes(),
            took_ms,
        };
        told(records.succeeded(&name, self.container_of(name.as_str()).as_deref(), done));
    }

    fn keep_failure(&self, records: Option<&Records>, name: &str, error: &ToolError, attempts: u32) {
        let (Some(records), Ok(name), true) = (records, name.parse(), self.is_known(name)) else { return };
        let failed = Failed {
            at: clock::now_rfc3339(),
            kind: Outcome::Failed(error.kind()).word().to_owned(),
            error: error.to_string(),
            attempts,
        };
        told(records.failed(&name, self.container_of(name.as_str()).as_deref(), failed));
    }

    fn keep_run(&self, records: Option<&Records>, run: &Mutex<RunRecord>, ended: bool) {
        let (Some(records), Ok(mut run)) = (records, run.lock()) else { return };
        run.ended = ended.then(clock::now_rfc3339);
        told(records.write_run(&run));
    }
}

/// A record that can't be kept changes nothing about the backup.
fn told<E: Failure>(result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!("what became of it is not kept: {error}");
    }
}

/// The targets that labels named at the last run and that no container names any more.
pub(super) fn vanished(discovery: &Discovery, records: &Records) -> Result<Vec<(String, String)>, ToolError> {
    let mut gone = Vec::new();
    for record in records.targets()? {
        match record {
            Ok(record) => {
                let name = record.target.to_string();
                if let Some(container) = record.container
                    && !discovery.configured().any(|known| known == name)
                {
                    gone.push((name, container));
                }
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
    Ok(gone)
}

/// What is said of one.
pub(super) fn error_of_vanished(name: &str, container: &str) -> ToolError {
    ToolError::Other {
        what: format!("{name} is not backed up any more: no container names it, {container} did at the last run"),
        kind: FailureKind::No,
        hint: Some(format!("start the container, or, where that is meant: svc-backup forget {name}")),
    }
}
