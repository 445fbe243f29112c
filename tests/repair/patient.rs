//! A unit whose database has a table of its own beside the service's, to be damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use svckit_testbed::command::{program, sh};
use svckit_testbed::corruptor::{page_size, pages_of, zero};
use svckit_testbed::unit::{Recipe, Unit, write_unit};

/// Rows of the table.
pub(crate) const NOTES: i64 = 20_000;

/// The service runs, and its database has the table; nothing is damaged yet.
pub(crate) fn start(name: &str, recipe: Recipe) -> Unit {
    let unit = recipe.start(name);
    unit.systemctl("stop").expect(0);
    add_notes(&unit);
    unit
}

/// Adds the table while nobody runs.
pub(crate) fn add_notes(unit: &Unit) {
    let connection = Connection::open(&unit.databases[0]).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT); CREATE INDEX notes_title ON notes(title);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {NOTES})
             INSERT INTO notes SELECT i, 'title ' || i, 'some words of note ' || i FROM n;"
        ))
        .unwrap();
    connection.close().unwrap();
}

/// Zeroes pages of an object while nobody runs, and starts the service again: how many rows were on them.
pub(crate) fn damage(unit: &Unit, object: &str, count: usize) -> u64 {
    let database = &unit.databases[0];
    let pages = pages_of(database, object, "leaf");
    let rows = zero(database, page_size(database), pages.into_iter().skip(5).step_by(3).take(count));
    unit.systemctl("start").expect(0);
    unit.record.wait_for_commits(2, svckit_testbed::unit::QUICK);
    rows
}

/// The ids of the table, read without its index.
pub(crate) fn notes(database: &Path) -> BTreeSet<i64> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare("SELECT id FROM notes NOT INDEXED").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Where the original is, as a report says.
pub(crate) fn preserved(said: &serde_json::Value, unit: &Unit) -> PathBuf {
    let directory = PathBuf::from(said["preserved"].as_str().unwrap());
    directory.join(unit.databases[0].file_name().unwrap())
}

/// The unit at boot without which nothing of a unit is replaced.
pub(crate) fn enable_resume() {
    let template = std::fs::read_to_string("bins/units/svc-resume.service").unwrap();
    let directory = program("svc-ctl").parent().unwrap().display().to_string();
    write_unit("svc-resume.service", &template.replace("@BINDIR@", &directory));
    sh("systemctl", ["daemon-reload"]).expect(0);
    sh("systemctl", ["enable", "svc-resume.service"]).expect(0);
}
