//! What changes a database in place: under a service that is stopped and held, or where nobody has it open.

use std::path::Path;

use super::common::{milliseconds, refused};
use super::error::{During, OperationError};
use super::lifecycle::stop_plan;
use super::request::{Resumed, ServiceOptions};
use super::resume::resumed;
use super::staging;
use crate::controller::{ServiceController, ServiceSpec};
use crate::database::sqlite::replace;
use crate::failure::FailureKind;
use crate::journal::{Entry, JOURNAL_VERSION, Journal, OpenEntry, Replacement};
use crate::lock::OperationLock;
use crate::name::BackupId;
use crate::quiesce::{Context, Quiesced, quiesce};
use crate::sqlite_locks::{self, WriteState};
use crate::world::{ProcessId, clock};

/// Who does it, on what.
pub(super) struct Held<'a> {
    pub(super) context: &'a Context,
    pub(super) lock: &'a OperationLock,
    pub(super) service: Option<&'a dyn ServiceController>,
    pub(super) options: &'a ServiceOptions,
    /// `repair`, `undo`.
    pub(super) operation: &'a str,
    pub(super) database: &'a Path,
    /// For people: `repair /srv/a.db`.
    pub(super) what: &'a str,
}

/// What the service went through.
#[derive(Debug, Default)]
pub(super) struct Downtime {
    pub(super) milliseconds: Option<f64>,
    pub(super) service: Option<Resumed>,
}

impl Held<'_> {
    /// Has `work` done while nobody can have the database open. What it answers is put in place by the journalled
    /// roll-forward; with `None`, or an error, everything stays as it was. The service is brought back in any case.
    ///
    /// # Errors
    /// Those of the work; [`OperationError::NotBack`] outranks them.
    pub(super) fn change(
        &self,
        staging: &mut Option<OpenEntry>,
        work: &mut dyn FnMut() -> Result<Option<Replacement>, OperationError>,
    ) -> Result<Downtime, OperationError> {
        match self.service {
            Some(service) => self.under(service, staging, work),
            None => self.alone(work).map(|()| Downtime::default()),
        }
    }

    fn under(
        &self,
        service: &dyn ServiceController,
        staging: &mut Option<OpenEntry>,
        work: &mut dyn FnMut() -> Result<Option<Replacement>, OperationError>,
    ) -> Result<Downtime, OperationError> {
        let databases = vec![self.database.to_owned()];
        let options = ServiceOptions { databases, ..self.options.clone() };
        let mut plan = stop_plan(self.operation, &options);
        plan.persistent_hold = matches!(service.spec(), ServiceSpec::Unit { .. });
        let mut quiesced = quiesce(self.lock, self.context, service, &plan).during(self.what)?;
        let mut prepared = None;
        let done = work().and_then(|replacement| {
            let Some(replacement) = replacement else { return Ok(()) };
            prepared = Some(replacement.clone());
            quiesced.record_replacements(vec![replacement.clone()]).during(self.what)?;
            self.move_in(&replacement)?;
            // It is in place: a journal that still says otherwise is put right by resume, which finds that.
            if let Err(error) = quiesced.record_replacements(Vec::new()) {
                tracing::warn!(%error, "the journal could not be written");
            }
            Ok(())
        });
        if let Err(error) = &done
            && quiesced.has_replacements()
            && !taken_back(&mut quiesced, prepared.as_ref())
        {
            // Half replaced: nobody may start it on that. The journal keeps the intent, and resume finishes it.
            quiesced.leave_to_guard();
            let reason = format!("the replacement of its database was interrupted: {error}");
            return Err(OperationError::NotBack { service: service.label(), reason, work: None });
        }
        // Before the service's own entry goes, and the guard with it: one of both is always there to clear it.
        clear(staging);
        let (since, was_up) = (quiesced.since(), quiesced.was_up());
        let returned = quiesced.resume();
        let downtime = was_up.then(|| milliseconds(since.elapsed()));
        match (done, returned) {
            (Ok(()), Ok(returned)) => Ok(Downtime { milliseconds: downtime, service: Some(resumed(returned)) }),
            (Err(error), Ok(_)) => Err(error),
            (done, Err(not_back)) => {
                let work = match done {
                    Ok(()) => format!("{}: done", self.what),
                    Err(error) => error.to_string(),
                };
                Err(OperationError::NotBack { service: not_back.service, reason: not_back.reason, work: Some(work) })
            }
        }
    }

    fn alone(
        &self,
        work: &mut dyn FnMut() -> Result<Option<Replacement>, OperationError>,
    ) -> Result<(), OperationError> {
        self.nobody_has_it_open()?;
        let Some(replacement) = work()? else { return Ok(()) };
        // It took its time.
        self.nobody_has_it_open()?;
        let owner = ProcessId::own().map_err(|e| refused(self.what, e.to_string(), FailureKind::Failed))?;
        let entry = Entry {
            version: JOURNAL_VERSION,
            id: BackupId::fresh(),
            operation: self.operation.to_owned(),
            owner,
            created: clock::now_rfc3339(),
            lock_keys: self.lock.keys().cloned().collect(),
            services: Vec::new(),
            replacements: vec![replacement.clone()],
            staging: Vec::new(),
        };
        let entry = Journal::at(self.context.dirs.journal()).create(entry).during(self.what)?;
        let done = self.move_in(&replacement);
        let is_back = || !self.is_open() && replace::roll_back(&replacement).is_ok();
        match done {
            Ok(()) => entry.remove().during(self.what),
            Err(error) if is_back() && entry.remove().is_ok() => Err(error),
            Err(error) => Err(OperationError::NotBack {
                service: format!("the database {}", self.database.display()),
                reason: format!(
                    "its replacement was interrupted, and it must not be used before `svc-ctl resume`: {error}"
                ),
                work: None,
            }),
        }
    }

    fn move_in(&self, replacement: &Replacement) -> Result<(), OperationError> {
        self.context.observer.step(&format!("replacing {}", self.database.display()));
        let moved = match replace::roll_forward(replacement) {
            // It only has to be made durable.
            Err(_) if replace::is_in_place(replacement) => replace::roll_forward(replacement),
            other => other,
        };
        moved.during(self.what)
    }

    fn is_open(&self) -> bool {
        sqlite_locks::openers(self.database).map_or(true, |openers| !openers.is_empty())
    }

    fn nobody_has_it_open(&self) -> Result<(), OperationError> {
        let unseen =
            |e: String| refused(self.what, format!("can't see who has it open: {e}"), FailureKind::WriteInFlight);
        let openers = sqlite_locks::openers(self.database).map_err(|e| unseen(e.to_string()))?;
        let reason = match (openers.first(), sqlite_locks::probe(self.database)) {
            (Some(opener), _) => format!("process {} has it open", opener.process.pid),
            // A process that we may not look into, or in another container.
            (None, Ok(WriteState::Writing { pid, .. })) => {
                format!("it is locked by {}", pid.map_or("somebody".to_owned(), |pid| format!("process {pid}")))
            }
            (None, Ok(WriteState::Unknown { reason })) => reason,
            (None, Ok(WriteState::Idle)) => return Ok(()),
            (None, Err(error)) => return Err(unseen(error.to_string())),
        };
        Err(OperationError::Refused {
            what: self.what.to_owned(),
            reason,
            kind: FailureKind::WriteInFlight,
            hint: Some(
                "name its service (--unit, --pid-file), so that it is stopped and can't start meanwhile".to_owned(),
            ),
        })
    }
}

/// Takes back what has begun, and says whether all of it is as it was.
fn taken_back(quiesced: &mut Quiesced<'_>, prepared: Option<&Replacement>) -> bool {
    if let Some(replacement) = prepared
        && let Err(error) = replace::roll_back(replacement)
    {
        tracing::warn!(%error, target = %replacement.target.0.display(), "the replacement could not be taken back");
        return false;
    }
    quiesced.record_replacements(Vec::new()).is_ok()
}

pub(super) fn clear(staging: &mut Option<OpenEntry>) {
    if let Some(entry) = staging.take()
        && let Err(error) = staging::clear(entry)
    {
        tracing::warn!(%error, "the staging could not be cleared; the next resume does");
    }
}
