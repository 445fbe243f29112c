//! Repair: check, hold the service, preserve the original, repair a copy, replace, bring the service back.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::check::{copy_of, need_space};
use super::common::{begin, lock_keys, real_path, refused};
use super::error::{During, OperationError};
use super::held::{Held, clear};
use super::preserved::{ASIDE, REPORT, finish, refuse_names, settled};
use super::reference::{self, Backups};
use super::repair_report::{Placed, RepairOutcome, RepairReport, RepairRequest};
use super::staging;
use crate::controller::ServiceController;
use crate::database::sqlite::pages::{self, CheckOptions, Consistency, FindingKind, Loss};
use crate::database::sqlite::repair::{RepairInput, Repaired, Step, repair as repair_copy};
use crate::database::sqlite::{self, Preserved, SqliteError, Untouched, replace};
use crate::failure::{Failure, FailureKind};
use crate::name::BackupId;
use crate::quiesce::Context;
use crate::sqlite_locks;
use crate::world::disk::{AtPath, remove_durably, write_durably};
use crate::world::raw_path::RawPath;

const LOST_AND_FOUND: &str = "lost_and_found.db";
/// Copies of the database that there are at the same time, the preserved one included.
const COPIES_MAX: u64 = 4;

/// Repairs a database, with its service stopped and held meanwhile. The original is preserved first, and put aside only
/// by a database that is whole: one that is not complete takes its place only where the request accepts the loss.
///
/// ```no_run
/// use svckit::operation::{RepairRequest, repair};
/// # fn example(context: &svckit::quiesce::Context, service: &dyn svckit::controller::ServiceController,
/// #     options: svckit::operation::ServiceOptions) -> Result<(), svckit::operation::OperationError> {
/// let report = repair(context, Some(service), &RepairRequest {
///     database: "/var/lib/notes/notes.db".into(),
///     service: options,
///     only: None,
///     reference: None,
///     sqlite_program: None,
///     accept_loss: false,
///     dry_run: false,
///     hold_max: std::time::Duration::from_secs(2),
/// })?;
/// println!("{:?}: {:?}", report.outcome, report.losses);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the parts; until the replacement begins nothing is changed. [`OperationError::NotBack`] outranks them.
pub fn repair(
    context: &Context,
    service: Option<&dyn ServiceController>,
    request: &RepairRequest,
) -> Result<RepairReport, OperationError> {
    let database = real_path(&request.database);
    let what = format!("repair {}", request.database.display());
    let keys = lock_keys(service, std::slice::from_ref(&database))?;
    let label = service.map_or_else(|| database.display().to_string(), |service| service.label());
    let lock = begin(context, "repair", &label, &keys, request.service.wait)?;
    let mut report = RepairReport::new(&database, plan(service, &database, request));
    let directory = staging::directory_for(&database, &BackupId::fresh());
    staging::sweep(&database);
    let bytes = sqlite::bytes_of(&database).during(what.as_str())?;
    refuse_names(&database, &what)?;
    // Before the service is stopped, as all that may take its time.
    let (sets, _) = sqlite::preserved_of(&database).during(what.as_str())?;
    if !request.dry_run {
        finish(&database, &sets, &context.cancel, context.observer.as_ref());
    }
    let backups = match &request.reference {
        Some(reference) => Some(Backups::find(reference, &database, &what)?),
        None => None,
    };
    let restores = request.only == Some(Step::Restore);
    let of_backup = backups.as_ref().filter(|_| restores).map_or(0, |backups| backups.bytes() * 2);
    let copies = COPIES_MAX + u64::from(request.sqlite_program.is_some());
    need_space(crate::world::disk::parent_of(&database), bytes * copies + of_backup, &what)?;
    let directories = [directory.clone()];
    let mut staging = Some(staging::announce_for("repair", context, &lock, &directories, &what)?);
    let made = DirBuilder::new().mode(0o700).create(&directory).at("create the directory", &directory);
    let mut job =
        Job { context, request, database: &database, directory: &directory, sets: &sets, reference: None, what: &what };
    let done = made.during(what.as_str()).and_then(|()| {
        let found = job.look()?;
        if found.whole {
            return Ok(());
        }
        // While the service still runs.
        if let Some(backups) = backups.as_ref().filter(|_| found.without_definitions || restores)
            && let Some((path, backup)) = backups.extract(context, &directory, &what)?
        {
            job.reference = Some(path);
            report.backup = Some(backup);
        }
        if request.dry_run {
            return job.on_a_copy(&found, &mut report);
        }
        let held = Held {
            context,
            lock: &lock,
            service,
            options: &request.service,
            operation: "repair",
            databases: std::slice::from_ref(&database),
            what: &what,
        };
        job.for_real(&held, &mut staging, &mut report)
    });
    clear(&mut staging);
    let latest = backups.as_ref().filter(|_| !restores).and_then(Backups::latest);
    let next = latest.map(|latest| (reference::to_type(&database, service, &latest), latest));
    match (done, next) {
        (Err(error), Some((next, _))) if is_unrepaired(&error) => Err(OperationError::Refused {
            what,
            reason: error.to_string(),
            kind: error.kind(),
            hint: Some(format!("a backup can fill what is lost: {next}")),
        }),
        (Err(error), _) => Err(error),
        (Ok(()), Some((next, latest)))
            if matches!(report.outcome, RepairOutcome::PartialNotReplaced | RepairOutcome::WouldBePartial) =>
        {
            (report.backup, report.next) = (report.backup.or(Some(latest)), Some(next));
            Ok(report)
        }
        (Ok(()), _) => Ok(report),
    }
}

/// Whether no step of the ladder was enough, or nothing of a database is there at all.
fn is_unrepaired(error: &OperationError) -> bool {
    matches!(error, OperationError::Part { cause, .. } if matches!(cause.kind(), FailureKind::Corrupt | FailureKind::Usage))
}

/// What the check before everything says.
struct Found {
    whole: bool,
    quiet: bool,
    /// Definitions, or the header, are damaged, or that can't be told.
    without_definitions: bool,
    /// What the logs have lost: a copy as of one commit does not tell any more.
    log_losses: Vec<String>,
}

struct Job<'a> {
    context: &'a Context,
    request: &'a RepairRequest,
    database: &'a Path,
    directory: &'a Path,
    /// What is preserved of it already.
    sets: &'a [Preserved],
    reference: Option<PathBuf>,
    what: &'a str,
}

impl Job<'_> {
    /// The person has agreed to a database that is a backup's in part.
    fn restores(&self) -> bool {
        self.request.only == Some(Step::Restore)
    }

    /// Checks it as it is, by both readers.
    fn look(&self) -> Result<Found, OperationError> {
        let options = CheckOptions { hold_max: self.request.hold_max, ..CheckOptions::default() };
        let (cancel, observer) = (&self.context.cancel, self.context.observer.as_ref());
        let report = match pages::check(self.database, &options, cancel, observer) {
            // Nothing of it is there: all of it is to come from the backup.
            Err(SqliteError::NotSqlite { .. } | SqliteError::Empty { .. }) if self.restores() => {
                let quiet = sqlite_locks::openers(self.database).is_ok_and(|openers| openers.is_empty());
                return Ok(Found { whole: false, quiet, without_definitions: true, log_losses: Vec::new() });
            }
            // It can't be seen while it is written: it will be when its service is stopped.
            Err(SqliteError::InFlight { .. } | SqliteError::Disturbed { .. } | SqliteError::HoldTooLong { .. })
                if !self.request.dry_run =>
            {
                return Ok(Found { whole: false, quiet: false, without_definitions: true, log_losses: Vec::new() });
            }
            other => other.during(self.what)?,
        };
        let quiet = report.consistency == Consistency::Quiet;
        if report.is_damaged() {
            let of_log = report.findings.iter().filter(|f| f.kind >= FindingKind::WalHeader && f.loss != Loss::Nothing);
            let log_losses = of_log.map(|finding| finding.what.clone()).collect();
            let of_schema = |f: &pages::Finding| f.rows_at_risk && f.object.as_deref() == Some("sqlite_schema");
            let without_definitions = report.findings.iter().any(|f| f.kind <= FindingKind::Schema || of_schema(f));
            return Ok(Found { whole: false, quiet, without_definitions, log_losses });
        }
        let copy = self.directory.join("look.db");
        copy_of(self.context, self.database, &copy, self.request.hold_max, self.what)?;
        let deep = sqlite::deep(&copy, cancel, observer).during(self.what)?;
        std::fs::remove_file(&copy).at("remove", &copy).during(self.what)?;
        Ok(Found { whole: !deep.is_damaged(), quiet, without_definitions: false, log_losses: Vec::new() })
    }

    /// Everything on copies, and the original is left alone.
    fn on_a_copy(&self, found: &Found, report: &mut RepairReport) -> Result<(), OperationError> {
        let copy = self.directory.join("copy.db");
        if found.quiet {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let path = |base: &Path| {
                    let mut name = base.as_os_str().to_owned();
                    name.push(suffix);
                    PathBuf::from(name)
                };
                match std::fs::copy(path(self.database), path(&copy)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => {}
                    other => drop(other.at("copy", self.database).during(self.what)?),
                }
            }
        } else {
            copy_of(self.context, self.database, &copy, self.request.hold_max, self.what)?;
        }
        let log_losses = if found.quiet { &[][..] } else { &found.log_losses };
        let repaired = self.repair(&copy, log_losses).during(self.what)?;
        report.account(&repaired);
        report.outcome =
            if repaired.accounting.complete { RepairOutcome::WouldBeComplete } else { RepairOutcome::WouldBePartial };
        Ok(())
    }

    fn for_real(
        &self,
        held: &Held<'_>,
        staging: &mut Option<crate::journal::OpenEntry>,
        report: &mut RepairReport,
    ) -> Result<(), OperationError> {
        let (cancel, observer) = (&self.context.cancel, self.context.observer.as_ref());
        let mut preserved: Option<Preserved> = None;
        let mut aside = None;
        let changed = held.change(staging, &mut || {
            let untouched = Untouched::now(self.database).during(self.what)?;
            let set = sqlite::preserve(self.database, "repair", self.sets, self.directory, cancel, observer);
            // A copy of what somebody changes is none; that is the reason to tell then.
            let set = set.map_err(|error| untouched.verify().err().unwrap_or(error)).during(self.what)?;
            let set = preserved.insert(set);
            report.preserved = Some(RawPath(set.directory.clone()));
            let repaired = self.repair(&set.path(""), &[]);
            if let Err(SqliteError::Unrepaired { stray: Some(stray), .. }) = &repaired {
                let kept = set.directory.join(LOST_AND_FOUND);
                std::fs::rename(stray, &kept).at("keep what can be read as", &kept).during(self.what)?;
                observer.notice(&format!("rows that can be read, without their names, are in {}", kept.display()));
            }
            let repaired = repaired.during(self.what)?;
            report.account(&repaired);
            if let Some(path) = &repaired.set_aside {
                let kept = set.directory.join(LOST_AND_FOUND);
                std::fs::rename(path, &kept).at("keep what is set aside as", &kept).during(self.what)?;
                report.set_aside = Some(RawPath(kept));
            }
            let complete = repaired.accounting.complete;
            if !complete && !self.request.accept_loss && !self.restores() {
                report.outcome = RepairOutcome::PartialNotReplaced;
                return Ok(None);
            }
            let kept = set.directory.join(format!("{ASIDE}{}", BackupId::fresh()));
            aside = Some(kept.clone());
            let replacement = replace::prepare(self.database, &repaired.file, &kept).during(self.what)?;
            report.outcome = if complete { RepairOutcome::Complete } else { RepairOutcome::PartialReplaced };
            report.placed = Some(Placed::of(&replacement, set).during(self.what)?);
            // Before the switch: whoever is killed after it could not account for it any more.
            self.keep_report(set, report)?;
            Ok(Some((replacement, untouched)))
        });
        let changed = match (changed, &preserved) {
            (Ok(changed), _) => changed,
            (Err(error), Some(set)) => {
                // What is announced there did not come to pass, unless a resume still brings it about.
                if report.placed.is_some()
                    && !matches!(error, OperationError::NotBack { .. })
                    && let Err(error) = remove_durably(&set.directory.join(REPORT))
                {
                    tracing::warn!(%error, "a report of what did not come to pass stays");
                }
                self.context.observer.notice(&format!("the original is preserved in {}", set.directory.display()));
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        (report.downtime_ms, report.service) = (changed.milliseconds, changed.service);
        report.notices.extend(changed.notices);
        if let Some(set) = &preserved {
            if let Some(aside) = &aside {
                report.notices.extend(settled(set, aside, cancel, observer));
            }
            // It is done, and told here: without the file beside the original, nothing else is different.
            if let Err(error) = self.keep_report(set, report) {
                report.notices.push(format!("the report could not be kept beside the original: {error}"));
            }
        }
        Ok(())
    }

    fn repair(&self, copy: &Path, log_losses: &[String]) -> Result<Repaired, SqliteError> {
        let work = self.directory.join("work");
        DirBuilder::new().mode(0o700).create(&work).at("create the directory", &work)?;
        let repaired = repair_copy(RepairInput {
            copy,
            work: &work,
            reference: self.reference.as_deref(),
            program: self.request.sqlite_program.as_deref(),
            only: self.request.only,
            log_losses,
            cancel: &self.context.cancel,
            observer: self.context.observer.as_ref(),
        });
        repaired.map_err(|error| match error {
            // The copy means nothing to those who read this.
            SqliteError::Unrepaired { reasons, stray, .. } => {
                SqliteError::Unrepaired { path: self.database.to_owned(), reasons, stray }
            }
            other => other,
        })
    }

    /// The decision and the account stay with the original.
    fn keep_report(&self, set: &Preserved, report: &RepairReport) -> Result<(), OperationError> {
        let text = serde_json::to_vec_pretty(report)
            .map_err(|error| refused(self.what, format!("can't write the report: {error}"), FailureKind::Failed))?;
        write_durably(&set.directory.join(REPORT), &text, 0o600).during(self.what)
    }
}

fn plan(service: Option<&dyn ServiceController>, database: &Path, request: &RepairRequest) -> Vec<String> {
    let mut steps = vec![format!("check {}, and end here if it is whole", database.display())];
    if let Some(service) = service {
        steps.push(format!("stop {}, prove that it is stopped, and hold it", service.label()));
    }
    steps.push("preserve the database and its side files together, and read the copy back".to_owned());
    steps.push("repair a copy, from the least invasive step on, and check it by both readers".to_owned());
    let restores = request.only == Some(Step::Restore);
    if restores {
        steps.push("where that loses rows, fill them from the newest verified backup".to_owned());
    }
    let partial = if request.accept_loss || restores { "" } else { ", if nothing is lost" };
    steps.push(format!("put it in the place of the original{partial}"));
    if let Some(service) = service {
        steps.push(format!("start {} if it was running, and wait until it is ready", service.label()));
    }
    steps
}
