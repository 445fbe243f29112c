//! From the labels of one container to its targets.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::finding::{LabelFinding, bad_value, missing};
use super::image::{Known, known};
use super::place::on_host;
use super::schema::{PREFIX, VERSION};
use super::values::{Values, split};
use crate::compression::Compression;
use crate::controller::docker::Container;
use crate::controller::{ContainerSpec, Endpoint};
use crate::database::server::{Databases, EngineKind, SecretName, SecretSource, ServerSpec, UserName, ValidationQuery};
use crate::discover::profile::Profile;
use crate::discover::{Alerts, Mode, Order, Origin, Retention, ServiceRef, StopSettings, Target};
use crate::name::{NAME_LEN_MAX, TargetName};
use crate::ready::{Probe, ReadyCheck};

/// What one container's labels say.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The container's name.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
    /// Its targets, or what is wrong with each.
    pub targets: Vec<(String, Result<Target, Vec<LabelFinding>>)>,
}

/// Labels without a target's name that are not those of every target of the container.
const NOT_SHARED: [&str; 8] = ["schema", "backup", "name", "engine", "database", "sqlite", "include", "validate"];

/// Backups that a rule may keep.
pub(in crate::discover) const KEEP_MAX: u32 = 100_000;
/// Threads that a label may ask for.
const LABEL_THREADS_MAX: u8 = 4;

/// A container may have so many targets; more are a mistake of a program.
const TARGETS_MAX: usize = 64;

/// Reads the labels of one container; `None` where it has none of ours. Pure but for a look at links on the host.
#[must_use]
pub fn read(container: &Container, endpoint: &Endpoint) -> Option<Labelled> {
    let ours =
        |(label, value): (&'_ String, &'_ String)| split(label).is_some().then_some((label.clone(), value.clone()));
    let labels: Vec<(String, String)> = container.labels.iter().filter_map(ours).collect();
    if labels.is_empty() {
        return None;
    }
    let reader = Reader { container, endpoint, labels: &labels };
    let targets = reader.targets();
    Some(Labelled { container: container.name.clone(), running: container.running, targets })
}

struct Reader<'a> {
    container: &'a Container,
    endpoint: &'a Endpoint,
    labels: &'a [(String, String)],
}

type Read = Result<Target, Vec<LabelFinding>>;

impl<'a> Reader<'a> {
    /// The labels of one target, or without a name.
    fn of(&self, name: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels
            .iter()
            .filter(move |(label, _)| split(label).is_some_and(|(target, _)| target == name))
            .map(|(label, value)| (label.as_str(), value.as_str()))
    }

    fn targets(&self) -> Vec<(String, Read)> {
        let base = self.container.stable_name();
        let unnamed = Values::new(&self.container.name, self.of(None), std::iter::empty());
        let newer = unnamed.number::<u32>("schema", 1, i64::from(u32::MAX)).filter(|version| *version > VERSION);
        if let Some(version) = newer {
            let label = format!("{PREFIX}schema");
            let what =
                format!("these labels are of a newer svckit, which knows version {version}; this one knows {VERSION}");
            let finding = bad_value(&self.container.name, &label, &version.to_string(), what);
            return vec![(base, Err(vec![finding]))];
        }
        let backup = unnamed.yes("backup");
        if backup == Some(false) {
            return Vec::new();
        }
        let names: BTreeSet<&str> = self.labels.iter().filter_map(|(label, _)| split(label)?.0).collect();
        if names.len() > TARGETS_MAX {
            let what = format!("it has {} targets, more than {TARGETS_MAX}", names.len());
            return vec![(base, Err(vec![missing(&self.container.name, what, "NAME.engine=...")]))];
        }
        let mut targets = Vec::new();
        let has_data = ["engine", "sqlite", "include"].iter().any(|key| unnamed.has(key)) || backup == Some(true);
        if has_data || names.is_empty() {
            targets.push(self.target(base.clone(), unnamed));
        }
        for name in names {
            let shared =
                self.of(None).filter(|(label, _)| !split(label).is_some_and(|(_, key)| NOT_SHARED.contains(&key)));
            let values = Values::new(&self.container.name, self.of(Some(name)), shared);
            if values.yes("backup") != Some(false) {
                targets.push(self.target(format!("{base}-{name}"), values));
            }
        }
        targets
    }

    fn target(&self, default_name: String, values: Values<'a>) -> (String, Read) {
        let name = values.text("name").map_or(default_name, str::to_owned);
        let target = self.read(&name, &values);
        let findings = values.into_findings();
        let read = match target {
            Some(target) if findings.is_empty() => Ok(target),
            _ => Err(findings),
        };
        (name, read)
    }

    /// `None` where what is missing has been told.
    fn read(&self, name: &str, values: &Values<'a>) -> Option<Target> {
        let target_name = name.parse::<TargetName>().ok().filter(name_fits);
        let target_name = match target_name {
            Some(name) => Some(name),
            None if values.has("name") => {
                values.refuse("name", "use letters, digits, '.', '_', '-', beginning with a letter or a digit");
                None
            }
            None => {
                let what = format!("{name:?} can't be the name of a target");
                values.find(missing(&self.container.name, what, "name=NAME"));
                None
            }
        };
        let mut sqlite = self.places("sqlite", values);
        let mut include = self.places("include", values);
        let mut engine: Option<EngineKind> = values.parsed("engine");
        let mut profile = None;
        if !["engine", "sqlite", "include"].iter().any(|key| values.has(key)) {
            match known(&self.container.image) {
                Some(Known::Server(kind)) => engine = Some(kind),
                Some(Known::Service(known)) => {
                    profile = Some(known);
                    (sqlite, include) = self.of_profile(known, values)?;
                }
                None => {
                    let what =
                        format!("nothing says what is in it, and its image {:?} is not known", self.container.image);
                    values.find(missing(
                        &self.container.name,
                        what,
                        "engine=postgres, or svckit.sqlite=/path/in/the/container.db",
                    ));
                    return None;
                }
            }
        }
        let server = engine.map(|engine| read_server(engine, values));
        match server {
            Some(_) => {
                for key in ["sqlite", "include", "mode"] {
                    values.refuse(key, "a database server is dumped by itself: give files a target of their own, svckit.FILES.include=...");
                }
            }
            None => {
                for key in ["database", "user", "password-env", "password-secret", "validate"] {
                    // Shared by targets of which only some are servers.
                    if values.is_own(key) {
                        values.refuse(key, "it is for a database server, and no engine is named");
                    }
                }
            }
        }
        let of_profile = profile.map(|profile| &profile.settings);
        let ready = read_ready(values);
        let mut stop = of_profile.and_then(|known| known.stop.clone()).unwrap_or_default();
        stop.timeout = values.duration("stop-timeout").or(stop.timeout);
        Some(Target {
            name: target_name?,
            title: format!("{} in container {}", title(server.as_ref(), profile), self.container.name),
            service: Some(ServiceRef::Container(self.spec())),
            server,
            // A label leads nowhere but to its own container.
            address: None,
            sqlite,
            include,
            store: None,
            mode: values.word("mode", &[("hot", Mode::Hot), ("fenced", Mode::Fenced), ("cold", Mode::Cold)]),
            ready,
            stop: StopSettings { fenced_kill: None, ..stop },
            retention: read_retention(values),
            alerts: Alerts::default(),
            compression: read_compression(values),
            sqlite_program: None,
            order: Order {
                priority: values.number("priority", -1000, 1000).unwrap_or_default(),
                after: values.parsed_items("after"),
            },
            origin: Origin::Labels { container: self.container.name.clone() },
        })
    }

    fn spec(&self) -> ContainerSpec {
        let compose = self.container.compose.clone();
        ContainerSpec {
            id: self.container.id.clone(),
            compose: compose.map(|(project, service, number)| (project, service, number.unwrap_or(1).to_string())),
            ..ContainerSpec::named(self.container.name.clone(), self.endpoint.clone())
        }
    }

    fn places(&self, key: &'static str, values: &Values<'a>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in values.paths(key) {
            match on_host(&path, &self.container.mounts) {
                Ok(path) => found.push(path),
                Err(why) => values.refuse(key, format!("{}: {why}", path.display())),
            }
        }
        found
    }

    /// The data of a known service: below the first of its directories that holds the first of its databases.
    fn of_profile(&self, profile: &Profile, values: &Values<'a>) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
        let mut looked_for = Vec::new();
        for place in &profile.containers {
            let on_host = |path: &PathBuf| on_host(&place.root.join(path), &self.container.mounts).ok();
            let exists = |path: &PathBuf| crate::archive::matches_anything(path);
            let sqlite: Vec<PathBuf> = place.sqlite.iter().filter_map(on_host).filter(exists).collect();
            if !sqlite.is_empty() {
                return Some((sqlite, place.include.iter().filter_map(on_host).filter(exists).collect()));
            }
            looked_for.extend(place.sqlite.first().map(|path| place.root.join(path).display().to_string()));
        }
        let what = format!(
            "it is an image of {}, but none of its databases is in a mount: looked for {}",
            profile.title,
            looked_for.join(", ")
        );
        values.find(missing(&self.container.name, what, "sqlite=/path/in/the/container.db"));
        None
    }
}

/// A hyphen and a number may come behind it in the store.
fn name_fits(name: &TargetName) -> bool {
    name.as_str().len() <= NAME_LEN_MAX - 8
}

fn title(server: Option<&ServerSpec>, profile: Option<&Profile>) -> String {
    match (server, profile) {
        (Some(server), _) => server.engine.title().to_owned(),
        (None, Some(profile)) => profile.title.clone(),
        (None, None) => "files".to_owned(),
    }
}

fn read_server(engine: EngineKind, values: &Values<'_>) -> ServerSpec {
    let databases = match values.text("database") {
        None | Some("*") => Databases::All,
        Some(_) if !engine.has_databases() => {
            values.refuse("database", format!("{} has no databases that could be dumped alone", engine.title()));
            Databases::All
        }
        Some(_) => Databases::Named(values.parsed_items("database")),
    };
    let user: Option<UserName> = values.parsed("user");
    let sources: Vec<(&'static str, Option<SecretSource>)> = vec![
        ("password-env", values.parsed("password-env").map(SecretSource::ContainerEnv)),
        ("password-secret", values.parsed::<SecretName>("password-secret").map(SecretSource::DockerSecret)),
    ];
    let mut given = sources.into_iter().filter_map(|(key, source)| Some((key, source?)));
    let secret = given.next().map_or(SecretSource::Image, |(_, source)| source);
    if let Some((key, _)) = given.next() {
        values.refuse(key, "there is another password-... label: one of them is enough");
    }
    let question = |statement: &str| ValidationQuery { database: None, statement: statement.to_owned(), expect: None };
    ServerSpec {
        databases,
        user,
        secret,
        validation: values.lines("validate").into_iter().map(question).collect(),
        ..ServerSpec::new(engine)
    }
}

/// Whoever may start a container says how hard the host works for it, within bounds, and not how fast the store fills.
fn read_compression(values: &Values<'_>) -> Option<Compression> {
    let found = values.parsed("compress");
    match found {
        Some(Compression::None) => {
            values.refuse(
                "compress",
                "what labels name is always compressed: compress = \"none\" is svckit.toml's to say",
            );
        }
        Some(Compression::Zstd { threads, .. }) if threads > LABEL_THREADS_MAX => {
            values.refuse("compress", "a label has 4 threads at most: more are svckit.toml's to give");
        }
        _ => {}
    }
    found
}

/// Checks that reach nothing beyond the network: a label can't have a command run or a file of the host read.
fn read_ready(values: &Values<'_>) -> Vec<String> {
    let mut checks = Vec::new();
    for text in values.lines("ready") {
        match text.parse::<ReadyCheck>() {
            Ok(check) => match check.probe {
                Probe::Exec { .. } => values.refuse(
                    "ready",
                    "a label runs no command: ready = [\"exec:...\"] of a [target.NAME] in svckit.toml can",
                ),
                Probe::Log { file: Some(_), .. } => values
                    .refuse("ready", "a label names no file of the host; log:REGEX looks at the container's own log"),
                _ => checks.push(text.to_owned()),
            },
            Err(error) => values.refuse("ready", error.to_string()),
        }
    }
    checks
}

fn read_retention(values: &Values<'_>) -> Option<Retention> {
    let rule = |key| values.number::<u32>(key, 0, KEEP_MAX.into());
    let rules = [rule("keep-last"), rule("keep-daily"), rule("keep-weekly"), rule("keep-monthly"), rule("keep-yearly")];
    if rules.iter().all(Option::is_none) {
        return None;
    }
    let [last, daily, weekly, monthly, yearly] = rules.map(Option::unwrap_or_default);
    let retention = Retention { last, daily, weekly, monthly, yearly };
    if retention == Retention::default() {
        let first = ["keep-last", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"];
        if let Some(key) = first.into_iter().find(|key| values.has(key)) {
            values.refuse(key, "nothing would be kept");
        }
    }
    Some(retention)
}

/// What two targets of one name would do: share a directory of the store, each expiring the other's backups. So both are
/// refused, as is one that the host has already.
pub(in crate::discover) fn refuse_doubles(all: &mut [Labelled], is_of_host: impl Fn(&str) -> bool) {
    let mut names: Vec<(String, String)> = Vec::new();
    for labelled in all.iter() {
        names.extend(labelled.targets.iter().map(|(name, _)| (name.clone(), labelled.container.clone())));
    }
    for labelled in all {
        let container = labelled.container.clone();
        for (name, target) in &mut labelled.targets {
            let others: Vec<&str> = names.iter().filter(|(other, _)| other == name).map(|(_, c)| c.as_str()).collect();
            let what = if others.len() > 1 {
                format!("the name {name} is that of {} targets, in {}", others.len(), others.join(" and "))
            } else if is_of_host(name) {
                format!("this host has a target or a service {name} of its own")
            } else {
                continue;
            };
            let finding = missing(&container, what, "name=ANOTHER");
            match target {
                Ok(_) => *target = Err(vec![finding]),
                Err(findings) => findings.push(finding),
            }
        }
    }
}
