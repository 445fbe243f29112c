//! A database with damaged tables, repaired: against the two ways that SQLite's own shell has, which keep what they can read
//! and check nothing; each of them alone, and with an integrity_check after it. Debian 12 builds its shell (3.40.1) without
//! the tables that `.recover` reads pages with: it is measured where the tests have built a library that has them
//! (`cargo test -p svckit-testbed --test recovery`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use svckit::database::sqlite::repair::{RepairInput, Step, repair};
use svckit::progress::{Cancel, Observer};
use svckit_testbed::corruptor::{page_size, pages_of, zero};

use crate::Outcome;
use crate::bench::{Bench, level, megabytes};
use crate::report::{Section, goal};
use crate::samples::{Contestant, Measured, Ratio, Samples, in_turns};
use crate::tools::{shell, timed};

/// Leaves that are zeroed, and of how many tables.
const ONE: [(&str, usize); 1] = [("items", 10)];
const ALL: [(&str, usize); 5] = [("items", 2), ("parts", 2), ("streams", 2), ("taggings", 2), ("views", 2)];
/// With what it could not read, it ends in a rollback: a person takes that away.
const DUMP: &str = "sqlite3 \"$1\" .dump 2>/dev/null | sed 's/^ROLLBACK; -- due to errors/COMMIT;/' | \
    sqlite3 \"$2\" >/dev/null 2>&1 || true; test \"$(sqlite3 \"$2\" 'SELECT count(*) FROM views')\" -gt 1000";
/// The step after which the result is checked.
const LAST: &str = "building indices";

/// `.recover` with that library, in `$3`.
const RECOVER: &str = "LD_LIBRARY_PATH=\"$3\" LD_PRELOAD=\"$3/libshim.so\" sqlite3 \"$1\" .recover 2>/dev/null | \
    sqlite3 \"$2\" >/dev/null 2>&1 || true; test \"$(sqlite3 \"$2\" 'SELECT count(*) FROM views')\" -gt 1000";
const BY_SQLITE: &str = "test \"$(sqlite3 -readonly \"$1\" 'PRAGMA integrity_check')\" = ok";

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let directory = bench.scratch()?;
    let (one, all) = (directory.path().join("one.db"), directory.path().join("all.db"));
    damage(&bench.large()?, &one, &ONE)?;
    damage(&bench.large()?, &all, &ALL)?;
    let new = directory.path().join("new.db");
    let work = directory.path().join("work");
    let library = recover_library();
    let unchecked: [Mutex<Vec<Duration>>; 4] = Default::default();
    let pipeline = |script: &'static str, library: &Path, alone: &Mutex<Vec<Duration>>| {
        let took = timed(shell(script, &[&one, &new, library]).env("LC_ALL", "C"))?;
        alone.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        Ok(took + timed(&mut shell(BY_SQLITE, &[&new]))?)
    };
    let mut contestants = vec![
        Contestant { name: "svckit, one damaged table", run: Box::new(|| ours(&one, &work, &unchecked[0])) },
        Contestant { name: "svckit, five damaged tables", run: Box::new(|| ours(&all, &work, &unchecked[1])) },
        Contestant { name: "sqlite3 .dump | sqlite3", run: Box::new(|| pipeline(DUMP, Path::new(""), &unchecked[2])) },
    ];
    if let Some(library) = &library {
        contestants.push(Contestant {
            name: "sqlite3 .recover | sqlite3",
            run: Box::new(|| pipeline(RECOVER, library, &unchecked[3])),
        });
    }
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    let checked = in_turns(&mut contestants, bench.runs, || {
        for gone in [&work, &new] {
            let _not_there = std::fs::remove_dir_all(gone).or_else(|_| std::fs::remove_file(gone));
        }
        level(&one)?;
        level(&all)
    })?;
    drop(contestants);
    let alone: Vec<Measured> = unchecked
        .into_iter()
        .take(names.len())
        .map(|times| {
            // The first was the warm-up.
            let times = times.into_inner().unwrap_or_else(PoisonError::into_inner).split_off(1);
            Measured { time: Samples::new(times), ..Measured::default() }
        })
        .collect();
    let row = |name: String, one: &Measured| {
        let cpu = if one.cpu.len() == 0 { "-".to_owned() } else { one.cpu.seconds() };
        let ratios = [&alone[2], &checked[2]].map(|dump| Ratio::of(&dump.time, &one.time).to_string());
        let [alone, checked] = ratios;
        vec![name, one.time.seconds(), alone, checked, cpu]
    };
    let mut rows = Vec::new();
    for (number, name) in names.iter().enumerate() {
        rows.push(row(format!("{name}, alone"), &alone[number]));
        rows.push(row(format!("{name}, checked"), &checked[number]));
    }
    let met =
        |text: &str, theirs: &Measured, ours: &Measured| goal(text, Ratio::of(&theirs.time, &ours.time).best >= 3.0);
    let mut notes = vec![
        "Ten leaves are zeroed. `alone`: until the new database is there. `checked`: svckit has accounted for every row, and \
         its own reader and SQLite have checked the result, as in every repair; the pipelines are followed by \
         integrity_check. svckit has checked the damaged database before, in both."
            .to_owned(),
    ];
    for (ours, what) in [(0, "one table"), (1, "five tables")] {
        notes.push(met(&format!("{what}: at least 3 times as fast as .dump, each alone"), &alone[2], &alone[ours]));
        notes.push(met(&format!("{what}: the same, each checked"), &checked[2], &checked[ours]));
        notes.push(met(&format!("{what}: the same, svckit checked and .dump not"), &alone[2], &checked[ours]));
    }
    match alone.get(3) {
        Some(recover) => {
            notes.push(met("one table: at least 3 times as fast as .recover, each alone", recover, &alone[0]));
            notes.push(met("five tables: the same", recover, &alone[1]));
        }
        None => notes.push("`.recover` was not measured: no library for it.".to_owned()),
    }
    Ok(Section {
        name: "salvage",
        title: format!("damaged tables of {} with 29 indices", megabytes(bench.size)),
        columns: vec![
            "contestant",
            "time",
            "times as fast as .dump alone (best runs)",
            "as .dump checked (best runs)",
            "processor",
        ],
        rows,
        notes,
    })
}

/// Where the tests have built it.
fn recover_library() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    let library = target.join(format!("testbed/recover-{}-O2", rusqlite::version()));
    library.join("libshim.so").is_file().then_some(library)
}

/// A copy in which some leaves of tables are zeros.
fn damage(database: &Path, to: &Path, tables: &[(&str, usize)]) -> Outcome<()> {
    std::fs::copy(database, to)?;
    let size = page_size(database);
    for (table, count) in tables {
        zero(to, size, pages_of(database, table, "leaf").into_iter().step_by(7).take(*count));
    }
    Ok(())
}

/// Hears when the last step before the checks of the result has ended.
struct Clock {
    began: Instant,
    state: Mutex<(bool, Duration)>,
}

impl Observer for Clock {
    fn step(&self, what: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.0, what == LAST) && what != LAST {
            state.1 = self.began.elapsed();
        }
    }
}

fn ours(copy: &PathBuf, work: &Path, unchecked: &Mutex<Vec<Duration>>) -> Outcome<Duration> {
    std::fs::create_dir(work)?;
    let cancel = Cancel::new()?;
    let observer = Clock { began: Instant::now(), state: Mutex::default() };
    let input = RepairInput {
        copy,
        work,
        reference: None,
        program: None,
        only: None,
        log_losses: &[],
        cancel: &cancel,
        observer: &observer,
    };
    let repaired = repair(input)?;
    let took = observer.began.elapsed();
    if repaired.accounting.step != Step::Salvage {
        return Err(format!("it was another step: {:?}", repaired.accounting.step).into());
    }
    let until = observer.state.into_inner().unwrap_or_else(PoisonError::into_inner).1;
    unchecked.lock().unwrap_or_else(PoisonError::into_inner).push(until);
    Ok(took)
}
