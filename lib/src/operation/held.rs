//! What replaces databases: under a service that is stopped and held, or where nobody has them open.
//!
//! | what fails | what is in place then | the answer |
//! |---|---|---|
//! | anything before the first move | what was there | that failure |
//! | a move | what was there: the moves are taken back | that failure |
//! | somebody opened what is moved aside | what was there: the moves are taken back, where nobody uses the new one | that failure |
//! | a move, and taking it back | a mixture, that nobody may start; the journal keeps the intent | not back: resume ends it |
//! | the journal, after the last move | the new databases | done, with a notice |
//!
//! From the last look at who has them open to the end of the moves SQLite's own locks are held on them, exclusively:
//! whoever opens one then can't read or write it, and finds the new one or, where it is taken back, the old one.

use std::path::{Path, PathBuf};

use super::common::{milliseconds, refused};
use super::error::{During, OperationError};
use super::lifecycle::stop_plan;
use super::request::{Resumed, ServiceOptions};
use super::resume::resumed;
use super::staging;
use crate::controller::{ServiceController, ServiceSpec};
use crate::database::sqlite::{Untouched, replace};
use crate::failure::FailureKind;
use crate::journal::{Entry, JOURNAL_VERSION, Journal, JournalError, OpenEntry, Replacement};
use crate::lock::OperationLock;
use crate::name::BackupId;
use crate::quiesce::{Context, NotBack, Quiesced, quiesce};
use crate::sqlite_locks::{self, Access, DB_ALL, LockFile, LockMode, LocksError, SHM_ALL, WriteState, side_file};
use crate::world::{ProcessId, clock};

/// Who does it, on what.
pub(super) struct Held<'a> {
    pub(super) context: &'a Context,
    pub(super) lock: &'a OperationLock,
    pub(super) service: Option<&'a dyn ServiceController>,
    pub(super) options: &'a ServiceOptions,
    /// `repair`, `undo`, `restore`.
    pub(super) operation: &'a str,
    /// What may be replaced; there may be nothing yet.
    pub(super) databases: &'a [PathBuf],
    /// For people: `repair /srv/a.db`.
    pub(super) what: &'a str,
}

/// What is ready to be put in place.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) replacements: Vec<Replacement>,
    /// What has to be as it was until then.
    pub(super) untouched: Vec<Untouched>,
}

/// What is done while nobody can have the databases open.
pub(super) trait Change {
    /// Makes everything ready, and changes nothing of what is there. With no replacement all stays as it is.
    fn prepare(&mut self) -> Result<Prepared, OperationError>;

    /// All of them are in place, and the service is not started yet. The answer is for people: what was done, where the
    /// service does not come back.
    fn placed(&mut self, replacements: &[Replacement]) -> String;
}

/// One database, or nothing.
impl<F: FnMut() -> Result<Option<(Replacement, Untouched)>, OperationError>> Change for F {
    fn prepare(&mut self) -> Result<Prepared, OperationError> {
        let (replacements, untouched) = self()?.into_iter().unzip();
        Ok(Prepared { replacements, untouched })
    }

    fn placed(&mut self, replacements: &[Replacement]) -> String {
        let targets: Vec<String> = replacements.iter().map(|r| r.target.0.display().to_string()).collect();
        format!("the new {} is in place", targets.join(", "))
    }
}

/// What the service went through.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// How long it was down, where it was up before.
    pub(super) milliseconds: Option<f64>,
    pub(super) service: Option<Resumed>,
    /// For people.
    pub(super) notices: Vec<String>,
}

/// How the moves ended.
enum End {
    Done,
    /// What was there is in place again.
    TakenBack(OperationError),
    /// Neither; the journal has the intent.
    Interrupted(OperationError),
}

impl Held<'_> {
    /// Has the change done while nobody can have the databases open, by the journalled roll-forward. With a failure
    /// everything stays as it was. The service is brought back in any case.
    ///
    /// # Errors
    /// Those of the change; [`OperationError::NotBack`] outranks them.
    pub(super) fn change(
        &self,
        staging: &mut Option<OpenEntry>,
        change: &mut dyn Change,
    ) -> Result<Changed, OperationError> {
        match self.service {
            Some(service) => self.under(service, staging, change),
            None => self.alone(change),
        }
    }

    fn under(
        &self,
        service: &dyn ServiceController,
        staging: &mut Option<OpenEntry>,
        change: &mut dyn Change,
    ) -> Result<Changed, OperationError> {
        let options = ServiceOptions { databases: self.databases.to_vec(), ..self.options.clone() };
        let mut plan = stop_plan(self.operation, &options);
        plan.persistent_hold = matches!(service.spec(), ServiceSpec::Unit { .. } | ServiceSpec::Container(_));
        let mut quiesced = quiesce(self.lock, self.context, service, &plan).during(self.what)?;
        let mut changed = Changed::default();
        // The hold binds the service; somebody else may come all the same.
        let (prepared, untouched) = match self.nobody_has_them_open().and_then(|()| change.prepare()) {
            Ok(prepared) => (prepared.replacements, prepared.untouched),
            Err(error) => return Err(give_up(quiesced, staging, error)),
        };
        let mut done = format!("{}: nothing was replaced", self.what);
        if !prepared.is_empty() {
            let recorded = quiesced.record_replacements(prepared.clone()).during(self.what);
            let end = match recorded {
                Ok(()) => self.switch(&prepared, &untouched),
                Err(error) => End::TakenBack(error),
            };
            match end {
                End::Done => {
                    if let Err(error) = quiesced.record_replacements(Vec::new()) {
                        changed.notices.push(left_in_journal(&error));
                    }
                }
                End::TakenBack(error) if quiesced.record_replacements(Vec::new()).is_ok() => {
                    remove_kept(&prepared);
                    return Err(give_up(quiesced, staging, error));
                }
                // Half replaced, or said to be: nobody may start it on that. Resume brings it to its end.
                End::Interrupted(error) | End::TakenBack(error) => {
                    let service = service.label();
                    quiesced.leave_to_guard();
                    let reason = format!("the replacement of its database was interrupted: {error}");
                    return Err(OperationError::NotBack { service, reason, work: None });
                }
            }
            done = change.placed(&prepared);
            remove_kept(&prepared);
        }
        // Before the service's own entry goes, and the guard with it: one of both is always there to clear it.
        clear(staging);
        let (since, was_up) = (quiesced.since(), quiesced.was_up());
        match quiesced.resume() {
            Ok(returned) => {
                changed.milliseconds = was_up.then(|| milliseconds(since.elapsed()));
                changed.service = Some(resumed(returned));
                Ok(changed)
            }
            Err(NotBack { service, reason, .. }) => Err(OperationError::NotBack { service, reason, work: Some(done) }),
        }
    }

    fn alone(&self, change: &mut dyn Change) -> Result<Changed, OperationError> {
        let mut changed = Changed::default();
        self.nobody_has_them_open()?;
        let Prepared { replacements: prepared, untouched } = change.prepare()?;
        if prepared.is_empty() {
            return Ok(changed);
        }
        let entry = self.announce(&prepared).inspect_err(|_| remove_kept(&prepared))?;
        match self.switch(&prepared, &untouched) {
            End::Done => {
                if let Err(error) = entry.remove() {
                    changed.notices.push(left_in_journal(&error));
                }
            }
            End::TakenBack(error) if entry.remove().is_ok() => {
                remove_kept(&prepared);
                return Err(error);
            }
            // Where the entry is left, the next who looks would roll it forward.
            End::TakenBack(error) | End::Interrupted(error) => {
                let names: Vec<String> = prepared.iter().map(|r| r.target.0.display().to_string()).collect();
                return Err(OperationError::NotBack {
                    service: format!("the database {}", names.join(", ")),
                    reason: format!(
                        "its replacement was interrupted, and it must not be used before `svc-ctl resume`: {error}"
                    ),
                    work: None,
                });
            }
        }
        let _told_by_the_report = change.placed(&prepared);
        remove_kept(&prepared);
        Ok(changed)
    }

    fn announce(&self, prepared: &[Replacement]) -> Result<OpenEntry, OperationError> {
        let owner = ProcessId::own().map_err(|e| refused(self.what, e.to_string(), FailureKind::Failed))?;
        let entry = Entry {
            version: JOURNAL_VERSION,
            id: BackupId::fresh(),
            operation: self.operation.to_owned(),
            owner,
            created: clock::now_rfc3339(),
            lock_keys: self.lock.keys().cloned().collect(),
            services: Vec::new(),
            replacements: prepared.to_vec(),
            staging: Vec::new(),
        };
        Journal::at(self.context.dirs.journal()).create(entry).during(self.what)
    }

    /// The last look, and the moves, under SQLite's own locks. The journal has the intent already: its writes take their
    /// time, and nothing that takes time may lie between the look and the moves.
    fn switch(&self, prepared: &[Replacement], untouched: &[Untouched]) -> End {
        let locked = self.lock_alone(prepared).and_then(|locks| {
            // Only openers: the locks of all others are excluded by ours, which would be found.
            self.existing().try_for_each(|database| self.nobody_opened(database, database))?;
            untouched.iter().try_for_each(|files| files.verify().during(self.what))?;
            Ok(locks)
        });
        let _locks = match locked {
            Ok(locks) => locks,
            Err(error) => return End::TakenBack(error),
        };
        let end = self.move_all(prepared);
        if !matches!(end, End::Done) {
            return end;
        }
        let aside = |replacement: &Replacement| {
            let target = &replacement.target.0;
            self.nobody_opened(&replacement.kept.0.join(target.file_name().unwrap_or_default()), target)
        };
        match prepared.iter().try_for_each(aside) {
            Ok(()) => End::Done,
            // Where somebody uses the new one already, that one stays: what differs from what was preserved is told.
            Err(_) if prepared.iter().any(is_used) => End::Done,
            Err(error) if taken_back(prepared) => End::TakenBack(error),
            Err(error) => End::Interrupted(error),
        }
    }

    /// As a connection that writes: nobody else has a lock, and nobody gets one.
    fn lock_alone(&self, prepared: &[Replacement]) -> Result<Vec<LockFile>, OperationError> {
        let mut locks = Vec::new();
        for target in prepared.iter().map(|replacement| &replacement.target.0) {
            for (path, range) in [(target.clone(), DB_ALL), (side_file(target, "-shm"), SHM_ALL)] {
                let file = match LockFile::open(&path, Access::Lock) {
                    // Who may not write it can't lock it; then the looks before and after have to do.
                    Err(LocksError::Disk(error)) if is_not_lockable(&error.source) => continue,
                    other => other.during(self.what)?,
                };
                if !file.try_lock(LockMode::Write, range).during(self.what)? {
                    let pid = file.foreign(LockMode::Write, range).during(self.what)?.and_then(|foreign| foreign.pid);
                    return Err(self.in_use(locked_by(target, pid)));
                }
                locks.push(file);
            }
        }
        Ok(locks)
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

    fn existing(&self) -> impl Iterator<Item = &PathBuf> {
        self.databases.iter().filter(|database| database.exists())
    }

    fn nobody_has_them_open(&self) -> Result<(), OperationError> {
        self.existing().try_for_each(|database| self.nobody_has(database))
    }

    fn nobody_has(&self, database: &Path) -> Result<(), OperationError> {
        self.nobody_opened(database, database)?;
        // A process that we may not look into, or in another container: it has a lock, be it that of a reader.
        let foreign = sqlite_locks::locked_by(database).map_err(|error| self.unseen(&error.to_string()))?;
        if let Some(foreign) = foreign {
            return Err(self.in_use(locked_by(database, foreign.pid)));
        }
        match sqlite_locks::probe(database).map_err(|error| self.unseen(&error.to_string()))? {
            WriteState::Writing { pid, .. } => Err(self.in_use(locked_by(database, pid))),
            WriteState::Unknown { reason } => Err(self.in_use(reason)),
            WriteState::Idle => Ok(()),
        }
    }

    /// `shown`: its name for people.
    fn nobody_opened(&self, database: &Path, shown: &Path) -> Result<(), OperationError> {
        let openers = sqlite_locks::openers(database).map_err(|error| self.unseen(&error.to_string()))?;
        match openers.first() {
            Some(opener) => Err(self.in_use(format!("process {} has {} open", opener.process.pid, shown.display()))),
            None => Ok(()),
        }
    }

    fn unseen(&self, error: &str) -> OperationError {
        refused(self.what, format!("can't see who has it open: {error}"), FailureKind::WriteInFlight)
    }

    fn in_use(&self, reason: String) -> OperationError {
        let hint = match self.service {
            Some(service) => format!("it is not of {}: end it, then try again", service.label()),
            None => "name its service (--unit, --pid-file), so that it is stopped and can't start meanwhile".to_owned(),
        };
        OperationError::Refused {
            what: self.what.to_owned(),
            reason,
            kind: FailureKind::WriteInFlight,
            hint: Some(hint),
        }
    }
}

fn locked_by(database: &Path, pid: Option<i32>) -> String {
    let who = pid.map_or("somebody".to_owned(), |pid| format!("process {pid}"));
    format!("{} is locked by {who}", database.display())
}

fn is_not_lockable(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// Without a service there is no hold: somebody may have begun to use the new one.
fn is_used(replacement: &Replacement) -> bool {
    replace::is_in_place(replacement)
        && sqlite_locks::openers(&replacement.target.0).map_or(true, |openers| !openers.is_empty())
}

/// Nothing was replaced: the service comes back on what it had.
fn give_up(quiesced: Quiesced<'_>, staging: &mut Option<OpenEntry>, error: OperationError) -> OperationError {
    clear(staging);
    match quiesced.resume() {
        Ok(_) => error,
        Err(NotBack { service, reason, .. }) => {
            OperationError::NotBack { service, reason, work: Some(error.to_string()) }
        }
    }
}

/// Takes back what has begun, the last first, and says whether all of it is as it was.
fn taken_back(prepared: &[Replacement]) -> bool {
    for replacement in prepared.iter().rev() {
        if is_used(replacement) {
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
pub(super) fn remove_kept(prepared: &[Replacement]) {
    for replacement in prepared {
        // One that has something in it stays.
        drop(std::fs::remove_dir(&replacement.kept.0));
    }
}

fn left_in_journal(error: &JournalError) -> String {
    format!("all is in place, but the journal still says that it is being put there ({error}): run `svc-ctl resume`")
}

pub(super) fn clear(staging: &mut Option<OpenEntry>) {
    if let Some(entry) = staging.take()
        && let Err(error) = staging::clear(entry)
    {
        tracing::warn!(%error, "the staging could not be cleared; the next resume does");
    }
}
