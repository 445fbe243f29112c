//! What an archive has, and what a restored copy of it must have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::super::dump::{DatabaseFacts, TableFacts};
use super::super::sum::Sum;
use super::bson::{Value, field};
use super::oplog::{Change, Changes};

/// Users and roles are there, and what else belongs to the server.
pub(super) const ADMIN: &str = "admin";
const USERS: &[(&str, &str)] = &[("system.users", "users"), ("system.roles", "roles")];
/// In the place of a sum of definitions that were changed while they were dumped.
const CHANGED: &str = "changed";
/// What says how a collection works, beside its indices. Versions differ in the rest.
const OPTIONS: &[&str] = &["viewOn", "pipeline", "validator", "capped", "collation"];

/// What an archive says of a collection.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) database: String,
    pub(super) name: String,
    metadata: String,
    kind: String,
}

impl Collection {
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let text = |name: &str| field(document, name).and_then(Value::text);
        let (metadata, kind) = (text("metadata").unwrap_or_default(), text("type").unwrap_or_default());
        Some(Self { database: text("db")?, name: text("collection")?, metadata, kind })
    }

    /// Where its documents are: those of time series have another name, but for the newest servers.
    pub(super) fn data(&self) -> Vec<(String, String)> {
        let mut names = vec![(self.database.clone(), self.name.clone())];
        if self.kind == "timeseries" {
            names.push((self.database.clone(), format!("system.buckets.{}", self.name)));
        }
        names
    }

    fn is_own(&self) -> bool {
        is_own(&self.database, &self.name)
    }

    /// What it is defined by, as a text that a restored copy has too: no identity and no version of a format.
    fn definitions(&self) -> (u64, String) {
        let Ok(metadata) = serde_json::from_str::<Json>(&self.metadata) else { return (0, self.metadata.clone()) };
        let mut words = vec![self.name.clone(), self.kind.clone()];
        for option in OPTIONS {
            words.extend(
                metadata.get("options").and_then(|all| all.get(*option)).map(|value| format!("{option}{value}")),
            );
        }
        let indices = metadata.get("indexes").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<String> =
            indices.iter().map(|index| format!("{:?} {:?}", index.get("name"), index.get("key"))).collect();
        names.sort();
        words.extend(names);
        (indices.len() as u64, words.join("\n"))
    }
}

/// What belongs to a server and not to those who use it.
fn is_own(database: &str, collection: &str) -> bool {
    matches!(database, "" | "config" | "local") || database == ADMIN && collection.starts_with("system.")
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) server_version: Option<String>,
    pub(super) named: Vec<Collection>,
    pub(super) changes: Changes,
    documents: BTreeMap<(String, String), (u64, u64)>,
}

/// What a whole archive has.
#[derive(Debug, PartialEq)]
pub(super) struct Collected {
    pub(super) server_version: Option<String>,
    /// What is in it at least.
    pub(super) databases: BTreeMap<String, DatabaseFacts>,
    /// Of what was changed meanwhile: what it has at most.
    pub(super) after: BTreeMap<String, DatabaseFacts>,
    /// The instant of which it is, where it has the log of changes.
    pub(super) position: Option<String>,
}

impl Found {
    /// A document has passed by.
    pub(super) fn count(&mut self, collection: &(String, String), sum: u64) {
        if !self.documents.contains_key(collection) {
            self.documents.insert(collection.clone(), (0, 0));
        }
        if let Some((count, sums)) = self.documents.get_mut(collection) {
            (*count, *sums) = (*count + 1, sums.wrapping_add(sum));
        }
    }

    fn documents_of(&self, names: &[(String, String)]) -> (u64, u64) {
        names.iter().find_map(|name| self.documents.get(name)).copied().unwrap_or_default()
    }

    pub(super) fn collected(self) -> Collected {
        let mut databases: BTreeMap<String, DatabaseFacts> = BTreeMap::new();
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for named in &self.named {
            let (rows, rows_sum) = self.documents_of(&named.data());
            if let Some((_, kind)) = USERS.iter().find(|(name, _)| named.database == ADMIN && named.name == *name) {
                let facts = databases.entry(ADMIN.to_owned()).or_default();
                facts.definitions.insert((*kind).to_owned(), rows);
            }
            if named.is_own() {
                continue;
            }
            let facts = databases.entry(named.database.clone()).or_default();
            facts.tables.insert(named.name.clone(), TableFacts { rows, rows_sum: Some(format!("{rows_sum:016x}")) });
            let (indices, text) = named.definitions();
            let kind = match named.kind.as_str() {
                "view" => "views",
                "timeseries" => "time series",
                _ => "collections",
            };
            for (kind, count) in [(kind, 1), ("indexes", indices)] {
                *facts.definitions.entry(kind.to_owned()).or_default() += count;
            }
            let mut sum = Sum::NEW;
            sum.add_all(text.as_bytes());
            let all = sums.entry(&named.database).or_default();
            *all = all.wrapping_add(sum.end());
        }
        for (database, sum) in sums {
            databases.entry(database.to_owned()).or_default().definitions_sum = format!("{sum:016x}");
        }
        let after = changed(&mut databases, &self.changes);
        let position = self.changes.last.map(|(seconds, which)| format!("{seconds}:{which}"));
        Collected { server_version: self.server_version, databases, after, position }
    }
}

/// The most of what was changed; what is known at least is put in the place of what was counted.
fn changed(databases: &mut BTreeMap<String, DatabaseFacts>, changes: &Changes) -> BTreeMap<String, DatabaseFacts> {
    let mut all = changes.collections.clone();
    for dropped in &changes.dropped {
        let tables = databases.get(dropped).into_iter().flat_map(|facts| facts.tables.keys());
        for table in tables {
            all.entry((dropped.clone(), table.clone())).or_default().emptied = true;
        }
    }
    let mut after: BTreeMap<String, DatabaseFacts> = BTreeMap::new();
    for ((database, collection), Change { inserted, deleted, emptied }) in all {
        // What a time series is made of.
        let table = collection.strip_prefix("system.buckets.").unwrap_or(&collection).to_owned();
        let is_known = databases.get(&database).is_some_and(|facts| facts.tables.contains_key(&table));
        if is_own(&database, &table) || table.is_empty() || table.starts_with("system.") && !is_known {
            continue;
        }
        let least = databases.entry(database.clone()).or_default().tables.entry(table.clone()).or_default();
        let most = TableFacts { rows: least.rows.saturating_add(inserted), rows_sum: None };
        let rows = if emptied { 0 } else { least.rows.saturating_sub(deleted) };
        *least = TableFacts { rows, rows_sum: None };
        after.entry(database).or_default().tables.insert(table, most);
    }
    let ours = changes.defined.iter().filter(|database| !is_own(database, "") && *database != ADMIN);
    for database in ours {
        after.entry(database.clone()).or_default().definitions_sum = CHANGED.to_owned();
    }
    after
}

/// How a restored database differs from what was recorded of it.
pub(super) fn differences(
    name: &str,
    (least, most): (&DatabaseFacts, Option<&DatabaseFacts>),
    restored: &DatabaseFacts,
) -> Vec<String> {
    let Some(most) = most else { return least.differences(name, restored) };
    let mut found = Vec::new();
    let (mut exact, mut of_it) = (least.clone(), restored.clone());
    for (table, most) in &most.tables {
        let rows = |facts: &mut DatabaseFacts| facts.tables.remove(table).map_or(0, |table| table.rows);
        let (least, is) = (rows(&mut exact), rows(&mut of_it));
        if !(least..=most.rows).contains(&is) {
            found.push(format!("{name}: {table} has {is} rows, not {least} to {}", most.rows));
        }
    }
    if most.definitions_sum == CHANGED {
        (exact.definitions, exact.definitions_sum) = (of_it.definitions.clone(), of_it.definitions_sum.clone());
        // What was made or dropped meanwhile may be there or not.
        let both: BTreeSet<String> =
            exact.tables.keys().filter(|table| of_it.tables.contains_key(*table)).cloned().collect();
        exact.tables.retain(|table, facts| facts.rows > 0 || both.contains(table));
        of_it.tables.retain(|table, facts| facts.rows > 0 || both.contains(table));
    }
    found.extend(exact.differences(name, &of_it));
    found
}
