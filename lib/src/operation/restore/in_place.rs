//! The replacement itself: under a service's hold, or of databases that nobody has open.
//!
//! | what fails | what is in place then | the answer |
//! |---|---|---|
//! | anything before the first move | what was there | that failure |
//! | a move | what was there: the moves are taken back | that failure |
//! | a move, and taking it back | a mixture, that nobody may start; the journal keeps the intent | not back: resume ends it |
//! | the journal, after the last move | the backup | done, with a notice |

use super::super::common::{milliseconds, refused};
use super::super::error::{During, OperationError};
use super::super::lifecycle::stop_plan;
use super::super::request::{RestoreReport, RestoreRequest, ServiceOptions};
use super::super::resume::resumed;
use super::{Destination, clear, kept_dir};
use crate::controller::{ServiceController, ServiceSpec};
use crate::database::sqlite::replace;
use crate::failure::FailureKind;
use crate::journal::{Entry, JOURNAL_VERSION, Journal, JournalError, OpenEntry, Replacement};
use crate::lock::OperationLock;
use crate::name::BackupId;
use crate::quiesce::{Context, NotBack, Quiesced, quiesce};
use crate::sqlite_locks;
use crate::world::raw_path::RawPath;
use crate::world::{ProcessId, clock};

/// What all steps of one restore share.
pub(super) struct Job<'a> {
    pub(super) context: &'a Context,
    pub(super) lock: &'a OperationLock,
    pub(super) request: &'a RestoreRequest,
    pub(super) destination: &'a Destination,
    pub(super) what: &'a str,
}

/// How the moves ended.
enum End {
    /// The backup is in place.
    Done,
    /// What was there is in place again.
    TakenBack(OperationError),
    /// Neither; the journal has the intent.
    Interrupted(OperationError),
}

impl Job<'_> {
    /// Stops the service, replaces, and brings it back.
    pub(super) fn with_service(
        &self,
        service: &dyn ServiceController,
        staging: &mut Option<OpenEntry>,
        report: &mut RestoreReport,
    ) -> Result<(), OperationError> {
        let databases = self.destination.items.iter().map(|item| item.target.clone()).collect();
        let options = ServiceOptions { databases, ..self.request.service.clone() };
        let mut plan = stop_plan("restore", &options);
        plan.persistent_hold = matches!(service.spec(), ServiceSpec::Unit { .. });
        let mut quiesced = quiesce(self.lock, self.context, service, &plan).during(self.what)?;
        let prepared = match self.prepare(&report.backup) {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.give_up(quiesced, staging, error)),
        };
        let end = match quiesced.record_replacements(prepared.clone()).during(self.what) {
            Ok(()) => self.move_all(&prepared),
            Err(error) => End::TakenBack(error),
        };
        match end {
            End::Done => {
                if let Err(error) = quiesced.record_replacements(Vec::new()) {
                    report.notices.push(left_in_journal(&error));
                }
            }
            End::TakenBack(error) if quiesced.record_replacements(Vec::new()).is_ok() => {
                remove_kept(&prepared);
                return Err(self.give_up(quiesced, staging, error));
            }
            // Half replaced, or said to be: nobody may start it on that. Resume brings it to its end.
            End::Interrupted(error) | End::TakenBack(error) => {
                let service = service.label();
                quiesced.leave_to_guard();
                let reason = format!("the replacement of its database was interrupted: {error}");
                return Err(OperationError::NotBack { service, reason, work: None });
            }
        }
        report.in_place(self.destination, &prepared);
        // Before the service's own entry goes, and the guard with it: one of both is always there to clear it.
        clear(staging);
        let (since, was_up) = (quiesced.since(), quiesced.was_up());
        let returned = quiesced.resume();
        report.downtime_ms = was_up.then(|| milliseconds(since.elapsed()));
        match returned {
            Ok(returned) => {
                report.service = Some(resumed(returned));
                Ok(())
            }
            Err(not_back) => Err(OperationError::NotBack {
                service: not_back.service,
                reason: not_back.reason,
                work: Some(format!("{} is in place; what it replaced is in {}", report.backup, shown(&report.kept))),
            }),
        }
    }

    /// Nothing was replaced: the service comes back on what it had.
    fn give_up(
        &self,
        quiesced: Quiesced<'_>,
        staging: &mut Option<OpenEntry>,
        error: OperationError,
    ) -> OperationError {
        clear(staging);
        match quiesced.resume() {
            Ok(_) => error,
            Err(NotBack { service, reason, .. }) => {
                OperationError::NotBack { service, reason, work: Some(error.to_string()) }
            }
        }
    }

    /// Replaces what nobody has open.
    pub(super) fn without_service(&self, report: &mut RestoreReport) -> Result<(), OperationError> {
        if self.destination.items.is_empty() {
            report.in_place(self.destination, &[]);
            return Ok(());
        }
        self.refuse_open()?;
        let prepared = self.prepare(&report.backup)?;
        let owner = ProcessId::own().map_err(|e| refused(self.what, e.to_string(), FailureKind::Failed))?;
        let entry = Entry {
            version: JOURNAL_VERSION,
            id: BackupId::fresh(),
            operation: "restore".to_owned(),
            owner,
            created: clock::now_rfc3339(),
            lock_keys: self.lock.keys().cloned().collect(),
            services: Vec::new(),
            replacements: prepared.clone(),
            staging: Vec::new(),
        };
        let entry = match Journal::at(self.context.dirs.journal()).create(entry).during(self.what) {
            Ok(entry) => entry,
            Err(error) => {
                remove_kept(&prepared);
                return Err(error);
            }
        };
        match self.move_all(&prepared) {
            End::Done => {
                if let Err(error) = entry.remove() {
                    report.notices.push(left_in_journal(&error));
                }
                report.in_place(self.destination, &prepared);
                Ok(())
            }
            End::TakenBack(error) => match entry.remove() {
                Ok(()) => {
                    remove_kept(&prepared);
                    Err(error)
                }
                // It would be rolled forward by the next who looks.
                Err(_) => Err(self.interrupted(&error)),
            },
            End::Interrupted(error) => Err(self.interrupted(&error)),
        }
    }

    fn interrupted(&self, error: &OperationError) -> OperationError {
        let service = format!("the database {}", self.request.to.display());
        let reason = format!("its replacement was interrupted, and must not be used before `svc-ctl resume`: {error}");
        OperationError::NotBack { service, reason, work: None }
    }

    fn refuse_open(&self) -> Result<(), OperationError> {
        for item in self.destination.items.iter().filter(|item| item.target.exists()) {
            let openers = sqlite_locks::openers(&item.target).map_err(|e| {
                refused(self.what, format!("can't see who has it open: {e}"), FailureKind::WriteInFlight)
            })?;
            if let Some(opener) = openers.first() {
                return Err(OperationError::Refused {
                    what: self.what.to_owned(),
                    reason: format!("process {} has {} open", opener.process.pid, item.target.display()),
                    kind: FailureKind::WriteInFlight,
                    hint: Some(
                        "name the service (--unit, --pid-file), so that it can be stopped for the restore".to_owned(),
                    ),
                });
            }
        }
        Ok(())
    }

    fn prepare(&self, id: &BackupId) -> Result<Vec<Replacement>, OperationError> {
        let mut prepared = Vec::new();
        for item in &self.destination.items {
            let kept = kept_dir(item, id);
            match replace::prepare(&item.target, &item.staged, &kept).during(self.what) {
                Ok(replacement) => prepared.push(replacement),
                Err(error) => {
                    drop(std::fs::remove_dir(&kept));
                    remove_kept(&prepared);
                    return Err(error);
                }
            }
        }
        Ok(prepared)
    }

    /// All of them, or none where that is possible.
    fn move_all(&self, prepared: &[Replacement]) -> End {
        for replacement in prepared {
            self.context.observer.step(&format!("replacing {}", replacement.target.0.display()));
            let moved = match replace::roll_forward(replacement) {
                // It only has to be made durable.
                Err(_) if replace::is_in_place(replacement) => replace::roll_forward(replacement),
                other => other,
            };
            if let Err(error) = moved.during(self.what) {
                return if taken_back(prepared) { End::TakenBack(error) } else { End::Interrupted(error) };
            }
        }
        End::Done
    }
}

/// Takes back what has begun, the last first, and says whether all of it is as it was.
fn taken_back(prepared: &[Replacement]) -> bool {
    for replacement in prepared.iter().rev() {
        // Without a service there is no hold: somebody may have begun to use the new one.
        let is_used = || sqlite_locks::openers(&replacement.target.0).map_or(true, |openers| !openers.is_empty());
        if replace::is_in_place(replacement) && is_used() {
            return false;
        }
        if let Err(error) = replace::roll_back(replacement) {
            tracing::warn!(%error, target = %replacement.target.0.display(), "the replacement could not be taken back");
            return false;
        }
    }
    true
}

/// The directories in which nothing is kept.
fn remove_kept(prepared: &[Replacement]) {
    for replacement in prepared {
        // One that has something in it stays.
        drop(std::fs::remove_dir(&replacement.kept.0));
    }
}

fn left_in_journal(error: &JournalError) -> String {
    format!(
        "the backup is in place, but the journal still says that it is being put there ({error}): run `svc-ctl resume`"
    )
}

fn shown(paths: &[RawPath]) -> String {
    let texts: Vec<String> = paths.iter().map(|path| path.0.display().to_string()).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

impl RestoreReport {
    fn in_place(&mut self, destination: &Destination, prepared: &[Replacement]) {
        self.restored = destination.items.iter().map(|item| RawPath(item.target.clone())).collect();
        let replaced = prepared.iter().filter(|replacement| !replacement.old.is_empty());
        self.kept = replaced.map(|replacement| replacement.kept.clone()).collect();
        // Nothing stood there, so nothing is kept.
        remove_kept(prepared);
        destination.complete(self);
    }
}
