//! Check: every page by our own reader, and with `deep` by SQLite too, on a copy. Nothing of the service is changed.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::common::{real_path, refused};
use super::error::{During, OperationError};
use crate::database::sqlite::pages::{self, CheckOptions, Consistency};
use crate::database::sqlite::{DeepReport, SqliteError, deep};
use crate::failure::{Failure, FailureKind};
use crate::name::BackupId;
use crate::quiesce::Context;
use crate::sqlite_locks;
use crate::world::disk::{AtPath, space_at};
use crate::world::raw_path::RawPath;

/// A check.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The database. It may be in use, and damaged.
    pub database: PathBuf,
    /// Also have SQLite check a consistent copy: for what only it knows.
    pub deep: bool,
    /// Where that copy lies for as long as it is needed.
    pub scratch: PathBuf,
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
    /// How long writers in a rollback mode may be kept waiting, where they leave no other way.
    pub hold_max: Duration,
}

/// What a check found. `Serialize` is the `--json` form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The database.
    pub database: RawPath,
    /// Whether something is damaged.
    pub damaged: bool,
    /// Whether rows may be missing or wrong.
    pub rows_at_risk: bool,
    /// The processes that have it open.
    pub open_in: Vec<i32>,
    /// What our reader found.
    #[serde(flatten)]
    pub pages: pages::Report,
    /// What SQLite found, where it was asked.
    pub deep: Option<DeepReport>,
    /// The command to type next, where there is something to do.
    pub next: Option<String>,
}

/// Checks a database; it may be in use, and is left as it is to the last byte. Takes no lock of svckit's: it disturbs
/// no other operation, and fails where one replaces the database meanwhile.
///
/// ```no_run
/// use svckit::operation::{CheckRequest, check};
/// # fn example(context: &svckit::quiesce::Context) -> Result<(), svckit::operation::OperationError> {
/// let report = check(context, &CheckRequest {
///     database: "/var/lib/notes/notes.db".into(),
///     deep: false,
///     scratch: "/var/tmp".into(),
///     threads: None,
///     hold_max: std::time::Duration::from_millis(50),
/// })?;
/// assert!(!report.damaged, "{:?}", report.pages.findings);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When it can't be read, or is written all the time in a way that allows no consistent view. Damage is no error.
pub fn check(context: &Context, request: &CheckRequest) -> Result<CheckReport, OperationError> {
    let database = real_path(&request.database);
    let what = format!("check {}", request.database.display());
    let options = CheckOptions { threads: request.threads, hold_max: request.hold_max, ..CheckOptions::default() };
    if request.deep {
        is_there(&request.scratch, &what)?;
    }
    let seen = |error| seen(&what, error);
    let report = pages::check(&database, &options, &context.cancel, context.observer.as_ref()).map_err(seen)?;
    let deep = if request.deep {
        let scratch = Scratch::below(&request.scratch, &what)?;
        let copy = scratch.0.join("copy.db");
        need_space(&scratch.0, u64::from(report.pages) * report.page_size as u64, &what)?;
        copy_of(context, &database, &copy, request.hold_max, &what)?;
        Some(deep(&copy, &context.cancel, context.observer.as_ref()).during(what.as_str())?)
    } else {
        None
    };
    let damaged = report.is_damaged() || deep.as_ref().is_some_and(DeepReport::is_damaged);
    let openers = sqlite_locks::openers(&database).unwrap_or_default();
    let mut open_in: Vec<i32> = openers.iter().map(|opener| opener.process.pid).collect();
    open_in.sort_unstable();
    open_in.dedup();
    let next = damaged.then(|| next(&database, report.consistency, &open_in));
    Ok(CheckReport {
        rows_at_risk: report.rows_at_risk(),
        database: RawPath(database),
        damaged,
        open_in,
        pages: report,
        deep,
        next,
    })
}

/// The errors of a copy speak of backups.
fn seen(what: &str, error: SqliteError) -> OperationError {
    let reason = match &error {
        SqliteError::InFlight { reason, .. } | SqliteError::Disturbed { reason, .. } => reason.clone(),
        SqliteError::HoldTooLong { estimate, hold_max, .. } => {
            format!("its writers would have to wait for about {estimate:.1?}, and at most {hold_max:?} is allowed")
        }
        SqliteError::Locks(locks) if locks.kind() == FailureKind::WriteInFlight => locks.to_string(),
        _ => return OperationError::Part { what: what.to_owned(), cause: Box::new(error) },
    };
    let hint = "try again when less is written, allow a longer wait (check --hold-max), stop the service first (svc-ctl stop), or \
        check a backup of it";
    OperationError::Refused { what: what.to_owned(), reason, kind: error.kind(), hint: Some(hint.to_owned()) }
}

/// Writes a consistent copy, complete in one file.
pub(super) fn copy_of(
    context: &Context,
    database: &Path,
    copy: &Path,
    hold_max: Duration,
    what: &str,
) -> Result<(), OperationError> {
    context.observer.step("copying it as of one instant");
    let copied = pages::at_one_instant(database, false, hold_max, &context.cancel, &mut |view| {
        // Of an attempt that somebody wrote into.
        match std::fs::remove_file(copy) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.at("remove", copy)?,
        }
        view.write_copy(copy, &context.cancel, context.observer.as_ref())
    });
    copied.map(drop).map_err(|error| seen(what, error))
}

/// What to type next.
fn next(database: &Path, how: Consistency, open_in: &[i32]) -> String {
    let units: Vec<String> = open_in.iter().filter_map(|pid| unit_of(*pid)).collect();
    let service = match units.first() {
        Some(unit) if units.iter().all(|other| other == unit) => unit.clone(),
        _ if open_in.is_empty() && how == Consistency::Quiet => "--no-service".to_owned(),
        _ => "--unit NAME.service".to_owned(),
    };
    format!("svc-repair repair {} {service}", quoted(database))
}

/// The unit in whose control group a process is (cgroups(7)), as a flag.
pub(super) fn unit_of(pid: i32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
    let of_user = path.contains("/user@");
    // A user manager's own unit says only that some process of that user has it open.
    (!unit.starts_with("user@")).then(|| format!("--{} {unit}", if of_user { "user-unit" } else { "unit" }))
}

/// As a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Refuses before anything is done.
fn is_there(scratch: &Path, what: &str) -> Result<(), OperationError> {
    match std::fs::metadata(scratch) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(error).at("look at", scratch).during(what)
        }
        _ => Err(OperationError::Refused {
            what: what.to_owned(),
            reason: format!("there is no directory {}", scratch.display()),
            kind: FailureKind::Usage,
            hint: Some("make it first, or name another one with --scratch".to_owned()),
        }),
    }
}

/// A private directory, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn below(parent: &Path, what: &str) -> Result<Self, OperationError> {
        let path = parent.join(format!(".svckit-check-{}", BackupId::fresh()));
        DirBuilder::new().mode(0o700).create(&path).at("create the directory", &path).during(what)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a scratch directory could not be removed");
        }
    }
}

/// Refuses where `bytes` more would not fit.
pub(super) fn need_space(at: &Path, bytes: u64, what: &str) -> Result<(), OperationError> {
    let space = space_at(at).during(what)?;
    if space.bytes >= bytes {
        return Ok(());
    }
    let reason = format!("{} has room for {} bytes, and {bytes} are needed", at.display(), space.bytes);
    Err(refused(what, reason, FailureKind::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite_locks::LocksError;

    #[test]
    fn who_has_no_modes_is_advised_none() {
        let (path, waited) = (PathBuf::from("/a.db"), Duration::from_micros(2_002_028));
        let busy = LocksError::Busy { path: path.clone(), what: "the lock SHARED", waited, pid: Some(7) };
        let unknown = LocksError::Unknown { path: path.clone(), reason: "it can't be seen".to_owned() };
        for error in [busy.into(), unknown.into(), SqliteError::InFlight { path, reason: "it is written".to_owned() }] {
            let error = seen("check /a.db", error);
            assert_eq!(error.kind(), FailureKind::WriteInFlight);
            assert!(!error.hint().unwrap().contains("--mode"), "{error}");
            assert!(!error.to_string().contains("lock the lock") && !error.to_string().contains("2.002"), "{error}");
        }
    }
}
