//! What an engine does with a server: the parts of a dump, each a stream with a proof of its end, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::{DatabaseName, EngineKind, ServerError, Session};
use crate::failure::FailureKind;

/// What is known of a server before it is dumped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Looked {
    /// The server's version, in its own words.
    pub(crate) version: String,
    /// The program that dumps, and its version.
    pub(crate) program: String,
    /// What is dumped.
    pub(crate) databases: Vec<DatabaseName>,
    /// Whether users and roles belong to it.
    pub(crate) with_users: bool,
    /// What a person should know: tables without transactions, and the like.
    pub(crate) notes: Vec<String>,
    /// What a scratch server needs to take the dump.
    pub(crate) settings: BTreeMap<String, String>,
}

/// One stream of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name in the backup: `databases.sql`.
    pub(crate) name: String,
    /// What it has.
    pub(crate) of: PartOf,
}

/// What a part has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartOf {
    /// Users, roles and their grants.
    Users,
    /// Several databases, of one instant.
    Databases(Vec<DatabaseName>),
    /// One database.
    Database(DatabaseName),
    /// Everything that the server has.
    Everything,
}

/// What a part of a dump holds; recorded in the manifest, and compared with what a restore of it gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DumpFacts {
    pub(crate) engine: EngineKind,
    pub(crate) server_version: String,
    pub(crate) program: String,
    pub(crate) of: PartOf,
    /// Database by database.
    #[serde(default)]
    pub(crate) databases: BTreeMap<String, DatabaseFacts>,
    /// What they held when the dump had ended, where that is another: of an engine that can't tell what is in a dump.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) after: BTreeMap<String, DatabaseFacts>,
    /// Where the server's log of changes stood at the instant of the dump: `FILE:POSITION`, or an LSN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<String>,
    /// What a scratch server needs to take it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, String>,
    /// The image of the container, and its id: a restore test runs in a container of the same.
    #[serde(default)]
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) image_id: String,
}

/// What one database holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatabaseFacts {
    /// By name, with the schema where the engine has such.
    pub(crate) tables: BTreeMap<String, TableFacts>,
    /// How many definitions there are beside tables, by kind: views, triggers, routines, events...
    #[serde(default)]
    pub(crate) definitions: BTreeMap<String, u64>,
    /// A sum of all definitions' text, in no order (a hexadecimal number). It shows accidents, not forgery.
    #[serde(default)]
    pub(crate) definitions_sum: String,
}

/// What one table holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableFacts {
    pub(crate) rows: u64,
    /// A sum of all rows' text, in no order, where the dump itself was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows_sum: Option<String>,
}

impl PartOf {
    /// The databases in it, where they have names.
    pub(crate) fn names(&self) -> Vec<DatabaseName> {
        match self {
            Self::Databases(names) => names.clone(),
            Self::Database(name) => vec![name.clone()],
            Self::Users | Self::Everything => Vec::new(),
        }
    }
}

impl DumpFacts {
    pub(super) fn of(engine: EngineKind, looked: &Looked, part: &Part) -> Self {
        Self {
            engine,
            server_version: looked.version.clone(),
            program: looked.program.clone(),
            of: part.of.clone(),
            databases: BTreeMap::new(),
            after: BTreeMap::new(),
            position: None,
            settings: looked.settings.clone(),
            image: String::new(),
            image_id: String::new(),
        }
    }

    /// For people: `database shop`.
    pub(crate) fn what(&self) -> String {
        match &self.of {
            PartOf::Users => "the users".to_owned(),
            PartOf::Everything => "the server".to_owned(),
            PartOf::Database(name) => format!("database {name}"),
            PartOf::Databases(names) => {
                let names: Vec<&str> = names.iter().map(DatabaseName::as_str).collect();
                format!("{} {}", if names.len() == 1 { "database" } else { "databases" }, names.join(", "))
            }
        }
    }
}

impl DatabaseFacts {
    /// How `restored` differs, a line each; of many only the first.
    pub(crate) fn differences(&self, name: &str, restored: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (table, was) in &self.tables {
            match restored.tables.get(table) {
                None => found.push(format!("{name}: table {table} is missing")),
                Some(is) if is.rows != was.rows => {
                    found.push(format!("{name}: {table} has {} rows, not {}", is.rows, was.rows));
                }
                Some(is) if is.rows_sum != was.rows_sum => {
                    found.push(format!("{name}: the rows of {table} are not the same"));
                }
                Some(_) => {}
            }
        }
        for table in restored.tables.keys().filter(|table| !self.tables.contains_key(*table)) {
            found.push(format!("{name}: table {table} was not there"));
        }
        if self.definitions != restored.definitions {
            found.push(format!("{name}: it has {:?}, not {:?}", restored.definitions, self.definitions));
        } else if self.definitions_sum != restored.definitions_sum {
            found.push(format!("{name}: the definitions are not the same"));
        }
        found.truncate(DIFFERENCES_MAX);
        found
    }

    /// All rows.
    pub(crate) fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

/// How what was restored lies outside of what was counted before a dump and after it; of many only the first.
pub(super) fn within(
    name: &str,
    (before, after): (&DatabaseFacts, &DatabaseFacts),
    restored: &DatabaseFacts,
) -> Vec<String> {
    let rows = |facts: &DatabaseFacts, table: &String| facts.tables.get(table).map_or(0, |table| table.rows);
    let mut found = Vec::new();
    let tables: BTreeSet<&String> =
        [before, after, restored].into_iter().flat_map(|facts| facts.tables.keys()).collect();
    for table in tables {
        let (first, last, is) = (rows(before, table), rows(after, table), rows(restored, table));
        if is < first.min(last) || is > first.max(last) {
            found.push(match first == last {
                true => format!("{name}: {table} has {is}, not {first}"),
                false => format!("{name}: {table} has {is}, and had {first} before the dump and {last} after it"),
            });
        }
    }
    // What changed in between may be as it was, or as it is.
    let same = |facts: &DatabaseFacts| {
        facts.definitions == restored.definitions && facts.definitions_sum == restored.definitions_sum
    };
    if !same(before) && !same(after) {
        found.push(format!("{name}: it has {:?}, not {:?}", restored.definitions, before.definitions));
    }
    found.truncate(DIFFERENCES_MAX);
    found
}

/// Those that are wanted, all of which must be there; `None`: all that are.
pub(super) fn chosen<T: AsRef<str>>(
    session: &Session,
    there: &[T],
    wanted: Option<&[DatabaseName]>,
) -> Result<Vec<DatabaseName>, ServerError> {
    let Some(wanted) = wanted else {
        return there.iter().map(|name| name.as_ref().parse()).collect::<Result<_, _>>().map_err(ServerError::word);
    };
    match wanted.iter().find(|name| there.iter().all(|there| there.as_ref() != name.as_str())) {
        None => Ok(wanted.to_vec()),
        Some(missing) => {
            let there: Vec<&str> = there.iter().map(AsRef::as_ref).collect();
            Err(ServerError::Refused {
                reason: format!("{} has no database {missing}", session.place()),
                kind: FailureKind::No,
                hint: Some(format!("it has: {}", there.join(", "))),
            })
        }
    }
}

/// A person reads so many.
const DIFFERENCES_MAX: usize = 10;

/// A dump that runs: read to its end, then finished. Only [`Self::finish`] says that the end was its own.
pub(crate) trait DumpStream: Read + Send {
    /// The proof of completeness: the program's exit code and the dump's own trailer, both. What the facts lack then is
    /// found by [`ServerEngine::check`].
    fn finish(self: Box<Self>) -> Result<DumpFacts, ServerError>;
}

/// What an engine can do with a server that a session reaches.
pub(crate) trait ServerEngine: Send + Sync {
    /// A session as the server wants it: one that trusts us is not shown a password.
    fn admit(&self, session: Session) -> Result<Session, ServerError> {
        Ok(session)
    }

    /// Identifies the server, and finds what is to be dumped. `wanted`: these databases alone; `None`: all, and users.
    fn look(&self, session: &Session, wanted: Option<&[DatabaseName]>) -> Result<Looked, ServerError>;

    /// The streams of a dump, in the order in which they are loaded.
    fn parts(&self, looked: &Looked) -> Vec<Part>;

    /// Starts the dump of a part.
    fn dump(&self, session: &Session, looked: &Looked, part: &Part) -> Result<Box<dyn DumpStream>, ServerError>;

    /// Reads a dump that was written, as far as its format allows, and adds to the facts what only a reader of all of it
    /// knows; answers the rungs that it climbed.
    fn check(
        &self,
        session: &Session,
        facts: &mut DumpFacts,
        content: &mut dyn Read,
    ) -> Result<Vec<String>, ServerError>;

    /// Makes an empty server in a scratch container and waits until it answers.
    fn make_scratch(&self, scratch: &Session, facts: &DumpFacts) -> Result<Session, ServerError>;

    /// Loads a part into a server that does not have it.
    fn load(&self, session: &Session, facts: &DumpFacts, content: &mut dyn Read) -> Result<(), ServerError>;

    /// Compares what a restored part holds with what was recorded; answers the rungs that were climbed.
    fn compare(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError>;

    /// Those of the part's databases that the server already has, and that are not empty: name and rows or so.
    fn in_the_way(&self, session: &Session, facts: &DumpFacts) -> Result<Vec<String>, ServerError>;

    /// Removes the part's databases, so that a load puts the dump's in their place.
    fn clear(&self, session: &Session, facts: &DumpFacts) -> Result<(), ServerError>;

    /// The answer to one statement.
    fn ask(&self, session: &Session, database: Option<&str>, statement: &str) -> Result<String, ServerError>;
}
