//! Rules on real databases, with a service beside them.

mod enforcement;
mod fits;
mod pruned;
mod violations;

use std::path::Path;

use jiff::Timestamp;
use rusqlite::Connection;

use super::*;
use crate::tend::{Control, PassEnd, PassReport, State, TaskError, Worker};

const NOW: i64 = 1_700_000_000;

/// As the mailbox server has it, without an index on either table of sides.
const CHANNEL: &str = "
    CREATE TABLE mailboxes(app_id VARCHAR, id VARCHAR PRIMARY KEY, updated INTEGER, for_nameplate BOOLEAN);
    CREATE TABLE nameplates(id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR, mailbox_id VARCHAR REFERENCES mailboxes(id));
    CREATE TABLE nameplate_sides(nameplates_id REFERENCES nameplates(id), side VARCHAR, added INTEGER);
    CREATE TABLE mailbox_sides(mailbox_id REFERENCES mailboxes(id), side VARCHAR, added INTEGER);
    CREATE TABLE messages(mailbox_id VARCHAR, body VARCHAR);
    CREATE TABLE state(updated INTEGER);
    INSERT INTO state VALUES(0);";

struct Bed {
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let bed = Self { directory: tempfile::tempdir().unwrap() };
        bed.db().execute_batch(CHANNEL).unwrap();
        let usage = Connection::open(bed.path("usage.db")).unwrap();
        usage
            .execute_batch(
                "CREATE TABLE mailboxes(app_id VARCHAR, started INTEGER, total_time INTEGER, result VARCHAR)",
            )
            .unwrap();
        bed
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn db(&self) -> Connection {
        let db = Connection::open(self.path("relay.db")).unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db
    }

    /// A mailbox with a nameplate, two sides of each, and messages.
    fn mailbox(&self, id: &str, age: i64) {
        let updated = NOW - age;
        self.db()
            .execute_batch(&format!(
                "INSERT INTO mailboxes VALUES('app', '{id}', {updated}, 1);
                 INSERT INTO nameplates(name, mailbox_id) VALUES('1-{id}', '{id}');
                 INSERT INTO nameplate_sides SELECT max(id), 'a', {updated} FROM nameplates;
                 INSERT INTO nameplate_sides SELECT max(id), 'b', {updated} FROM nameplates;
                 INSERT INTO mailbox_sides VALUES('{id}', 'a', {updated}), ('{id}', 'b', {updated});
                 INSERT INTO messages VALUES('{id}', 'x'), ('{id}', 'y');"
            ))
            .unwrap();
    }

    fn count(&self, of: &str) -> i64 {
        self.db().query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    }

    fn sums(&self) -> i64 {
        let usage = Connection::open(self.path("usage.db")).unwrap();
        usage.query_row("SELECT count(*) FROM mailboxes", [], |row| row.get(0)).unwrap()
    }

    fn text(&self) -> String {
        format!(
            r#"
            [rule.mailboxes]
            database = "{0}/relay.db"
            every = "10m"
            table = "mailboxes"
            key = "id"
            expired = "updated <= :now - 660"
            follow = true
            heartbeat = {{ table = "state", column = "updated" }}
            batch = {{ pause = "0s" }}
            [[rule.mailboxes.also]]
            table = "messages"
            where = "mailbox_id = :key"
            [[rule.mailboxes.summary]]
            database = "{0}/usage.db"
            table = "mailboxes"
            select = "SELECT (SELECT app_id FROM mailboxes WHERE id = :key) AS app_id, min(added) AS started, :now - min(added) AS total_time, 'pruney' AS result FROM mailbox_sides WHERE mailbox_id = :key"
            required = ["started"]
            [rule.mailboxes.figures]
            mailboxes = "SELECT count(*) FROM mailboxes"
            wrong = "SELECT count(*) FROM nowhere"
            "#,
            self.directory.path().display()
        )
    }

    fn rule(&self) -> Rule {
        TendConfig::parse(&self.text()).unwrap().rules.remove(0)
    }

    fn changed(&self, from: &str, to: &str) -> Rule {
        let text = self.text();
        assert!(text.contains(from));
        TendConfig::parse(&text.replace(from, to)).unwrap().rules.remove(0)
    }

    fn state(&self) -> std::path::PathBuf {
        self.path("state")
    }

    fn worker(&self, rule: &Rule) -> Worker {
        let state = State::open(&self.state(), &rule.name).unwrap();
        Worker::new(Box::new(RuleTask::new(rule.clone(), &self.state())), state, rule.policy.clone())
    }

    fn pass(&self) -> PassReport {
        pass(&mut self.worker(&self.changed("wrong = \"SELECT count(*) FROM nowhere\"", "")))
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn pass(worker: &mut Worker) -> PassReport {
    let limits = worker.policy().limits.clone();
    worker.pass(now(), &Control::new(&limits).unwrap())
}

fn unfit(rule: &Rule) -> String {
    match Checked::new(rule) {
        Err(error @ RuleError::Unfit { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

impl Rule {
    fn clone_with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut rule = self.clone();
        change(&mut rule);
        rule
    }
}
