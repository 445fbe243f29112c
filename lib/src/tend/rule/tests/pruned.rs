//! What goes, what stays, and what is in the way.

use std::time::Duration;

use rusqlite::Connection;

use super::*;

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
fn a_pass_that_began_in_the_middle_sends_its_summaries_too() {
    let bed = Bed::new();
    for id in ["a", "b", "c", "d"] {
        bed.mailbox(id, 700);
    }
    let rule = bed.changed("pause = \"0s\"", "pause = \"0s\", items = 1").clone_with(|rule| {
        rule.figures.clear();
        rule.policy.limits.pass_items = 2;
    });
    let mut worker = bed.worker(&rule);
    for (end, sums) in [(PassEnd::Bounded, 2), (PassEnd::Bounded, 4)] {
        let report = pass(&mut worker);
        assert_eq!((report.done, report.end), (2, end));
        assert_eq!(bed.sums(), sums);
    }
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
