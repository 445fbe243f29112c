//! A real service under real traffic: magic-wormhole's mailbox server, whose state is two SQLite databases.
//!
//! A session opens a mailbox, adds a message and closes the mailbox, or leaves it open. The server answers `closed`
//! after it has told of the mailbox in the usage database and removed it from the channel database. The transaction on
//! the channel database is open all the while (`Mailbox.close` in its server.py: DELETE there, INSERT and commit in the
//! usage database, commit there). So at any instant at which no transaction is open, a session that was opened is in
//! exactly one of the two: in both, or in neither, means that the two were not copied at the same instant, or between
//! the two commits. Each session is an application of its own, so that its rows can be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use svckit::progress::Cancel;
use tungstenite::{Message, WebSocket};

use crate::unit::{reload, write_unit};

/// The server's address in the test machine.
pub const ADDRESS: &str = "127.0.0.1:4000";
/// An answer takes milliseconds; a server that is being stopped gives none.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Between two attempts to connect to a server that is away.
const RETRY: Duration = Duration::from_millis(20);

/// The server as a unit.
#[derive(Debug)]
pub struct Server {
    /// Its unit.
    pub unit: String,
    /// Its database of open mailboxes.
    pub channel: PathBuf,
    /// Its database of what has been.
    pub usage: PathBuf,
}

impl Server {
    /// Writes the unit, and does not start it.
    #[must_use]
    pub fn install(name: &str, directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let (channel, usage) = (directory.join("relay.sqlite"), directory.join("usage.sqlite"));
        let twist = std::env::current_dir().unwrap().join("target/testbed/venv/bin/twist");
        assert!(twist.exists(), "{} is installed by tests/run", twist.display());
        write_unit(
            name,
            &format!(
                "[Service]\nWorkingDirectory={}\nExecStart={} wormhole-mailbox --channel-db={} --usage-db={} \
                 --port=tcp:4000:interface=127.0.0.1\n",
                directory.display(),
                twist.display(),
                channel.display(),
                usage.display()
            ),
        );
        reload();
        Self { unit: name.to_owned(), channel, usage }
    }
}

/// What the traffic knows for sure.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    /// Sessions whose message came back from the server: it was committed.
    pub sent: BTreeSet<u64>,
    /// Those of them that the server said are closed.
    pub closed: BTreeSet<u64>,
    /// The longest time in which no session got on: what the service's users saw of an operation.
    pub longest_gap: Duration,
    last: Option<Instant>,
}

/// Clients that never pause.
#[derive(Debug)]
pub struct Traffic {
    stop: Cancel,
    known: Arc<Mutex<Acknowledged>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts this many clients.
    #[must_use]
    pub fn start(clients: u64) -> Self {
        let (stop, known) = (Cancel::new().unwrap(), Arc::new(Mutex::new(Acknowledged::default())));
        let spawn = |client: u64| {
            let (stop, known) = (stop.clone(), Arc::clone(&known));
            std::thread::spawn(move || {
                let mut number = client;
                while !stop.is_requested() {
                    number += clients;
                    // A server that goes away in the middle of a session is part of the story: the session is left.
                    if session(number, &known).is_err() {
                        svckit::world::wait::readable(&[stop.as_fd()], Instant::now() + RETRY).unwrap();
                    }
                }
            })
        };
        let clients = (0..clients).map(spawn).collect();
        Self { stop, known, clients }
    }

    /// What is known by now.
    #[must_use]
    pub fn known(&self) -> Acknowledged {
        self.known.lock().unwrap().clone()
    }

    /// Runs until this many more sessions have been acknowledged.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let (goal, until) = (self.known().sent.len() + more, Instant::now() + Duration::from_secs(60));
        while self.known().sent.len() < goal {
            assert!(Instant::now() < until, "the service does not answer: {} of {goal}", self.known().sent.len());
            svckit::world::wait::readable(&[self.stop.as_fd()], Instant::now() + RETRY).unwrap();
        }
    }

    /// Ends it.
    #[must_use]
    pub fn end(self) -> Acknowledged {
        self.stop.request();
        for client in self.clients {
            client.join().unwrap();
        }
        self.known.lock().unwrap().clone()
    }
}

/// Why a session did not go on.
pub type Error = Box<dyn std::error::Error>;

fn session(number: u64, known: &Mutex<Acknowledged>) -> Result<(), Error> {
    let stream = TcpStream::connect(ADDRESS)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let (mut socket, _) = tungstenite::client(format!("ws://{ADDRESS}/v1"), stream)?;
    let (side, mailbox) = (format!("side-{number}"), format!("mailbox-{number}"));
    say(&mut socket, &json!({"type": "bind", "appid": application(number), "side": side}))?;
    say(&mut socket, &json!({"type": "open", "mailbox": mailbox}))?;
    say(&mut socket, &json!({"type": "add", "phase": "1", "body": format!("{number:08x}").repeat(20)}))?;
    hear(&mut socket, "message")?;
    note(known, |known| known.sent.insert(number));
    // Some stay open: the channel database has something to keep.
    if !number.is_multiple_of(3) {
        say(&mut socket, &json!({"type": "close", "mailbox": mailbox, "mood": "happy"}))?;
        hear(&mut socket, "closed")?;
        note(known, |known| known.closed.insert(number));
    }
    Ok(socket.close(None)?)
}

fn application(number: u64) -> String {
    format!("session-{number}")
}

fn note(known: &Mutex<Acknowledged>, add: impl FnOnce(&mut Acknowledged) -> bool) {
    let mut known = known.lock().unwrap();
    add(&mut known);
    let now = Instant::now();
    if let Some(last) = known.last.replace(now) {
        known.longest_gap = known.longest_gap.max(now - last);
    }
}

/// A client of one application.
#[derive(Debug)]
pub struct Client(WebSocket<TcpStream>);

/// An answer to something said is behind at most so many others.
const ANSWERS_MAX: usize = 10_000;

impl Client {
    /// Connects, and binds to an application as one of its sides.
    ///
    /// # Panics
    /// When the server does not answer as it should.
    #[must_use]
    #[track_caller]
    pub fn connect(port: u16, application: &str, side: &str) -> Self {
        Self::try_connect(port, application, side).unwrap()
    }

    /// The same.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn try_connect(port: u16, application: &str, side: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let (mut socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}/v1"), stream)?;
        say(&mut socket, &json!({"type": "bind", "appid": application, "side": side}))?;
        Ok(Self(socket))
    }

    /// Says something; the answer is all that the server has said when it has dealt with it.
    ///
    /// # Errors
    /// When the server ends the connection instead.
    pub fn tell(&mut self, message: &Value) -> Result<Vec<Value>, Error> {
        say(&mut self.0, message)?;
        // It deals with one message after the other.
        say(&mut self.0, &json!({"type": "ping", "ping": 0}))?;
        let mut said = Vec::new();
        while said.len() < ANSWERS_MAX {
            let Message::Text(text) = self.0.read()? else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["type"] == "pong" {
                return Ok(said);
            }
            said.push(answer);
        }
        Err(format!("no pong came behind {ANSWERS_MAX} answers").into())
    }

    /// Says something, and waits for an answer of this type.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn ask(&mut self, message: &Value, answer: &str) {
        say(&mut self.0, message).unwrap();
        hear(&mut self.0, answer).unwrap_or_else(|error| panic!("{message}: {error}"));
    }

    /// Says something that may be answered by nothing at all.
    pub fn say(&mut self, message: &Value) {
        say(&mut self.0, message).unwrap();
    }
}

fn say(socket: &mut WebSocket<TcpStream>, message: &Value) -> Result<(), Error> {
    Ok(socket.send(Message::text(message.to_string()))?)
}

/// Reads until a message of this type; a handful of others come before it.
fn hear(socket: &mut WebSocket<TcpStream>, wanted: &str) -> Result<(), Error> {
    for _ in 0..20 {
        let Message::Text(text) = socket.read()? else { continue };
        let message: Value = serde_json::from_str(&text)?;
        match message["type"].as_str() {
            Some(kind) if kind == wanted => return Ok(()),
            Some("error") => return Err(text.to_string().into()),
            _ => {}
        }
    }
    Err(format!("no {wanted} came").into())
}

/// Where each session is, in a pair of databases at rest: in the channel database, in the usage database.
///
/// # Panics
/// When they can't be read, or are not whole.
#[must_use]
#[track_caller]
pub fn sessions(channel: &Path, usage: &Path) -> BTreeMap<u64, (bool, bool)> {
    let mut found: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
    for number in applications(channel) {
        found.entry(number).or_default().0 = true;
    }
    for number in applications(usage) {
        found.entry(number).or_default().1 = true;
    }
    found
}

fn applications(database: &Path) -> Vec<u64> {
    let connection = rusqlite::Connection::open(database).unwrap();
    let check = |pragma: &str| -> Vec<String> {
        let mut statement = connection.prepare(pragma).unwrap();
        let rows = statement.query_map((), |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(check("PRAGMA integrity_check"), ["ok"], "{}", database.display());
    assert_eq!(check("PRAGMA foreign_key_check"), [""; 0], "{}", database.display());
    check("SELECT app_id FROM mailboxes").iter().filter_map(|id| id.strip_prefix("session-")?.parse().ok()).collect()
}

/// What is wrong with a pair that should be of one instant and not older than `known`: nothing, for a good backup.
#[must_use]
#[track_caller]
pub fn faults(channel: &Path, usage: &Path, known: &Acknowledged) -> Vec<String> {
    let found = sessions(channel, usage);
    let mut faults = Vec::new();
    for (number, place) in &found {
        if *place == (true, true) {
            faults.push(format!("session {number} is open and closed: the usage database is the younger one"));
        }
    }
    for number in &known.sent {
        match found.get(number) {
            None => faults.push(format!("session {number} was acknowledged and is in neither database")),
            Some((true, _)) if known.closed.contains(number) => {
                faults.push(format!("session {number} was closed before the backup began and is open in it"));
            }
            _ => {}
        }
    }
    faults
}
