//! A database of a service, rules for it, and our program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use svckit_testbed::command::{Outcome, ours, run};

pub(crate) const QUICK: Duration = Duration::from_secs(60);

pub(crate) struct Bed {
    pub(crate) directory: tempfile::TempDir,
}

impl Bed {
    /// Notes with words: a word refers to its note.
    pub(crate) fn new() -> Self {
        let bed = Self { directory: tempfile::tempdir().unwrap() };
        bed.db()
            .execute_batch(
                "CREATE TABLE notes(id INTEGER PRIMARY KEY, updated INTEGER);
                 CREATE TABLE words(note INTEGER REFERENCES notes(id), word TEXT);
                 CREATE INDEX words_note ON words(note);",
            )
            .unwrap();
        Connection::open(bed.path("usage.db"))
            .unwrap()
            .execute_batch("CREATE TABLE gone(note INTEGER, words INTEGER)")
            .unwrap();
        bed.write_rules("every = \"1s\"");
        bed
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write_rules(&self, schedule: &str) {
        let at = self.directory.path().display();
        let text = format!(
            "[rule.notes]\ndatabase = \"{at}/notes.db\"\n{schedule}\ntable = \"notes\"\nkey = \"id\"\n\
             expired = \"updated < :now - 3600\"\nfollow = true\nretries = 3\nbatch = {{ pause = \"0s\", items = 20 }}\n\
             [[rule.notes.summary]]\ndatabase = \"{at}/usage.db\"\ntable = \"gone\"\n\
             select = \"SELECT :key AS note, nullif(count(*), 0) AS words FROM words WHERE note = :key\"\n\
             required = [\"words\"]\n\
             [rule.notes.figures]\nnotes = \"SELECT count(*) FROM notes\"\nnothing = \"SELECT NULL\"\n"
        );
        std::fs::write(self.path("tend.toml"), text).unwrap();
    }

    pub(crate) fn db(&self) -> Connection {
        let db = Connection::open(self.path("notes.db")).unwrap();
        db.busy_timeout(Duration::from_secs(20)).unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db
    }

    /// Notes from `first`, each with three words; old enough to go.
    pub(crate) fn notes(&self, first: i64, count: i64) {
        let mut db = self.db();
        let transaction = db.transaction().unwrap();
        for id in first..first + count {
            transaction.execute("INSERT INTO notes VALUES(?1, 1000)", [id]).unwrap();
            for word in ["a", "b", "c"] {
                transaction.execute("INSERT INTO words VALUES(?1, ?2)", (id, word)).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    pub(crate) fn count(&self, of: &str) -> i64 {
        self.db().query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn usage(&self, query: &str) -> i64 {
        let usage = Connection::open(self.path("usage.db")).unwrap();
        usage.busy_timeout(Duration::from_secs(20)).unwrap();
        usage.query_row(query, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn tool(&self, program: &str, args: &[&str]) -> Command {
        let mut command = ours(program, args);
        command.env("SVCKIT_STATE_DIR", self.path("state"));
        command
    }

    pub(crate) fn tend(&self, args: &[&str]) -> Command {
        tend_with(&self.path("state"), &self.path("tend.toml"), args)
    }

    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        run(self.tend(args), QUICK)
    }
}

pub(crate) fn tend_with(state: &Path, rules: &Path, args: &[&str]) -> Command {
    let mut command = ours("svc-tend", args);
    command.arg("--config").arg(rules).env("SVCKIT_STATE_DIR", state);
    command
}

/// Looks until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + QUICK;
    while !so() {
        assert!(Instant::now() < end, "not so after {QUICK:?}: {what}");
        svckit::world::wait::readable(&[], Instant::now() + Duration::from_millis(50)).unwrap();
    }
}
