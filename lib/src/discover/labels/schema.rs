//! The labels that there are: one table, which the reader checks against and the documentation is generated from.

use std::fmt::Write;

/// The version of the schema. A container may name it, `svckit.schema=1`; a newer one is not guessed at.
pub const VERSION: u32 = 1;

/// What all of our labels begin with.
pub(super) const PREFIX: &str = "svckit.";

/// One label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelKey {
    /// What stands behind `svckit.`, or behind `svckit.TARGET.`.
    pub name: &'static str,
    /// What its value is, in words.
    pub kind: &'static str,
    /// A value.
    pub example: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn key(name: &'static str, kind: &'static str, example: &'static str, meaning: &'static str) -> LabelKey {
    LabelKey { name, kind, example, meaning }
}

/// Every label, in the order of the documentation.
pub const KEYS: [LabelKey; 22] = [
    key("schema", "a number", "1", "the version of these labels; only without a target's name [1]"),
    key(
        "backup",
        "yes or no",
        "yes",
        "`yes`: what is in it is told by its image; `no`: it is left alone [yes with any other label]",
    ),
    key(
        "name",
        "a name",
        "immich",
        "the target's name in the store [Compose project and service, else the container; then the TARGET of the label]",
    ),
    key(
        "engine",
        "an engine",
        "postgres",
        "the database server in it: postgres, mysql (MariaDB too), redis, mongodb, influxdb (InfluxDB 2) or influxdb1",
    ),
    key(
        "database",
        "names, or `*`",
        "immich,wiki",
        "which of the server's databases [`*`: all, with roles and globals]",
    ),
    key("sqlite", "paths", "/data/app.db", "SQLite databases, as the container sees them; taken at one instant"),
    key(
        "include",
        "paths",
        "/data/uploads",
        "files and directories, as the container sees them; `*` matches within a name",
    ),
    key(
        "user",
        "a name",
        "backup",
        "the server's user [the one that the image's own variables name, else the engine's administrator]",
    ),
    key(
        "password-env",
        "a variable",
        "POSTGRES_PASSWORD",
        "the variable of the container that has the password; `NAME_FILE` is understood as images do [the image's own]",
    ),
    key(
        "password-secret",
        "a name",
        "db_password",
        "the Docker secret that has it: /run/secrets/NAME in the container",
    ),
    key(
        "mode",
        "hot, fenced or cold",
        "hot",
        "how SQLite databases and files are taken: `cold` stops the container [hot]",
    ),
    key(
        "ready",
        "checks",
        "health;passes=2",
        "when it counts as back after a stop: health, unit, tcp:HOST:PORT, http:URL[=STATUS]; several in lines [unit]",
    ),
    key("stop-timeout", "a duration", "180s", "how long a stop may last; it never ends in a kill [90s]"),
    key("keep-last", "a number", "7", "how many of the newest verified backups are kept"),
    key("keep-daily", "a number", "14", "... the newest of each of so many days"),
    key("keep-weekly", "a number", "8", "... of each of so many weeks"),
    key("keep-monthly", "a number", "12", "... of each of so many months"),
    key("keep-yearly", "a number", "5", "... of each of so many years"),
    key("priority", "a number from -1000 to 1000", "10", "a larger one is backed up earlier in a run [0]"),
    key("after", "names of targets", "immich", "is backed up after these, and not at all where one of them failed"),
    key(
        "compress",
        "zstd or zstd:LEVEL",
        "zstd:9",
        "how it is compressed, level 1 to 19 [zstd:3]; with :THREADS after it, 4 at most",
    ),
    key(
        "validate",
        "queries",
        "SELECT 1 FROM users LIMIT 1",
        "asked of the restored copy by `verify --restore`; each must have an answer; several in lines",
    ),
];

/// The documentation of the labels, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| label | value | example | meaning [what holds without it] |\n|---|---|---|---|\n".to_owned();
    for LabelKey { name, kind, example, meaning } in KEYS {
        let escaped = |text: &str| text.replace('|', "\\|");
        // Writing to a String can't fail.
        let _infallible =
            writeln!(text, "| `svckit.{name}` | {kind} | `{}` | {} |", escaped(example), escaped(meaning));
    }
    text
}

/// What people of other tools would call a thing, and what it is called here.
pub(super) const OTHER_WORDS: [(&str, &str); 14] = [
    ("enable", "backup"),
    ("enabled", "backup"),
    ("path", "sqlite"),
    ("file", "sqlite"),
    ("db", "database"),
    ("databases", "database"),
    ("dbname", "database"),
    ("type", "engine"),
    ("username", "user"),
    ("password-file", "password-secret"),
    ("retention", "keep-daily"),
    ("timeout", "stop-timeout"),
    ("depends-on", "after"),
    ("compression", "compress"),
];

/// What a label can't say, and why: told instead of "unknown".
pub(super) const NOT_BY_LABEL: [(&str, &str); 9] = [
    (
        "password-credential",
        "whoever writes a label would be handed whichever credential of the host it names: name it in the host's \
         configuration, a [target.NAME] in svckit.toml",
    ),
    ("password", "everybody who may ask Docker reads a label; use password-env or password-secret"),
    ("pass", "everybody who may ask Docker reads a label; use password-env or password-secret"),
    ("store", "where backups go is the host's to say: store = \"/srv/backups\" in [defaults] of svckit.toml"),
    ("to", "where backups go is the host's to say: store = \"/srv/backups\" in [defaults] of svckit.toml"),
    ("command", "a label runs no command; the host's configuration can: a [target.NAME] in svckit.toml"),
    ("exec", "a label runs no command; the host's configuration can: a [target.NAME] in svckit.toml"),
    ("on-failure", "a label runs no command; on-failure = [...] in svckit.toml does"),
    ("last-resort", "whether a kill is allowed is the host's to say: stop = { last-resort = ... } in svckit.toml"),
];
