//! PostgreSQL: roles and tablespaces as a script, and an archive of each database, of a snapshot that is counted too.
//!
//! - Where the server trusts its socket, as the usual image does, no password is used. Else it is an owner-only file in
//!   the container's memory, for as long as a program runs.
//! - `pg_restore --list` proves nothing. An archive is parsed whole by `pg_restore --file=/dev/null`.
//! - Archives are not compressed by pg_dump: the store does that.

mod globals;
mod login;
mod programs;
mod talk;

use std::collections::BTreeMap;
use std::io::Read;

use self::login::Login;
use self::talk::Talk;
use super::dump::{DatabaseFacts, DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, chosen};
use super::place::Running;
use super::tail::Tail;
use super::{DatabaseName, EngineKind, ServerError, Session};

/// PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Postgres;

/// Every server has it, and no dump replaces it.
const MAINTENANCE: &str = "template1";
const DUMPING: &str = "dump the databases";
/// Among the settings: whether the dump has the roles that its databases belong to.
const WITH_USERS: &str = "with users";
const PRELOADED: &str = "shared_preload_libraries";
const ROLES: &str = r"SELECT quote_ident(rolname) FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1";
const ROLES_SUM: &str = r"SELECT md5(string_agg(format('%s %s %s %s %s %s', rolname, rolsuper, rolinherit, rolcreaterole,
    rolcreatedb, rolcanlogin), E'\n' ORDER BY rolname)) FROM pg_roles WHERE rolname !~ '^pg_'";
const OBJECTS: &str = r"SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

fn ask(session: &Session, action: &str, database: &str, sql: &str) -> Result<String, ServerError> {
    let login = Login::make(session)?;
    let mut argv = login.psql(session, database);
    argv.push(format!("--command={sql}"));
    let program = "psql";
    let (mut ended, out) = session.ran_with(action, argv, &login.environment(), b"")?;
    if ended.said.is_empty() {
        ended.said.clone_from(&out);
    }
    session.attempt(action).ended(program, &ended)?;
    Ok(out)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn roles_facts(session: &Session, action: &str) -> Result<BTreeMap<String, DatabaseFacts>, ServerError> {
    let count = lines(&ask(session, action, MAINTENANCE, ROLES)?).len() as u64;
    let sum = ask(session, action, MAINTENANCE, ROLES_SUM)?.trim().to_owned();
    let definitions = BTreeMap::from([("roles".to_owned(), count)]);
    Ok(BTreeMap::from([(
        "roles".to_owned(),
        DatabaseFacts { definitions, definitions_sum: sum, ..Default::default() },
    )]))
}

fn exists(session: &Session, name: &DatabaseName) -> Result<bool, ServerError> {
    let sql = format!("SELECT 1 FROM pg_database WHERE datname = {}", quoted(name.as_str()));
    Ok(!ask(session, "look at what is there", MAINTENANCE, &sql)?.trim().is_empty())
}

impl ServerEngine for Postgres {
    fn admit(&self, session: Session) -> Result<Session, ServerError> {
        if session.at.on_host().is_some() {
            // Programs of the server's own version write what it reads, where they are here.
            let version = ask(&session, "look at the version", MAINTENANCE, "SHOW server_version")?;
            return Ok(programs::like_server(session, version.trim()));
        }
        let trusted = Session { secret: None, ..session.clone() };
        match ask(&trusted, "reach the server", MAINTENANCE, "SELECT 1") {
            Ok(_) => Ok(trusted),
            Err(ServerError::Denied { .. }) if session.secret.is_some() => Ok(session),
            Err(error) => Err(error),
        }
    }

    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the databases";
        let (_, program) = session.first_program(ACTION, &["pg_dump"])?;
        let ask = |sql: &str| ask(session, ACTION, MAINTENANCE, sql);
        let version = ask("SHOW server_version")?.trim().to_owned();
        let there = ask("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname")?;
        let there = lines(&there);
        let databases = chosen(session, &there, wanted)?;
        let mut settings = BTreeMap::new();
        let preloaded = ask("SHOW shared_preload_libraries")?.trim().to_owned();
        if !preloaded.is_empty() {
            settings.insert(PRELOADED.to_owned(), preloaded);
        }
        if wanted.is_none() {
            settings.insert(WITH_USERS.to_owned(), "yes".to_owned());
        }
        Ok(Looked { version, program, databases, with_users: wanted.is_none(), notes: Vec::new(), settings })
    }

    fn parts(&self, looked: &Looked) -> Vec<Part> {
        let users = looked.with_users.then(|| Part { name: "globals.sql".to_owned(), of: PartOf::Users });
        let of = |name: &DatabaseName| Part { name: format!("{name}.dump"), of: PartOf::Database(name.clone()) };
        users.into_iter().chain(looked.databases.iter().map(of)).collect()
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let mut facts = DumpFacts::of(EngineKind::Postgres, looked, part);
        let login = Login::make(session)?;
        let (argv, talk) = match &part.of {
            PartOf::Database(name) => {
                let mut talk = Talk::begin(session, DUMPING, name.as_str())?;
                let snapshot = talk.field("SELECT pg_export_snapshot();")?;
                facts.position = Some(talk.field(
                    "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END;",
                )?);
                let mut argv = login.argv(session, "pg_dump", name.as_str());
                argv.extend(["--format=custom", "--compress=0"].map(str::to_owned));
                argv.push(format!("--snapshot={snapshot}"));
                (argv, Some(talk))
            }
            _ => {
                facts.databases = roles_facts(session, DUMPING)?;
                let mut argv = login.argv(session, "pg_dumpall", MAINTENANCE);
                argv.push("--globals-only".to_owned());
                (argv, None)
            }
        };
        let program = argv.first().cloned().unwrap_or_default();
        let mut exec = session.start(DUMPING, argv, &login.environment(), b"")?;
        exec.close_input();
        Ok(Box::new(Dumping {
            session: session.clone(),
            exec,
            program,
            talk,
            facts,
            tail: Tail::default(),
            _login: login,
        }))
    }

    fn check(
        &self,
        session: &Session,
        facts: &mut DumpFacts,
        content: &mut dyn Read,
    ) -> Result<Vec<String>, ServerError> {
        if facts.of == PartOf::Users {
            let text = globals::read(content).map_err(ServerError::io("read the dump back"))?;
            return match globals::is_complete(&text) {
                true => Ok(vec!["every statement".to_owned()]),
                false => {
                    let reason = "what was read back has not the last line".to_owned();
                    Err(ServerError::Incomplete { what: facts.what(), reason })
                }
            };
        }
        let argv = ["pg_restore", "--file=/dev/null"].map(str::to_owned).to_vec();
        session.feed("parse the dump", argv, &[], content)?;
        Ok(vec!["every statement".to_owned()])
    }

    fn make_scratch(&self, scratch: &Session, facts: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let (mut session, dir) = scratch.scratch(ACTION, Some("postgres"))?;
        if session.at.on_host().is_some() {
            session = programs::of_server(session, ACTION, &facts.server_version)?;
        }
        // The roles of the dump come with the name of its first user.
        session.user = Some(facts.settings.get(SUPERUSER).cloned().unwrap_or_else(|| "postgres".to_owned()));
        let user = format!("--username={}", session.user.as_deref().unwrap_or_default());
        let data = format!("{dir}/data");
        let mut init = words(&["initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        init.extend([user, format!("--pgdata={data}")]);
        session.answer(ACTION, init, b"")?;
        let mut settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{dir}'\nfsync = off\nfull_page_writes = off\nautovacuum = off\n"
        );
        if let Some(preloaded) = facts.settings.get(PRELOADED) {
            settings.push_str(&format!("{PRELOADED} = {}\n", quoted(preloaded)));
        }
        // It is read after the other, and there is nothing in it yet.
        let file = format!("{data}/postgresql.auto.conf");
        session.answer(ACTION, words(&["cp", "--", "/dev/stdin", &file]), settings.as_bytes())?;
        let log = format!("--log={dir}/log");
        session.answer(
            ACTION,
            words(&["pg_ctl", "start", "--wait", "--timeout=60", &log, &format!("--pgdata={data}")]),
            b"",
        )?;
        session.client = vec![format!("--host={dir}")];
        Ok(session)
    }

    fn load(&self, session: &Session, facts: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        const ACTION: &str = "load the dump";
        let login = Login::make(session)?;
        let PartOf::Database(name) = &facts.of else {
            let text = globals::read(content).map_err(ServerError::io("read the dump"))?;
            let roles = lines(&ask(session, ACTION, MAINTENANCE, ROLES)?);
            let spaces = lines(&ask(session, ACTION, MAINTENANCE, "SELECT quote_ident(spcname) FROM pg_tablespace")?);
            let text = globals::for_server(&text, &roles, (!session.is_scratch).then_some(&spaces));
            return session.feed(ACTION, login.psql(session, MAINTENANCE), &login.environment(), &mut text.as_bytes());
        };
        // One that is there and empty is filled: it may be where everybody connects first.
        let is_there = exists(session, name)?;
        let mut argv = login.argv(session, "pg_restore", if is_there { name.as_str() } else { MAINTENANCE });
        argv.push("--exit-on-error".to_owned());
        if !is_there {
            argv.push("--create".to_owned());
        }
        if session.is_scratch {
            argv.push("--no-tablespaces".to_owned());
            if !facts.settings.contains_key(WITH_USERS) {
                argv.extend(["--no-owner", "--no-acl"].map(str::to_owned));
            }
        }
        session.feed(ACTION, argv, &login.environment(), content)
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        const ACTION: &str = "count the restored databases";
        let restored = match &facts.of {
            PartOf::Database(name) => {
                let counted = Talk::begin(session, ACTION, name.as_str())?.facts()?;
                BTreeMap::from([(name.to_string(), counted)])
            }
            _ => roles_facts(session, ACTION)?,
        };
        let nothing = DatabaseFacts::default();
        let differences: Vec<String> = facts
            .databases
            .iter()
            .flat_map(|(name, was)| was.differences(name, restored.get(name).unwrap_or(&nothing)))
            .collect();
        match differences.is_empty() {
            true => Ok(["loaded", "counts", "every definition"].map(str::to_owned).to_vec()),
            false => Err(ServerError::Differs { what: facts.what(), differences }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let mut found = Vec::new();
        for name in facts.of.names() {
            if exists(session, &name)? {
                let count = ask(session, "look at what is there", name.as_str(), OBJECTS)?.trim().to_owned();
                if count != "0" {
                    found.push(format!("{name} ({count} tables, views and sequences)"));
                }
            }
        }
        Ok(found)
    }

    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError> {
        for name in facts.of.names() {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name.as_str()));
            ask(session, "remove the databases that are replaced", MAINTENANCE, &sql)?;
        }
        Ok(())
    }

    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError> {
        ask(session, "ask the restored databases", database.unwrap_or(MAINTENANCE), statement)
    }
}

/// Among the settings: who made the cluster.
const SUPERUSER: &str = "superuser";

struct Dumping {
    session: Session,
    exec: Running,
    program: String,
    talk: Option<Talk>,
    facts: DumpFacts,
    tail: Tail,
    _login: Login,
}

impl Read for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.exec.read(buffer)?;
        if self.talk.is_none() {
            self.tail.feed(&buffer[..count]);
        }
        Ok(count)
    }
}

impl DumpStream for Dumping {
    fn finish(self: Box<Self>) -> Result<DumpFacts, ServerError> {
        let Self { session, exec, program, talk, mut facts, tail, _login } = *self;
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended(&program, &ended)?;
        match (talk, &facts.of) {
            (Some(mut talk), PartOf::Database(name)) => {
                let counted = talk.facts()?;
                facts.databases.insert(name.to_string(), counted);
            }
            _ if !globals::is_complete(&tail.text()) => {
                let reason = format!("{program} ended with 0, and its last line is missing");
                return Err(ServerError::Incomplete { what: facts.what(), reason });
            }
            _ => {}
        }
        if let Some(user) = &session.user {
            facts.settings.insert(SUPERUSER.to_owned(), user.clone());
        }
        Ok(facts)
    }
}
