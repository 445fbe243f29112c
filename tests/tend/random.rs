//! Random clients of the mailbox server, while passes and the server itself are killed at random moments.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use svckit::progress::Cancel;
use svckit_testbed::command::{Running, ended, run, start};
use svckit_testbed::mailbox::Client;
use svckit_testbed::random::Random;

use crate::bed::{QUICK, until};
use crate::ledger::{Ledger, Removed, now, watch_removals};
use crate::server::{Place, end};

const COMPLETE: usize = 10_000;
const SAMPLE: usize = 600;
const SEED: u64 = 20_779;
/// Operations between two quiet times, in which nobody is connected.
const BURST: usize = 300;
const CLIENTS: usize = 6;
const APPLICATIONS: usize = 2;
/// No failure says more than this.
const TOLD_MAX: usize = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tell(text: &str) {
    drop(std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()));
}

/// Who comes back after a lost connection.
#[derive(Debug, Clone)]
struct Who {
    application: String,
    side: String,
    mailbox: Option<String>,
}

/// A connected client, which allocates, claims, releases, opens and closes once each, as the protocol has it.
#[derive(Debug)]
struct Connected {
    client: Client,
    who: Who,
    nameplate: Option<String>,
    has_claimed: bool,
    has_released: bool,
    is_open: bool,
    has_closed: bool,
    holds: Vec<usize>,
}

/// How often what was done.
#[derive(Debug, Default)]
struct Tally {
    operations: BTreeMap<&'static str, usize>,
    refused: usize,
    half_closed: usize,
    servers_killed: usize,
    passes: Passes,
}

/// Processes of ours.
#[derive(Debug, Default, Clone, Copy)]
struct Passes {
    killed: usize,
    /// Those that were killed between the start and the end of a pass.
    killed_within: usize,
    ended: usize,
}

impl std::ops::AddAssign for Passes {
    fn add_assign(&mut self, other: Self) {
        self.killed += other.killed;
        self.killed_within += other.killed_within;
        self.ended += other.ended;
    }
}

struct Crowd<'p> {
    place: &'p Place,
    server: Option<Running>,
    random: Random,
    ledger: Ledger,
    slots: Vec<Option<Connected>>,
    left: Vec<Option<Who>>,
    done: usize,
    tally: Tally,
    faults: Vec<String>,
}

impl Crowd<'_> {
    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    /// One operation of one client.
    fn step(&mut self) {
        self.done += 1;
        let slot = self.random.below(CLIENTS);
        let Some(mut one) = self.slots[slot].take() else {
            let connected = self.connect(slot);
            self.slots[slot] = Some(connected);
            return;
        };
        let (operation, message) = self.message(&one);
        *self.tally.operations.entry(operation).or_default() += 1;
        if operation == "disconnect" {
            self.lose(slot, one);
            return;
        }
        let said = now();
        self.before(operation, &one);
        if self.one_in(400) {
            // Nobody knows what becomes of it.
            one.client.say(&message);
            self.kill_server();
            self.lose(slot, one);
            self.left[slot] = None;
            return;
        }
        match one.client.tell(&message) {
            Ok(answers) => {
                self.after(operation, &message, &mut one, said, &answers);
                self.slots[slot] = Some(one);
            }
            // Its own foreign keys stop it where another side has claimed and not released: half of that stays.
            Err(_) if operation == "close" => {
                self.tally.half_closed += 1;
                self.lose(slot, one);
                self.left[slot] = None;
            }
            Err(error) => {
                self.faults.push(format!("{operation}: the server ended the connection: {error}"));
                self.lose(slot, one);
            }
        }
    }

    fn connect(&mut self, slot: usize) -> Connected {
        *self.tally.operations.entry("bind").or_default() += 1;
        let back = self.left[slot].take().filter(|_| self.random.below(2) == 0);
        let who = back.unwrap_or_else(|| Who {
            application: format!("a{}", self.random.below(APPLICATIONS)),
            side: format!("{:010x}", self.random.bits() >> 24),
            mailbox: None,
        });
        let client = Client::try_connect(self.place.port, &who.application, &who.side).unwrap();
        let (nameplate, holds) = (None, Vec::new());
        let (has_claimed, has_released, is_open, has_closed) = (false, false, false, false);
        Connected { client, who, nameplate, has_claimed, has_released, is_open, has_closed, holds }
    }

    /// What a client may say next.
    fn message(&mut self, one: &Connected) -> (&'static str, Value) {
        let mut may = vec!["disconnect"];
        if one.nameplate.is_none() && !one.has_claimed {
            may.push("allocate");
        }
        if !one.has_claimed {
            may.extend(["claim"; 4]);
        }
        if one.has_claimed && !one.has_released && one.nameplate.is_some() {
            may.push("release");
        }
        if one.has_closed {
            // It never comes back as that side: the server would take it for one that is still closed.
            may = vec!["disconnect"];
        } else if one.is_open {
            may.extend(["add", "add", "add", "close", "close"]);
        } else {
            may.extend(["open"; 3]);
        }
        let operation = may[self.random.below(may.len())];
        // Names move on, so that some meet in them and none lasts for ever.
        let near = self.done / 30 + self.random.below(2);
        let nameplate = (10 + self.done / 80 + self.random.below(2)).to_string();
        let nameplate = one.nameplate.clone().unwrap_or(nameplate);
        let fresh = format!("{}-m{near}", one.who.application);
        let own = one.who.mailbox.clone().filter(|_| self.random.below(10) > 0);
        let message = match operation {
            "claim" | "release" => json!({"type": operation, "nameplate": nameplate}),
            "open" => json!({"type": "open", "mailbox": own.unwrap_or(fresh)}),
            "close" => json!({"type": "close", "mailbox": one.who.mailbox, "mood": "happy"}),
            "add" => json!({"type": "add", "phase": format!("p{}", self.done), "body": "00".repeat(40)}),
            _ => json!({"type": operation}),
        };
        (operation, message)
    }

    fn before(&self, operation: &str, one: &Connected) {
        if let ("close", Some(mailbox)) = (operation, &one.who.mailbox) {
            self.ledger.closes(mailbox);
            one.holds.iter().for_each(|hold| self.ledger.let_go(*hold));
        }
    }

    fn after(&mut self, operation: &str, message: &Value, one: &mut Connected, said: f64, answers: &[Value]) {
        let word = |of: &Value, key: &str| of[key].as_str().map(str::to_owned);
        let find = |kind: &str| answers.iter().find(|answer| answer["type"] == kind);
        let refused = find("error").is_some();
        self.tally.refused += usize::from(refused);
        match operation {
            "allocate" => one.nameplate = find("allocated").and_then(|answer| word(answer, "nameplate")),
            "claim" => {
                one.has_claimed = true;
                one.nameplate = word(message, "nameplate");
                if let Some(mailbox) = find("claimed").and_then(|answer| word(answer, "mailbox")) {
                    self.ledger.opened(&mailbox, &one.who.side, said);
                    one.holds.push(self.ledger.held(&mailbox));
                    if !one.is_open {
                        one.who.mailbox = Some(mailbox);
                    }
                }
            }
            "release" => one.has_released = true,
            "open" if !refused => {
                let mailbox = word(message, "mailbox").unwrap();
                self.ledger.opened(&mailbox, &one.who.side, said);
                one.holds.push(self.ledger.held(&mailbox));
                (one.is_open, one.who.mailbox) = (true, Some(mailbox));
            }
            "add" if !refused => {
                let (mailbox, phase) = (one.who.mailbox.as_deref().unwrap(), message["phase"].as_str().unwrap());
                self.ledger.added(mailbox, phase, said);
            }
            "close" => (one.is_open, one.has_closed) = (false, true),
            _ => {}
        }
    }

    /// The connection ends without a word.
    fn lose(&mut self, slot: usize, one: Connected) {
        one.holds.iter().for_each(|hold| self.ledger.let_go(*hold));
        self.left[slot] = Some(one.who).filter(|_| !one.has_closed);
        drop(one.client);
    }

    fn lose_all(&mut self) {
        for slot in 0..CLIENTS {
            if let Some(one) = self.slots[slot].take() {
                self.lose(slot, one);
            }
        }
    }

    fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        let moment = Duration::from_micros(self.random.bits() % 5_000);
        assert!(!ended(server.pid(), moment), "{}", self.place.log());
        // Whoever is connected has nothing in use any more when it is dead.
        for one in self.slots.iter().flatten() {
            one.holds.iter().for_each(|hold| self.ledger.let_go(*hold));
        }
        server.kill();
        server.finish(QUICK);
        self.tally.servers_killed += 1;
        self.lose_all();
        self.server = Some(self.place.serve());
    }

    fn look(&mut self) -> Removed {
        let (faults, removed) = self.ledger.faults(self.place);
        self.faults.extend(faults);
        removed
    }

    /// Nobody is connected: a pass that knows of no earlier look prunes too. It is killed within the time that it takes.
    fn quiet(&mut self, whole: Duration) {
        self.lose_all();
        self.commit_what_is_half_closed();
        for _ in 0..4 {
            let moment = Duration::from_micros(self.random.bits() % u64::try_from(whole.as_micros()).unwrap().max(1));
            let mut pass = start(self.place.tend(&["once"]));
            if ended(pass.pid(), moment) {
                self.tally.passes.ended += 1;
            } else {
                pass.kill();
                self.tally.passes.killed += 1;
                self.tally.passes.killed_within += usize::from(is_within(self.place));
            }
            pass.finish(QUICK);
            self.look();
        }
    }

    /// The server has left its transaction open: with its next commit the half of it is permanent, and others may write.
    fn commit_what_is_half_closed(&mut self) {
        let mut client = Client::try_connect(self.place.port, "a0", "last").unwrap();
        let said = now();
        let mailbox = format!("a0-last-{}", self.done);
        client.tell(&json!({"type": "open", "mailbox": mailbox})).unwrap();
        self.ledger.opened(&mailbox, "last", said);
    }
}

/// Whether the last pass has begun and not ended.
fn is_within(place: &Place) -> bool {
    let db = rusqlite::Connection::open(place.path("state/state/tend/tend.db")).unwrap();
    let begun =
        db.query_row("SELECT count(*) FROM task WHERE start > coalesce(\"end\", 0)", [], |row| row.get::<_, i64>(0));
    begun.is_ok_and(|count| count > 0)
}

/// Daemons, one after the other, each killed about when one of its passes runs, until `stop`; all the while clients are busy.
fn daemons(place: &Place, ledger: &Ledger, mut random: Random, stop: &Cancel) -> (Passes, Vec<String>) {
    let (mut passes, mut faults) = (Passes::default(), Vec::new());
    while !stop.is_requested() {
        let mut daemon = start(place.tend(&["run"]));
        let seconds = 1 + random.bits() % 4;
        let moment = Duration::from_secs(seconds) + Duration::from_micros(random.bits() % 120_000);
        svckit::world::wait::readable(&[stop.as_fd()], Instant::now() + moment).unwrap();
        if ended(daemon.pid(), Duration::ZERO) {
            faults.push(format!("the daemon ended: {:?}", daemon.finish(QUICK)));
            break;
        }
        daemon.kill();
        passes.killed += 1;
        passes.killed_within += usize::from(is_within(place));
        daemon.finish(QUICK);
        faults.extend(ledger.faults(place).0);
    }
    (passes, faults)
}

pub(crate) fn random_clients() {
    let thorough = std::env::var_os("SVCKIT_THOROUGH").is_some_and(|value| !value.is_empty());
    let count = if thorough { COMPLETE } else { SAMPLE };
    let seed = variable("SVCKIT_SEED").unwrap_or(SEED);
    tell(&format!("tend: {count} random operations (seed {seed})\n"));
    let began = Instant::now();
    let place = Place::new();
    let rules = place.rules();
    let quick = rules
        .replace("updated <= :now - 660", "updated <= :now - 1")
        .replace("every = \"10m\"\njitter = \"30s\"", "every = \"1s\"")
        // Told apart from what the server has summed up.
        .replace("'crowded'", "'pruney'");
    std::fs::write(place.path("tend.toml"), &quick).unwrap();
    let server = place.serve();
    watch_removals(&place, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed/venv/bin/python"));
    run(place.tend(&["check"]), QUICK).expect(0);
    let ledger = Ledger::default();
    let mut crowd = Crowd {
        place: &place,
        server: Some(server),
        random: Random(seed),
        ledger: ledger.clone(),
        slots: (0..CLIENTS).map(|_| None).collect(),
        left: vec![None; CLIENTS],
        done: 0,
        tally: Tally::default(),
        faults: Vec::new(),
    };
    let whole = run(place.tend(&["once"]), QUICK).expect(0).took * 2;
    while crowd.done < count && crowd.faults.is_empty() {
        let (stop, killers) = (Cancel::new().unwrap(), Random(crowd.random.bits()));
        std::thread::scope(|scope| {
            let daemons = scope.spawn(|| daemons(&place, &ledger, killers, &stop));
            for _ in 0..BURST {
                crowd.step();
            }
            stop.request();
            let (passes, faults) = daemons.join().unwrap();
            crowd.tally.passes += passes;
            crowd.faults.extend(faults);
        });
        crowd.quiet(whole);
    }
    let Crowd { server, mut faults, tally, done, .. } = crowd;
    let removed = settle(&place, &ledger, &mut faults);
    tell(&format!(
        "tend: {done} operations {:?}, {} refused, {} half closed by the server; the server killed {} times, we {} times, {} of them \
         within a pass; removed {} by us, {} by the server; {} faults; {:.0} s\n",
        tally.operations,
        tally.refused,
        tally.half_closed,
        tally.servers_killed,
        tally.passes.killed,
        tally.passes.killed_within,
        removed.by_us,
        removed.by_server,
        faults.len(),
        began.elapsed().as_secs_f64()
    ));
    if !faults.is_empty() {
        end(server.unwrap());
        let kept = place.keep();
        panic!("seed {seed}, {}: {:#?}", kept.display(), &faults[..faults.len().min(TOLD_MAX)]);
    }
    assert!(!place.log().contains("database is locked"), "the server had to wait for too long");
    assert!(removed.by_us > count / 30 && removed.by_server > 0 && tally.passes.killed > 0, "{removed:?} {tally:?}");
    // What is rarer comes in a long run for sure: of three kills, none may be within a pass.
    let rarer = [tally.passes.killed_within, tally.half_closed, tally.servers_killed];
    assert!(!thorough || rarer.into_iter().all(|count| count > 0), "{tally:?}");
    controls(&place, &ledger);
    end(server.unwrap());
}

/// All that is expired goes in the end, and is summed up once; but for what is told and set aside.
fn settle(place: &Place, ledger: &Ledger, faults: &mut Vec<String>) -> Removed {
    let held = || -> i64 {
        let listed = run(place.tend(&["quarantine", "list", "--json"]), QUICK).expect(0).stdout;
        i64::try_from(listed.lines().count()).unwrap()
    };
    if faults.is_empty() {
        until("all has gone but what can't be summed up", || {
            let status = run(place.tend(&["once"]), QUICK).status;
            [0, 32].contains(&status) && place.count("mailboxes") == held()
        });
        let (found, removed) = ledger.faults(place);
        faults.extend(found);
        let summed = place.usage("mailboxes WHERE result = 'pruney'");
        if usize::try_from(summed).unwrap() != removed.by_us {
            faults.push(format!("{} mailboxes were removed, and {summed} summed up", removed.by_us));
        }
        return removed;
    }
    ledger.faults(place).1
}

/// What this would find, were it so.
fn controls(place: &Place, ledger: &Ledger) {
    let mut client = Client::connect(place.port, "control", "control");
    let said = now();
    client.tell(&json!({"type": "open", "mailbox": "control"})).unwrap();
    ledger.opened("control", "control", said);
    ledger.held("control");
    assert_eq!(ledger.faults(place).0, [""; 0]);
    until("it is in use for longer than the exactness of times", || now() > said + 0.1);
    let db = place.channel();
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute("DELETE FROM mailboxes WHERE id = 'control'", []).unwrap();
    let faults = ledger.faults(place).0.join("\n");
    for found in ["a violated foreign key: 1", "sides without their mailbox: 1", "before it expired", "in use from"] {
        assert!(faults.contains(found), "{found}: {faults}");
    }
    db.execute_batch(
        "DROP TRIGGER mailbox_is_removed; DELETE FROM mailbox_sides WHERE mailbox_id = 'control'; DELETE FROM removed",
    )
    .unwrap();
    let faults = ledger.faults(place).0.join("\n");
    assert!(faults.contains("the mailbox control") && faults.contains("the side control"), "{faults}");
}
