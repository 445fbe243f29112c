//! The task of a rule.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{ErrorCode, ToSql};

use super::check::{Checked, RuleError};
use super::clients::Clients;
use super::config::Rule;
use super::connection::{Bound, For, Opened, blame, quoted};
use super::item::{SLICE, When, begin, key_of, remove, run};
use super::key::{Encoding, Key, Position};
use super::outbox::Outbox;
use super::violations::Violations;
use crate::tend::{Control, Task, TaskError, Unit};

/// Who has to wait longer than this for the turn to write is not alone.
const CROWDED: Duration = Duration::from_millis(5);
/// The longest pause that is made for others, beyond the usual one.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often a loop looks for violated foreign keys.
const LOOK_EVERY: Duration = Duration::from_secs(86_400);

/// Removes what a rule calls expired.
#[derive(Debug)]
pub struct RuleTask {
    rule: Rule,
    state: PathBuf,
    bound: Bound,
    purpose: For,
    control: Option<Control>,
    opened: Option<(Opened, Checked)>,
    /// Of the database that was opened last.
    encoding: Encoding,
    clients: Option<Clients>,
    /// The answer of the last look at the clients.
    connected_since: Result<i64, TaskError>,
    /// The last look for violated foreign keys.
    looked: Option<Instant>,
}

impl RuleTask {
    /// The task of a rule, which keeps its outbox in the directory of the [`crate::tend::State`].
    #[must_use]
    pub fn new(rule: Rule, state: &Path) -> Self {
        let clients = rule.port.map(Clients::new);
        // Nobody is known to be connected: nothing is older than that.
        let connected_since = Ok(0);
        let state = state.to_owned();
        Self {
            rule,
            state,
            bound: Bound::default(),
            purpose: For::Looking,
            control: None,
            opened: None,
            encoding: Encoding::default(),
            clients,
            connected_since,
            looked: None,
        }
    }

    /// Looks who is connected.
    fn look(&mut self, now: i64) {
        if let Some(clients) = &mut self.clients {
            self.connected_since = clients.look(now);
        }
    }

    fn when(&self, now: Timestamp) -> Result<When, TaskError> {
        Ok(When { now: now.as_second(), connected_since: self.connected_since.clone()? })
    }

    /// Looks for foreign keys that are violated already, tells of them, and keeps the figure. The rule goes on all the same:
    /// such a row is no item's, or its item says so itself.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn look_for_violations(&mut self, now: Timestamp) -> Result<Violations, TaskError> {
        self.looked = Some(Instant::now());
        let found = Violations::look(&self.rule.database)?;
        let rule = &self.rule.name;
        for one in &found.named {
            let (table, rowid, parent) = (&one.table, one.rowid, &one.parent);
            tracing::warn!(rule, table, rowid, parent, "a row refers to one that is not there");
        }
        if found.count > 0 {
            let (violations, complete) = (found.count, found.complete);
            tracing::warn!(rule, violations, complete, "foreign keys are violated in the database; the rule goes on");
        }
        if let Err(error) = found.keep(&self.state, rule, now) {
            tracing::warn!(rule, %error, "the number of violated foreign keys can't be kept");
        }
        Ok(found)
    }

    /// The rows that would go at `now`, by table, in the order of deletion; the last is that of the items. Nothing changes.
    ///
    /// # Errors
    /// When the rule does not fit, or the database can't be read.
    pub fn preview(&mut self, now: Timestamp) -> Result<Vec<(String, u64)>, TaskError> {
        self.look(now.as_second());
        let when = self.when(now)?;
        let mut counts: Vec<(String, u64)> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let items = self.due(now, after.as_deref(), SLICE)?;
            let database = self.rule.database.clone();
            let (opened, checked) = self.ready()?;
            if counts.is_empty() {
                counts = checked.deletes.iter().map(|(table, _)| (table.clone(), 0)).collect();
            }
            let Some(last) = items.last() else { return Ok(counts) };
            for item in &items {
                let key = key_of(item)?;
                for ((table, condition), (_, count)) in checked.deletes.iter().zip(&mut counts) {
                    let sql = format!("SELECT count(*) FROM {} WHERE {condition}", quoted(table));
                    let rows: i64 = run(&opened.connection, &sql, when, Some(key.value()), |statement| {
                        statement.raw_query().next()?.map_or(Ok(0), |row| row.get(0))
                    })
                    .map_err(|error| blame(&error, &database))?;
                    *count += u64::try_from(rows).unwrap_or(0);
                }
            }
            after = Some(last.clone());
        }
    }

    /// The figures of the rule, each on its own. What is not known at `until` is not: whoever asks has to go on.
    pub fn figures(&mut self, now: Timestamp, until: Instant) -> Vec<(String, Result<f64, TaskError>)> {
        let rule = self.rule.clone();
        let opened = Opened::open_until(&rule.database, until);
        let one = |sql: &str| -> Result<f64, TaskError> {
            if Instant::now() >= until {
                return Err(TaskError::Unavailable("the figures take too long".to_owned()));
            }
            let opened = opened.as_ref().map_err(Clone::clone)?;
            let when = When { now: now.as_second(), connected_since: 0 };
            let number = run(&opened.connection, sql, when, None, |statement| {
                statement.raw_query().next()?.map_or(Ok(None), |row| row.get::<_, Option<f64>>(0))
            });
            let number = number.map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => TaskError::Unavailable("it takes too long".to_owned()),
                _ => blame(&error, &rule.database),
            })?;
            number.ok_or_else(|| TaskError::Unavailable("the query has no number".to_owned()))
        };
        rule.figures.iter().map(|(name, sql)| (name.clone(), one(sql))).collect()
    }

    /// Summaries that are still on their way.
    ///
    /// # Errors
    /// When our own state can't be read.
    pub fn outbox_len(&self) -> Result<u64, TaskError> {
        if self.rule.summaries.is_empty() {
            return Ok(0);
        }
        let outbox = Outbox::open(&self.state, &self.rule.name)?;
        outbox.len().map_err(|error| TaskError::Unavailable(error.to_string()))
    }

    /// The database, opened and checked: anew where it was replaced, or where its schema changed.
    fn ready(&mut self) -> Result<(&mut Opened, &Checked), TaskError> {
        if let Some((opened, checked)) = &self.opened {
            let changed = opened.is_replaced() || opened.schema_version()? != checked.schema_version;
            if changed {
                tracing::info!(
                    rule = self.rule.name,
                    "the database was replaced, or its schema changed: it is checked again"
                );
                self.opened = None;
            }
        }
        if self.opened.is_none() {
            let opened = Opened::open(&self.rule.database, self.purpose, Some(&self.bound))?;
            let checked = Checked::of(&self.rule, &opened, self.purpose).map_err(|error| match error {
                RuleError::Unavailable { .. } => TaskError::Unavailable(error.to_string()),
                RuleError::Unfit { .. } => TaskError::Broken(error.to_string()),
            })?;
            if self.purpose == For::Writing
                && let Err(error) = checked.enforcement.begin(&opened.connection)
            {
                let rule = &self.rule.name;
                tracing::warn!(rule, %error, "SQLite goes on to enforce foreign keys, which may take long");
            }
            self.encoding = Encoding::of(&opened.connection).map_err(|error| blame(&error, &self.rule.database))?;
            self.opened = Some((opened, checked));
        }
        match &mut self.opened {
            Some((opened, checked)) => Ok((opened, checked)),
            None => Err(TaskError::Unavailable("the database was closed".to_owned())),
        }
    }

    /// What an earlier run left in the outbox, and what is on its way. It keeps nobody from being pruned.
    fn forward(&mut self) {
        if self.rule.summaries.is_empty() {
            return;
        }
        let sent = Outbox::open(&self.state, &self.rule.name).and_then(|mut outbox| {
            let rule = self.rule.clone();
            let (opened, _) = self.ready()?;
            let sql = format!("SELECT 1 FROM {} WHERE {} = :key", quoted(&rule.table), quoted(&rule.key));
            outbox.settle(|item| {
                let never = When { now: 0, connected_since: 0 };
                let found = run(&opened.connection, &sql, never, Some(key_of(item)?.value()), |statement| {
                    statement.raw_query().next().map(|row| row.is_some())
                });
                found.map_err(|error| blame(&error, &rule.database))
            })?;
            outbox.send(&rule)
        });
        match sent {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rule = self.rule.name, rows, "summaries were sent"),
            Err(error) => tracing::warn!(rule = self.rule.name, %error, "summaries stay in the outbox"),
        }
    }

    fn unit(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        let (rule, state) = (self.rule.clone(), self.state.clone());
        let when = self.when(unit.now())?;
        let of_database = |error: &rusqlite::Error| not_of_an_item(blame(error, &rule.database));
        let (opened, checked) = self.ready()?;
        let checked = checked.clone();
        // Opened before others have to wait for us.
        let mut outbox = (!rule.summaries.is_empty()).then(|| Outbox::open(&state, &rule.name)).transpose()?;
        let asked = Instant::now();
        let mut transaction = begin(opened, &checked, &rule.database).map_err(not_of_an_item)?;
        if asked.elapsed() > CROWDED {
            unit.control().ask_for_pause((asked.elapsed() * 4).min(PAUSE_MAX));
        }
        let (mut made, mut changed, mut interrupted) = (Vec::new(), false, None);
        let each = unit.each(|item| {
            // An interrupted statement takes the whole transaction back (sqlite3_interrupt), and so do a full disk, an error
            // of reading or writing and a lack of memory; nothing may follow on its own.
            if transaction.is_autocommit() {
                return Err(TaskError::Unavailable("the transaction was taken back".to_owned()));
            }
            let removed = remove(&rule, &checked, &mut transaction, item, when);
            // Only the item that was interrupted is to blame.
            if let Err(TaskError::Item(reason)) = &removed
                && transaction.is_autocommit()
            {
                interrupted = Some(reason.clone());
            }
            if let Some(rows) = removed? {
                made.extend(rows);
                changed = true;
            }
            Ok(())
        });
        if let Some(reason) = interrupted {
            return Err(TaskError::Item(reason));
        }
        each?;
        if let Some(heartbeat) = checked.heartbeat.as_ref().filter(|_| changed) {
            run(&transaction, heartbeat, when, None, |statement| statement.raw_execute())
                .map_err(|error| of_database(&error))?;
        }
        let Some(outbox) = outbox.as_mut().filter(|_| !made.is_empty()) else {
            return transaction.commit().map_err(|error| blame(&error, &rule.database));
        };
        let numbers = outbox.put(&made)?;
        if let Err(error) = transaction.commit() {
            if let Err(error) = outbox.take_back(&numbers) {
                tracing::warn!(rule = rule.name, %error, "summaries of what was not removed are left: the next pass decides");
            }
            return Err(blame(&error, &rule.database));
        }
        if let Err(error) = outbox.count(&numbers) {
            tracing::warn!(rule = rule.name, %error, "summaries are left undecided: the next pass decides");
        }
        Ok(())
    }
}

impl Task for RuleTask {
    fn begin(&mut self, control: &Control) {
        self.bound.set(control);
        // Only a pass writes, and only a pass has the locks.
        if self.purpose == For::Looking {
            (self.purpose, self.opened) = (For::Writing, None);
        }
        self.control = Some(control.clone());
        self.look(Timestamp::now().as_second());
        if self.looked.is_some_and(|at| at.elapsed() > LOOK_EVERY)
            && let Err(error) = self.look_for_violations(Timestamp::now())
        {
            tracing::info!(rule = self.rule.name, %error, "violated foreign keys were not looked for");
        }
        self.forward();
    }

    fn end(&mut self) {
        self.forward();
    }

    fn compare(&self, one: &str, other: &str) -> Ordering {
        self.encoding.compare(one, other)
    }

    fn due(&mut self, now: Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError> {
        let mut after = after.map(key_of).transpose()?.map(|key| Position::Value(key.value().clone()));
        let when = self.when(now)?;
        let mut items = Vec::new();
        loop {
            let database = self.rule.database.clone();
            let (opened, checked) = self.ready()?;
            let sql = if after.is_some() { &checked.next_slice } else { &checked.first_slice };
            let after_it = after.as_ref().map(|position| position as &dyn ToSql);
            let (last, full) = run(&opened.connection, sql, when, after_it, |statement| {
                let mut rows = statement.raw_query();
                let (mut last, mut seen) = (None, 0);
                while items.len() < limit
                    && let Some(row) = rows.next()?
                {
                    seen += 1;
                    let value = row.get_ref(0)?;
                    // Also behind one that can't name an item: else the next look would begin where this one did.
                    last = Some(Position::of(value));
                    if let Some(key) = Key::from_value(value)
                        && row.get(1)?
                    {
                        items.push(key.item());
                    }
                }
                Ok((last, seen == SLICE))
            })
            .map_err(|error| not_of_an_item(blame(&error, &database)))?;
            if !items.is_empty() || !full {
                return Ok(items);
            }
            if let Some(control) = &self.control {
                control.note_progress();
                if control.pass_is_over() {
                    return Err(TaskError::Unavailable(
                        "the time of the pass was over before anything due was found".into(),
                    ));
                }
            }
            after = last;
        }
    }

    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError> {
        let result = self.unit(unit);
        if result.is_err() {
            // Whatever state the connection is in: the next unit begins with one of its own.
            self.opened = None;
        }
        result
    }
}

/// What happens outside of any item is no item's fault.
fn not_of_an_item(error: TaskError) -> TaskError {
    match error {
        TaskError::Item(why) => TaskError::Broken(why),
        other => other,
    }
}
