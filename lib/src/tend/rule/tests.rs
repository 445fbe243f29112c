//! Rules on real databases, with a service beside them.

use std::path::Path;
use std::time::Duration;

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

#[test]
fn what_is_expired_goes_with_all_that_belongs_to_it_and_the_rest_stays() {
    let bed = Bed::new();
    for n in 0..20 {
        bed.mailbox(&format!("old{n}"), 700);
        bed.mailbox(&format!("new{n}"), 600);
    }
    let report = bed.pass();
    assert_eq!((report.done, report.failed, report.end), (20, 0, PassEnd::Complete));
    let left =
        ["mailboxes", "nameplates", "nameplate_sides", "mailbox_sides", "messages"].map(|table| bed.count(table));
    assert_eq!(left, [20, 20, 40, 40, 40]);
    assert_eq!(bed.count("mailboxes WHERE id LIKE 'old%'"), 0);
    assert_eq!(bed.sums(), 20, "each is summed up once");
    assert_eq!(bed.count(&format!("state WHERE updated = {NOW}")), 1, "the heartbeat");
    bed.db().execute("UPDATE state SET updated = 7", []).unwrap();
    assert_eq!(bed.pass().done, 0);
    assert_eq!(bed.count("state WHERE updated = 7"), 1, "no modification, no heartbeat");
}

#[test]
fn one_that_can_not_be_summed_up_stays_whole_and_the_others_go() {
    let bed = Bed::new();
    for id in ["a", "poison", "z"] {
        bed.mailbox(id, 700);
    }
    bed.db().execute("DELETE FROM mailbox_sides WHERE mailbox_id = 'poison'", []).unwrap();
    let report = bed.pass();
    assert_eq!((report.done, report.failed), (2, 1));
    let left =
        ["mailboxes", "nameplates", "nameplate_sides", "mailbox_sides", "messages"].map(|table| bed.count(table));
    assert_eq!((left, bed.sums()), ([1, 1, 2, 0, 2], 2));
    let state = State::all(&bed.state()).unwrap().remove(0);
    let failing = state.failing().next().unwrap();
    assert_eq!(failing.item, Key::meant_by("poison")[0]);
    assert!(failing.reason.contains("no started"), "{}", failing.reason);
}

#[test]
fn a_constraint_that_is_checked_at_the_commit_keeps_only_its_own_item() {
    let bed = Bed::new();
    bed.db()
        .execute_batch("CREATE TABLE pins(mailbox VARCHAR REFERENCES mailboxes(id) ON DELETE NO ACTION DEFERRABLE INITIALLY DEFERRED)")
        .unwrap();
    let why = unfit(&bed.rule().clone_with(|rule| rule.follow = false));
    assert!(why.contains("pins refers to mailboxes"), "{why}");
    // The schema as it is refuses such a rule; a trigger that brings such a row back is seen at the commit only.
    bed.db()
        .execute_batch(
            "CREATE TRIGGER again AFTER DELETE ON mailboxes WHEN old.id = 'pinned' BEGIN INSERT INTO pins VALUES('pinned'); END",
        )
        .unwrap();
    for id in ["a", "pinned", "z"] {
        bed.mailbox(id, 700);
    }
    let report = bed.pass();
    assert_eq!((report.done, report.failed), (2, 1), "{report:?}");
    assert_eq!((bed.count("mailboxes WHERE id = 'pinned'"), bed.count("mailboxes"), bed.sums()), (1, 1, 2));
}

#[test]
fn what_does_not_fit_is_told_all_at_once() {
    let bed = Bed::new();
    let fits = |rule: &Rule| Checked::new(rule).map(|_| ());
    let usable = |from: &str, to: &str| bed.changed(from, to).clone_with(|rule| rule.figures.clear());
    fits(&usable("every", "every")).unwrap();
    let why = unfit(&usable("table = \"mailboxes\"\n            key", "table = \"mailbox\"\n            key"));
    assert!(why.contains("no table mailbox") && why.contains("messages, nameplate_sides"), "{why}");
    let cases = [
        ("key = \"id\"", "key = \"app_id\"", "equal values"),
        ("key = \"id\"", "key = \"name\"", "no such column"),
        ("updated <= :now", "updatd <= :now", "no such column: updatd"),
        ("updated <= :now - 660", "updated <= :then", ":then"),
        ("updated <= :now - 660", "(updated", "syntax"),
        ("column = \"updated\"", "column = \"touched\"", "no such column"),
        ("where = \"mailbox_id = :key\"", "where = \"mailbox = :key\"", "no such column"),
        ("follow = true", "follow = false", "refers to mailboxes by a foreign key and stays"),
        ("'pruney' AS result", "'pruney' AS outcome", "no column outcome"),
        ("required = [\"started\"]", "required = [\"begun\"]", "does not select"),
        ("table = \"mailboxes\"\n            select", "table = \"nowhere\"\n            select", "no table nowhere"),
    ];
    for (from, to, tells) in cases {
        let why = unfit(&usable(from, to));
        assert!(why.contains(tells), "{to}: {why}");
    }
    let why = unfit(&bed.rule().clone_with(|rule| rule.summaries[0].select = "DELETE FROM mailboxes".to_owned()));
    assert!(why.contains("it is no query") && why.contains("the figure wrong"), "{why}");
    assert!(matches!(
        Checked::new(&bed.rule().clone_with(|rule| rule.database = bed.path("nowhere.db"))),
        Err(RuleError::Unavailable { .. })
    ));
    std::fs::write(bed.path("text"), vec![b'x'; 4096]).unwrap();
    let text = bed.rule().clone_with(|rule| rule.database = bed.path("text"));
    assert!(matches!(Checked::new(&text), Err(RuleError::Unavailable { .. })));
    assert_eq!(std::fs::read(bed.path("text")).unwrap(), vec![b'x'; 4096]);
}

#[test]
fn an_index_that_is_missing_is_told_with_the_statement() {
    let bed = Bed::new();
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    assert_eq!(Checked::new(&rule).unwrap().advice, [], "small tables need none");
    bed.db()
        .execute_batch(
            "INSERT INTO mailboxes VALUES('app', 'm', 0, 1);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
             INSERT INTO mailbox_sides SELECT 'm', n, 0 FROM n;",
        )
        .unwrap();
    let advice = Checked::new(&rule).unwrap().advice;
    let statements: Vec<&str> = advice.iter().filter_map(|one| one.statement.as_deref()).collect();
    assert_eq!(statements, ["CREATE INDEX \"mailbox_sides_mailbox_id_idx\" ON \"mailbox_sides\"(\"mailbox_id\")"]);
    bed.db().execute_batch(statements[0]).unwrap();
    assert_eq!(Checked::new(&rule).unwrap().advice, []);
}

#[test]
fn a_service_that_writes_makes_it_wait_and_blames_nobody() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    let service = bed.db();
    service.execute_batch("BEGIN IMMEDIATE").unwrap();
    let report = bed.pass();
    assert!(matches!(&report.end, PassEnd::Unavailable(why) if why.contains("writes into it")), "{report:?}");
    service.execute_batch("COMMIT").unwrap();
    assert_eq!(bed.pass().done, 1);
}

#[test]
fn a_usage_database_that_is_locked_keeps_nobody_and_gets_its_rows_later() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    let usage = Connection::open(bed.path("usage.db")).unwrap();
    usage.execute_batch("BEGIN IMMEDIATE").unwrap();
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    let mut worker = bed.worker(&rule);
    assert_eq!(pass(&mut worker).done, 1);
    assert_eq!(RuleTask::new(rule, &bed.state()).outbox_len().unwrap(), 1);
    usage.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bed.sums(), 0);
    pass(&mut worker);
    assert_eq!(bed.sums(), 1);
    pass(&mut worker);
    assert_eq!(bed.sums(), 1);
}

#[test]
fn a_database_that_is_replaced_or_migrated_is_looked_at_anew() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    let mut worker = bed.worker(&rule);
    assert_eq!(pass(&mut worker).done, 1);
    bed.db().execute_batch("ALTER TABLE messages RENAME TO letters").unwrap();
    let report = pass(&mut worker);
    assert!(matches!(&report.end, PassEnd::Broken(why) if why.contains("no table messages")), "{report:?}");
    bed.db().execute_batch("ALTER TABLE letters RENAME TO messages").unwrap();
    bed.mailbox("b", 700);
    assert_eq!(pass(&mut worker).done, 1);
    std::fs::rename(bed.path("relay.db"), bed.path("former.db")).unwrap();
    assert!(matches!(pass(&mut worker).end, PassEnd::Unavailable(_)));
    bed.db().execute_batch(CHANNEL).unwrap();
    bed.mailbox("c", 700);
    assert_eq!((pass(&mut worker).done, bed.count("mailboxes")), (1, 0));
}

#[test]
fn an_item_that_takes_too_long_is_interrupted_and_alone() {
    let bed = Bed::new();
    for id in ["a", "slow", "z"] {
        bed.mailbox(id, 700);
    }
    bed.db()
        .execute_batch(
            "CREATE TRIGGER slow BEFORE DELETE ON mailboxes WHEN old.id = 'slow' BEGIN
                 SELECT count(*) FROM (WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1e9) SELECT n FROM n);
             END",
        )
        .unwrap();
    let rule = bed.rule().clone_with(|rule| {
        rule.figures.clear();
        rule.policy.limits.item_time = Duration::from_millis(200);
    });
    let report = pass(&mut bed.worker(&rule));
    assert_eq!((report.done, report.failed), (2, 1), "{report:?}");
    assert_eq!((bed.count("mailboxes"), bed.count("mailbox_sides"), bed.sums()), (1, 2, 2));
}

#[test]
fn nothing_is_checkpointed_and_the_log_stays_as_it_is() {
    let bed = Bed::new();
    let service = bed.db();
    service.pragma_update(None, "journal_mode", "wal").unwrap();
    service.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for n in 0..300 {
        bed.mailbox(&format!("m{n}"), 700);
    }
    let before = std::fs::read(bed.path("relay.db")).unwrap();
    assert_eq!(bed.pass().done, 300);
    assert!(before == std::fs::read(bed.path("relay.db")).unwrap(), "nothing went from the log to the database");
    assert_eq!(service.query_row("SELECT count(*) FROM mailboxes", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn what_a_client_may_still_listen_to_stays() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rule = bed.rule().clone_with(|rule| {
        rule.figures.clear();
        rule.expired.push_str(" AND updated < :connected_since");
    });
    assert!(unfit(&rule).contains(":connected_since"), "it needs a port");
    let rule = rule.clone_with(|rule| rule.port = Some(port));
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(pass(&mut bed.worker(&rule)).done, 0, "a client is connected, nobody knows for how long");
    drop((client, server));
    assert_eq!(pass(&mut bed.worker(&rule)).done, 1);
    drop(listener);
    assert!(matches!(pass(&mut bed.worker(&rule)).end, PassEnd::Unavailable(_)));
}

#[test]
fn figures_stand_each_on_their_own() {
    let bed = Bed::new();
    bed.mailbox("a", 1);
    let figures = RuleTask::new(bed.rule(), &bed.state()).figures(now());
    assert!(matches!(&figures[0], (name, Ok(number)) if name == "mailboxes" && (*number - 1.0).abs() < f64::EPSILON));
    assert!(matches!(&figures[1], (name, Err(_)) if name == "wrong"));
}

#[test]
fn a_look_rolls_no_journal_back() {
    let bed = Bed::new();
    bed.mailbox("a", 700);
    // What a service leaves that was killed in the middle of a write.
    let service = bed.db();
    service.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE messages SET body = hex(randomblob(9000));").unwrap();
    service.cache_flush().unwrap();
    for name in ["relay.db", "relay.db-journal"] {
        std::fs::copy(bed.path(name), bed.path(&format!("left-{name}"))).unwrap();
    }
    drop(service);
    let rule = bed.rule().clone_with(|rule| rule.database = bed.path("left-relay.db"));
    let before = ["left-relay.db", "left-relay.db-journal"].map(|name| std::fs::read(bed.path(name)).unwrap());
    let mut task = RuleTask::new(rule.clone(), &bed.state());
    assert!(task.figures(now()).iter().all(|(_, figure)| figure.is_err()));
    assert!(task.preview(now()).is_err() && Checked::new(&rule).is_err());
    assert_eq!(before, ["left-relay.db", "left-relay.db-journal"].map(|name| std::fs::read(bed.path(name)).unwrap()));
}

#[test]
fn a_preview_counts_and_changes_nothing() {
    let bed = Bed::new();
    for id in ["a", "b"] {
        bed.mailbox(id, 700);
    }
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    let counts = RuleTask::new(rule, &bed.state()).preview(now()).unwrap();
    let counts: Vec<(&str, u64)> = counts.iter().map(|(table, count)| (table.as_str(), *count)).collect();
    let all = [("messages", 4), ("nameplate_sides", 4), ("nameplates", 2), ("mailbox_sides", 4), ("mailboxes", 2)];
    assert_eq!(counts.len(), all.len());
    assert!(all.iter().all(|one| counts.contains(one)), "{counts:?}");
    assert_eq!(counts.last(), Some(&("mailboxes", 2)));
    assert_eq!(bed.count("mailboxes"), 2);
}

/// Each state of the outbox that a crash can leave; see its table.
#[test]
fn a_summary_counts_once_wherever_it_was_interrupted() {
    let bed = Bed::new();
    bed.mailbox("there", 700);
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    let made = |item: &str| outbox::Made {
        item: Key::meant_by(item)[0].clone(),
        summary: 0,
        columns: vec!["app_id".to_owned(), "started".to_owned()],
        row: vec![rusqlite::types::Value::Text(item.to_owned()), rusqlite::types::Value::Integer(NOW)],
    };
    drop(State::open(&bed.state(), &rule.name).unwrap());
    let mut outbox = outbox::Outbox::open(&bed.state(), &rule.name).unwrap();
    // Before and behind the commit of the unit.
    outbox.put(&[made("there"), made("gone")]).unwrap();
    outbox.settle(|item| Ok::<_, TaskError>(item == Key::meant_by("there")[0])).unwrap();
    assert_eq!(outbox.len().unwrap(), 1);
    assert_eq!((outbox.send(&rule).unwrap(), bed.sums()), (1, 1));
    // It has arrived, and the outbox was not told.
    let state = Connection::open(bed.state().join("tend.db")).unwrap();
    let numbers = outbox.put(&[made("again")]).unwrap();
    outbox.count(&numbers).unwrap();
    state.execute_batch("CREATE TRIGGER keep BEFORE DELETE ON outbox BEGIN SELECT RAISE(FAIL, 'crash'); END").unwrap();
    assert!(outbox.send(&rule).is_err());
    assert_eq!((outbox.len().unwrap(), bed.sums()), (1, 2));
    state.execute_batch("DROP TRIGGER keep").unwrap();
    assert_eq!((outbox.send(&rule).unwrap(), outbox.len().unwrap(), bed.sums()), (1, 0, 2), "not sent twice");
    // Begun, and it has not arrived.
    let numbers = outbox.put(&[made("lost")]).unwrap();
    outbox.count(&numbers).unwrap();
    state.execute("UPDATE outbox SET sent_behind = 2", []).unwrap();
    assert_eq!((outbox.send(&rule).unwrap(), bed.sums()), (1, 3));
}

#[test]
fn a_configuration_that_is_wrong_is_told_line_by_line() {
    let wrong = |text: &str| {
        TendConfig::parse(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(wrong("").contains("no rule"));
    assert!(wrong("[rule.a").contains("1:"));
    let why = wrong("[rule.a]\ndatabase = \"x.db\"\nevry = \"1m\"\n");
    for tells in ["relative", "evry", "every", "table", "expired"] {
        assert!(why.contains(tells), "{tells}: {why}");
    }
    let bed = Bed::new();
    let cases = [
        ("every = \"10m\"", "every = \"10m\"\ncron = \"* * * * *\"", "one of every, cron"),
        ("every = \"10m\"", "cron = \"61 * * * *\"", "cron"),
        ("every = \"10m\"", "cron = \"0 0 30 2 *\"", "never comes\0never"),
        ("every = \"10m\"", "every = \"10ms\"", "shorter than a second"),
        ("every = \"10m\"", "every = \"10m\"\nunit = \"a.service\"\ncontainer = \"a\"", "one service"),
        ("every = \"10m\"", "every = \"10m\"\nport = 70000", "65535"),
        ("every = \"10m\"", "every = \"10m\"\nport = 70\ncontainer = \"a\"", "can't be seen"),
        ("pause = \"0s\"", "time = \"1h\"", "2 s at most"),
        ("[rule.mailboxes.figures]", "[rule.mailboxes.figures]\n\"Bad Name\" = \"SELECT 1\"", "lower-case"),
    ];
    for (from, to, tells) in cases {
        let text = bed.text();
        assert!(text.contains(from));
        let why = wrong(&text.replacen(from, to, 1));
        assert!(tells.split('\0').any(|tells| why.contains(tells)) || to.contains("30 2"), "{to}: {why}");
    }
    for at in 0..bed.text().len() {
        // Cut anywhere: a finding or a shorter rule, never a panic.
        let _read = TendConfig::parse(bed.text().get(..at).unwrap_or_default());
    }
}

impl Rule {
    fn clone_with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut rule = self.clone();
        change(&mut rule);
        rule
    }
}

#[test]
fn keys_of_every_kind_are_pruned_in_their_order() {
    for (kind, values) in [
        ("INTEGER PRIMARY KEY", "(-5), (3), (1000000)"),
        ("TEXT PRIMARY KEY", "('a'), ('ä'), (' ')"),
        ("BLOB UNIQUE", "(x'00'), (x'ff'), (x'')"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("CREATE TABLE t(k {kind}); INSERT INTO t VALUES {values}")).unwrap();
        let text = format!(
            "[rule.r]\ndatabase = \"{}\"\non-demand = true\ntable = \"t\"\nkey = \"k\"\nexpired = \"1\"\n",
            path.display()
        );
        let rule = TendConfig::parse(&text).unwrap().rules.remove(0);
        let state = directory.path().join("state");
        let mut worker = Worker::new(
            Box::new(RuleTask::new(rule.clone(), Path::new(&state))),
            State::open(&state, "r").unwrap(),
            rule.policy.clone(),
        );
        assert_eq!(pass(&mut worker).done, 3, "{kind}");
    }
}
