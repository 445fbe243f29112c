//! A database with damaged tables, repaired: against the way that every SQLite has, which keeps what it can read and checks
//! nothing. `.recover` is not among them: Debian 12 builds its shell (3.40.1) without the tables that it reads pages with, so that
//! it ends with `SQL logic error` and no row. `tests/recovery` compares what comes back with a shell that has them.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use svckit::database::sqlite::repair::{RepairInput, Step, repair};
use svckit::progress::{Cancel, Observer};

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

pub(crate) fn measure(bench: &Bench) -> Outcome<Section> {
    let directory = bench.scratch()?;
    let (one, all) = (directory.path().join("one.db"), directory.path().join("all.db"));
    damage(&bench.large()?, &one, &ONE)?;
    damage(&bench.large()?, &all, &ALL)?;
    let new = directory.path().join("new.db");
    let work = directory.path().join("work");
    let script = |script: &'static str| timed(shell(script, &[&one, &new]).env("LC_ALL", "C"));
    let unchecked = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
    let mut contestants = [
        Contestant {
            name: "svckit, one damaged table, checked twice",
            run: Box::new(|| ours(&one, &work, &unchecked[0])),
        },
        Contestant {
            name: "svckit, five damaged tables, checked twice",
            run: Box::new(|| ours(&all, &work, &unchecked[1])),
        },
        Contestant { name: "sqlite3 .dump | sqlite3", run: Box::new(|| script(DUMP)) },
    ];
    let names = contestants.each_ref().map(|contestant| contestant.name);
    let measured = in_turns(&mut contestants, bench.runs, || {
        for gone in [&work, &new] {
            let _not_there = std::fs::remove_dir_all(gone).or_else(|_| std::fs::remove_file(gone));
        }
        level(&one)?;
        level(&all)
    })?;
    drop(contestants);
    let alone = unchecked.map(|times| {
        // The first was the warm-up.
        let times = times.into_inner().unwrap_or_else(PoisonError::into_inner).split_off(1);
        Measured { time: Samples::new(times), cpu: Samples::default() }
    });
    let row = |name: &str, one: &Measured| {
        let cpu = if one.cpu.len() == 0 { "-".to_owned() } else { one.cpu.seconds() };
        vec![name.to_owned(), one.time.seconds(), Ratio::of(&measured[2].time, &one.time).to_string(), cpu]
    };
    let mut rows: Vec<_> = names.iter().zip(&measured).map(|(name, one)| row(name, one)).collect();
    rows.insert(1, row("    until it is checked", &alone[0]));
    rows.insert(3, row("    until it is checked", &alone[1]));
    let times = |ours: &Measured| Ratio::of(&measured[2].time, &ours.time).best;
    Ok(Section {
        name: "salvage",
        title: format!("damaged tables of {} with 29 indices", megabytes(bench.size)),
        columns: vec!["contestant", "time", "times as fast as .dump (best runs)", "processor"],
        rows,
        notes: vec![
            "Ten leaves are zeroed. svckit checks the copy before, accounts for every row, and has the result checked by \
             its own reader and by integrity_check, as every repair does; `.dump` checks nothing."
                .to_owned(),
            goal("one table: at least 3 times as fast, until it is checked", times(&alone[0]) >= 3.0),
            goal("five tables: at least 3 times as fast, until it is checked", times(&alone[1]) >= 3.0),
            goal("one table: at least 3 times as fast, with all checks", times(&measured[0]) >= 3.0),
        ],
    })
}

/// A copy in which some leaves of tables are zeros.
fn damage(database: &Path, to: &Path, tables: &[(&str, usize)]) -> Outcome<()> {
    std::fs::copy(database, to)?;
    let connection = Connection::open(database)?;
    let size: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))?.try_into()?;
    let file = OpenOptions::new().write(true).open(to)?;
    for (table, count) in tables {
        let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' LIMIT ?2";
        let mut statement = connection.prepare(sql)?;
        let wanted = i64::try_from(count * 7)?;
        let pages = statement.query_map((table, wanted), |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
        for page in pages.into_iter().step_by(7) {
            file.write_all_at(&vec![0; usize::try_from(size)?], (u64::try_from(page)? - 1) * size)?;
        }
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
