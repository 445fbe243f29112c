//! Foreign keys that triggers of ours enforce: as exactly as SQLite, only where they can, and without looking through tables.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::{StatementStatus, types::Value};

use super::fits::Small;
use super::*;
use crate::tend::rule::connection::{For, Opened};
use crate::tend::rule::enforcement::Enforcement;
use crate::tend::rule::item::begin;

const INDICES: &str = "
    CREATE INDEX np ON nameplates(mailbox_id); CREATE INDEX ns ON nameplate_sides(nameplates_id);
    CREATE INDEX ms ON mailbox_sides(mailbox_id); CREATE INDEX m ON messages(mailbox_id);";

fn enforcement(rule: &Rule) -> Enforcement {
    Checked::new(rule).unwrap().enforcement
}

fn is_ours(rule: &Rule) -> bool {
    matches!(enforcement(rule), Enforcement::Triggers(_))
}

fn without_figures(bed: &Bed) -> Rule {
    bed.rule().clone_with(|rule| rule.figures.clear())
}

fn indexed() -> Bed {
    let bed = Bed::new();
    bed.db().execute_batch(INDICES).unwrap();
    bed
}

#[test]
fn only_what_sqlite_would_look_through_a_table_for_is_enforced_by_us() {
    assert!(!is_ours(&without_figures(&Bed::new())), "without an index it is no faster");
    let bed = indexed();
    assert!(is_ours(&without_figures(&bed)));
    bed.db().execute_batch("DROP INDEX ns; CREATE INDEX ns ON nameplate_sides(nameplates_id) WHERE added > 0").unwrap();
    assert!(!is_ours(&without_figures(&bed)), "the index has not all of the rows");
    bed.db().execute_batch("DROP INDEX ns; CREATE INDEX ns ON nameplate_sides(side, nameplates_id)").unwrap();
    assert!(!is_ours(&without_figures(&bed)), "the index is in another order");
    let numbers =
        "DROP TABLE nameplate_sides; CREATE TABLE nameplate_sides(nameplates_id INT REFERENCES nameplates(id));
        CREATE INDEX ns ON nameplate_sides(nameplates_id)";
    bed.db().execute_batch(numbers).unwrap();
    assert!(!is_ours(&without_figures(&bed)), "SQLite uses it as well");
    bed.db().execute_batch(&numbers.replace(" INT ", " TEXT ")).unwrap();
    assert!(!is_ours(&without_figures(&bed)), "its values would be converted in parts too");
    bed.db().execute_batch(&numbers.replace(" INT ", " BLOB ").replace("id)\"", "id DESC)\"")).unwrap();
    assert!(is_ours(&without_figures(&bed)));
}

#[test]
fn whatever_is_more_than_a_question_leaves_it_to_sqlite() {
    let child = |what: &str| {
        format!(
            "DROP TABLE nameplate_sides; CREATE TABLE nameplate_sides(nameplates_id REFERENCES nameplates(id) {what}, \
             side VARCHAR, added INTEGER); CREATE INDEX ns ON nameplate_sides(nameplates_id);"
        )
    };
    let cases = [
        (child("ON DELETE CASCADE"), "changes what refers"),
        (child("ON DELETE SET NULL"), "changes what refers"),
        (child("ON DELETE SET DEFAULT"), "changes what refers"),
        (child("DEFERRABLE INITIALLY DEFERRED"), "in the commit only"),
        ("CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT 1; END".to_owned(), "has triggers"),
        ("CREATE TABLE v(id INT UNIQUE); ALTER TABLE state ADD COLUMN x REFERENCES v(id)".to_owned(), "heartbeat"),
        (
            "CREATE UNIQUE INDEX u ON state(updated); CREATE TABLE of_state(x REFERENCES state(updated))".to_owned(),
            "heartbeat",
        ),
        ("ALTER TABLE nameplate_sides ADD COLUMN x REFERENCES nowhere(id)".to_owned(), "does not fit"),
        ("ALTER TABLE messages ADD COLUMN x REFERENCES nameplates(name)".to_owned(), "does not fit"),
        (
            "ALTER TABLE messages ADD COLUMN x REFERENCES nameplates(nobody); CREATE INDEX x ON messages(x)".to_owned(),
            "does not fit",
        ),
        ("DROP TABLE messages; CREATE VIRTUAL TABLE messages USING fts5(mailbox_id)".to_owned(), "not an ordinary one"),
        (
            "CREATE UNIQUE INDEX u ON nameplates(id, name);
             ALTER TABLE messages RENAME TO letters; CREATE TABLE messages(mailbox_id, a, b, FOREIGN KEY(a, b) REFERENCES nameplates(id, name))"
                .to_owned(),
            "several columns",
        ),
        ("ALTER TABLE messages ADD COLUMN again REFERENCES messages(body)".to_owned(), "refers to itself"),
        ("CREATE TABLE old(x INT REFERENCES nameplates(id))".to_owned(), "the name that triggers have"),
    ];
    for (sql, tells) in cases {
        let bed = indexed();
        // `follow` refuses some of them: what goes is named.
        let rule = without_figures(&bed).clone_with(|rule| {
            rule.follow = false;
            for (table, condition) in [
                ("nameplate_sides", "nameplates_id IN (SELECT +id FROM nameplates WHERE mailbox_id = :key)"),
                ("nameplates", "mailbox_id = :key"),
                ("mailbox_sides", "mailbox_id = :key"),
            ] {
                rule.also.push(Belonging { table: table.to_owned(), condition: condition.to_owned() });
            }
        });
        assert!(is_ours(&rule), "before {sql}");
        let db = Connection::open(bed.path("relay.db")).unwrap();
        db.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}")).unwrap();
        let rule = rule.clone_with(|rule| {
            if sql.contains("CREATE TABLE old(") {
                rule.also.insert(0, Belonging { table: "old".to_owned(), condition: "x = :key".to_owned() });
            }
        });
        match enforcement(&rule) {
            Enforcement::Sqlite { slow } => {
                assert!(slow.iter().any(|(table, why)| table == "nameplate_sides" && why.contains(tells)), "{slow:?}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// A foreign key that names no column takes the primary key, in whatever order its index is.
#[test]
fn a_row_that_has_no_index_in_its_own_order_is_not_looked_for() {
    let with = |key: &str| {
        let small = Small::new(&format!(
            "CREATE TABLE t(k INT UNIQUE, id INT, PRIMARY KEY(id{key}));
             CREATE TABLE c(n REFERENCES t); CREATE INDEX cn ON c(n)"
        ));
        enforcement(&small.rule("key = \"k\"\nfollow = true"))
    };
    assert!(matches!(with(""), Enforcement::Triggers(_)));
    match with(" COLLATE NOCASE") {
        Enforcement::Sqlite { slow } => assert!(slow[0].1.contains("no index in its own order"), "{slow:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_that_stays_slow_is_told_where_it_is_large() {
    let bed = indexed();
    bed.db().execute_batch("CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT 1; END").unwrap();
    let rule = without_figures(&bed);
    assert_eq!(Checked::new(&rule).unwrap().advice, []);
    bed.mailbox("m", 0);
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
        INSERT INTO nameplate_sides SELECT 1, 's', n FROM n";
    bed.db().execute_batch(many).unwrap();
    let advice = Checked::new(&rule).unwrap().advice;
    assert!(advice.len() == 1 && advice[0].what.contains("has triggers"), "{advice:?}");
    bed.db().execute_batch("DROP TRIGGER t").unwrap();
    assert_eq!(Checked::new(&rule).unwrap().advice, []);
}

/// `sqlite_%` would match it.
#[test]
fn a_table_with_a_name_almost_as_sqlites_own_is_no_blind_spot() {
    let bed = indexed();
    bed.mailbox("a", 700);
    bed.db()
        .execute_batch("CREATE TABLE sqlites_x(n REFERENCES nameplates(id)); INSERT INTO sqlites_x VALUES(1)")
        .unwrap();
    let rule = without_figures(&bed);
    assert!(Checked::new(&rule).unwrap().deletes().any(|(table, _)| table == "sqlites_x"));
    assert_eq!((pass(&mut bed.worker(&rule)).done, bed.count("sqlites_x")), (1, 0));
}

#[test]
fn a_text_that_means_a_number_keeps_its_item_whenever_it_came() {
    let bed = indexed();
    for id in ["a", "b", "c"] {
        bed.mailbox(id, 700);
    }
    let rule = without_figures(&bed)
        .clone_with(|rule| (rule.policy.limits.pass_items, rule.policy.limits.unit_items) = (1, 1));
    let mut worker = bed.worker(&rule);
    assert_eq!(pass(&mut worker).done, 1);
    // The same connection goes on. SQLite takes this text for the nameplate 2.
    let service = bed.db();
    service.execute_batch("INSERT INTO nameplate_sides VALUES(' 2.0', 's', 0)").unwrap();
    let report = pass(&mut worker);
    assert_eq!((report.done, report.failed), (0, 1), "{report:?}");
    let report = pass(&mut worker);
    assert_eq!((report.done, report.failed), (1, 0), "{report:?}");
    let state = State::all(&bed.state()).unwrap().remove(0);
    let reason = &state.failing().next().unwrap().reason;
    assert!(reason.ends_with("relay.db: FOREIGN KEY constraint failed"), "{reason}");
    assert_eq!(
        (bed.count("mailboxes WHERE id = 'b'"), bed.count("mailboxes"), bed.count("nameplate_sides")),
        (1, 1, 3)
    );
    let refused = service.execute("DELETE FROM nameplates WHERE id = 2", []).unwrap_err();
    assert_eq!(refused.to_string(), "FOREIGN KEY constraint failed", "as SQLite says it");
}

#[test]
fn a_schema_that_changes_after_the_check_ends_the_transaction() {
    let bed = indexed();
    bed.mailbox("a", 700);
    let rule = without_figures(&bed);
    let mut opened = Opened::open(&rule.database, For::Writing, None).unwrap();
    let checked = Checked::of(&rule, &opened, For::Writing).unwrap();
    checked.enforcement.begin(&opened.connection).unwrap();
    drop(begin(&mut opened, &checked, &rule.database).unwrap());
    bed.db().execute_batch("CREATE TABLE pins(n REFERENCES nameplates(id) ON DELETE CASCADE)").unwrap();
    match begin(&mut opened, &checked, &rule.database) {
        Err(TaskError::Unavailable(why)) => assert!(why.contains("schema has just changed"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Steps through rows that no index chose, by the deletes of all mailboxes.
fn steps(ours: bool) -> i32 {
    let bed = indexed();
    for n in 0..30 {
        bed.mailbox(&format!("m{n}"), 700);
    }
    let rule = without_figures(&bed);
    let opened = Opened::open(&rule.database, For::Writing, None).unwrap();
    let checked = Checked::of(&rule, &opened, For::Writing).unwrap();
    if ours {
        checked.enforcement.begin(&opened.connection).unwrap();
    }
    let mut steps = 0;
    for n in 0..30 {
        for (table, condition) in checked.deletes() {
            let mut statement = opened.connection.prepare(&format!("DELETE FROM {table} WHERE {condition}")).unwrap();
            assert!(statement.execute(&[(":key", &format!("m{n}"))]).unwrap() > 0);
            steps += statement.get_status(StatementStatus::FullscanStep);
        }
    }
    assert_eq!(bed.count("mailboxes"), 0);
    steps
}

#[test]
fn no_statement_of_a_pass_looks_through_a_table() {
    assert_eq!(steps(true), 0);
    assert!(steps(false) > 30, "SQLite's own enforcement does");
}

/// What is the same for two databases: all rows, the violated foreign keys, and what a pass said.
type Seen = (Vec<Vec<Value>>, Vec<Vec<Value>>, (u64, u64, PassEnd), Vec<(String, String)>);

#[derive(Debug, Clone)]
struct Case {
    parent: &'static str,
    child: &'static str,
    other: &'static str,
    descending: bool,
    action: &'static str,
    /// Values of the parent, each with its item.
    parents: Vec<(&'static str, u8)>,
    /// Values of the children: which of the two tables, and whether the rule leaves it.
    children: Vec<(&'static str, bool, bool)>,
}

const VALUES: [&str; 27] = [
    "NULL",
    "1",
    "2",
    "3",
    "4",
    "-5",
    "1.0",
    "2.5",
    "9007199254740993",
    "9007199254740992.0",
    "9e999",
    "'1'",
    "' 2'",
    "'03'",
    "'4.0'",
    "'2.5e0'",
    "'x'",
    "'X'",
    "''",
    "x'31'",
    "x''",
    "'9e999'",
    "-9e999",
    "'Inf'",
    "0.30000000000000004",
    "'0.3'",
    "1e300",
];

fn case() -> impl Strategy<Value = Case> {
    let of = |all: &'static [&'static str]| prop::sample::select(all);
    let values = || prop::sample::select(&VALUES[..]);
    (
        of(&[
            "(\"i d\" INTEGER PRIMARY KEY, item)",
            "(\"i d\" INT PRIMARY KEY, item)",
            "(item, \"i d\" REAL UNIQUE)",
            "(\"i d\" NUMERIC COLLATE NOCASE UNIQUE, item)",
            "(item, \"i d\" DECIMAL UNIQUE)",
            "(item TEXT, \"i d\" INTEGER NOT NULL, PRIMARY KEY(\"i d\" DESC))",
            "(\"i d\" INT PRIMARY KEY DESC, item) WITHOUT ROWID",
            "(item, \"i d\" REAL PRIMARY KEY) WITHOUT ROWID",
        ]),
        of(&["", "BLOB", "COLLATE NOCASE"]),
        of(&["", "INT", "TEXT", "REAL", "TEXT COLLATE NOCASE", "COLLATE NOCASE"]),
        any::<bool>(),
        of(&["", "ON DELETE NO ACTION", "ON DELETE RESTRICT ON UPDATE CASCADE"]),
        prop::collection::vec((values(), 0..6_u8), 1..12),
        prop::collection::vec((values(), any::<bool>(), prop::bool::weighted(0.2)), 0..12),
    )
        .prop_map(|(parent, child, other, descending, action, parents, children)| Case {
            parent,
            child,
            other,
            descending,
            action,
            parents,
            children,
        })
}

/// A pass on such a database; by SQLite's enforcement where a trigger on a table that nobody writes asks for it.
fn seen(case: &Case, ours: bool) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    let Case { parent, child, other, action, .. } = case;
    let order = if case.descending { "DESC" } else { "" };
    db.execute_batch(&format!(
        "PRAGMA synchronous = off;
         CREATE TABLE items(id TEXT PRIMARY KEY); INSERT INTO items VALUES('i0'), ('i1'), ('i2'), ('i3'), ('i4'), ('i5');
         CREATE TABLE \"the \"\"n\"{parent};
         CREATE INDEX of_item ON \"the \"\"n\"(item);
         CREATE TABLE s(\"select\" {child} REFERENCES \"THE \"\"N\"(\"i d\") {action}, keep);
         CREATE INDEX of_s ON s(\"select\" {order});
         CREATE TABLE t(n {other} REFERENCES \"the \"\"n\"(\"I D\") {action}, keep);
         CREATE INDEX of_t ON t(n);
         CREATE TABLE unrelated(x);
         PRAGMA foreign_keys = off;"
    ))
    .unwrap();
    if !ours {
        db.execute_batch("CREATE TRIGGER keep AFTER INSERT ON unrelated BEGIN SELECT 1; END").unwrap();
    }
    for (value, item) in &case.parents {
        // Not every value fits every key, nor twice.
        let _refused =
            db.execute_batch(&format!("INSERT INTO \"the \"\"n\"(\"i d\", item) VALUES({value}, 'i{item}')"));
    }
    for (value, of_s, keep) in &case.children {
        db.execute_batch(&format!("INSERT INTO {} VALUES({value}, {keep})", if *of_s { "s" } else { "t" })).unwrap();
    }
    let text = format!(
        "[rule.r]\ndatabase = {path:?}\non-demand = true\ntable = \"items\"\nkey = \"id\"\nexpired = \"1\"\n\
         [[rule.r.also]]\ntable = \"s\"\n\
         where = '\"select\" IN (SELECT +\"i d\" FROM \"the \"\"n\" WHERE item = :key) AND NOT keep'\n\
         [[rule.r.also]]\ntable = \"t\"\nwhere = 'n IN (SELECT \"i d\" FROM \"the \"\"n\" WHERE item = :key) AND NOT keep'\n\
         [[rule.r.also]]\ntable = 'the \"n'\nwhere = \"item = :key\"\n"
    );
    let rule = TendConfig::parse(&text).unwrap().rules.remove(0);
    // An index in another order than that of the parent's values is of no use to anybody. A rowid has none.
    let fits = |child: &str| parent.contains("INTEGER") || parent.contains("NOCASE") == child.contains("NOCASE");
    let usable = fits(child) || (["", "COLLATE NOCASE"].contains(other) && fits(other));
    assert_eq!(is_ours(&rule), ours && usable, "{case:?}");
    let all = |sql: &str| -> Vec<Vec<Value>> {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let row =
            |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>();
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    let violated = || all("SELECT \"table\", rowid, parent FROM pragma_foreign_key_check ORDER BY 1, 2, 3");
    let before = violated();
    let state = directory.path().join("state");
    let task = Box::new(RuleTask::new(rule.clone(), &state));
    let report = pass(&mut Worker::new(task, State::open(&state, "r").unwrap(), rule.policy.clone()));
    let after = violated();
    assert!(after.iter().all(|one| before.contains(one)), "{case:?}: {before:?} {after:?}");
    let rows = [
        "SELECT 'i', id, 0 FROM items",
        "SELECT 'n', \"i d\", item FROM \"the \"\"n\"",
        "SELECT 's', * FROM s",
        "SELECT 't', * FROM t",
    ];
    let rows = rows.into_iter().flat_map(|sql| all(&format!("{sql} ORDER BY 1, 2, 3"))).collect();
    let state = State::all(&state).unwrap().remove(0);
    let name = path.display().to_string();
    let failing = state.failing().map(|one| (one.item.clone(), one.reason.replace(&name, ""))).collect();
    (rows, after, (report.done, report.failed, report.end), failing)
}

/// A number and a text that are equal only as texts: RESTRICT goes by the type of what refers.
#[test]
fn what_restrict_keeps_by_the_type_of_what_refers_stays() {
    for (number, text) in [("9e999", "'Inf'"), ("9e999", "9e999"), ("-9e999", "'-Inf'")] {
        let case = |action| Case {
            parent: "(\"i d\" NUMERIC COLLATE NOCASE UNIQUE, item)",
            child: "COLLATE NOCASE",
            other: "TEXT",
            descending: false,
            action,
            parents: vec![(number, 0)],
            children: vec![(text, false, false)],
        };
        for (action, kept) in [("ON DELETE NO ACTION", 0), ("ON DELETE RESTRICT", 1)] {
            let (ours, sqlites) = (seen(&case(action), true), seen(&case(action), false));
            assert_eq!((&ours, ours.2.1), (&sqlites, kept), "{number} {text} {action}");
        }
    }
}

#[test]
fn triggers_of_ours_let_go_and_keep_what_sqlite_does() {
    let (went, stayed) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
    let run = runner.run(&case(), |case| {
        let (ours, sqlites) = (seen(&case, true), seen(&case, false));
        went.set(went.get() + ours.2.0);
        stayed.set(stayed.get() + ours.2.1);
        prop_assert_eq!(ours, sqlites);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    // Mostly hundreds and dozens.
    assert!(went.get() > 0 && stayed.get() > 0, "{} went, {} stayed", went.get(), stayed.get());
}
