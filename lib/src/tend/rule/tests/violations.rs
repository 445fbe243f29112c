//! Foreign keys that are violated before we come.

use std::time::{Duration, Instant};

use super::*;

fn found(db: &Path) -> (u64, Vec<(String, Option<i64>, String)>) {
    let found = Violations::look(db).unwrap();
    assert!(found.complete);
    (found.count, found.named.into_iter().map(|one| (one.table, one.rowid, one.parent)).collect())
}

#[test]
fn rows_that_refer_to_nothing_are_named_and_the_rule_goes_on() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    assert_eq!(found(&bed.path("relay.db")), (0, Vec::new()));
    let db = bed.db();
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute_batch(
        "INSERT INTO mailbox_sides VALUES('nowhere', 's', 0); INSERT INTO nameplate_sides VALUES(99, 's', 0)",
    )
    .unwrap();
    let row = |table: &str, parent: &str| (table.to_owned(), Some(3), parent.to_owned());
    let both = vec![row("mailbox_sides", "mailboxes"), row("nameplate_sides", "nameplates")];
    assert_eq!(found(&bed.path("relay.db")), (2, both));
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    std::fs::create_dir(bed.state()).unwrap();
    assert_eq!(LastLook::of(&bed.state(), &rule.name).unwrap(), None);
    let mut task = RuleTask::new(rule.clone(), &bed.state());
    assert_eq!(task.look_for_violations(now()).unwrap().count, 2);
    let kept = LastLook { at: now(), count: 2, complete: true };
    assert_eq!(LastLook::of(&bed.state(), &rule.name).unwrap(), Some(kept));
    assert_eq!(LastLook::of(&bed.state(), "another").unwrap(), None);
    let mut worker = Worker::new(Box::new(task), State::open(&bed.state(), &rule.name).unwrap(), rule.policy.clone());
    assert_eq!(pass(&mut worker).done, 1);
    assert_eq!((bed.count("mailboxes"), bed.count("mailbox_sides"), bed.count("nameplate_sides")), (0, 1, 1));
}

/// What SQLite itself says, in one statement.
#[test]
fn sqlite_finds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute_batch(
        "CREATE TABLE p(id INTEGER PRIMARY KEY, t TEXT UNIQUE COLLATE NOCASE, a, b, UNIQUE(a, b));
         INSERT INTO p VALUES(1, 'one', 1, 1), (2, '2', 2, 2);
         CREATE TABLE plain(x REFERENCES p); INSERT INTO plain VALUES(1), ('2'), (3), (NULL), ('x');
         CREATE TABLE texts(x INTEGER REFERENCES p(t)); INSERT INTO texts VALUES('ONE'), (2), (7);
         CREATE TABLE pairs(x, y, FOREIGN KEY(x, y) REFERENCES p(a, b)); INSERT INTO pairs VALUES(1, 1), (1, 2), (1, NULL);
         CREATE TABLE gone(x REFERENCES nowhere(id)); INSERT INTO gone VALUES(1), (NULL);
         CREATE TABLE bare(k TEXT PRIMARY KEY, x REFERENCES p) WITHOUT ROWID; INSERT INTO bare VALUES('a', 1), ('b', 9);
         CREATE TABLE named(rowid TEXT, x REFERENCES p(id)); INSERT INTO named VALUES('z', 1), ('y', 8);
         CREATE TABLE many(x REFERENCES p);
         WITH RECURSIVE n(n) AS (SELECT -5000 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
         INSERT INTO many(rowid, x) SELECT n, CASE n WHEN 4999 THEN 5 ELSE 1 END FROM n;",
    )
    .unwrap();
    let mut theirs: Vec<(String, Option<i64>, String)> = db
        .prepare("SELECT \"table\", rowid, parent FROM pragma_foreign_key_check")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let (count, mut ours) = found(&path);
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs);
    assert_eq!(count, 8);
}

#[test]
fn a_key_that_refers_to_no_column_keeps_nobody() {
    let bed = Bed::new();
    bed.db().execute_batch("CREATE TABLE odd(x REFERENCES mailboxes(nobody))").unwrap();
    let found = Violations::look(&bed.path("relay.db")).unwrap();
    assert_eq!(found, Violations::default(), "none, and not all were looked at");
}

#[test]
fn a_look_is_bounded_in_names_and_in_time() {
    let bed = Bed::new();
    let db = bed.db();
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30)
         INSERT INTO mailbox_sides SELECT n, 's', 0 FROM n;",
    )
    .unwrap();
    let (count, named) = found(&bed.path("relay.db"));
    assert_eq!((count, named.len()), (30, 20));
    let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let late = Violations::look_until(&bed.path("relay.db"), past).unwrap();
    assert!(!late.complete && late.count == 0, "{late:?}");
    assert!(Violations::look(&bed.path("nowhere.db")).is_err());
}
