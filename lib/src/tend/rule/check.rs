//! A rule against the schema that is there: what does not fit is told before anything is removed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Statement};

use super::advice::{Advice, advice};
use super::config::Rule;
use super::connection::{For, Opened, blame, quoted};
use super::enforcement::Enforcement;
use super::references::{Affinity, Comparison, Reference, plan, primary_key, references, table_columns, tables};
use crate::failure::{Failure, FailureKind};
use crate::tend::TaskError;

/// Chains of foreign keys end somewhere.
const DEPTH_MAX: usize = 16;

/// Why a rule can't be used on its database as it is.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The database can't be read.
    #[error("can't check the rule {rule}: {why}")]
    Unavailable {
        /// The rule.
        rule: String,
        /// What happened.
        why: String,
    },
    /// The rule does not fit.
    #[error("the rule {rule} does not fit {}: {}", database.display(), findings.join("; "))]
    Unfit {
        /// The rule.
        rule: String,
        /// The database.
        database: PathBuf,
        /// What does not fit; never empty.
        findings: Vec<String>,
    },
}

impl Failure for RuleError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Unavailable { .. } => FailureKind::Failed,
            Self::Unfit { .. } => FailureKind::Config,
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// A rule that fits its database, as SQL.
#[derive(Debug, Clone)]
pub struct Checked {
    pub(super) first_slice: String,
    pub(super) next_slice: String,
    pub(super) is_due: String,
    /// Of the tables that come first, the item's own row last.
    pub(super) deletes: Vec<(String, String)>,
    pub(super) heartbeat: Option<String>,
    /// For each summary the columns, in the order of its query.
    pub(super) columns: Vec<Vec<String>>,
    pub(super) enforcement: Enforcement,
    pub(super) schema_version: i64,
    /// What could be better.
    pub advice: Vec<Advice>,
}

impl Checked {
    /// The tables of which rows go, and which, in the order of deletion.
    pub fn deletes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.deletes.iter().map(|(table, condition)| (table.as_str(), condition.as_str()))
    }

    /// Compares a rule with the database that it names. Nothing is changed, not even a journal rolled back that was left in
    /// the middle of a write: such a database can't be read here.
    ///
    /// # Errors
    /// With all that does not fit.
    pub fn new(rule: &Rule) -> Result<Self, RuleError> {
        Self::with(rule, For::Looking)
    }

    /// The same, by somebody who holds the locks of the rule and may recover what was left in the middle of a write.
    ///
    /// # Errors
    /// The same.
    pub fn under_lock(rule: &Rule) -> Result<Self, RuleError> {
        Self::with(rule, For::Writing)
    }

    fn with(rule: &Rule, purpose: For) -> Result<Self, RuleError> {
        let unavailable = |error: TaskError| RuleError::Unavailable { rule: rule.name.clone(), why: error.to_string() };
        let opened = Opened::open(&rule.database, purpose, None).map_err(unavailable)?;
        Self::of(rule, &opened, purpose)
    }

    pub(super) fn of(rule: &Rule, opened: &Opened, purpose: For) -> Result<Self, RuleError> {
        let unavailable = |why: String| RuleError::Unavailable { rule: rule.name.clone(), why };
        let schema_version = opened.schema_version().map_err(|error| unavailable(error.to_string()))?;
        let mut check = Check { rule, db: &opened.connection, findings: Vec::new(), away: None, purpose };
        let checked =
            check.all(schema_version).map_err(|error| unavailable(blame(&error, &rule.database).to_string()))?;
        if let Some(why) = check.away {
            return Err(unavailable(why));
        }
        let findings = check.findings;
        match checked.filter(|_| findings.is_empty()) {
            Some(checked) => Ok(checked),
            None => Err(RuleError::Unfit { rule: rule.name.clone(), database: rule.database.clone(), findings }),
        }
    }
}

struct Check<'r> {
    rule: &'r Rule,
    db: &'r Connection,
    findings: Vec<String>,
    /// Another database that can't be read now.
    away: Option<String>,
    purpose: For,
}

impl Check<'_> {
    fn find(&mut self, what: impl Into<String>) {
        self.findings.push(what.into());
    }

    fn all(&mut self, schema_version: i64) -> rusqlite::Result<Option<Checked>> {
        let rule = self.rule;
        if !self.has_table(&rule.table)? {
            self.find(format!("there is no table {}{}", rule.table, self.tables_there()?));
            return Ok(None);
        }
        let (table, key) = (quoted(&rule.table), quoted(&rule.key));
        if !self.prepares(&format!("SELECT {key} FROM {table}"), &format!("the key {}", rule.key)) {
            return Ok(None);
        }
        let expired = &rule.expired;
        let times: &[&str] = if rule.port.is_some() { &[":now", ":connected_since"] } else { &[":now"] };
        self.reads(&format!("SELECT ({expired}) FROM {table}"), "expired", times);
        if !self.is_unique()? {
            self.find(format!("{}.{} may have equal values: it can't name a row", rule.table, rule.key));
        }
        if Comparison::of(self.db, &rule.table, &rule.key).is_ok_and(|key| key.affinity == Affinity::Real) {
            self.find(format!("{}.{} has the type REAL: a number with a fraction names no row", rule.table, rule.key));
        }
        let slice = |after: &str| {
            format!(
                "SELECT {key}, CASE WHEN ({expired}) THEN 1 ELSE 0 END FROM {table} WHERE {key} {after} \
                 ORDER BY {key} COLLATE BINARY LIMIT :limit"
            )
        };
        let (first_slice, next_slice) = (slice("IS NOT NULL"), slice("COLLATE BINARY > :after"));
        let is_due = format!("SELECT 1 FROM {table} WHERE {key} = :key AND ({expired})");
        if !self.findings.is_empty() {
            return Ok(None);
        }
        if plan(self.db, &next_slice)?.iter().any(|step| step.contains("TEMP B-TREE")) {
            self.find(format!(
                "{}.{} has no index in binary order: each look would sort the table",
                rule.table, rule.key
            ));
        }
        let deletes = self.deletes()?;
        let heartbeat = rule
            .heartbeat
            .as_ref()
            .map(|beat| format!("UPDATE {} SET {} = CAST(:now AS INTEGER)", quoted(&beat.table), quoted(&beat.column)));
        if let Some(statement) = &heartbeat {
            self.prepares(statement, "the heartbeat");
        }
        let mut columns = Vec::new();
        for summary in &rule.summaries {
            let named = self.reads(&summary.select, &format!("the summary for {}", summary.table), &[":now", ":key"]);
            columns.push(named.unwrap_or_default());
        }
        self.summaries(&columns);
        for (name, query) in &rule.figures {
            self.reads(query, &format!("the figure {name}"), &[":now"]);
        }
        if !self.findings.is_empty() {
            return Ok(None);
        }
        let references = references(self.db)?;
        let enforcement = Enforcement::of(self.db, &deletes, &references, rule.heartbeat.as_ref())?;
        let advice = advice(self.db, &deletes, &references, &enforcement)?;
        Ok(Some(Checked {
            first_slice,
            next_slice,
            is_due,
            deletes,
            heartbeat,
            columns,
            enforcement,
            schema_version,
            advice,
        }))
    }

    fn has_table(&self, name: &str) -> rusqlite::Result<bool> {
        let query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)";
        Ok(self.db.query_row(query, [name], |_| Ok(())).optional()?.is_some())
    }

    fn tables_there(&self) -> rusqlite::Result<String> {
        let tables = tables(self.db)?;
        Ok(if tables.is_empty() { ": it has none".to_owned() } else { format!(": it has {}", tables.join(", ")) })
    }

    /// Whether it is a statement of this schema; else that is told.
    fn prepares(&mut self, sql: &str, what: &str) -> bool {
        match self.db.prepare(sql) {
            Ok(_) => true,
            Err(error) => {
                self.find(format!("{what}: {}", said(&error)));
                false
            }
        }
    }

    /// The same, for a query, which changes nothing, and has no other parameters; the answer has its columns' names.
    fn reads(&mut self, sql: &str, what: &str, parameters: &[&str]) -> Option<Vec<String>> {
        let looked = |statement: &Statement<'_>| -> Result<Vec<String>, String> {
            if !statement.readonly() || statement.column_count() == 0 {
                return Err("it is no query".to_owned());
            }
            for index in 1..=statement.parameter_count() {
                let name = statement.parameter_name(index).unwrap_or("?");
                if !parameters.contains(&name) {
                    return Err(format!("it has the parameter {name}; there are {}", parameters.join(" and ")));
                }
            }
            Ok(statement.column_names().map(str::to_owned).collect())
        };
        let result = self.db.prepare(sql).map_err(|error| said(&error)).and_then(|statement| looked(&statement));
        result.map_err(|why| self.find(format!("{what}: {why}"))).ok()
    }

    fn is_unique(&self) -> rusqlite::Result<bool> {
        let (table, key) = (&self.rule.table, self.rule.key.to_ascii_lowercase());
        let columns: Vec<(String, String, i64)> = self
            .db
            .prepare("SELECT lower(name), upper(type), pk FROM pragma_table_info(?1)")?
            .query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let named = columns.iter().find(|(name, ..)| *name == key);
        if named.is_none() && ["rowid", "_rowid_", "oid"].contains(&key.as_str()) {
            return Ok(true);
        }
        let primary = columns.iter().filter(|(.., pk)| *pk > 0).count();
        if named.is_some_and(|(.., pk)| *pk > 0) && primary == 1 {
            return Ok(true);
        }
        let indices: Vec<String> = self
            .db
            .prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0")?
            .query_map([table], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for index in indices {
            let of: Vec<Option<String>> = self
                .db
                .prepare("SELECT lower(name) FROM pragma_index_info(?1)")?
                .query_map([index], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            if of == [Some(key.clone())] {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What goes with an item, what refers to others first.
    fn deletes(&mut self) -> rusqlite::Result<Vec<(String, String)>> {
        let rule = self.rule;
        let references = references(self.db)?;
        let own = format!("{} = :key", quoted(&rule.key));
        let mut deletes = Vec::new();
        for also in &rule.also {
            if self.has_table(&also.table)? {
                let sql = format!("SELECT 1 FROM {} WHERE ({})", quoted(&also.table), also.condition);
                self.reads(&sql, &format!("what goes from {}", also.table), &[":key", ":now"]);
                deletes.push((also.table.clone(), also.condition.clone()));
            } else {
                self.find(format!("there is no table {}{}", also.table, self.tables_there()?));
            }
        }
        if rule.follow {
            self.follow(&references, &rule.table, &own, 0, &mut deletes);
        }
        deletes.push((rule.table.clone(), own));
        let gone: BTreeSet<String> = deletes.iter().map(|(table, _)| table.to_ascii_lowercase()).collect();
        for reference in &references {
            let stays = !gone.contains(&reference.child.to_ascii_lowercase());
            let hinders = matches!(reference.on_delete.as_str(), "NO ACTION" | "RESTRICT");
            if gone.contains(&reference.parent.to_ascii_lowercase()) && stays && hinders {
                self.find(format!(
                    "{} refers to {} by a foreign key and stays: say follow = true, or name it under [[rule.{}.also]]",
                    reference.child, reference.parent, rule.name
                ));
            }
        }
        Ok(deletes)
    }

    fn follow(
        &mut self,
        references: &[Reference],
        parent: &str,
        condition: &str,
        depth: usize,
        deletes: &mut Vec<(String, String)>,
    ) {
        for reference in references.iter().filter(|reference| reference.parent.eq_ignore_ascii_case(parent)) {
            let [(from, to)] = &reference.columns[..] else {
                self.find(format!("{} refers to {parent} by several columns: name it under `also`", reference.child));
                continue;
            };
            if reference.child.eq_ignore_ascii_case(parent) || depth >= DEPTH_MAX {
                self.find(format!("{} refers to itself: name what goes of it under `also`", reference.child));
                continue;
            }
            // Without a column it is the primary key.
            let Some(to) = to.clone().or_else(|| primary_key(self.db, parent)) else {
                self.find(format!("{} refers to {parent}, which has no primary key of one column", reference.child));
                continue;
            };
            let compared = Comparison::of(self.db, &reference.child, from);
            let with = compared.and_then(|compared| Ok((compared, Comparison::of(self.db, parent, &to)?)));
            match with {
                Ok((compared, with)) if compared.finds_no_more_than(&with) => {}
                Ok(_) => {
                    self.find(format!(
                        "{}.{from} refers to {parent}.{to} and has another collation or type: what belongs to another item could be \
                         taken for this one's, name what goes under `also`",
                        reference.child
                    ));
                    continue;
                }
                Err(error) => {
                    self.find(format!("{}.{from} refers to {parent}.{to}: {}", reference.child, said(&error)));
                    continue;
                }
            }
            let direct = condition == format!("{} = :key", quoted(&to));
            let condition = if direct {
                format!("{} = :key", quoted(from))
            } else {
                self.of_those(&reference.child, from, parent, &to, condition)
            };
            self.follow(references, &reference.child, &condition, depth + 1, deletes);
            deletes.push((reference.child.clone(), condition));
        }
    }

    /// Rows of `child` that refer to those rows of `parent`. Where its column has no type, a comparison with one that has would
    /// convert each value, and look through the table in spite of an index: `+` leaves out the type, and with it the
    /// conversion. A value that only a conversion would match stays, and its item with it, by the foreign key.
    fn of_those(&self, child: &str, from: &str, parent: &str, to: &str, condition: &str) -> String {
        let with = |sign: &str| {
            let (from, to, parent) = (quoted(from), quoted(to), quoted(parent));
            format!("{from} IN (SELECT {sign}{to} FROM {parent} WHERE {condition})")
        };
        let looks_through = |condition: &str| {
            let plan = plan(self.db, &format!("SELECT 1 FROM {} WHERE {condition}", quoted(child)));
            // What can't be planned is told by others.
            plan.is_ok_and(|plan| plan.iter().any(|step| step.starts_with(&format!("SCAN {child}"))))
        };
        let (typed, plain) = (with(""), with("+"));
        if looks_through(&typed) && !looks_through(&plain) { plain } else { typed }
    }

    fn summaries(&mut self, columns: &[Vec<String>]) {
        for (summary, columns) in self.rule.summaries.iter().zip(columns) {
            let name = format!("{} of {}", summary.table, summary.database.display());
            for required in summary.required.iter().filter(|required| !columns.contains(required)) {
                self.find(format!("the summary for {name} requires {required}, which it does not select"));
            }
            let there = Opened::open(&summary.database, self.purpose, None).and_then(|opened| {
                table_columns(&opened.connection, &summary.table).map_err(|error| blame(&error, &summary.database))
            });
            match there {
                Err(error) => self.away = Some(format!("the summary for {name}: {error}")),
                Ok(there) if there.is_empty() => self.find(format!("there is no table {name}")),
                Ok(there) => {
                    let missing = columns.iter().filter(|column| !there.contains(&column.to_ascii_lowercase()));
                    let missing: Vec<&str> = missing.map(String::as_str).collect();
                    if !missing.is_empty() {
                        self.find(format!("{name} has no column {}", missing.join(", ")));
                    }
                }
            }
        }
    }
}

/// What SQLite says, without the statement around it.
fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
