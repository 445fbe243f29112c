//! MariaDB and MySQL: one dump of all databases in one transaction, and another of users, roles and grants.
//!
//! - The password goes through the standard input, as an option file. Where that is taken by what is loaded, it is an
//!   owner-only file in the container's memory for as long as the load lasts.
//! - The dump itself is counted ([`scan`]), so the counts are of its own instant: once, when what was written is read
//!   back, since its hash says that it is what had passed. A restored copy is dumped again, and must give the same.

mod scan;
mod users;
mod version;

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use self::scan::{Scan, Scanned};
use self::users::keeping_passwords;
use self::version::{has_gtid_words, has_source_words, line, same_series};
use super::dump::{DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, chosen};
use super::place::Running;
use super::secret_file::SecretFile;
use super::tail::Tail;
use super::{DatabaseName, EngineKind, ServerError, Session};

/// What a server needs for itself; it makes them anew.
const OWN: &[&str] = &["information_schema", "performance_schema", "sys", "mysql"];
/// For a row of any size that the server itself would take.
const PACKET: &str = "--max-allowed-packet=1073741824";
/// How long a server of ours may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How the last line of a whole dump begins.
const TRAILER: &str = "-- Dump completed";

/// MariaDB and MySQL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mysql;

/// The programs of MariaDB, and of MySQL and older images.
const DUMPERS: &[&str] = &["mariadb-dump", "mysqldump"];
const CLIENTS: &[&str] = &["mariadb", "mysql"];

impl Mysql {
    /// A client's arguments for the login, without the secret, and what it reads on its standard input.
    fn login(session: &Session, program: &str, file: Option<&str>) -> (Vec<String>, Vec<u8>) {
        let mut argv = vec![program.to_owned()];
        // It must be the first.
        match (&session.secret, file) {
            (Some(_), Some(path)) => argv.push(format!("--defaults-extra-file={path}")),
            (Some(_), None) => argv.push("--defaults-extra-file=/dev/stdin".to_owned()),
            (None, _) => {}
        }
        argv.extend(session.client.iter().cloned());
        if let Some(user) = &session.user {
            argv.push(format!("--user={user}"));
        }
        let input = if file.is_some() { Vec::new() } else { option_file(session) };
        (argv, input)
    }

    fn query(session: &Session, action: &str, database: Option<&str>, sql: &str) -> Result<String, ServerError> {
        let (client, _) = session.first_program(action, CLIENTS)?;
        let (mut argv, input) = Self::login(session, &client, None);
        argv.extend(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"].map(str::to_owned));
        argv.push(format!("--execute={sql}"));
        if let Some(database) = database {
            argv.extend(["--".to_owned(), database.to_owned()]);
        }
        session.answer(action, argv, &input)
    }

    fn dump_argv(session: &Session, looked: &Looked, part: &PartOf) -> (Vec<String>, Vec<u8>) {
        let program = looked.program.split(' ').next().unwrap_or_default();
        let (mut argv, input) = Self::login(session, program, None);
        let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        match part {
            PartOf::Users => add(&["--system=users", "--insert-ignore"]),
            PartOf::Database(_) | PartOf::Databases(_) | PartOf::Everything => {
                add(&["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob"]);
                add(&["--default-character-set=utf8mb4", "--no-tablespaces", PACKET]);
                if has_gtid_words(&looked.program) {
                    add(&["--set-gtid-purged=OFF"]);
                }
                if let Some(option) = looked.settings.get(POSITION) {
                    add(&[option.as_str()]);
                }
                add(&["--databases", "--"]);
                argv.extend(looked.databases.iter().map(ToString::to_string));
            }
        }
        (argv, input)
    }

    fn feed(session: &Session, action: &str, content: &mut dyn Read) -> Result<(), ServerError> {
        let (client, _) = session.first_program(action, CLIENTS)?;
        let file = match &session.secret {
            Some(_) => Some(SecretFile::make(session, &option_file(session))?),
            None => None,
        };
        let path = file.as_ref().map_or("", SecretFile::path);
        let (mut argv, _) = Self::login(session, &client, Some(path));
        // Without the client's own commands: a dump is no script.
        argv.extend(["--batch", "--binary-mode", "--default-character-set=utf8mb4", PACKET].map(str::to_owned));
        session.feed(action, argv, &[], content)
    }

    fn scan_of(session: &Session, facts: &DumpFacts) -> Result<Scanned, ServerError> {
        const ACTION: &str = "dump the restored databases";
        let looked = Looked {
            version: facts.server_version.clone(),
            program: facts.program.clone(),
            databases: facts.of.names(),
            with_users: false,
            notes: Vec::new(),
            settings: BTreeMap::new(),
        };
        let (argv, input) = Self::dump_argv(session, &looked, &facts.of);
        let program = argv.first().cloned().unwrap_or_default();
        let mut exec = session.start(ACTION, argv, &[], &input)?;
        exec.close_input();
        let scanned = match Scan::all(&mut exec) {
            Ok(scanned) => scanned,
            Err(error) => return Err(session.attempt(ACTION).exec(exec.why(error))),
        };
        let ended = exec.finish().map_err(|error| session.attempt(ACTION).exec(error))?;
        session.attempt(ACTION).ended(&program, &ended)?;
        Ok(scanned)
    }
}

/// The option that records where the binary log stands, among the settings.
const POSITION: &str = "position option";

/// What the clients read as an option file; empty where there is no password.
fn option_file(session: &Session) -> Vec<u8> {
    let Some(secret) = &session.secret else { return Vec::new() };
    let quoted = secret.reveal().replace('\\', "\\\\").replace('"', "\\\"");
    format!("[client]\npassword=\"{quoted}\"\n").into_bytes()
}

/// A string of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn list(names: &[DatabaseName]) -> String {
    names.iter().map(|name| quoted(name.as_str())).collect::<Vec<_>>().join(",")
}

impl ServerEngine for Mysql {
    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the databases";
        let (dumper, dumper_version) = session.first_program(ACTION, DUMPERS)?;
        let ask = |sql: &str| Self::query(session, ACTION, None, sql);
        let server = ask("SELECT VERSION(), @@log_bin, @@lower_case_table_names, @@character_set_server, \
             @@collation_server")?;
        let mut fields = server.trim_end().split('\t');
        let version = fields.next().unwrap_or_default().to_owned();
        let has_log = fields.next() == Some("1");
        let mut settings = BTreeMap::new();
        for name in ["lower-case-table-names", "character-set-server", "collation-server"] {
            settings.insert(name.to_owned(), fields.next().unwrap_or_default().to_owned());
        }
        let there = ask("SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")?;
        let there: Vec<&str> = there.lines().filter(|name| !OWN.contains(name)).collect();
        let databases = chosen(session, &there, wanted)?;
        let mut notes = Vec::new();
        if !databases.is_empty() {
            let plain = ask(&format!(
                "SELECT CONCAT(table_schema, '.', table_name, ' (', engine, ')') FROM information_schema.tables \
                 WHERE table_type = 'BASE TABLE' AND table_schema IN ({}) AND engine IS NOT NULL \
                 AND engine NOT IN (SELECT engine FROM information_schema.engines WHERE transactions = 'YES')",
                list(&databases)
            ))?;
            notes.extend(plain.lines().map(|table| {
                format!("{table} has no transactions: what was written to it during the dump may be in it in part")
            }));
        }
        let is_mariadb = version.contains("MariaDB");
        if has_log {
            let option = if is_mariadb || !has_source_words(&dumper_version) { "master" } else { "source" };
            settings.insert(POSITION.to_owned(), format!("--{option}-data=2"));
        }
        let with_users = wanted.is_none() && is_mariadb;
        if wanted.is_none() && !is_mariadb {
            notes.push("users and grants are not in it: only MariaDB's program dumps them".to_owned());
        }
        Ok(Looked { version, program: line(&dumper, &dumper_version), databases, with_users, notes, settings })
    }

    fn parts(&self, looked: &Looked) -> Vec<Part> {
        let mut parts = Vec::new();
        if !looked.databases.is_empty() {
            let of = PartOf::Databases(looked.databases.clone());
            parts.push(Part { name: "databases.sql".to_owned(), of });
        }
        // After the tables: a grant on a table needs it.
        if looked.with_users {
            parts.push(Part { name: "users.sql".to_owned(), of: PartOf::Users });
        }
        parts
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let (argv, input) = Self::dump_argv(session, looked, &part.of);
        let program = argv.first().cloned().unwrap_or_default();
        let mut exec = session.start(DUMPING, argv, &[], &input)?;
        exec.close_input();
        let facts = DumpFacts::of(EngineKind::Mysql, looked, part);
        Ok(Box::new(Dumping { session: session.clone(), exec, program, tail: Tail::default(), facts }))
    }

    fn check(&self, _: &Session, facts: &mut DumpFacts, content: &mut dyn Read) -> Result<Vec<String>, ServerError> {
        let scanned = Scan::all(content).map_err(ServerError::io("read the dump back"))?;
        let incomplete = |reason: String| Err(ServerError::Incomplete { what: facts.what(), reason });
        if !scanned.is_complete {
            return incomplete(format!("it does not end with the comment `{TRAILER}`, behind a whole statement"));
        }
        if let Some(missing) = facts.of.names().iter().find(|name| !scanned.databases.contains_key(name.as_str())) {
            return incomplete(format!("{missing} is not in it"));
        }
        if facts.of != PartOf::Users {
            facts.databases = scanned.databases;
        }
        facts.position = scanned.position;
        Ok(vec!["every statement".to_owned()])
    }

    fn make_scratch(&self, scratch: &Session, facts: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let (scratch, dir) = scratch.scratch(ACTION, None)?;
        // Nothing of a server that this host has beside is taken over.
        let on_host = scratch.at.on_host().is_some();
        let own: &[&str] = if on_host { &["--no-defaults"] } else { &["--user=root"] };
        let mut session = Session { user: Some("root".to_owned()), ..scratch };
        session.client = vec![format!("--socket={dir}/sock")];
        if on_host {
            session.client.insert(0, "--no-defaults".to_owned());
        }
        let data = format!("--datadir={dir}/data");
        let settings: Vec<String> = facts
            .settings
            .iter()
            .filter(|(name, value)| *name != POSITION && !value.is_empty())
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        let is_mariadb = facts.server_version.contains("MariaDB");
        let daemon = if is_mariadb { "mariadbd" } else { "mysqld" };
        if on_host {
            same_series(&session, ACTION, daemon, &facts.server_version)?;
        }
        let mut install = words(&[if is_mariadb { "mariadb-install-db" } else { daemon }]);
        install.extend(words(own));
        install.extend(match is_mariadb {
            true => words(&["--skip-test-db", "--auth-root-authentication-method=normal"]),
            false => words(&["--initialize-insecure"]),
        });
        install.push(data.clone());
        let case = settings.iter().find(|setting| setting.starts_with("--lower-case"));
        install.extend(case.filter(|_| !is_mariadb).cloned());
        session.answer(ACTION, install, b"")?;
        let mut server = words(&[daemon]);
        server.extend(words(own));
        if on_host {
            // Nobody reads what it would say here.
            server.push(format!("--log-error={dir}/log"));
        }
        server.extend(words(&[
            "--skip-networking",
            "--skip-log-bin",
            "--event-scheduler=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            PACKET,
        ]));
        server.extend([data, format!("--socket={dir}/sock"), format!("--pid-file={dir}/pid")]);
        server.extend(settings);
        session.keep(ACTION, server)?;
        let (admin, _) = session.first_program(ACTION, &["mariadb-admin", "mysqladmin"])?;
        let (mut ping, _) = Self::login(&session, &admin, None);
        ping.extend(words(&["--connect-timeout=60", "ping"]));
        session.answer_within(ACTION, &ping, START_MAX)?;
        Ok(session)
    }

    fn load(&self, session: &Session, facts: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        const ACTION: &str = "load the dump";
        if facts.of == PartOf::Users {
            let statements = keeping_passwords(content).map_err(ServerError::io("read the dump"))?;
            return Self::feed(session, ACTION, &mut statements.as_slice());
        }
        Self::feed(session, ACTION, content)
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        if facts.of == PartOf::Users {
            return Ok(vec!["loaded".to_owned()]);
        }
        let restored = Self::scan_of(session, facts)?;
        let nothing = super::dump::DatabaseFacts::default();
        let differences: Vec<String> = facts
            .databases
            .iter()
            .flat_map(|(name, was)| was.differences(name, restored.databases.get(name).unwrap_or(&nothing)))
            .collect();
        match differences.is_empty() {
            true => Ok(["loaded", "counts", "every row", "every definition"].map(str::to_owned).to_vec()),
            false => Err(ServerError::Differs { what: facts.what(), differences }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let names = facts.of.names();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT table_schema, COUNT(*) FROM information_schema.tables WHERE table_schema IN ({}) \
             GROUP BY table_schema ORDER BY table_schema",
            list(&names)
        );
        let found = Self::query(session, "look at what is there", None, &sql)?;
        let line = |line: &str| {
            let (name, count) = line.split_once('\t').unwrap_or((line, "?"));
            format!("{name} ({count} tables)")
        };
        Ok(found.lines().map(line).collect())
    }

    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError> {
        for name in facts.of.names() {
            let sql = format!("DROP DATABASE IF EXISTS `{}`", name.as_str().replace('`', "``"));
            Self::query(session, "remove the databases that are replaced", None, &sql)?;
        }
        Ok(())
    }

    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError> {
        Self::query(session, "ask the restored databases", database, statement)
    }
}

const DUMPING: &str = "dump the databases";

struct Dumping {
    session: Session,
    exec: Running,
    program: String,
    tail: Tail,
    facts: DumpFacts,
}

impl Read for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.exec.read(buffer)?;
        self.tail.feed(&buffer[..count]);
        Ok(count)
    }
}

impl DumpStream for Dumping {
    fn finish(self: Box<Self>) -> Result<DumpFacts, ServerError> {
        let Self { session, exec, program, tail, facts } = *self;
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended(&program, &ended)?;
        // Whether a statement or a string is open there is known when it is read back.
        if !tail.text().trim_end().lines().next_back().is_some_and(|line| line.starts_with(TRAILER)) {
            let reason = format!("{program} ended with 0, and its last line is not `{TRAILER}`");
            return Err(ServerError::Incomplete { what: facts.what(), reason });
        }
        Ok(facts)
    }
}
