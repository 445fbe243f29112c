//! InfluxDB 2: `influx backup`, as a tar: of everything, metadata included, or of each named bucket.
//!
//! - That program writes files only: into a directory in the container that is gone afterwards ([`Made`]). It is
//!   told the token by a file ([`client`]).
//! - Counts are taken before the dump and after it: a restored copy has what lies between. Where nobody wrote, it has
//!   exactly that.
//! - A database is a bucket here, and named `ORGANIZATION/BUCKET`. Buckets are what is brought back: users, tokens,
//!   dashboards and tasks are in the metadata, which only a restore that replaces all of a server takes.

mod client;
mod csv;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use serde_json::Value;

use self::client::{ADDRESS, Bucket, CLIENT, Login, ORGANIZATIONS_MAX, is_own};
use super::dump::{
    DatabaseFacts, DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine, TableFacts, chosen, within,
};
use super::influx_files::Backup;
use super::made::{DUMP, Made};
use super::place::Running;
use super::session::scratch_dir;
use super::tar_scan::TarScan;
use super::{DatabaseName, EngineKind, ServerError, Session};
use crate::failure::FailureKind;

/// InfluxDB 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Influxdb2;

const DAEMON: &str = "influxd";
const DUMPING: &str = "dump the buckets";
const COUNTING: &str = "count the buckets";
const MANIFEST: &str = ".manifest";
/// Among the settings: organization and bucket of each, since both may have any character in their names.
const BUCKETS: &str = "buckets";
const BLOCK: usize = 64 << 10;
/// As wide as times are.
const RANGE: &str = "start: 1677-09-22T00:00:00Z, stop: 2262-04-11T00:00:00Z";
/// Nothing is to be thought old.
const SCRATCH: &str = r#"influxd --bolt-path "$0/bolt" --sqlite-path "$0/sqlite" --engine-path "$0/engine" \
--http-bind-address "$1" --reporting-disabled --storage-retention-check-interval 8760h 2>&1 |
tee "$0/log" | { grep -m1 Listening; exec cat >/dev/null; }"#;
/// Whose a scratch server is at first; nobody reaches it, and it has nothing that is not in the backup.
const NOBODY: &str = "svckit-scratch";

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

/// What a bucket holds now. `rows` are the values of all fields.
fn count(login: &Login<'_>, bucket: &Bucket) -> Result<DatabaseFacts, ServerError> {
    let flux = format!(
        "from(bucketID: \"{}\") |> range({RANGE}) |> count() |> group(columns: [\"_measurement\"]) |> sum() \
         |> keep(columns: [\"_measurement\", \"_value\"])",
        bucket.id
    );
    let mut facts = DatabaseFacts::default();
    facts.definitions.insert("seconds that data stays".to_owned(), bucket.seconds);
    for row in login.query(COUNTING, &bucket.organization_id, &flux)? {
        let column = |name: &str| row.iter().find(|(column, _)| column == name).map(|(_, value)| value.clone());
        let (Some(measurement), Some(rows)) =
            (column("_measurement"), column("_value").and_then(|value| value.parse().ok()))
        else {
            continue;
        };
        facts.tables.insert(measurement, TableFacts { rows, rows_sum: None });
    }
    Ok(facts)
}

/// What is in a backup, by its manifest: organization and bucket.
fn named(manifest: &Value) -> Vec<(String, String)> {
    let all = manifest.get("buckets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |each: &Value, name: &str| each.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = all.iter().map(|each| (text(each, "organizationName"), text(each, "bucketName")));
    names.filter(|(_, bucket)| !is_own(bucket)).collect()
}

/// The same, as it was recorded.
fn recorded(facts: &DumpFacts) -> Vec<(String, String)> {
    facts.settings.get(BUCKETS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Those that are wanted, by their full names; the bucket's alone will do where only one organization has it.
fn full_names(there: &[Bucket], wanted: &[DatabaseName]) -> Result<Vec<DatabaseName>, ServerError> {
    let full = |name: &DatabaseName| {
        let mut of_name = there.iter().filter(|bucket| bucket.name == name.as_str());
        match (of_name.next(), of_name.next()) {
            (Some(bucket), None) if !there.iter().any(|bucket| bucket.full_name() == name.as_str()) => {
                bucket.full_name().parse().map_err(ServerError::word)
            }
            _ => Ok(name.clone()),
        }
    };
    wanted.iter().map(full).collect()
}

fn judged(scan: TarScan<Backup>, facts: &DumpFacts) -> Result<Value, ServerError> {
    let judged = scan.finish().map_err(str::to_owned).and_then(Backup::judge);
    judged.map(|(manifest, _)| manifest).map_err(|reason| ServerError::Incomplete { what: facts.what(), reason })
}

impl ServerEngine for Influxdb2 {
    fn admit(&self, session: Session) -> Result<Session, ServerError> {
        let trusted = Session { secret: None, ..session.clone() };
        match Login::make(&trusted)?.organizations("reach the server") {
            Ok(_) => Ok(trusted),
            Err(ServerError::Denied { .. }) if session.secret.is_some() => Ok(session),
            Err(error) => Err(error),
        }
    }

    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError> {
        const ACTION: &str = "look at the buckets";
        let program = session.answer(ACTION, words(&[CLIENT, "version"]), b"")?;
        let server = session.answer(ACTION, words(&[DAEMON, "version"]), b"")?;
        let version = server.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('v').to_owned();
        let login = Login::make(session)?;
        let buckets = login.buckets(ACTION)?;
        let there: Vec<String> = buckets.iter().map(Bucket::full_name).collect();
        let wanted = wanted.map(|names| full_names(&buckets, names)).transpose()?;
        let databases = chosen(session, &there, wanted.as_deref())?;
        let mut notes = vec!["points that are written while it is dumped may be in it or not".to_owned()];
        notes.push("it has the server's tokens: whoever can read it may use them".to_owned());
        if wanted.is_none() {
            notes.push(
                "a restore brings buckets back; users, tokens, dashboards and tasks only `influx restore --full`"
                    .to_owned(),
            );
            if login.organizations(ACTION)?.len() >= ORGANIZATIONS_MAX {
                notes.push(format!(
                    "`{CLIENT}` lists {ORGANIZATIONS_MAX} organizations: of others, counts are of after the dump"
                ));
            }
        }
        let program = format!("{CLIENT} {}", program.split_whitespace().nth(2).unwrap_or_default());
        Ok(Looked { version, program, databases, with_users: wanted.is_none(), notes, settings: BTreeMap::new() })
    }

    fn parts(&self, looked: &Looked) -> Vec<Part> {
        if looked.with_users {
            let of = PartOf::Databases(looked.databases.clone());
            return vec![Part { name: "influxdb.tar".to_owned(), of }];
        }
        let of = |name: &DatabaseName| Part { name: format!("{name}.tar"), of: PartOf::Database(name.clone()) };
        looked.databases.iter().map(of).collect()
    }

    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError> {
        let mut facts = DumpFacts::of(EngineKind::Influxdb, looked, part);
        let wanted = facts.of.names();
        let login = Login::make(session)?;
        let mut command = words(&["backup", "--org=", "--org-id="]);
        for bucket in login.buckets(DUMPING)? {
            let name = bucket.full_name();
            if wanted.iter().any(|wanted| wanted.as_str() == name) {
                if matches!(part.of, PartOf::Database(_)) {
                    command.push(format!("--bucket-id={}", bucket.id));
                }
                facts.databases.insert(name, count(&login, &bucket)?);
            }
        }
        let staged = Made::make(session, &DUMP, DUMPING)?;
        let dir = staged.path();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        login.run(DUMPING, &command, &[dir])?;
        // What names all others comes last.
        let (manifests, mut names): (Vec<_>, Vec<_>) =
            staged.names(DUMPING)?.into_iter().partition(|name| name.ends_with(MANIFEST));
        names.extend(manifests);
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        let argv = words(&["tar", "-c", "-f", "-", "-C", dir, "-T", "-"]);
        let mut exec = session.start(DUMPING, argv, &[], list.as_bytes())?;
        exec.close_input();
        let session = session.clone();
        Ok(Box::new(Dumping { session, exec, scan: Backup::scan(false), facts, _staged: staged }))
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
        let manifest = judged(scan, facts)?;
        if named(&manifest) != recorded(facts) {
            let reason = "what was read back has other buckets".to_owned();
            return Err(ServerError::Incomplete { what: facts.what(), reason });
        }
        Ok(words(&["its own manifest", "the checksum of each shard"]))
    }

    fn make_scratch(&self, scratch: &Session, _: &DumpFacts) -> Result<Session, ServerError> {
        const ACTION: &str = "make a scratch server";
        let dir = scratch_dir();
        let mut session = Session { run_as: Some("0".to_owned()), secret: None, user: None, ..scratch.clone() };
        session.answer(ACTION, words(&["mkdir", "-m", "0700", "--", dir]), b"")?;
        let argv = words(&["sh", "-c", SCRATCH, dir, ADDRESS]);
        let mut said = BufReader::new(session.start(ACTION, argv, &[], b"")?);
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
        session.client = vec![format!("--configs-path={dir}/client")];
        let options = [("username", NOBODY), ("password", NOBODY), ("org", NOBODY), ("bucket", NOBODY)];
        let options: Vec<String> = options.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let command: Vec<&str> = ["setup", "--force"].into_iter().chain(options.iter().map(String::as_str)).collect();
        Login::make(&session)?.run(ACTION, &command, &[])?;
        session.is_scratch = true;
        Ok(session)
    }

    fn load(&self, session: &Session, _: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError> {
        const ACTION: &str = "load the dump";
        let staged = Made::make(session, &DUMP, ACTION)?;
        let dir = staged.path();
        session.feed(ACTION, words(&["tar", "-x", "-o", "-f", "-", "-C", dir]), &[], content)?;
        // What it could not load it leaves out, and says so on the way: what is there is compared afterwards.
        Login::make(session)?.run(ACTION, &["restore", "--org=", "--org-id="], &[dir]).map(drop)
    }

    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let login = Login::make(session)?;
        let nothing = DatabaseFacts::default();
        let mut differences = Vec::new();
        for (organization, bucket) in recorded(facts) {
            let name = format!("{organization}/{bucket}");
            let before = facts.databases.get(&name).unwrap_or(&nothing);
            let after = facts.after.get(&name).unwrap_or(before);
            match login.find(COUNTING, &organization, &bucket)? {
                Some(found) => differences.extend(within(&name, (before, after), &count(&login, &found)?)),
                None => differences.push(format!("{name} is not there")),
            }
        }
        match differences.is_empty() {
            true if facts.after.is_empty() => Ok(words(&["loaded", "counts"])),
            true => Ok(words(&["loaded", "counts within those before and after the dump"])),
            false => Err(ServerError::Differs { what: facts.what(), differences }),
        }
    }

    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError> {
        let login = Login::make(session)?;
        let mut found = Vec::new();
        for (organization, bucket) in recorded(facts) {
            // An empty one too: a restore takes none that is there.
            if login.find("look at what is there", &organization, &bucket)?.is_some() {
                found.push(format!("{organization}/{bucket} (with the rights of tokens for it alone)"));
            }
        }
        Ok(found)
    }

    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError> {
        const ACTION: &str = "remove the buckets that are replaced";
        let login = Login::make(session)?;
        for (organization, bucket) in recorded(facts) {
            if let Some(found) = login.find(ACTION, &organization, &bucket)? {
                let id = format!("--id={}", found.id);
                login.run(ACTION, &["bucket", "delete", "--org=", "--org-id=", &id], &[])?;
            }
        }
        Ok(())
    }

    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError> {
        const ACTION: &str = "ask the restored buckets";
        let login = Login::make(session)?;
        let of_database = match database {
            Some(name) => {
                login.buckets(ACTION)?.into_iter().find(|bucket| bucket.full_name() == name || bucket.name == name)
            }
            None => None,
        };
        let organization = match of_database {
            Some(bucket) => Some(bucket.organization_id),
            None => login.organizations(ACTION)?.into_iter().find(|(name, _)| name != NOBODY).map(|(_, id)| id),
        };
        let Some(id) = organization else {
            let reason = format!("{} has no organization of the backup", session.place());
            return Err(ServerError::Refused { reason, kind: FailureKind::No, hint: None });
        };
        let rows = login.query(ACTION, &id, statement)?;
        let line = |row: csv::Row| row.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("\t") + "\n";
        Ok(rows.into_iter().map(line).collect())
    }
}

struct Dumping {
    session: Session,
    exec: Running,
    scan: TarScan<Backup>,
    facts: DumpFacts,
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
        let Self { session, exec, scan, mut facts, _staged } = *self;
        let attempt = session.attempt(DUMPING);
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended("tar", &ended)?;
        let buckets = named(&judged(scan, &facts)?);
        let has = |name: &DatabaseName| buckets.iter().any(|(of, bucket)| format!("{of}/{bucket}") == name.as_str());
        if let (PartOf::Database(name), false) = (&facts.of, facts.of.names().iter().all(has)) {
            let reason = format!("{name} is not in it");
            return Err(ServerError::Incomplete { what: facts.what(), reason });
        }
        let login = Login::make(&session)?;
        let mut names = Vec::new();
        for (organization, bucket) in &buckets {
            let name = format!("{organization}/{bucket}");
            let after = match login.find(COUNTING, organization, bucket)? {
                Some(found) => count(&login, &found)?,
                None => DatabaseFacts::default(),
            };
            if facts.databases.entry(name.clone()).or_default() != &after {
                facts.after.insert(name.clone(), after);
            }
            names.push(name.parse().map_err(ServerError::word)?);
        }
        // Buckets come and go between the look and the dump.
        facts.databases.retain(|name, _| names.iter().any(|known: &DatabaseName| known.as_str() == name));
        if let PartOf::Databases(_) = &facts.of {
            facts.of = PartOf::Databases(names);
        }
        facts.settings.insert(
            BUCKETS.to_owned(),
            Value::from_iter(buckets.into_iter().map(|(of, bucket)| vec![of, bucket])).to_string(),
        );
        Ok(facts)
    }
}
