//! What clients know for sure of their mailboxes, and the databases compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::server::Place;

/// An item is expired when nothing has touched it for so long, in seconds.
pub(crate) const EXPIRY: f64 = 1.0;
/// SQLite tells the time to the millisecond.
const EXACT: f64 = 0.002;

/// Each mailbox that is removed is noted, in the transaction that removes it, with the version of the SQLite that does it: the
/// server's Python has one, we have another.
const WITNESS: &str = "
    CREATE TABLE removed(mailbox TEXT, updated REAL, at REAL, version TEXT);
    CREATE TRIGGER mailbox_is_removed AFTER DELETE ON mailboxes BEGIN
      INSERT INTO removed VALUES(OLD.id, OLD.updated, (julianday('now') - 2440587.5) * 86400.0, sqlite_version());
    END;";

/// What refers to nothing. Messages have no foreign key.
const ORPHANS: &[(&str, &str)] = &[
    ("a violated foreign key", "SELECT count(*) FROM pragma_foreign_key_check"),
    (
        "sides without their mailbox",
        "SELECT count(*) FROM mailbox_sides WHERE mailbox_id NOT IN (SELECT id FROM mailboxes)",
    ),
    (
        "nameplates without their mailbox",
        "SELECT count(*) FROM nameplates WHERE mailbox_id NOT IN (SELECT id FROM mailboxes)",
    ),
    (
        "sides without their nameplate",
        "SELECT count(*) FROM nameplate_sides WHERE nameplates_id NOT IN (SELECT id FROM nameplates)",
    ),
    (
        "messages without their mailbox",
        "SELECT count(*) FROM messages WHERE mailbox_id NOT IN (SELECT id FROM mailboxes)",
    ),
];

/// In seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A connected client has a mailbox in use.
#[derive(Debug, Clone)]
struct Hold {
    mailbox: String,
    /// When the server had said so.
    from: f64,
    /// Before the client began to give it up.
    until: Option<f64>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// Of each mailbox when something was last said that the server has done.
    mailboxes: BTreeMap<String, f64>,
    sides: BTreeMap<(String, String), f64>,
    messages: BTreeMap<(String, String), f64>,
    /// When a client first said that it closes it: from then on the server may remove it.
    closed: BTreeMap<String, f64>,
    holds: Vec<Hold>,
}

/// Shared by who talks to the server and who looks at the databases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Known>>);

/// Removals so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Removed {
    pub(crate) by_us: usize,
    pub(crate) by_server: usize,
}

impl Ledger {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    /// The server has opened a mailbox for a side of it that said so at `said`.
    pub(crate) fn opened(&self, mailbox: &str, side: &str, said: f64) {
        let mut known = self.known();
        known.mailboxes.insert(mailbox.to_owned(), said);
        known.sides.insert((mailbox.to_owned(), side.to_owned()), said);
    }

    /// The client stays connected with it; the answer is the number of the hold.
    pub(crate) fn held(&self, mailbox: &str) -> usize {
        let mut known = self.known();
        known.holds.push(Hold { mailbox: mailbox.to_owned(), from: now(), until: None });
        known.holds.len() - 1
    }

    /// It is about to give that up.
    pub(crate) fn let_go(&self, hold: usize) {
        self.known().holds[hold].until.get_or_insert_with(now);
    }

    pub(crate) fn added(&self, mailbox: &str, message: &str, said: f64) {
        let mut known = self.known();
        known.mailboxes.insert(mailbox.to_owned(), said);
        known.messages.insert((mailbox.to_owned(), message.to_owned()), said);
    }

    /// A client is about to close it.
    pub(crate) fn closes(&self, mailbox: &str) {
        self.known().closed.entry(mailbox.to_owned()).or_insert_with(now);
    }

    /// What is wrong in the database as it is now; nothing, as long as all goes well.
    pub(crate) fn faults(&self, place: &Place) -> (Vec<String>, Removed) {
        let mut db = place.channel();
        // What was known before must be in the snapshot, and what is in the snapshot is known after.
        let before = self.known().clone();
        let transaction = db.transaction().unwrap();
        let snapshot = Snapshot::of(&transaction);
        transaction.commit().unwrap();
        let after = self.known().clone();
        let mut faults = snapshot.orphans.clone();
        faults.extend(snapshot.missing(&before));
        let (wrongs, removed) = snapshot.wrongs(&after);
        faults.extend(wrongs);
        (faults, removed)
    }
}

/// Has removals noted from now on.
pub(crate) fn watch_removals(place: &Place, servers_python: &std::path::Path) {
    let mut python = std::process::Command::new(servers_python);
    python.args(["-c", "import sqlite3; print(sqlite3.sqlite_version)"]);
    let theirs = svckit_testbed::command::run(python, crate::bed::QUICK).expect(0).stdout;
    assert_ne!(theirs.trim(), rusqlite::version(), "who removed a mailbox could not be told");
    place.channel().execute_batch(WITNESS).unwrap();
}

/// The database at one instant.
struct Snapshot {
    orphans: Vec<String>,
    mailboxes: BTreeSet<String>,
    sides: BTreeSet<(String, String)>,
    messages: BTreeSet<(String, String)>,
    removals: Vec<Removal>,
    /// Of each mailbox when it was last removed.
    last: BTreeMap<String, f64>,
}

struct Removal {
    mailbox: String,
    updated: f64,
    at: f64,
    version: String,
}

impl Snapshot {
    fn of(db: &Connection) -> Self {
        let pairs = |sql: &str| -> BTreeSet<(String, String)> {
            let mut statement = db.prepare(sql).unwrap();
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
        };
        let count = |sql: &str| -> i64 { db.query_row(sql, [], |row| row.get(0)).unwrap() };
        let orphans =
            ORPHANS.iter().filter(|(_, sql)| count(sql) > 0).map(|(what, sql)| format!("{what}: {}", count(sql)));
        let orphans = orphans.collect();
        let mut statement = db.prepare("SELECT mailbox, updated, at, version FROM removed").unwrap();
        let removals = statement.query_map([], |row| {
            Ok(Removal { mailbox: row.get(0)?, updated: row.get(1)?, at: row.get(2)?, version: row.get(3)? })
        });
        let removals: Vec<Removal> = removals.unwrap().map(Result::unwrap).collect();
        let mut last = BTreeMap::new();
        for one in &removals {
            last.insert(one.mailbox.clone(), one.at);
        }
        Self {
            orphans,
            mailboxes: pairs("SELECT id, '' FROM mailboxes").into_iter().map(|(id, _)| id).collect(),
            sides: pairs("SELECT mailbox_id, side FROM mailbox_sides"),
            messages: pairs("SELECT mailbox_id, phase FROM messages"),
            removals,
            last,
        }
    }

    /// What the server has acknowledged, and what is nowhere though nobody has removed it since.
    fn missing(&self, known: &Known) -> Vec<String> {
        let removed_since = |mailbox: &str, said: f64| self.last.get(mailbox).is_some_and(|at| *at >= said - EXACT);
        let mut missing = Vec::new();
        for (mailbox, said) in &known.mailboxes {
            if !self.mailboxes.contains(mailbox) && !removed_since(mailbox, *said) {
                missing.push(format!("the mailbox {mailbox} of {said:.3} is gone"));
            }
        }
        for (what, theirs, known) in [("side", &self.sides, &known.sides), ("message", &self.messages, &known.messages)]
        {
            for ((mailbox, one), said) in known {
                if !theirs.contains(&(mailbox.clone(), one.clone())) && !removed_since(mailbox, *said) {
                    missing.push(format!("the {what} {one} of the mailbox {mailbox} of {said:.3} is gone"));
                }
            }
        }
        missing
    }

    /// What was removed and should not have been.
    fn wrongs(&self, known: &Known) -> (Vec<String>, Removed) {
        let (mut wrongs, mut removed) = (Vec::new(), Removed::default());
        for Removal { mailbox, updated, at, version } in &self.removals {
            if version != rusqlite::version() {
                removed.by_server += 1;
                if known.closed.get(mailbox).is_none_or(|closed| closed - EXACT > *at) {
                    wrongs.push(format!("the server removed {mailbox} at {at:.3}, which nobody had closed"));
                }
                continue;
            }
            removed.by_us += 1;
            if at - updated < EXPIRY - EXACT {
                wrongs.push(format!("{mailbox} of {updated:.3} was removed at {at:.3}, before it expired"));
            }
            let in_use = |hold: &&Hold| {
                hold.mailbox == *mailbox
                    && hold.from + EXACT < *at
                    && hold.until.is_none_or(|until| *at < until - EXACT)
            };
            if let Some(Hold { from, until, .. }) = known.holds.iter().find(in_use) {
                wrongs.push(format!("{mailbox} was removed at {at:.3}, in use from {from:.3} to {until:?}"));
            }
        }
        (wrongs, removed)
    }
}
