//! The labels of one container.

use super::{ImportedContainer, PREFIX, Source, is_true};
use crate::database::server::{DatabaseName, EngineKind, UserName};
use crate::discover::labels::KEEP_MAX;
use crate::name::TargetName;

/// Labels that its own validation knows and that none of its code reads.
const WITHOUT_EFFECT: [&str; 5] =
    ["backup.compress", "backup.encrypt", "backup.retention.days", "backup.retention.count", "backup.priority"];

/// `None` for a container that has none of its labels.
pub(super) fn import(source: &Source) -> Option<ImportedContainer> {
    let mut taken = Taken { source, labels: Vec::new(), notes: Vec::new() };
    if !source.labels.keys().any(|label| label.starts_with(PREFIX)) {
        return None;
    }
    taken.all();
    let Taken { labels, notes, .. } = taken;
    Some(ImportedContainer { container: source.container.clone(), labels, notes })
}

struct Taken<'a> {
    source: &'a Source,
    labels: Vec<(String, String)>,
    notes: Vec<String>,
}

impl<'a> Taken<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.source.labels.get(&format!("{PREFIX}{key}")).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn write(&mut self, key: &str, value: impl Into<String>) {
        self.labels.push((format!("svckit.{key}"), value.into()));
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn all(&mut self) {
        match self.get("backup") {
            Some("true") => {}
            Some(other) if is_true(other) => {
                self.note(format!("baktainer.backup={other:?} had no effect: only `true` did. svckit takes it as yes"));
            }
            _ => {
                self.note(
                    "it was not backed up: baktainer.backup is not `true`. Write svckit.backup=yes if it should be",
                );
                return;
            }
        }
        if let Some(name) = self.get("name") {
            match name.parse::<TargetName>() {
                Ok(name) => self.write("name", name.as_str()),
                Err(_) => self.note(format!("baktainer.name={name:?} is no name of a target: its container's is used")),
            }
        }
        match self.get("db.engine").map(str::to_lowercase).as_deref() {
            Some("sqlite") => self.sqlite(),
            Some("custom") => self.custom(),
            Some(word) => match word.parse::<EngineKind>() {
                Ok(engine) => self.server(engine),
                Err(_) => {
                    self.note(format!("baktainer.db.engine={word:?} is none that svckit knows: it is not backed up"))
                }
            },
            None if self.get("command").is_some() => self.custom(),
            None => self.note(
                "it names no engine, so Baktainer refused it; svckit is told by the image where it is a known one",
            ),
        }
        if self.labels.iter().all(|(label, _)| label == "svckit.name") {
            self.write("backup", "yes");
        }
        self.schedule();
        self.unknown();
    }

    fn sqlite(&mut self) {
        match self.get("db.name") {
            Some(path) if path.starts_with('/') => {
                self.write("sqlite", path);
                self.note(
                    "Baktainer's own check refused a path in baktainer.db.name, so it was probably never backed up",
                );
            }
            _ => self.note("it names no path of its SQLite database: write svckit.sqlite=/path/in/the/container.db"),
        }
    }

    fn custom(&mut self) {
        self.note(
            "baktainer.command runs a command that a label names: svckit runs none. Name the engine instead \
             (svckit.engine), or the files (svckit.sqlite, svckit.include)",
        );
    }

    fn server(&mut self, engine: EngineKind) {
        self.write("engine", engine.word());
        if engine == EngineKind::Mongodb {
            self.note("Baktainer advertises MongoDB and refuses it: it was never backed up");
        }
        let all = self.get("db.all").is_some_and(is_true);
        match self.get("db.name") {
            Some(name) if !all && name != "*" => match name.parse::<DatabaseName>() {
                Ok(_) if name.contains(',') => self.note(format!("{name:?} can't be the name of a database")),
                Ok(name) if engine.has_databases() => self.write("database", name.as_str()),
                Ok(_) => {}
                Err(_) => self.note(format!("{name:?} can't be the name of a database")),
            },
            _ => self.write("database", "*"),
        }
        if engine == EngineKind::Redis {
            self.labels.retain(|(label, _)| label != "svckit.database");
        }
        if let Some(user) = self.get("db.user") {
            match user.parse::<UserName>() {
                Ok(user) => self.write("user", user.as_str()),
                Err(_) => self.note(format!("{user:?} can't be the name of a user")),
            }
        }
        self.password(engine);
        if engine == EngineKind::Mysql {
            self.note("Baktainer dumped without a single transaction, so its dumps of a server in use may contradict themselves");
        }
        if self.get("compress").is_some_and(|value| !is_true(value)) {
            self.note("baktainer.compress is off: svckit compresses every dump");
        }
    }

    /// Where the password of the label stands as well; it itself is never written down.
    fn password(&mut self, engine: EngineKind) {
        let Some(password) = self.get("db.password") else { return };
        self.note("baktainer.db.password is a password that everybody reads who may ask Docker: change it, and take the label away");
        let same = |(name, value): (&'a String, &'a String)| (value == password).then_some(name.as_str());
        let found: Vec<&str> = self.source.variables.iter().filter_map(same).collect();
        let usual = found.iter().find(|name| engine.password_variables().contains(name));
        match usual.or(found.first()) {
            // What the image itself is given is looked for anyway, unless another user is named.
            Some(name) => self.write("password-env", *name),
            None => self.note(
                "no variable of the container has that password: give it as a Docker secret and write \
                 svckit.password-secret=NAME, or name the target in the host's configuration (password-file, password-credential)",
            ),
        }
    }

    fn schedule(&mut self) {
        for key in WITHOUT_EFFECT {
            let Some(value) = self.get(key) else { continue };
            let meant = match key {
                "backup.retention.days" => {
                    let days = value.parse().ok().filter(|days| *days <= KEEP_MAX);
                    days.map(|days: u32| ("keep-daily", days.to_string()))
                }
                "backup.retention.count" => value
                    .parse()
                    .ok()
                    .filter(|count| (1..=KEEP_MAX).contains(count))
                    .map(|count: u32| ("keep-last", count.to_string())),
                "backup.priority" => {
                    let words = [("critical", "100"), ("high", "10"), ("low", "-10")];
                    words.iter().find(|(word, _)| *word == value).map(|(_, number)| ("priority", (*number).to_owned()))
                }
                _ => None,
            };
            let end = match (&meant, key) {
                (Some((name, number)), _) => format!("; svckit.{name}={number} has the one that was meant"),
                (None, "backup.encrypt") => "; svckit does not encrypt yet".to_owned(),
                (None, "backup.compress") => "; svckit compresses every dump".to_owned(),
                (None, _) => String::new(),
            };
            self.note(format!("baktainer.{key}={value:?} never had an effect{end}"));
            if let Some((name, number)) = meant {
                self.write(name, number);
            }
        }
    }

    fn unknown(&mut self) {
        const KNOWN: [&str; 9] =
            ["backup", "name", "compress", "command", "db.engine", "db.name", "db.user", "db.password", "db.all"];
        let source = self.source;
        for label in source.labels.keys() {
            let Some(key) = label.strip_prefix(PREFIX) else { continue };
            if !KNOWN.contains(&key) && !WITHOUT_EFFECT.contains(&key) {
                self.note(format!("{label} is no label of Baktainer's, and never had an effect"));
            }
        }
    }
}
