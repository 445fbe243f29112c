//! One damaged database, repaired and compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use svckit::database::sqlite::pages::{CheckOptions, check};
use svckit::database::sqlite::repair::{Accounting, RepairInput, Repaired, repair};
use svckit::progress::{Cancel, Silent};
use svckit_testbed::corruptor::{Damage, Files};
use svckit_testbed::random::Random;

use super::patient::{Patient, Rows, rows, scratch, side, write};

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Nothing was seen, and SQLite sees nothing either.
    Unseen,
    /// Only SQLite sees it: a constraint, an index on an expression, a full-text index.
    SeenBySqliteOnly,
    Complete,
    Partial,
    Refused,
}

/// Who repairs: the answer is the new database, and the account where there is one.
pub(crate) type Repairer = fn(&Path, &Path, &Cancel) -> Result<(PathBuf, Option<Accounting>), String>;

pub(crate) fn by_svckit(copy: &Path, work: &Path, cancel: &Cancel) -> Result<(PathBuf, Option<Accounting>), String> {
    let input = RepairInput {
        copy,
        work,
        reference: None,
        program: None,
        only: None,
        log_losses: &[],
        cancel,
        observer: &Silent,
    };
    repair(input).map(|Repaired { file, accounting, .. }| (file, Some(accounting))).map_err(|e| e.to_string())
}

/// # Errors
/// What may not be.
pub(crate) fn round(patient: &Patient, seed: u64, repairer: Repairer) -> Result<End, String> {
    let mut random = Random(seed);
    let count = if random.below(2) == 0 { 1 } else { 2 + random.below(5) };
    let size = patient.form.page_size;
    let damages: Vec<Damage> = (0..count).map(|_| Damage::choose(&mut random, &patient.files, size)).collect();
    with(patient, &damages, repairer)
}

/// # Errors
/// What may not be.
pub(crate) fn with(patient: &Patient, damages: &[Damage], repairer: Repairer) -> Result<End, String> {
    let directory = scratch();
    let place = Place { db: directory.path().join("library.db"), cancel: Cancel::new().unwrap() };
    let mut files = patient.files.clone();
    damages.iter().for_each(|damage| damage.apply(&mut files));
    place.repaired(patient, &files, damages, repairer).map_err(|why| format!("{why}\n        {damages:?}"))
}

struct Place {
    db: PathBuf,
    cancel: Cancel,
}

impl Place {
    fn is_seen(&self, files: &Files) -> bool {
        write(files, &self.db);
        let options = CheckOptions { own: true, ..CheckOptions::default() };
        check(&self.db, &options, &self.cancel, &Silent).map_or(true, |report| report.is_damaged())
    }

    fn repaired(
        &self,
        patient: &Patient,
        files: &Files,
        damages: &[Damage],
        repairer: Repairer,
    ) -> Result<End, String> {
        if !self.is_seen(files) {
            let copy = self.db.with_file_name("seen.db");
            write(files, &copy);
            let seen = Connection::open(&copy).is_ok_and(|connection| integrity(&connection) != "ok");
            return Ok(if seen { End::SeenBySqliteOnly } else { End::Unseen });
        }
        let work = self.db.with_file_name("work");
        std::fs::create_dir(&work).unwrap();
        let repaired = repairer(&self.db, &work, &self.cancel);
        if files.iter().any(|(suffix, bytes)| std::fs::read(side(&self.db, suffix)).ok().as_ref() != Some(bytes)) {
            return Err("the damaged copy was changed".to_owned());
        }
        let Ok((file, account)) = repaired else { return Ok(End::Refused) };
        let connection = Connection::open(&file).map_err(|e| e.to_string())?;
        let verdict = integrity(&connection);
        let is_of_words = account.as_ref().is_some_and(|account| !account.full_text.is_empty());
        // A full-text index that can't be built any more, or not even be opened, is told, and its rows are there.
        let is_told = is_of_words && (verdict.contains("words") || verdict == "SQL logic error");
        if verdict != "ok" && !is_told {
            return Err(format!("integrity_check: {verdict}; {:?}", account.map(|account| account.losses())));
        }
        let back = rows(&connection).map_err(|e| format!("can't be read: {e}"))?;
        if account.as_ref().is_some_and(|account| !account.complete) {
            let account = account.iter().flat_map(|account| &account.tables);
            let miscounted =
                account.filter(|told| back.get(&told.table).map_or(0, |rows| rows.len()) as u64 != told.after);
            let names: Vec<&str> = miscounted.map(|told| told.table.as_str()).collect();
            // Two rows without a rowid of ours may be alike: then there are fewer.
            return if names.is_empty() { Ok(End::Partial) } else { Err(format!("miscounted: {names:?}")) };
        }
        if back == patient.truth {
            return Ok(End::Complete);
        }
        let differing = |silent: Option<&Rows>| -> Vec<&String> {
            let tables: BTreeSet<&String> = back.keys().chain(patient.truth.keys()).collect();
            let is_right = |table: &str| {
                let is_same = back.get(table) == patient.truth.get(table);
                is_same || silent.is_some_and(|silent| is_explained(table, &back, &patient.truth, silent))
            };
            tables.into_iter().filter(|table| !is_right(table)).collect()
        };
        let differs = differing(None);
        if self.silent(patient, damages).any(|silent| differing(Some(&silent)).is_empty()) {
            return Ok(End::Complete);
        }
        let step = account.map(|account| account.step);
        Err(format!("it is called complete, and {differs:?} are not what they were, by {step:?}"))
    }

    /// What nobody can see, a bit of a value that no index has (or none that is left), or a log that was cut with what
    /// knew of its end, nobody brings back either. Damages are silent if both readers say the very same words without
    /// all of them: this gives what is in the database with silent ones alone.
    fn silent<'s>(&'s self, patient: &'s Patient, damages: &'s [Damage]) -> impl Iterator<Item = Rows> + 's {
        let with_all = self.said(patient, damages.iter());
        let some = move |set: u32, wanted: bool| {
            let is_in = move |number: usize| set >> number & 1 == 1;
            damages.iter().enumerate().filter(move |(number, _)| is_in(*number) == wanted).map(|(_, damage)| damage)
        };
        (1..1_u32 << damages.len()).filter_map(move |set| {
            let is_silent = self.said(patient, some(set, false)) == with_all;
            is_silent.then(|| self.rows_with(patient, some(set, true))).flatten()
        })
    }

    /// What SQLite reads; `None` where it does not read all.
    fn rows_with<'d>(&self, patient: &Patient, damages: impl Iterator<Item = &'d Damage>) -> Option<Rows> {
        let mut files = patient.files.clone();
        damages.for_each(|damage| damage.apply(&mut files));
        let copy = self.db.with_file_name("silent.db");
        write(&files, &copy);
        rows(&Connection::open(&copy).ok()?).ok()
    }

    /// Every word of both readers.
    fn said<'d>(&self, patient: &Patient, damages: impl Iterator<Item = &'d Damage>) -> Vec<String> {
        let mut files = patient.files.clone();
        damages.for_each(|damage| damage.apply(&mut files));
        let copy = self.db.with_file_name("said.db");
        write(&files, &copy);
        let options = CheckOptions { own: true, findings_max: 50_000, ..CheckOptions::default() };
        let report = check(&copy, &options, &self.cancel, &Silent);
        let mut said =
            report.map_or_else(|e| vec![e.to_string()], |r| r.findings.iter().map(|f| format!("{f:?}")).collect());
        let lines = Connection::open(&copy).and_then(|connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check(10000)")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        });
        said.extend(lines.unwrap_or_else(|error| vec![error.to_string()]));
        said
    }
}

/// Every row is one that was there, or is with the silent damages alone, and none is missing that is the same in both.
fn is_explained(table: &str, back: &Rows, truth: &Rows, silent: &Rows) -> bool {
    let none = BTreeSet::new();
    let of = |rows: &Rows, table: &str| rows.get(table).unwrap_or(&none).clone();
    // Built anew from rows, of which one has changed in silence.
    if matches!(table, "words_data" | "words_idx" | "words_docsize") {
        return of(silent, "words_content") != of(truth, "words_content") || of(back, table) == of(silent, table);
    }
    let (back, truth, silent) = (of(back, table), of(truth, table), of(silent, table));
    let is_one_of_both = back.iter().all(|row| truth.contains(row) || silent.contains(row));
    let has_all = truth.intersection(&silent).all(|row| back.contains(row));
    is_one_of_both && has_all && back.len() >= truth.len().min(silent.len())
}

fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap_or_else(|error| error.to_string())
}
