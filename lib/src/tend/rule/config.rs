//! `tend.toml`: maintenance rules as an administrator writes them.
//!
//! ```toml
//! [rule.mailboxes]
//! database = "/var/lib/mailbox/relay.sqlite"
//! unit = "mailbox.service"           # or user-unit, container, pid-file: nothing is done while it is repaired or restored
//! locks = ["mirror"]                 # beside it: names, as of `svc-lock run --name`
//! every = "10m"                      # or cron = "*/10 * * * *", or on-demand = true
//! jitter = "30s"
//! table = "mailboxes"
//! key = "id"                         # a column without two equal values, and with an index
//! expired = "updated <= :now - 660"  # of a row of the table; :now is in seconds since 1970
//! port = 8080                        # the service's, on this machine: then `expired` may say :connected_since, a time before
//!                                    # which nobody was connected who is connected now
//! follow = true                      # rows that refer to an item by foreign keys go with it
//! retries = 5                        # so many failures, and an item is set aside
//! batch = { items = 200, time = "20ms", pause = "20ms" }
//! pass = { items = 100000, time = "5m" }
//! item-time = "5s"
//! heartbeat = { table = "state", column = "updated" }   # set to :now with each modification, in its transaction
//!
//! [[rule.mailboxes.also]]            # what belongs to an item without a foreign key, in the order of deletion
//! table = "messages"
//! where = "mailbox_id = :key"
//!
//! [[rule.mailboxes.summary]]         # rows for a database of usage figures, made before an item goes
//! database = "/var/lib/mailbox/usage.sqlite"
//! table = "mailboxes"
//! select = "SELECT app_id, :now - updated AS total_time FROM mailboxes WHERE id = :key"
//! required = ["total_time"]          # NULL there: the item is not summed up and not removed, but told
//!
//! [rule.mailboxes.figures]           # for monitoring
//! mailboxes = "SELECT count(*) FROM mailboxes"
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::discover::file;
use crate::discover::reader::{Document, Table};
use crate::discover::{DiscoverError, Finding};
use crate::name::TargetName;
use crate::tend::{Backoff, Limits, Policy, Schedule};

/// Rows that belong to an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// Their table.
    pub table: String,
    /// Which of its rows: an expression with `:key`.
    pub condition: String,
}

/// What is set with each modification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// A table; all of its rows are set.
    pub table: String,
    /// A column of it.
    pub column: String,
}

/// Rows that are made of an item before it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The database that they are for.
    pub database: PathBuf,
    /// Its table.
    pub table: String,
    /// A query with `:key` and `:now`; its columns are named as those of the table.
    pub select: String,
    /// Columns that may not be NULL.
    pub required: Vec<String>,
}

/// The service whose lock a pass takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfService {
    /// A unit of the system.
    pub unit: Option<String>,
    /// A unit of this user.
    pub user_unit: Option<String>,
    /// A container.
    pub container: Option<String>,
    /// The pid file of a daemon.
    pub pid_file: Option<PathBuf>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The database.
    pub database: PathBuf,
    /// Its service.
    pub service: OfService,
    /// The port of this machine on which the service listens.
    pub port: Option<u16>,
    /// Further locks.
    pub locks: Vec<String>,
    /// When passes begin.
    pub schedule: Schedule,
    /// How a pass goes about it.
    pub policy: Policy,
    /// The table of the items.
    pub table: String,
    /// Its column that names them.
    pub key: String,
    /// Which of its rows are expired.
    pub expired: String,
    /// Whether what refers to an item by foreign keys goes with it.
    pub follow: bool,
    /// What else goes with it.
    pub also: Vec<Belonging>,
    /// What is set with each modification.
    pub heartbeat: Option<Heartbeat>,
    /// What is made of an item before it goes.
    pub summaries: Vec<Summary>,
    /// Queries of one number, by their names.
    pub figures: Vec<(String, String)>,
}

/// A file of rules, read and found valid.
#[derive(Debug, Clone, Default)]
pub struct TendConfig {
    /// The rules, by name.
    pub rules: Vec<Rule>,
}

impl TendConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read or trusted, and with every finding when it is invalid.
    pub fn read(path: &Path) -> Result<Self, DiscoverError> {
        let invalid = |findings| DiscoverError::Invalid { path: path.to_owned(), findings };
        Self::parse(&file::read(path)?).map_err(invalid)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: &str) -> Result<Self, Vec<Finding>> {
        let document = Document::new(text);
        let config = document.parse().map(|root| {
            let root = Table::new(&document, root.get_ref(), "the file".to_owned());
            let (mut rules, mut has_rules) = (Vec::new(), false);
            for (name, at, table) in root.named("rule") {
                has_rules = true;
                let rule = read_rule(&name, &table);
                table.finish();
                match name.parse::<TargetName>() {
                    Ok(_) => rules.extend(rule),
                    Err(error) => document.find(at, error.to_string(), None),
                }
            }
            root.finish();
            if !has_rules {
                document.find(0, "there is no rule in it".to_owned(), Some("[rule.NAME]".to_owned()));
            }
            Self { rules }
        });
        let findings = document.into_findings();
        config.filter(|_| findings.is_empty()).ok_or(findings)
    }
}

/// What is needed and was not given is told.
fn needed(table: &Table<'_, '_>, key: &'static str, example: &str) -> Option<String> {
    if !table.has(key) {
        table.refuse(key, "it is missing", Some(&format!("{key} = {example:?}")));
    }
    table.text(key, example)
}

fn read_rule(name: &str, table: &Table<'_, '_>) -> Option<Rule> {
    const DATABASE: &str = "/var/lib/notes/notes.db";
    if !table.has("database") {
        table.refuse("database", "it is missing", Some(&format!("database = {DATABASE:?}")));
    }
    let database = table.path("database", DATABASE);
    let service = OfService {
        unit: table.text("unit", "notes.service"),
        user_unit: table.text("user-unit", "notes.service"),
        container: table.text("container", "notes"),
        pid_file: table.path("pid-file", "/run/notes.pid"),
    };
    let several =
        [service.unit.is_some(), service.user_unit.is_some(), service.container.is_some(), service.pid_file.is_some()];
    if several.into_iter().filter(|one| *one).count() > 1 {
        table.refuse("unit", "a database has one service: unit, user-unit, container or pid-file", None);
    }
    let port = table.count("port", 8080).and_then(|port| {
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        if port.is_none() {
            table.refuse("port", "a port is from 1 to 65535", Some("port = 8080"));
        }
        port
    });
    if port.is_some() && service.container.is_some() {
        table.refuse("port", "who is connected to a container can't be seen from here", None);
    }
    let locks = table.texts("locks", "mirror").unwrap_or_default();
    let schedule = read_schedule(table);
    let policy = read_policy(table);
    let items = needed(table, "table", "notes");
    let key = needed(table, "key", "id");
    let expired = needed(table, "expired", "updated <= :now - 86400");
    let follow = table.truth("follow").unwrap_or(false);
    let also = table.tables("also", "[[rule.NAME.also]]").into_iter().filter_map(|also| {
        let (of, condition) = (needed(&also, "table", "messages"), needed(&also, "where", "note = :key"));
        also.finish();
        Some(Belonging { table: of?, condition: condition? })
    });
    let also = also.collect();
    let heartbeat =
        table.table("heartbeat", "heartbeat = { table = \"state\", column = \"updated\" }").and_then(|beat| {
            let (of, column) = (needed(&beat, "table", "state"), needed(&beat, "column", "updated"));
            beat.finish();
            Some(Heartbeat { table: of?, column: column? })
        });
    let summaries =
        table.tables("summary", "[[rule.NAME.summary]]").into_iter().filter_map(|summary| read_summary(summary));
    let summaries = summaries.collect();
    let figures =
        table.table("figures", "[rule.NAME.figures]").map(|figures| read_figures(figures)).unwrap_or_default();
    Some(Rule {
        name: name.to_owned(),
        database: database?,
        service,
        port,
        locks,
        schedule: schedule?,
        policy,
        table: items?,
        key: key?,
        expired: expired?,
        follow,
        also,
        heartbeat,
        summaries,
        figures,
    })
}

fn read_summary(table: Table<'_, '_>) -> Option<Summary> {
    if !table.has("database") {
        table.refuse("database", "it is missing", Some("database = \"/var/lib/notes/usage.db\""));
    }
    let database = table.path("database", "/var/lib/notes/usage.db");
    let (into, select) =
        (needed(&table, "table", "usage"), needed(&table, "select", "SELECT kind FROM notes WHERE id = :key"));
    let required = table.texts("required", "kind").unwrap_or_default();
    table.finish();
    Some(Summary { database: database?, table: into?, select: select?, required })
}

fn read_figures(table: Table<'_, '_>) -> Vec<(String, String)> {
    let mut names = BTreeSet::new();
    let figures = table.all_texts("SELECT count(*) FROM notes");
    for (name, _) in &figures {
        // What both munin and Prometheus take.
        let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !fits {
            table.refuse_named(name, "a figure is named by lower-case letters, digits and _", None);
        }
        names.insert(name.clone());
    }
    table.finish();
    figures
}

fn read_schedule(table: &Table<'_, '_>) -> Option<Schedule> {
    let every = table.duration("every", "10m");
    let cron = table.text("cron", "*/10 * * * *");
    let on_demand = table.truth("on-demand").unwrap_or(false);
    let jitter = table.duration("jitter", "30s");
    let given = [table.has("every"), table.has("cron"), on_demand].into_iter().filter(|one| *one).count();
    if given != 1 {
        table.refuse("every", "it takes one of every, cron and on-demand = true", Some("every = \"10m\""));
        return None;
    }
    if jitter.is_some() && every.is_none() {
        table.refuse("jitter", "only what comes every so often has a jitter", None);
    }
    if let Some(interval) = every {
        if interval < Duration::from_secs(1) {
            table.refuse("every", "shorter than a second", Some("every = \"1s\""));
        }
        return Some(Schedule::Every { interval, jitter: jitter.unwrap_or(Duration::ZERO) });
    }
    match cron {
        Some(text) => Schedule::cron(&text)
            .map_err(|error| table.refuse("cron", &error.to_string(), Some("cron = \"*/10 * * * *\"")))
            .ok(),
        None => on_demand.then_some(Schedule::OnDemand),
    }
}

fn read_policy(table: &Table<'_, '_>) -> Policy {
    let mut policy = Policy { limits: Limits::default(), backoff: Backoff::default() };
    let limits = &mut policy.limits;
    if let Some(batch) = table.table("batch", "batch = { items = 200, time = \"20ms\" }") {
        limits.unit_items =
            batch.count("items", 200).map_or(limits.unit_items, |n| usize::try_from(n.clamp(1, 10_000)).unwrap_or(1));
        limits.unit_time = batch.duration("time", "20ms").unwrap_or(limits.unit_time);
        limits.pause = batch.duration("pause", "20ms").unwrap_or(limits.pause);
        if limits.unit_time > Duration::from_secs(2) {
            batch.refuse("time", "the service waits as long: 2 s at most", Some("time = \"20ms\""));
        }
        batch.finish();
    }
    if let Some(pass) = table.table("pass", "pass = { items = 100000, time = \"5m\" }") {
        limits.pass_items = pass.count("items", 100_000).map_or(limits.pass_items, |n| u64::from(n).max(1));
        limits.pass_time = pass.duration("time", "5m").unwrap_or(limits.pass_time);
        pass.finish();
    }
    limits.item_time = table.duration("item-time", "5s").unwrap_or(limits.item_time);
    if let Some(attempts) = table.count("retries", 5) {
        policy.backoff.attempts = attempts.max(1);
    }
    policy
}
