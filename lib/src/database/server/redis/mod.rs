//! Redis: the data set as the server sends it to a replica, one RDB file.
//!
//! - The password is the first line of the standard input, where redis-cli asks for one (`--askpass`).
//! - The file's own trailer has a checksum of all of it: an end without it is none ([`rdb`]).
//! - A server takes such a file only when it starts: that is how a scratch server gets it, whose keys are then counted.
//! - A server that runs is given each key by RESTORE: its values are as the file has them ([`items`]), so nothing but their
//!   lengths has to be known here, and the server checks each of them.

mod commands;
mod items;
mod rdb;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use self::commands::Commands;
use self::rdb::Ending;
use super::dump::{DatabaseFacts, DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, TableFacts};
use super::place::Running;
use super::{DatabaseName, EngineKind, ServerError, Session};
use crate::failure::FailureKind;

/// Redis, and what speaks its protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Redis;

const CLIENTS: &[&str] = &["redis-cli", "valkey-cli"];
const SERVERS: &[&str] = &["redis-server", "valkey-server"];
const CHECKERS: &[&str] = &["redis-check-rdb", "valkey-check-rdb"];
const DUMPING: &str = "dump the data set";
const BLOCK: usize = 64 << 10;

/// A client's arguments for the login, and what it reads first.
fn login(session: &Session, client: &str) -> (Vec<String>, Vec<u8>) {
    let mut argv = vec![client.to_owned()];
    argv.extend(session.client.iter().cloned());
    if let Some(user) = &session.user {
        argv.extend(["--user".to_owned(), user.clone()]);
    }
    let Some(secret) = &session.secret else { return (argv, Vec::new()) };
    argv.push("--askpass".to_owned());
    (argv, format!("{}\n", secret.reveal()).into_bytes())
}

fn ask(session: &Session, action: &str, words: &[&str]) -> Result<String, ServerError> {
    let (client, _) = session.first_program(action, CLIENTS)?;
    let (mut argv, input) = login(session, &client);
    argv.push("-e".to_owned());
    argv.extend(words.iter().map(|word| (*word).to_owned()));
    session.answer(action, argv, &input)
}

/// Major and minor of `7.0.15`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Whether a server of this version (`Redis server v=7.0.15 sha=...`) reads what another one has written: files of newer
/// ones are in newer formats.
fn reads_files_of(here: &str, wanted: &str) -> bool {
    let here = here.split_whitespace().find_map(|word| version(word.strip_prefix("v=")?));
    here.zip(version(wanted)).is_some_and(|(here, wanted)| here.0 == wanted.0 && here >= wanted)
}

/// A field of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
}

/// From this version on a server has libraries of functions.
const WITH_FUNCTIONS: (u32, u32) = (7, 0);

fn has_functions(info: &str) -> bool {
    field(info, "redis_version").and_then(version).is_some_and(|version| version >= WITH_FUNCTIONS)
}

/// Why a server can't be given the keys of another one, as it says of itself in INFO.
fn refusal(info: &str, facts: &DumpFacts) -> Option<(String, &'static str)> {
    let here = field(info, "redis_version").unwrap_or_default();
    if field(info, "cluster_enabled") == Some("1") {
        return Some(("it is a node of a cluster, which takes its own keys only".to_owned(), BY_FILE));
    }
    if field(info, "role").is_some_and(|role| role != "master") {
        return Some(("it is a replica".to_owned(), "restore into its master"));
    }
    let newer = version(here).zip(version(&facts.server_version)).is_none_or(|(here, dumped)| here < dumped);
    newer.then(|| (format!("it is Redis {here}, and the dump is of {}", facts.server_version), "use a server as new"))
}

/// `db0:keys=3,expires=1,avg_ttl=0`, a line for each database that has keys.
fn keys(info: &str) -> BTreeMap<String, DatabaseFacts> {
    let line = |line: &str| {
        let (name, fields) = line.trim().split_once(':')?;
        let keys = fields.split(',').find_map(|field| field.strip_prefix("keys="))?.parse().ok()?;
        let tables = BTreeMap::from([("keys".to_owned(), TableFacts { rows: keys, rows_sum: None })]);
        name.starts_with("db").then(|| (name.to_owned(), DatabaseFacts { tables, ..Default::default() }))
    };
    info.lines().filter_map(line).collect()
}

impl ServerEngine for Redis {
    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the data set";
        if wanted.is_some() {
            return Err(ServerError::Refused {
                reason: "Redis sends its data set as a whole".to_owned(),
                kind: FailureKind::Usage,
                hint: Some("leave --database out".to_owned()),
            });
        }
        let (_, program) = session.first_program(ACTION, CLIENTS)?;
        let info = ask(session, ACTION, &["INFO", "server"])?;
        let version = field(&info, "redis_version").map(str::to_owned).ok_or_else(|| ServerError::NotRun {
            action: ACTION.to_owned(),
            place: session.place().to_owned(),
            reason: format!("the server does not say its version: {}", info.lines().next().unwrap_or_default()),
        })?;
        Ok(Looked {
            version,
            program,
            databases: Vec::new(),
            with_users: false,
            notes: Vec::new(),
            settings: BTreeMap::new(),
        })
    }

    fn parts(&self, _: &Looked) -> Vec<Part> {
        vec![Part { name: "dump.rdb".to_owned(), of: PartOf::Everything }]
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let (client, _) = session.first_program(DUMPING, CLIENTS)?;
        let (mut argv, input) = login(session, &client);
        argv.extend(["--rdb", "-"].map(str::to_owned));
        let mut exec = session.start(DUMPING, argv, &[], &input)?;
        exec.close_input();
        let facts = DumpFacts::of(EngineKind::Redis, looked, part);
        let state = State::Streams(exec, Ending::default());
        Ok(Box::new(Dumping { session: session.clone(), program: client, state, ready: Vec::new(), at: 0, facts }))
    }

    fn check(&self, _: &Session, facts: &mut DumpFacts, content: &mut dyn Read) -> Result<Vec<String>, ServerError> {
        let (mut ending, mut out) = (Ending::default(), Vec::new());
        let mut buffer = vec![0; BLOCK];
        loop {
            let count = content.read(&mut buffer).map_err(ServerError::io("read the dump back"))?;
            if count == 0 {
                break;
            }
            ending.feed(&buffer[..count], &mut out);
            out.clear();
        }
        match ending.finish() {
            Some(_) => Ok(vec!["its own checksum".to_owned()]),
            None => {
                let reason = "what was read back has not its own checksum".to_owned();
                Err(ServerError::Incomplete { what: facts.what(), reason })
            }
        }
    }

    fn make_scratch(&self, scratch: &Session, facts: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let (scratch, dir) = scratch.scratch(ACTION, None)?;
        if scratch.at.on_host().is_some() {
            let (_, here) = scratch.first_program(ACTION, SERVERS)?;
            if !reads_files_of(&here, &facts.server_version) {
                return Err(ServerError::Refused {
                    reason: format!(
                        "can't {ACTION}: the dump is of Redis {}, and this host has {here}",
                        facts.server_version
                    ),
                    kind: FailureKind::Failed,
                    hint: Some("install a redis-server of that version".to_owned()),
                });
            }
        }
        Ok(Session { user: None, client: vec!["-s".to_owned(), format!("{dir}/sock")], ..scratch })
    }

    fn load(&self, session: &Session, _: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        const ACTION: &str = "load the dump";
        if !session.is_scratch {
            return into_running(session, ACTION, content);
        }
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let socket = session.client.last().cloned().unwrap_or_default();
        let dir = socket.strip_suffix("/sock").unwrap_or_default();
        let file = format!("{dir}/dump.rdb");
        session.feed(ACTION, words(&["cp", "--", "/dev/stdin", &file]), &[], content)?;
        let (checker, _) = session.first_program(ACTION, CHECKERS)?;
        session.answer(ACTION, words(&[&checker, &file]), b"")?;
        let (server, _) = session.first_program(ACTION, SERVERS)?;
        let argv =
            words(&[&server, "--dir", dir, "--port", "0", "--unixsocket", &socket, "--save", "", "--appendonly", "no"]);
        // It ends with its container.
        let exec = session.start(ACTION, argv, &[], b"")?;
        let mut said = BufReader::new(exec);
        loop {
            let mut line = String::new();
            let read = said.read_line(&mut line);
            match read {
                Ok(0) | Err(_) => {
                    let reason = "the server did not come up with it".to_owned();
                    return Err(ServerError::NotRun {
                        action: ACTION.to_owned(),
                        place: session.place().to_owned(),
                        reason,
                    });
                }
                Ok(_) if line.contains("eady to accept connections") => break,
                Ok(_) => {}
            }
        }
        session.keep_running(said.into_inner());
        Ok(())
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let info = ask(session, "count the restored keys", &["INFO", "keyspace"])?;
        let restored = keys(&info);
        let nothing = DatabaseFacts::default();
        let mut differences = Vec::new();
        for (name, was) in &facts.databases {
            let is = restored.get(name).unwrap_or(&nothing);
            // Keys may expire, come and go around the dump: a collapse is what shows.
            if is.rows() == 0 && was.rows() > 0 {
                differences.push(format!("{name} has no keys, and had about {}", was.rows()));
            }
        }
        let parsed = session.is_scratch.then_some("parsed by redis-check-rdb");
        match differences.is_empty() {
            true => Ok(parsed.into_iter().chain(["loaded", "keys"]).map(str::to_owned).collect()),
            false => Err(ServerError::Differs { what: facts.what(), differences }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        const ACTION: &str = "look at what the server has";
        if session.is_scratch {
            return Ok(Vec::new());
        }
        let info = ask(session, ACTION, &["INFO", "all"])?;
        if let Some((reason, hint)) = refusal(&info, facts) {
            let reason = format!("{} can't be given the dump: {reason}", session.place());
            return Err(ServerError::Refused { reason, kind: FailureKind::Unsafe, hint: Some(hint.to_owned()) });
        }
        let databases = keys(&info).into_iter().filter(|(_, is)| is.rows() > 0);
        let mut found: Vec<String> = databases.map(|(name, is)| format!("{name} ({} keys)", is.rows())).collect();
        if has_functions(&info) && !ask(session, ACTION, &["FUNCTION", "LIST"])?.trim().is_empty() {
            found.push("functions".to_owned());
        }
        Ok(found)
    }

    fn clear(&self, session: &Session, _: &DumpFacts) -> Result<(), ServerError> {
        const ACTION: &str = "remove what the server has";
        ask(session, ACTION, &["FLUSHALL"])?;
        if has_functions(&ask(session, ACTION, &["INFO", "server"])?) {
            ask(session, ACTION, &["FUNCTION", "FLUSH"])?;
        }
        Ok(())
    }

    fn ask(&self, session: &Session, _: Option<&str>, statement: &str) -> Result<String, ServerError> {
        let words: Vec<&str> = statement.split_whitespace().collect();
        ask(session, "ask the restored data set", &words)
    }
}

/// The way of a person, where no command does it.
const BY_FILE: &str =
    "stop it (svc-ctl stop), take the file out (zstd -d dump.rdb.zst), put it where its dump.rdb is, and start it";

/// Gives a server each key of the dump. It has none of them.
fn into_running(session: &Session, action: &str, rdb: &mut dyn Read) -> Result<(), ServerError> {
    let (client, _) = session.first_program(action, CLIENTS)?;
    let mut argv = vec![client];
    argv.extend(session.client.iter().cloned());
    // It reports errors by its exit code; how long it may be silent is the session's to say.
    argv.extend(["--pipe", "--pipe-timeout", "0"].map(str::to_owned));
    let login: Option<Vec<&str>> = session.secret.as_ref().map(|secret| {
        let user = session.user.as_deref();
        std::iter::once("AUTH").chain(user).chain([secret.reveal()]).collect()
    });
    let mut commands = Commands::new(rdb, login.as_deref()).map_err(ServerError::io("read the dump"))?;
    session.feed(action, argv, &[], &mut commands)
}

enum State {
    Streams(Running, Ending),
    /// The program's output has ended; whether it was whole.
    Ended(Running, bool),
    Over,
}

struct Dumping {
    session: Session,
    program: String,
    state: State,
    ready: Vec<u8>,
    at: usize,
    facts: DumpFacts,
}

impl Read for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut block = vec![0; BLOCK];
        while self.at == self.ready.len() {
            (self.at, self.ready) = (0, Vec::new());
            let State::Streams(exec, ending) = &mut self.state else { return Ok(0) };
            match exec.read(&mut block)? {
                0 => {
                    let State::Streams(exec, ending) = std::mem::replace(&mut self.state, State::Over) else {
                        return Ok(0);
                    };
                    let rest = ending.finish();
                    self.state = State::Ended(exec, rest.is_some());
                    self.ready = rest.unwrap_or_default();
                }
                count => ending.feed(&block[..count], &mut self.ready),
            }
        }
        let count = buffer.len().min(self.ready.len() - self.at);
        buffer[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl DumpStream for Dumping {
    fn finish(self: Box<Self>) -> Result<DumpFacts, ServerError> {
        let Self { session, program, state, mut facts, .. } = *self;
        let (exec, is_whole) = match state {
            State::Streams(exec, _) => (exec, false),
            State::Ended(exec, is_whole) => (exec, is_whole),
            State::Over => {
                return Err(ServerError::Incomplete { what: facts.what(), reason: "it was not read".to_owned() });
            }
        };
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended(&program, &ended)?;
        if !is_whole {
            let reason =
                format!("{program} ended with 0, and the checksum at its end is missing or wrong: {}", ended.said);
            return Err(ServerError::Incomplete { what: facts.what(), reason });
        }
        // Of about the dump's instant: the server does not say more.
        facts.databases = keys(&ask(&session, DUMPING, &["INFO", "keyspace"])?);
        Ok(facts)
    }
}
