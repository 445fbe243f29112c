//! MongoDB: an archive of everything, with the changes of the meantime where the server is of a replica set; or of each
//! named database.
//!
//! - The programs of the image are told the password by a file (`--config`, tools 100.3 and later), the shell reads it
//!   from one ([`shell`]).
//! - The archive is counted while it passes ([`archive`]), so the counts are of the dump itself. A restored copy is
//!   dumped again, and must give the same; of what was changed meanwhile, what lies between ([`oplog`]).
//! - A restored copy must not forget by itself: its server runs no clean-up of what is past its time.

mod archive;
mod bson;
mod facts;
mod oplog;
mod shell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::Value;

use self::archive::Scan;
use self::facts::{ADMIN, Collected, differences};
use self::shell::{AUTHENTICATES, HOST, PORT, ask, quoted, texts, user};
use super::dump::{DatabaseFacts, DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, chosen};
use super::place::Running;
use super::secret_file::SecretFile;
use super::session::scratch_dir;
use super::{DatabaseName, EngineKind, ServerError, Session};

/// MongoDB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mongodb;

const DUMPER: &str = "mongodump";
const LOADER: &str = "mongorestore";
const DUMPING: &str = "dump the databases";
/// Among the settings: whether the changes of the meantime are in it.
const OPLOG: &str = "oplog";
const BLOCK: usize = 64 << 10;

/// All but what belongs to the server. Users may keep collections where the users are. (Loops: a shell does not wait for
/// a server in every kind of function that an array is given.)
const DATABASES: &str = r#"var all = command({listDatabases: 1, nameOnly: true}).databases, found = [];
    for (var at = 0; at < all.length; at++) {
        var name = all[at].name;
        if (name !== "local" && name !== "config" && (name !== "admin" || own(name).length)) found.push(name);
    }
    return found;"#;
const SERVER: &str = r#"var is = command({isMaster: 1});
    return {version: command({buildInfo: 1}).version, set: is.setName || "", sharded: is.msg === "isdbgrid"};"#;

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// The databases of a dump, as JavaScript has them.
fn list(facts: &DumpFacts) -> Value {
    facts.of.names().iter().map(|name| Value::from(name.as_str())).collect()
}

/// How the programs are told where the server is and who asks.
struct Login {
    user: Option<String>,
    file: Option<SecretFile>,
}

impl Login {
    fn make(session: &Session) -> Result<Self, ServerError> {
        let Some((user, password)) = user(session)? else { return Ok(Self { user: None, file: None }) };
        let file = SecretFile::make(session, format!("password: {}\n", quoted(password)).as_bytes())?;
        Ok(Self { user: Some(user.to_owned()), file: Some(file) })
    }

    fn argv(&self, program: &str) -> Vec<String> {
        let mut argv = words(&[program, &format!("--host={HOST}"), &format!("--port={PORT}"), "--archive"]);
        if let (Some(user), Some(file)) = (&self.user, &self.file) {
            argv.push(format!("--username={user}"));
            argv.push(format!("--authenticationDatabase={AUTHENTICATES}"));
            argv.push(format!("--config={}", file.path()));
        }
        argv
    }
}

impl Mongodb {
    /// What the server has of these databases now.
    fn collected(session: &Session, names: &BTreeSet<&String>) -> Result<BTreeMap<String, DatabaseFacts>, ServerError> {
        const ACTION: &str = "dump the restored databases";
        let login = Login::make(session)?;
        let mut all = BTreeMap::new();
        for name in names {
            let mut argv = login.argv(DUMPER);
            argv.push(format!("--db={name}"));
            let mut exec = session.start(ACTION, argv, &[], b"")?;
            exec.close_input();
            let (mut scan, mut buffer) = (Scan::default(), vec![0; BLOCK]);
            loop {
                match exec.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => scan.feed(&buffer[..count]),
                    Err(error) => return Err(session.attempt(ACTION).exec(exec.why(error))),
                }
            }
            let ended = exec.finish().map_err(|error| session.attempt(ACTION).exec(error))?;
            session.attempt(ACTION).ended(DUMPER, &ended)?;
            let incomplete = |reason| ServerError::Incomplete { what: format!("database {name} restored"), reason };
            let Collected { mut databases, .. } = scan.finish().map_err(incomplete)?;
            all.extend(databases.remove_entry(name.as_str()));
        }
        Ok(all)
    }
}

impl ServerEngine for Mongodb {
    fn admit(&self, session: Session) -> Result<Session, ServerError> {
        let trusted = Session { secret: None, ..session.clone() };
        match ask(&trusted, "reach the server", DATABASES) {
            Ok(_) => Ok(trusted),
            Err(ServerError::Denied { .. }) if session.secret.is_some() => Ok(session),
            Err(error) => Err(error),
        }
    }

    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the databases";
        let (_, program) = session.first_program(ACTION, &[DUMPER])?;
        let program = program.lines().next().unwrap_or_default().replace(" version:", "");
        let there = texts(&ask(session, ACTION, DATABASES)?);
        let databases = chosen(session, &there, wanted)?;
        let server = ask(session, ACTION, SERVER)?;
        let text = |name: &str| server.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut settings = BTreeMap::new();
        let mut notes = Vec::new();
        let moving = "what is written meanwhile may be in it or not";
        if server.get("sharded").and_then(Value::as_bool) == Some(true) {
            notes.push(format!("the server routes to shards: the dump is not of one instant, and {moving}"));
        } else if text("set").is_empty() {
            notes.push(format!("the server is of no replica set: the dump is not of one instant, and {moving}"));
        } else if wanted.is_some() {
            notes.push(format!("only a dump of all databases is of one instant: of those that are named, {moving}"));
        } else {
            settings.insert(OPLOG.to_owned(), text("set"));
        }
        Ok(Looked { version: text("version"), program, databases, with_users: wanted.is_none(), notes, settings })
    }

    fn parts(&self, looked: &Looked) -> Vec<Part> {
        if looked.with_users {
            let of = PartOf::Databases(looked.databases.clone());
            return vec![Part { name: "databases.archive".to_owned(), of }];
        }
        let of = |name: &DatabaseName| Part { name: format!("{name}.archive"), of: PartOf::Database(name.clone()) };
        looked.databases.iter().map(of).collect()
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let facts = DumpFacts::of(EngineKind::Mongodb, looked, part);
        let login = Login::make(session)?;
        let mut argv = login.argv(DUMPER);
        if let PartOf::Database(name) = &part.of {
            argv.push(format!("--db={name}"));
        } else if looked.settings.contains_key(OPLOG) {
            argv.push("--oplog".to_owned());
        }
        let mut exec = session.start(DUMPING, argv, &[], b"")?;
        exec.close_input();
        Ok(Box::new(Dumping { session: session.clone(), exec, scan: Scan::default(), facts, _login: login }))
    }

    fn check(&self, _: &Session, facts: &mut DumpFacts, content: &mut dyn Read) -> Result<Vec<String>, ServerError> {
        let mut scan = Scan::default();
        let mut buffer = vec![0; BLOCK];
        loop {
            let count = content.read(&mut buffer).map_err(ServerError::io("read the dump back"))?;
            if count == 0 {
                break;
            }
            scan.feed(&buffer[..count]);
        }
        let incomplete = |reason| ServerError::Incomplete { what: facts.what(), reason };
        let found = scan.finish().map_err(incomplete)?;
        if found.databases != facts.databases || found.after != facts.after {
            return Err(incomplete("what was read back has not what was dumped".to_owned()));
        }
        Ok(words(&["the end and the checksum of each collection"]))
    }

    fn make_scratch(&self, scratch: &Session, _: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let dir = scratch_dir();
        let mut session = Session { run_as: Some("0".to_owned()), secret: None, user: None, ..scratch.clone() };
        let data = format!("{dir}/data");
        session.answer(ACTION, words(&["mkdir", "-m", "0700", "--", dir, &data]), b"")?;
        // It answers before its parent ends.
        let argv = words(&[
            "mongod",
            "--dbpath",
            &data,
            "--bind_ip",
            HOST,
            "--port",
            PORT,
            "--fork",
            "--logpath",
            &format!("{dir}/log"),
            "--setParameter",
            "ttlMonitorEnabled=false",
        ]);
        session.answer(ACTION, argv, b"")?;
        session.is_scratch = true;
        Ok(session)
    }

    fn load(&self, session: &Session, facts: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        let login = Login::make(session)?;
        let mut argv = login.argv(LOADER);
        // Without it, what could not be inserted is left out, and called a success.
        argv.push("--stopOnError".to_owned());
        if facts.settings.contains_key(OPLOG) {
            argv.push("--oplogReplay".to_owned());
        }
        session.feed("load the dump", argv, &[], content)
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        // A server that was there has users of its own.
        let counts = |name: &&String| session.is_scratch || name.as_str() != ADMIN;
        let names: BTreeSet<&String> = facts.databases.keys().chain(facts.after.keys()).filter(counts).collect();
        let restored = Self::collected(session, &names)?;
        let nothing = DatabaseFacts::default();
        let of = |name: &&String| {
            let (was, is) = (facts.databases.get(*name), restored.get(*name));
            differences(name, (was.unwrap_or(&nothing), facts.after.get(*name)), is.unwrap_or(&nothing))
        };
        let found: Vec<String> = names.iter().flat_map(of).collect();
        match found.is_empty() {
            true if facts.after.is_empty() => Ok(words(&["loaded", "counts", "every row", "every definition"])),
            true => Ok(words(&["loaded", "counts", "every row that was not changed meanwhile"])),
            false => Err(ServerError::Differs { what: facts.what(), differences: found }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let body = format!(
            "var all = {}, found = []; \
             for (var at = 0; at < all.length; at++) {{ var count = own(all[at]).length; \
             if (count) found.push(all[at] + \" (\" + count + \" collections)\"); }} \
             return found;",
            list(facts)
        );
        Ok(texts(&ask(session, "look at what is there", &body)?))
    }

    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError> {
        let body = format!(
            "var all = {}; \
             for (var at = 0; at < all.length; at++) {{ var of = client.getDB(all[at]); \
             if (all[at] === \"{ADMIN}\") {{ var names = own(all[at]); \
             for (var one = 0; one < names.length; one++) of.getCollection(names[one]).drop(); continue; }} \
             var done = of.dropDatabase(); if (!done.ok) throw new Error(done.errmsg); }} \
             return null;",
            list(facts)
        );
        ask(session, "remove the databases that are replaced", &body).map(drop)
    }

    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError> {
        let body = format!("var db = client.getDB({}); return {statement};", quoted(database.unwrap_or(ADMIN)));
        Ok(match ask(session, "ask the restored databases", &body)? {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        })
    }
}

struct Dumping {
    session: Session,
    exec: Running,
    scan: Scan,
    facts: DumpFacts,
    _login: Login,
}

impl Read for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.exec.read(buffer)?;
        self.scan.feed(&buffer[..count]);
        Ok(count)
    }
}

impl DumpStream for Dumping {
    fn finish(self: Box<Self>) -> Result<DumpFacts, ServerError> {
        let Self { session, exec, scan, mut facts, _login } = *self;
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended(DUMPER, &ended)?;
        let incomplete = |reason| ServerError::Incomplete { what: facts.what(), reason };
        let found = scan.finish().map_err(incomplete)?;
        if facts.settings.contains_key(OPLOG) && found.position.is_none() {
            return Err(incomplete("it has no oplog, of one that was asked for".to_owned()));
        }
        if let PartOf::Databases(_) = &facts.of {
            // Databases come and go between the look and the dump.
            let names = found.databases.iter().filter(|(_, of)| !of.tables.is_empty()).map(|(name, _)| name.parse());
            facts.of = PartOf::Databases(names.collect::<Result<_, _>>().map_err(ServerError::word)?);
        }
        (facts.databases, facts.after, facts.position) = (found.databases, found.after, found.position);
        Ok(facts)
    }
}
