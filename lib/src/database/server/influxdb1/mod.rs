//! InfluxDB 1: `influxd backup -portable`, database by database, each as a tar.
//!
//! - That program writes files only: into a directory in the container that is gone afterwards ([`Made`]). It speaks
//!   to the server's own port for backups, which knows no passwords; questions need one where the server asks for one.
//! - Counts are taken before the dump and after it: a restored copy has what lies between. Where nobody wrote, it has
//!   exactly that.
//! - Its restore leaves out what a database has beside points: continuous queries are recorded, and made again. It also
//!   leaves out users, and refuses a database that is there.

mod client;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use self::client::{Series, ask, name, text};
use super::dump::{
    DatabaseFacts, DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, TableFacts, chosen, within,
};
use super::influx_files::Backup;
use super::made::{DUMP, Made};
use super::place::Running;
use super::session::scratch_dir;
use super::tar_scan::TarScan;
use super::{DatabaseName, EngineKind, ServerError, Session};

/// InfluxDB 1. It remembers who had which rights on a database that is replaced: they go with it.
#[derive(Debug, Default)]
pub(crate) struct Influxdb1 {
    grants: Mutex<BTreeMap<DatabaseName, Vec<String>>>,
}

/// The server writes its own figures there.
const OWN: &str = "_internal";
const DAEMON: &str = "influxd";
const DUMPING: &str = "dump the databases";
const COUNTING: &str = "count the databases";
/// Among the settings: a statement a line.
const QUERIES: &str = "continuous queries";
const SHARD: &str = ".tar.gz";
const MANIFEST: &str = ".manifest";
const BLOCK: usize = 64 << 10;
const RPC_DEFAULT: &str = "127.0.0.1:8088";
const SCRATCH: &str =
    r#"influxd run -config "$0/conf" 2>&1 | tee "$0/log" | { grep -m1 "Listening on HTTP"; exec cat >/dev/null; }"#;

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

fn column(series: &[Series], column: &str) -> Vec<String> {
    series.iter().flat_map(|series| series.column(column)).collect()
}

fn databases(session: &Session, action: &str) -> Result<Vec<String>, ServerError> {
    let mut names = column(&ask(session, action, None, "SHOW DATABASES")?, "name");
    names.retain(|name| name != OWN);
    Ok(names)
}

/// Where the server takes backups; of the container's own addresses.
fn rpc(session: &Session, action: &str) -> Result<String, ServerError> {
    let told = ask(session, action, None, "SHOW DIAGNOSTICS")?;
    let config = told.into_iter().filter(|series| series.name == "config").collect::<Vec<_>>();
    let address = column(&config, "bind-address").into_iter().next().unwrap_or_else(|| RPC_DEFAULT.to_owned());
    Ok(match address.rsplit_once(':') {
        Some(("" | "0.0.0.0" | "[::]", port)) => format!("127.0.0.1:{port}"),
        _ => address,
    })
}

/// The statements that make a database's continuous queries.
fn continuous_queries(session: &Session, action: &str, database: &str) -> Result<Vec<String>, ServerError> {
    let all = ask(session, action, None, "SHOW CONTINUOUS QUERIES")?;
    let own: Vec<Series> = all.into_iter().filter(|series| series.name == database).collect();
    Ok(column(&own, "query"))
}

/// What a database holds now. `rows` are the values of all fields.
fn count(session: &Session, database: &str) -> Result<DatabaseFacts, ServerError> {
    let ask = |statement: &str| ask(session, COUNTING, None, statement);
    let own = name(database);
    let policies = ask(&format!("SHOW RETENTION POLICIES ON {own}"))?;
    let mut facts = DatabaseFacts::default();
    for policy in column(&policies, "name") {
        for series in ask(&format!("SELECT COUNT(*) FROM {own}.{}./.*/", name(&policy)))? {
            let values = series.rows.iter().flat_map(|row| row.iter().skip(1).filter_map(serde_json::Value::as_u64));
            let rows: u64 = values.sum();
            let table = facts.tables.entry(format!("{policy}.{}", series.name)).or_default();
            *table = TableFacts { rows: table.rows + rows, rows_sum: None };
        }
    }
    let mut definitions: Vec<String> = policies
        .iter()
        .flat_map(|series| &series.rows)
        .map(|row| row.iter().map(text).collect::<Vec<_>>().join(" "))
        .collect();
    let queries = continuous_queries(session, COUNTING, database)?;
    facts.definitions.insert("retention policies".to_owned(), definitions.len() as u64);
    facts.definitions.insert(QUERIES.to_owned(), queries.len() as u64);
    definitions.extend(queries);
    definitions.sort();
    let sum = Sha256::digest(definitions.join("\n"));
    facts.definitions_sum = sum.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // Not a definition: their number grows with what is written.
    for series in ask(&format!("SHOW SERIES EXACT CARDINALITY ON {own}"))? {
        let count =
            column(std::slice::from_ref(&series), "count").iter().filter_map(|count| count.parse::<u64>().ok()).sum();
        facts.tables.insert(format!("series of {}", series.name), TableFacts { rows: count, rows_sum: None });
    }
    Ok(facts)
}

fn database_of(facts: &DumpFacts) -> Result<&DatabaseName, ServerError> {
    match &facts.of {
        PartOf::Database(name) => Ok(name),
        _ => Err(ServerError::Incomplete { what: facts.what(), reason: "it is of no database".to_owned() }),
    }
}

impl Influxdb1 {
    /// The rights on a database, as statements.
    fn grants(session: &Session, database: &str) -> Result<Vec<String>, ServerError> {
        const ACTION: &str = "look at the rights";
        let mut found = Vec::new();
        for user in column(&ask(session, ACTION, None, "SHOW USERS")?, "user") {
            for series in ask(session, ACTION, None, &format!("SHOW GRANTS FOR {}", name(&user)))? {
                let rights = series.column("database").into_iter().zip(series.column("privilege"));
                for (_, right) in rights.filter(|(of, right)| of == database && right != "NO PRIVILEGES") {
                    found.push(format!(
                        "GRANT {} ON {} TO {}",
                        right.replace(" PRIVILEGES", ""),
                        name(database),
                        name(&user)
                    ));
                }
            }
        }
        Ok(found)
    }
}

impl ServerEngine for Influxdb1 {
    fn admit(&self, session: Session) -> Result<Session, ServerError> {
        let trusted = Session { secret: None, ..session.clone() };
        match databases(&trusted, "reach the server") {
            Ok(_) => Ok(trusted),
            Err(ServerError::Denied { .. }) if session.secret.is_some() => Ok(session),
            Err(error) => Err(error),
        }
    }

    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the databases";
        let program = session.answer(ACTION, words(&[DAEMON, "version"]), b"")?;
        let diagnostics = ask(session, ACTION, None, "SHOW DIAGNOSTICS")?;
        let version = column(&diagnostics, "Version").into_iter().next().unwrap_or_else(|| "unknown".to_owned());
        let databases = chosen(session, &databases(session, ACTION)?, wanted)?;
        let mut notes = vec!["points that are written while it is dumped may be in it or not".to_owned()];
        if wanted.is_none() {
            notes.push("users and their rights are not in it: InfluxDB's own restore leaves them out".to_owned());
        }
        for series in ask(session, ACTION, None, "SHOW SUBSCRIPTIONS")? {
            if databases.iter().any(|name| name.as_str() == series.name) {
                notes.push(format!(
                    "the subscriptions of {} are not in it: a restored copy would send to them too",
                    series.name
                ));
            }
        }
        let program = format!("{DAEMON} {}", program.trim());
        Ok(Looked { version, program, databases, with_users: false, notes, settings: BTreeMap::new() })
    }

    fn parts(&self, looked: &Looked) -> Vec<Part> {
        let of = |name: &DatabaseName| Part { name: format!("{name}.tar"), of: PartOf::Database(name.clone()) };
        looked.databases.iter().map(of).collect()
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let mut facts = DumpFacts::of(EngineKind::Influxdb1, looked, part);
        let database = database_of(&facts)?.to_string();
        let queries = continuous_queries(session, DUMPING, &database)?;
        if !queries.is_empty() {
            facts.settings.insert(QUERIES.to_owned(), queries.join("\n"));
        }
        facts.databases.insert(database.clone(), count(session, &database)?);
        let rpc = rpc(session, DUMPING)?;
        let staged = Made::make(session, &DUMP, DUMPING)?;
        let dir = staged.path();
        session.answer(DUMPING, words(&[DAEMON, "backup", "-portable", "-host", &rpc, "-db", &database, dir]), b"")?;
        // What names all others comes last.
        let (manifests, mut names): (Vec<_>, Vec<_>) =
            staged.names(DUMPING)?.into_iter().partition(|name| name.ends_with(MANIFEST));
        names.extend(manifests);
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        let argv = words(&["tar", "-c", "-f", "-", "-C", dir, "-T", "-"]);
        let mut exec = session.start(DUMPING, argv, &[], list.as_bytes())?;
        exec.close_input();
        let session = session.clone();
        Ok(Box::new(Dumping { session, exec, scan: Backup::scan(false), facts, database, _staged: staged }))
    }

    fn check(&self, _: &Session, facts: &mut DumpFacts, content: &mut dyn Read) -> Result<Vec<String>, ServerError> {
        let mut scan = Backup::scan(true);
        let mut buffer = vec![0; BLOCK];
        loop {
            let count = content.read(&mut buffer).map_err(ServerError::io("read the dump back"))?;
            if count == 0 {
                break;
            }
            scan.feed(&buffer[..count]);
        }
        judged(scan, facts)?;
        Ok(words(&["its own manifest", "the checksum of each shard"]))
    }

    fn make_scratch(&self, scratch: &Session, _: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let dir = scratch_dir();
        let mut session = Session { run_as: Some("0".to_owned()), secret: None, user: None, ..scratch.clone() };
        session.answer(ACTION, words(&["mkdir", "-m", "0700", "--", dir]), b"")?;
        // Nothing is to be thought old, nor to be computed from what was restored.
        let settings = format!(
            "reporting-disabled = true\nbind-address = \"{RPC_DEFAULT}\"\n[meta]\ndir = \"{dir}/meta\"\n[data]\n\
             dir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\n[retention]\nenabled = false\n[continuous_queries]\n\
             enabled = false\n[monitor]\nstore-enabled = false\n[http]\nbind-address = \"127.0.0.1:8086\"\n\
             auth-enabled = false\nlog-enabled = false\n"
        );
        session.answer(ACTION, words(&["cp", "--", "/dev/stdin", &format!("{dir}/conf")]), settings.as_bytes())?;
        let mut said = BufReader::new(session.start(ACTION, words(&["sh", "-c", SCRATCH, dir]), &[], b"")?);
        let mut line = String::new();
        if said.read_line(&mut line).unwrap_or(0) == 0 {
            let log = session.answer(ACTION, words(&["tail", "-n", "3", "--", &format!("{dir}/log")]), b"")?;
            return Err(ServerError::NotRun {
                action: ACTION.to_owned(),
                place: session.place().to_owned(),
                reason: format!("the server did not come up: {}", log.trim()),
            });
        }
        session.keep_running(said.into_inner());
        session.is_scratch = true;
        Ok(session)
    }

    fn load(&self, session: &Session, facts: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        const ACTION: &str = "load the dump";
        let database = database_of(facts)?;
        let rpc = rpc(session, ACTION)?;
        let staged = Made::make(session, &DUMP, ACTION)?;
        let dir = staged.path();
        session.feed(ACTION, words(&["tar", "-x", "-o", "-f", "-", "-C", dir]), &[], content)?;
        let argv = words(&[DAEMON, "restore", "-portable", "-host", &rpc, "-db", database.as_str(), dir]);
        let loaded = session.answer(ACTION, argv, b"");
        // A database without a shard is made, and called a failure: what is there is compared afterwards.
        if staged.names(ACTION)?.iter().any(|name| name.ends_with(SHARD)) || !is_there(session, ACTION, database)? {
            loaded?;
        }
        let queries = facts.settings.get(QUERIES).map(String::as_str).unwrap_or_default();
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner).remove(database).unwrap_or_default();
        for statement in queries.lines().chain(grants.iter().map(String::as_str)) {
            ask(session, ACTION, None, statement)?;
        }
        Ok(())
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let database = database_of(facts)?.as_str();
        let nothing = DatabaseFacts::default();
        let before = facts.databases.get(database).unwrap_or(&nothing);
        let after = facts.after.get(database).unwrap_or(before);
        let restored = count(session, database)?;
        let differences = within(database, (before, after), &restored);
        match differences.is_empty() {
            true if before == after => Ok(words(&["loaded", "counts", "every definition"])),
            true => Ok(words(&["loaded", "counts within those before and after the dump", "every definition"])),
            false => Err(ServerError::Differs { what: facts.what(), differences }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        const ACTION: &str = "look at what is there";
        let database = database_of(facts)?;
        if !is_there(session, ACTION, database)? {
            return Ok(Vec::new());
        }
        let measurements = ask(session, ACTION, Some(database.as_str()), "SHOW MEASUREMENTS")?;
        // An empty one too: a restore takes none that is there.
        Ok(vec![format!("{database} ({} measurements)", column(&measurements, "name").len())])
    }

    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError> {
        let database = database_of(facts)?;
        let grants = Self::grants(session, database.as_str())?;
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).insert(database.clone(), grants);
        let statement = format!("DROP DATABASE {}", name(database.as_str()));
        ask(session, "remove the databases that are replaced", None, &statement).map(drop)
    }

    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError> {
        let answer = ask(session, "ask the restored databases", database, statement)?;
        let rows = answer.iter().flat_map(|series| &series.rows);
        Ok(rows.map(|row| row.iter().map(text).collect::<Vec<_>>().join("\t") + "\n").collect())
    }
}

fn is_there(session: &Session, action: &str, database: &DatabaseName) -> Result<bool, ServerError> {
    Ok(databases(session, action)?.iter().any(|there| there == database.as_str()))
}

fn judged(scan: TarScan<Backup>, facts: &DumpFacts) -> Result<(), ServerError> {
    let judged = scan.finish().map_err(str::to_owned).and_then(Backup::judge);
    judged.map(drop).map_err(|reason| ServerError::Incomplete { what: facts.what(), reason })
}

struct Dumping {
    session: Session,
    exec: Running,
    scan: TarScan<Backup>,
    facts: DumpFacts,
    database: String,
    _staged: Made,
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
        let Self { session, exec, scan, mut facts, database, _staged } = *self;
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended("tar", &ended)?;
        judged(scan, &facts)?;
        let after = count(&session, &database)?;
        if facts.databases.get(&database) != Some(&after) {
            facts.after.insert(database, after);
        }
        Ok(facts)
    }
}
