//! The repair of a copy: the least invasive step that gives a whole database wins, and every row is accounted for.
//!
//! | step | what it does | when it is enough |
//! |---|---|---|
//! | recovery | takes what the log or the hot journal has into the file | nothing else is damaged |
//! | indices | empties damaged indices, has SQLite build them anew, and copies page by page what is in use | all tables are whole |
//! | salvage | reads every row that can be read, also of pages that nothing leads to any more, into a new database | else |
//! | restore | fills what a salvage has left open from a whole backup; only where it is asked for | never by itself |
//!
//! A salvage has three ways, the fastest first: damaged tables written anew page by page (`regrow`), the same filled by
//! SQLite row by row (`refill`), and everything into a new database. What the first can't do, or what comes of it is not
//! whole, is left to the next.
//!
//! Pages whose type or number of cells alone is damaged are put right before the first step (`mend`).
//!
//! Where definitions can't be read, those of an earlier copy are put into the base of all of them first.
//!
//! Each works on a fresh copy; what comes of it is checked by both readers, and compared with what the damaged database
//! could show. Nothing is dropped in silence: what fits nowhere goes into a database of its own, and what is missing is
//! a loss ([`Accounting::losses`]).

mod account;
mod aside;
mod by_service;
mod fill;
mod freelist;
mod header;
mod judge;
mod mend;
mod orphans;
mod prove;
mod rebuild;
mod recovery;
mod refill;
mod regrow;
mod salvage;
mod stray;
mod surgery;
#[cfg(test)]
mod tests;
mod transplant;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use account::{Accounting, TableAccount};

use super::error::SqliteError;
use super::own::beside;
use super::pages::{self, CheckOptions, FindingKind, Report, Schema, View};
use crate::progress::{Cancel, Observer};

/// Of the pages that nothing leads to, rows are looked for in as many ranges.
const RANGES_MAX: usize = 4 << 20;

/// The file that all steps begin with, where that is not the copy itself.
const BASE: &str = "base.db";

/// A step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// What the log or the hot journal has is taken into the file.
    Recovery,
    /// Damaged indices are built anew.
    Indices,
    /// Every row that can be read goes into a new database.
    Salvage,
    /// What that leaves open is filled from a backup.
    Restore,
}

/// What is to be repaired.
#[derive(Clone, Copy)]
pub struct RepairInput<'a> {
    /// A copy that nobody else knows, with the side files that belong to it. It is only read.
    pub copy: &'a Path,
    /// An empty directory of our own, with room for twice the database.
    pub work: &'a Path,
    /// A whole copy of this very database from an earlier time: its definitions stand in for those that are damaged.
    pub reference: Option<&'a Path>,
    /// The service's own sqlite program, for what this build can't make: indices in the order of its collations, the words
    /// of its tokenizers. An absolute path; it works on a copy, and what comes of it is checked.
    pub program: Option<&'a Path>,
    /// Only this step; `None`: the first that gives a whole database. [`Step::Restore`] tries the others first, needs
    /// `reference`, and takes rows of it.
    pub only: Option<Step>,
    /// What the logs of the original have lost, where the copy is one as of a commit, which does not tell any more.
    pub log_losses: &'a [String],
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Hears of the progress.
    pub observer: &'a dyn Observer,
}

/// A database that was repaired: whole, if not complete.
#[derive(Debug)]
pub struct Repaired {
    /// The new database, complete in one file.
    pub file: PathBuf,
    /// What fits nowhere, as a database with the one table `lost_and_found`.
    pub set_aside: Option<PathBuf>,
    /// What became of every table and every definition.
    pub accounting: Accounting,
}

/// What all steps work from.
struct Base<'a> {
    input: RepairInput<'a>,
    /// One file, with what its log or journal had.
    file: PathBuf,
    view: View,
    report: Report,
    schema: Schema,
    /// What the logs have lost, for people.
    log_losses: Vec<String>,
    /// Pages whose type or number of cells was damaged and is right again.
    mends: mend::Mends,
    /// The definitions are those of an earlier copy: there may be tables that they don't name.
    borrowed: bool,
    /// Its header is that of an earlier copy: which pages were free can't be told.
    headed: bool,
    /// Why what is of an earlier copy may not be what was lost.
    doubts: Vec<String>,
}

/// Repairs a copy.
///
/// ```no_run
/// use svckit::database::sqlite::repair::{RepairInput, repair};
/// use svckit::progress::{Cancel, Silent};
///
/// let repaired = repair(RepairInput {
///     copy: "copy/library.db".as_ref(),
///     work: "work".as_ref(),
///     reference: None,
///     program: None,
///     only: None,
///     log_losses: &[],
///     cancel: &Cancel::new()?,
///     observer: &Silent,
/// })?;
/// for loss in repaired.accounting.losses() {
///     println!("{loss}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`SqliteError::Unrepaired`] where no step gives a database that both readers call whole, with the reason of each.
pub fn repair(input: RepairInput<'_>) -> Result<Repaired, SqliteError> {
    let backup = input.reference.filter(|_| input.only == Some(Step::Restore));
    if backup.is_none() && input.only == Some(Step::Restore) {
        let reasons = vec!["restore: no backup was given".to_owned()];
        return Err(SqliteError::Unrepaired { path: input.copy.to_owned(), reasons, stray: None });
    }
    let only = input.only.filter(|_| backup.is_none());
    let salvaged = least(RepairInput { only, ..input }, backup);
    let Some(backup) = backup else { return salvaged };
    match salvaged {
        Ok(repaired) => Ok(repaired),
        Err(error @ (SqliteError::Cancelled { .. } | SqliteError::Disk(_))) => Err(error),
        Err(SqliteError::Unrepaired { reasons, .. }) => fill::alone(&input, backup, &reasons),
        Err(error) => fill::alone(&input, backup, &[error.to_string()]),
    }
}

/// The least invasive step; where it leaves something open, `backup` fills that.
fn least(input: RepairInput<'_>, backup: Option<&Path>) -> Result<Repaired, SqliteError> {
    let headed = match input.reference {
        Some(reference) => transplant::with_header(&input, reference)?,
        None => None,
    };
    let input = RepairInput { copy: headed.as_ref().map_or(input.copy, |headed| headed.file.as_path()), ..input };
    let mut base = base(input).map_err(|error| match error {
        // Of a file that is cut within its first page.
        SqliteError::NotSqlite { reason, .. } => {
            let reasons = vec![format!("nothing of a database is left in it: {reason}")];
            SqliteError::Unrepaired { path: input.copy.to_owned(), reasons, stray: None }
        }
        other => other,
    })?;
    base.headed = headed.is_some();
    base.doubts.extend(headed.as_ref().and_then(|headed| headed.doubt.clone()));
    let reference = input.reference.filter(|_| transplant::is_needed(&base));
    let Some(reference) = reference else {
        let repaired = filled(&base, ladder(&base)?, backup)?;
        return by_service::complete(&base, repaired);
    };
    input.observer.step("taking the definitions from an earlier copy");
    let transplant::Grafted { file, doubt } = transplant::transplant(&base, reference)?;
    base.doubts.extend(doubt);
    base.report = check(&file, input.cancel, input.observer)?;
    base.view = View::open_own(&file, input.cancel)?;
    base.schema = Schema::read(base.view.image());
    (base.file, base.borrowed) = (file, true);
    let mut repaired = ladder(&base)?;
    repaired
        .accounting
        .notes
        .push("the definitions of tables, indices, views and triggers are those of the backup".to_owned());
    let repaired = filled(&base, repaired, backup)?;
    by_service::complete(&base, repaired)
}

fn filled(base: &Base<'_>, repaired: Repaired, backup: Option<&Path>) -> Result<Repaired, SqliteError> {
    let Some(backup) = backup.filter(|_| !repaired.accounting.complete) else { return Ok(repaired) };
    let backup = View::open_own(backup, base.input.cancel)?;
    if repaired.accounting.step == Step::Salvage {
        return fill::fill(base, repaired, &backup);
    }
    // What comes of a salvage has no index that can't be written here.
    std::fs::remove_file(&repaired.file).map_err(|source| header::disk("remove", &repaired.file, source))?;
    let notes = repaired.accounting.notes;
    let mut salvaged = salvage::salvage(base)?;
    salvaged.accounting.notes.extend(notes);
    fill::fill(base, salvaged, &backup)
}

fn ladder(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    let input = base.input;
    let mut reasons = Vec::new();
    for step in [Step::Recovery, Step::Indices, Step::Salvage] {
        if input.only.is_some_and(|only| only != step) {
            continue;
        }
        let tried = match step {
            Step::Recovery => recovery::recover(base),
            Step::Indices => surgery::rebuild_indices(base),
            Step::Salvage | Step::Restore => salvaged(base),
        };
        match tried {
            Ok(repaired) => return Ok(repaired),
            Err(error @ (SqliteError::Cancelled { .. } | SqliteError::Disk(_))) => return Err(error),
            Err(SqliteError::Corrupt { findings, .. }) => {
                reasons.push(format!("{}: {}", word(step), findings.join("; ")));
            }
            Err(error) => reasons.push(format!("{}: {error}", word(step))),
        }
        tracing::debug!(step = word(step), reason = reasons.last(), "this step was not enough");
    }
    let stray = stray::rows(base)?.map(|(path, rows)| {
        reasons.push(format!("{rows} rows can be read, but not which tables they are of"));
        path
    });
    Err(SqliteError::Unrepaired { path: input.copy.to_owned(), reasons, stray })
}

/// How a salvage is made.
type Way = fn(&Base<'_>) -> Result<Repaired, SqliteError>;

/// Only the damaged tables, where that is enough, which is faster the larger the rest is.
fn salvaged(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    // What is filled from a backup afterwards must have no index that can't be written here.
    if base.input.reference.is_none() {
        let ways: [(&str, Way); 2] = [(regrow::FILE, regrow::regrow), (refill::FILE, refill::refill)];
        for (file, way) in ways {
            match way(base) {
                Err(error @ (SqliteError::Cancelled { .. } | SqliteError::Disk(_))) => return Err(error),
                Err(error) => tracing::debug!(%error, "this way is not enough"),
                done => return done,
            }
            for name in [file, salvage::ASIDE] {
                let _not_there = std::fs::remove_file(base.input.work.join(name));
            }
        }
    }
    salvage::salvage(base)
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Recovery => "recovery",
        Step::Indices => "indices",
        Step::Salvage => "salvage",
        Step::Restore => "restore",
    }
}

impl<'a> Base<'a> {
    /// Of a file that is whole, with nothing beside it.
    fn of_whole(input: RepairInput<'a>) -> Result<Self, SqliteError> {
        let report = check(input.copy, input.cancel, input.observer)?;
        let view = View::open_own(input.copy, input.cancel)?;
        let schema = Schema::read(view.image());
        Ok(Self {
            input,
            file: input.copy.to_owned(),
            view,
            report,
            schema,
            log_losses: Vec::new(),
            mends: mend::Mends::default(),
            borrowed: false,
            headed: false,
            doubts: Vec::new(),
        })
    }
}

/// Writes down the one file that all steps begin with.
fn base(input: RepairInput<'_>) -> Result<Base<'_>, SqliteError> {
    let (cancel, observer) = (input.cancel, input.observer);
    let found = check(input.copy, cancel, observer)?;
    let of_another = found.findings.iter().any(|finding| finding.kind == FindingKind::WalForeign);
    let view = if of_another { View::open_own_alone(input.copy, cancel)? } else { View::open_own(input.copy, cancel)? };
    let is_of_log = |kind: FindingKind| kind >= FindingKind::WalHeader;
    let of_log = found.findings.iter().filter(|f| is_of_log(f.kind) && f.loss != pages::Loss::Nothing);
    let mut log_losses: Vec<String> = of_log.map(|finding| finding.what.clone()).collect();
    log_losses.extend(input.log_losses.iter().filter(|loss| !log_losses.contains(loss)).cloned().collect::<Vec<_>>());
    // With nothing beside it, and all pages that it should have, it is one file already.
    let has_log = ["-wal", "-journal"].iter().any(|suffix| beside(input.copy, suffix).exists())
        || found.findings.iter().any(|finding| is_of_log(finding.kind));
    let cut = [FindingKind::FileLength, FindingKind::Unreadable];
    let is_cut = found.findings.iter().any(|finding| cut.contains(&finding.kind));
    let bytes = u64::from(found.pages) * found.page_size as u64;
    let (mut file, mut report) = if !has_log && !is_cut && view.image().file_len() == bytes {
        (input.copy.to_owned(), found)
    } else {
        let file = input.work.join(BASE);
        observer.step("copying it with what its log has");
        let _zeros = view.write_copy(&file, cancel, observer)?;
        let report = check(&file, cancel, observer)?;
        (file, report)
    };
    drop(view);
    let mends = mend::mend(&input, &mut file, &mut report)?;
    let view = View::open_own(&file, cancel)?;
    let schema = Schema::read(view.image());
    Ok(Base {
        input,
        file,
        view,
        report,
        schema,
        log_losses,
        mends,
        borrowed: false,
        headed: false,
        doubts: Vec::new(),
    })
}

/// Our own check of a copy of ours, with more findings told than people want to read.
fn check(file: &Path, cancel: &Cancel, observer: &dyn Observer) -> Result<Report, SqliteError> {
    let options = CheckOptions { own: true, findings_max: 50_000, ranges_max: RANGES_MAX, ..CheckOptions::default() };
    pages::check(file, &options, cancel, observer)
}

fn corrupt(path: &Path, reason: impl Into<String>) -> SqliteError {
    SqliteError::Corrupt { path: path.to_owned(), findings: vec![reason.into()] }
}
