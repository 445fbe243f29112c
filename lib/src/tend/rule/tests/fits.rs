//! Rules against schemas, and looks that change nothing.

use std::time::{Duration, Instant};

use super::*;

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

/// The mailbox server's columns of foreign keys have no type. What they refer to has one.
#[test]
fn a_column_without_a_type_is_searched_by_its_index() {
    let bed = Bed::new();
    let rule = bed.rule().clone_with(|rule| rule.figures.clear());
    bed.db()
        .execute_batch(
            "CREATE INDEX np ON nameplates(mailbox_id); CREATE INDEX ms ON mailbox_sides(mailbox_id);
             INSERT INTO mailboxes VALUES('app', 'm', 0, 1);
             INSERT INTO mailbox_sides VALUES('m', 's', 0);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
             INSERT INTO nameplates SELECT n, n, 'm' FROM n;
             INSERT INTO nameplate_sides SELECT id, 's', 0 FROM nameplates;",
        )
        .unwrap();
    let advice = Checked::new(&rule).unwrap().advice;
    assert_eq!(advice.len(), 1, "{advice:?}");
    bed.db().execute_batch(advice[0].statement.as_deref().unwrap()).unwrap();
    let checked = Checked::new(&rule).unwrap();
    assert_eq!(checked.advice, [], "an index that is there is used");
    let (_, of_sides) = checked.deletes().find(|(table, _)| *table == "nameplate_sides").unwrap();
    assert!(of_sides.contains("SELECT +"), "{of_sides}");
    assert_eq!(bed.pass().done, 1);
    assert_eq!((bed.count("nameplate_sides"), bed.count("nameplates")), (0, 0));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_figure_that_takes_too_long_is_unknown_and_ends() {
    let bed = Bed::new();
    bed.mailbox("a", 1);
    let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    let rule = bed.rule().clone_with(|rule| {
        rule.figures = vec![
            ("first".to_owned(), "SELECT 7".to_owned()),
            ("endless".to_owned(), endless.to_owned()),
            ("behind".to_owned(), "SELECT 8".to_owned()),
        ];
    });
    let figures = RuleTask::new(rule, &bed.state()).figures(now(), Instant::now() + Duration::from_millis(200));
    let known: Vec<_> = figures.iter().map(|(name, figure)| (name.as_str(), figure.is_ok())).collect();
    assert_eq!(known, [("first", true), ("endless", false), ("behind", false)]);
    assert!(matches!(&figures[1].1, Err(TaskError::Unavailable(why)) if why.contains("too long")), "{figures:?}");
}

#[test]
fn figures_stand_each_on_their_own() {
    let bed = Bed::new();
    bed.mailbox("a", 1);
    let figures = RuleTask::new(bed.rule(), &bed.state()).figures(now(), soon());
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
    assert!(task.figures(now(), soon()).iter().all(|(_, figure)| figure.is_err()));
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

#[test]
fn a_foreign_key_without_a_column_means_the_primary_key_whatever_names_the_item() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, name TEXT UNIQUE, old);
         CREATE TABLE words(note REFERENCES notes, word TEXT);
         INSERT INTO notes VALUES(1, '2', 1), (2, '1', 0);
         INSERT INTO words VALUES(1, 'goes'), (2, 'stays');",
    )
    .unwrap();
    let text = format!(
        "[rule.r]\ndatabase = \"{}\"\non-demand = true\ntable = \"notes\"\nkey = \"name\"\nexpired = \"old\"\nfollow = true\n",
        path.display()
    );
    let rule = TendConfig::parse(&text).unwrap().rules.remove(0);
    let state = directory.path().join("state");
    let task = Box::new(RuleTask::new(rule.clone(), &state));
    let mut worker = Worker::new(task, State::open(&state, "r").unwrap(), rule.policy.clone());
    assert_eq!(pass(&mut worker).done, 1);
    let left: String = db.query_row("SELECT group_concat(word) FROM words", [], |row| row.get(0)).unwrap();
    assert_eq!(left, "stays");
}

#[test]
fn keys_of_every_kind_are_pruned_in_their_order() {
    for (kind, values) in [
        ("INTEGER PRIMARY KEY", "(-5), (3), (1000000)"),
        ("TEXT PRIMARY KEY", "('a'), ('ä'), (' ')"),
        ("BLOB UNIQUE", "(x'00'), (x'ff'), (x'')"),
    ] {
        let small = Small::new(&format!("CREATE TABLE t(k {kind}); INSERT INTO t VALUES {values}"));
        assert_eq!(pass(&mut small.worker("key = \"k\"")).done, 3, "{kind}");
    }
}

/// A database of its own, with a table `t` whose rows are expired.
pub(super) struct Small {
    directory: tempfile::TempDir,
    db: Connection,
}

impl Small {
    pub(super) fn new(sql: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = Connection::open(directory.path().join("a.db")).unwrap();
        db.execute_batch(sql).unwrap();
        Self { directory, db }
    }

    pub(super) fn rule(&self, rest: &str) -> Rule {
        let path = self.directory.path().join("a.db");
        let text = format!("[rule.r]\ndatabase = {path:?}\non-demand = true\ntable = \"t\"\nexpired = \"1\"\n{rest}\n");
        TendConfig::parse(&text).unwrap().rules.remove(0)
    }

    fn worker(&self, rest: &str) -> Worker {
        let (rule, state) = (self.rule(rest), self.directory.path().join("state"));
        let task = Box::new(RuleTask::new(rule.clone(), &state));
        Worker::new(task, State::open(&state, "r").unwrap(), rule.policy)
    }
}

#[test]
fn keys_that_name_no_item_keep_nobody() {
    let many = |value: &str| {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4500) INSERT INTO t SELECT {value} FROM n;"
        )
    };
    for (kind, values) in [
        ("NUMERIC PRIMARY KEY", many("n + 0.5")),
        ("BLOB PRIMARY KEY", many("CAST(x'00ff' || n AS TEXT)") + "DELETE FROM t WHERE typeof(k) <> 'text'; "),
    ] {
        let last = "INSERT INTO t VALUES(x'aa'), (x'ab'), (x'ac')";
        let small = Small::new(&format!("CREATE TABLE t(k {kind}); {values} {last}"));
        let due: i64 =
            small.db.query_row("SELECT count(*) FROM t WHERE typeof(k) = 'blob'", [], |row| row.get(0)).unwrap();
        assert_eq!((pass(&mut small.worker("key = \"k\"")).done, due), (3, 3), "{kind}");
    }
    let why = unfit(&Small::new("CREATE TABLE t(k REAL PRIMARY KEY)").rule("key = \"k\""));
    assert!(why.contains("t.k has the type REAL"), "{why}");
}

#[test]
fn what_belongs_to_another_item_by_its_foreign_key_is_not_followed() {
    let fits = |to: &str, from: &str| {
        let sql =
            format!("CREATE TABLE t(k {to} UNIQUE); CREATE TABLE c(x {from} REFERENCES t(k)); CREATE INDEX x ON c(x)");
        Checked::new(&Small::new(&sql).rule("key = \"k\"\nfollow = true")).map(|_| ())
    };
    for (to, from) in [
        ("TEXT", "TEXT"),
        ("TEXT", ""),
        ("INT", "BIGINT"),
        ("INT", "TEXT"),
        ("NUMERIC", "DOUBLE"),
        ("", ""),
        ("", "BLOB"),
    ] {
        fits(to, from).unwrap();
    }
    for (to, from) in [
        ("TEXT", "TEXT COLLATE NOCASE"),
        ("TEXT COLLATE NOCASE", "TEXT"),
        ("TEXT", "INT"),
        ("", "INT"),
        ("BLOB", "TEXT"),
    ] {
        let why = fits(to, from).unwrap_err().to_string();
        assert!(why.contains("c.x refers to t.k and has another collation or type"), "{to} {from}: {why}");
    }
    // And further down.
    let small = Small::new(
        "CREATE TABLE t(k TEXT PRIMARY KEY); CREATE TABLE a(k TEXT PRIMARY KEY REFERENCES t(k));
         CREATE TABLE b(x TEXT COLLATE RTRIM REFERENCES a(k))",
    );
    let why = unfit(&small.rule("key = \"k\"\nfollow = true"));
    assert!(why.contains("b.x refers to a.k"), "{why}");
}

#[test]
fn text_keys_of_a_database_of_utf_16_are_pruned_in_its_order() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE s(id TEXT PRIMARY KEY, seen INTEGER)"))
            .unwrap();
        let fill = || {
            for id in ["Āb", "anna", "zoe", "böb", "łuk", "😀", "ﾀ"] {
                db.execute("INSERT INTO s VALUES(?1, 0)", [id]).unwrap();
            }
        };
        let text = format!(
            "[rule.r]\ndatabase = \"{}\"\non-demand = true\ntable = \"s\"\nkey = \"id\"\nexpired = \"seen < :now\"\n\
             batch = {{ items = 1, pause = \"0s\" }}",
            path.display()
        );
        let mut rule = TendConfig::parse(&text).unwrap().rules.remove(0);
        let worker = |rule: &Rule| {
            let state = State::open(&directory.path().join("state"), "r").unwrap();
            Worker::new(
                Box::new(RuleTask::new(rule.clone(), &directory.path().join("state"))),
                state,
                rule.policy.clone(),
            )
        };
        fill();
        let report = pass(&mut worker(&rule));
        assert_eq!((report.done, report.end), (7, PassEnd::Complete), "{encoding}");
        // From a cursor in the middle to the end, and from the beginning to there.
        fill();
        rule.policy.limits.pass_items = 3;
        for done in [3, 3, 1] {
            assert_eq!(pass(&mut worker(&rule)).done, done, "{encoding}");
        }
    }
}
