//! `svckit.toml`: services and targets as an administrator writes them.
//!
//! ```toml
//! [defaults]                         # every key of a target but name, service and data
//! store = "/srv/backups"
//! on-failure = ["/usr/local/bin/tell-me"]
//!
//! [target.notes]
//! unit = "notes.service"             # or user-unit, pid-file, command, container, service = "NAME"
//! sqlite = ["/var/lib/notes/notes.db"]
//! include = ["/etc/notes"]
//! mode = "cold"
//! ready = ["http:http://127.0.0.1:8080/health;timeout=90s"]
//! stop = { timeout = "90s", signals = [{ signal = "SIGINT", after = "30s" }], last-resort = "never" }
//! retention = { last = 7, daily = 14, weekly = 8 }
//! ping = "https://hc-ping.com/..."
//! compress = "zstd:9:4"              # level and threads; or "none"
//! sqlite-program = "/usr/lib/notes/notes-sqlite"   # its own build of sqlite3: a repair has it make what only it can
//!
//! [docker]                           # only where it is not where its own programs look (DOCKER_HOST, /var/run/docker.sock)
//! endpoint = "unix:///run/user/1000/docker.sock"
//! tls-ca = "/etc/svckit/docker/ca.pem"        # with endpoint = "tcp://HOST:2376": of whom its certificate must be
//! tls-cert = "/etc/svckit/docker/cert.pem"    # what dockerd --tlsverify asks us for
//! tls-key = "/etc/svckit/docker/key.pem"      # for root alone
//! labels = false                     # look for no targets in the labels of containers (lib/LABELS.md)
//!
//! [target.plex]                      # the name of a profile: only what differs from it
//! store = "/srv/plex"
//!
//! [service.mailbox]                  # a service without data of its own, for `svc-ctl --service mailbox`
//! pid-file = "/run/mailbox.pid"
//! start-command = ["/usr/bin/mailboxd"]
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config_server::{parsed, read_address, read_order, read_server};
use super::error::{DiscoverError, Finding};
use super::file;
use super::group::{GroupSettings, read_group};
use super::reader::{Document, Table};
use super::target::{Alerts, Mode, Order, Retention, ServiceRef, StopSettings};
use crate::compression::Compression;
use crate::controller::{ClientFiles, CommandLine, ContainerSpec, Endpoint, EndpointError, TlsFiles};
use crate::database::server::{ServerAddress, ServerSpec};
use crate::failure::Failure;
use crate::lock::OnNetwork;
use crate::name::{ServiceName, TargetName};
use crate::ready::ReadyCheck;
use crate::world::StopSignal;

/// The settings that a target, a service or the defaults can have; all optional.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Settings {
    pub(super) profile: Option<String>,
    pub(super) service: Option<ServiceRef>,
    pub(super) service_name: Option<String>,
    pub(super) server: Option<ServerSpec>,
    pub(super) address: Option<ServerAddress>,
    pub(super) order: Order,
    pub(super) sqlite: Option<Vec<PathBuf>>,
    pub(super) include: Option<Vec<PathBuf>>,
    pub(super) store: Option<PathBuf>,
    pub(super) mode: Option<Mode>,
    pub(super) ready: Option<Vec<String>>,
    pub(super) stop: Option<StopSettings>,
    pub(super) retention: Option<Retention>,
    pub(super) alerts: Alerts,
    pub(super) compression: Option<Compression>,
    pub(super) sqlite_program: Option<PathBuf>,
}

/// A configuration file, read and found valid.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    pub(super) defaults: Settings,
    pub(super) targets: BTreeMap<TargetName, Settings>,
    pub(super) services: BTreeMap<ServiceName, Settings>,
    pub(super) groups: BTreeMap<TargetName, GroupSettings>,
    /// The Docker engine, where something is said about it.
    pub docker: DockerSettings,
    /// Whether svckit's locks may lie on a network file system.
    pub locks_on_network: OnNetwork,
}

/// What is said of the Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DockerSettings {
    /// Where it listens; `None`: where its own programs would look.
    pub endpoint: Option<Endpoint>,
    /// Whether targets are looked for in the labels of its containers; `None`: where there is an engine.
    pub labels: Option<bool>,
}

impl Config {
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
        let config = document.parse().map(|root| read_root(&document, root.get_ref()));
        let findings = document.into_findings();
        config.filter(|_| findings.is_empty()).ok_or(findings)
    }

    /// The names of the targets.
    pub fn target_names(&self) -> impl Iterator<Item = &TargetName> {
        self.targets.keys()
    }
}

fn read_root<'i>(document: &Document<'i>, root: &toml::de::DeTable<'i>) -> Config {
    let root = Table::new(document, root, "the file".to_owned());
    let mut config = Config::default();
    if let Some(defaults) = root.table("defaults", "[defaults]") {
        config.defaults = read_shared(&defaults);
        defaults.finish();
    }
    if let Some(docker) = root.table("docker", "[docker]") {
        config.docker = read_docker(&docker);
        docker.finish();
    }
    if let Some(locks) = root.table("locks", "[locks]") {
        let words = [("refuse", OnNetwork::Refuse), ("warn", OnNetwork::Warn)];
        config.locks_on_network = locks.word("on-network", &words).unwrap_or_default();
        locks.finish();
    }
    for (name, at, table) in root.named("service") {
        let mut settings = read_shared(&table);
        settings.service = read_service(&table);
        settings.sqlite = table.paths("sqlite", "/var/lib/notes/notes.db", false);
        table.finish();
        match name.parse() {
            Ok(name) => drop(config.services.insert(name, settings)),
            Err(error) => document.find(at, error.to_string(), None),
        }
    }
    for (name, at, table) in root.named("target") {
        let mut settings = read_shared(&table);
        settings.profile = table.text("profile", "plex");
        settings.service = read_service(&table);
        settings.service_name = table.text("service", "mailbox");
        settings.server = read_server(&table);
        settings.address = read_address(&table);
        settings.order = read_order(&table);
        settings.sqlite = table.paths("sqlite", "/var/lib/notes/notes.db", false);
        settings.include = table.paths("include", "/etc/notes", false);
        if let Some(service) = &settings.service_name
            && !config.services.keys().any(|known| known.as_str() == service)
        {
            table.refuse("service", &format!("there is no [service.{service}]"), None);
        }
        let profile = settings.profile.clone().unwrap_or_else(|| name.clone());
        let is_profile = super::profile::names().any(|known| known == profile);
        if settings.profile.is_some() && !is_profile {
            let all: Vec<&str> = super::profile::names().collect();
            table.refuse("profile", &format!("there is no profile {profile:?}"), Some(&all.join(" or ")));
        } else if !is_profile && settings.sqlite.is_none() && settings.include.is_none() && !table.has("engine") {
            let instead = "sqlite = [\"/path/to/the.db\"], or engine = \"postgres\" and its container or server";
            document.find(at, format!("[target.{name}] names no data"), Some(instead.to_owned()));
        }
        table.finish();
        match name.parse() {
            Ok(name) => drop(config.targets.insert(name, settings)),
            Err(error) => document.find(at, error.to_string(), None),
        }
    }
    for (name, at, table) in root.named("group") {
        let settings = read_group(&table);
        table.finish();
        match name.parse::<TargetName>() {
            Ok(name) if config.targets.contains_key(&name) => {
                document.find(
                    at,
                    format!("[group.{name}] has the name of a target, and would share its directory"),
                    None,
                );
            }
            Ok(name) => drop(config.groups.insert(name, settings)),
            Err(error) => document.find(at, error.to_string(), None),
        }
    }
    root.finish();
    config
}

fn read_docker(table: &Table<'_, '_>) -> DockerSettings {
    const EXAMPLE: &str = "unix:///var/run/docker.sock";
    let files = read_tls(table);
    let endpoint = table.text("endpoint", EXAMPLE).and_then(|text| {
        let refuse = |error: EndpointError| {
            table.refuse("endpoint", &error.to_string(), Some(error.hint().as_deref().unwrap_or(EXAMPLE)));
        };
        let parsed = match files.clone() {
            Some(files) => Endpoint::with_tls(&text, files),
            None => text.parse(),
        };
        parsed.map_err(refuse).ok()
    });
    if files.is_some() && !table.has("endpoint") {
        table.refuse("tls-ca", "which engine? it lacks its endpoint", Some("endpoint = \"tcp://HOST:2376\""));
    }
    DockerSettings { endpoint, labels: table.truth("labels") }
}

fn read_tls(table: &Table<'_, '_>) -> Option<TlsFiles> {
    let path = |key| table.path(key, &format!("/etc/svckit/docker/{}.pem", &key["tls-".len()..]));
    let (ca, cert, key) = (path("tls-ca"), path("tls-cert"), path("tls-key"));
    for (one, other) in [("tls-cert", "tls-key"), ("tls-key", "tls-cert"), ("tls-cert", "tls-ca")] {
        if table.has(one) && !table.has(other) {
            table.refuse(one, &format!("it lacks {other}"), Some(&format!("{other} = \"/etc/svckit/docker/...\"")));
        }
    }
    Some(TlsFiles { ca: ca?, client: cert.zip(key).map(|(cert, key)| ClientFiles { cert, key }) })
}

/// What targets, services and the defaults have in common.
pub(super) fn read_shared(table: &Table<'_, '_>) -> Settings {
    Settings {
        store: table.path("store", "/srv/backups"),
        mode: table.word("mode", &[("hot", Mode::Hot), ("fenced", Mode::Fenced), ("cold", Mode::Cold)]),
        ready: read_ready(table),
        stop: table.table("stop", "stop = { timeout = \"90s\" }").map(|stop| read_stop(stop)),
        retention: table.table("retention", "retention = { last = 7, daily = 14 }").map(|keep| read_retention(keep)),
        alerts: read_alerts(table),
        compression: parsed(table, "compress", "zstd:9"),
        sqlite_program: table.path("sqlite-program", "/usr/lib/notes/notes-sqlite"),
        ..Settings::default()
    }
}

pub(super) fn read_alerts(table: &Table<'_, '_>) -> Alerts {
    Alerts { on_failure: read_command(table, "on-failure"), ping: read_ping(table) }
}

fn read_ready(table: &Table<'_, '_>) -> Option<Vec<String>> {
    const EXAMPLE: &str = "http:http://127.0.0.1:8080/health;timeout=90s";
    let checks = table.texts("ready", EXAMPLE)?;
    for check in &checks {
        if let Err(error) = check.parse::<ReadyCheck>() {
            table.refuse("ready", &error.to_string(), Some(&format!("ready = [{EXAMPLE:?}]")));
        }
    }
    Some(checks)
}

fn read_service(table: &Table<'_, '_>) -> Option<ServiceRef> {
    let unit = table.text("unit", "notes.service").map(ServiceRef::Unit);
    let user_unit = table.text("user-unit", "notes.service").map(ServiceRef::UserUnit);
    let start = read_command(table, "start-command").map(CommandLine::new);
    let has_pid_file = table.has("pid-file");
    if start.is_some() && !has_pid_file {
        table.refuse("start-command", "it belongs to a pid-file", Some("command = [...]"));
    }
    let pid_file = table.path("pid-file", "/run/notes.pid").map(|path| ServiceRef::PidFile(path, start));
    let command = read_command(table, "command").map(|argv| ServiceRef::Command(CommandLine::new(argv)));
    // Which engine is known when the whole file is.
    let on_engine = |name| ServiceRef::Container(ContainerSpec::named(name, Endpoint::usual()));
    let container = table.text("container", "notes").map(on_engine);
    let mut given = [unit, user_unit, pid_file, command, container].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        let keys = ["user-unit", "pid-file", "command", "container"];
        let key = keys.into_iter().find(|key| table.has(key)).unwrap_or("unit");
        table.refuse(key, "a service is one of unit, user-unit, pid-file, command and container", None);
    }
    first
}

pub(super) fn read_command(table: &Table<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let argv = table.texts(key, "/usr/local/bin/tell-me")?;
    match argv.first() {
        Some(program) if program.starts_with('/') => Some(argv),
        Some(_) => {
            table.refuse(key, "the program's whole path is needed", None);
            None
        }
        None => {
            table.refuse(key, "it is empty", None);
            None
        }
    }
}

fn read_ping(table: &Table<'_, '_>) -> Option<String> {
    let address = table.text("ping", "https://hc-ping.com/UUID")?;
    if !(address.starts_with("https://") || address.starts_with("http://")) {
        // The address itself is a secret, and is not repeated.
        table.refuse("ping", "not an address that begins with https:// or http://", None);
        return None;
    }
    Some(address)
}

fn read_stop(table: Table<'_, '_>) -> StopSettings {
    const SIGNALS: [(&str, StopSignal); 8] = [
        ("SIGTERM", StopSignal::Term),
        ("SIGINT", StopSignal::Int),
        ("SIGQUIT", StopSignal::Quit),
        ("SIGHUP", StopSignal::Hup),
        ("SIGUSR1", StopSignal::Usr1),
        ("SIGUSR2", StopSignal::Usr2),
        ("SIGWINCH", StopSignal::Winch),
        ("SIGCONT", StopSignal::Cont),
    ];
    let mut signals = Vec::new();
    for rung in table.tables("signals", "signals = [{ signal = \"SIGINT\", after = \"30s\" }]") {
        let signal = rung.word("signal", &SIGNALS);
        let after = rung.duration("after", "30s");
        if signal.is_some() && !rung.has("after") {
            rung.refuse("signal", "it lacks the time at which it is sent", Some("after = \"30s\""));
        }
        signals.extend(signal.zip(after));
        rung.finish();
    }
    signals.sort_by_key(|(_, after)| *after);
    let settings = StopSettings {
        timeout: table.duration("timeout", "90s"),
        signals,
        fenced_kill: table.word("last-resort", &[("never", false), ("fenced-kill", true)]),
    };
    table.finish();
    settings
}

pub(super) fn read_retention(table: Table<'_, '_>) -> Retention {
    let retention = Retention {
        last: table.count("last", 7).unwrap_or(0),
        daily: table.count("daily", 14).unwrap_or(0),
        weekly: table.count("weekly", 8).unwrap_or(0),
        monthly: table.count("monthly", 12).unwrap_or(0),
        yearly: table.count("yearly", 5).unwrap_or(0),
    };
    if retention == Retention::default() {
        table.refuse("last", "nothing would be kept", Some("last = 7"));
    }
    table.finish();
    retention
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
