//! The keys of a target that is a database server, and of its turn in a run.
//!
//! ```toml
//! [target.shop]
//! container = "shop-db"
//! engine = "mysql"
//! database = ["shop"]                # left out: all of them, with users and grants
//! user = "backup"
//! password-file = "/etc/svckit/shop.password"   # or password-env, password-secret, password-credential,
//!                                    # password-command; left out: what the image's own variables say
//! validate = ["SELECT 1 FROM orders LIMIT 1"]   # each must have an answer in a restored copy
//!
//! [target.wiki]                      # of a server that is in no container, by the programs of this host
//! server = "unix:/run/postgresql"    # its socket (of PostgreSQL also the directory), or "db.example:5432"
//! engine = "postgres"                # mysql, postgres or redis
//! priority = 10                      # earlier in a run of all
//! after = ["notes"]                  # not before these, and not where one of them failed
//! ```

use std::str::FromStr;

use super::config::read_command;
use super::reader::Table;
use super::target::Order;
use crate::controller::CommandLine;
use crate::database::server::{Databases, EngineKind, SecretSource, ServerAddress, ServerSpec, ValidationQuery};

/// The priorities that there are: a few that people can order in their heads.
const PRIORITY_MAX: i32 = 1000;

pub(super) fn read_server(table: &Table<'_, '_>) -> Option<ServerSpec> {
    let words: Vec<(&str, EngineKind)> = EngineKind::ALL.iter().map(|kind| (kind.word(), *kind)).collect();
    let engine = table.word("engine", &words);
    let databases =
        table.texts("database", "shop").map(|names| Databases::Named(parsed_all(table, "database", &names)));
    let user = parsed(table, "user", "backup");
    let secrets = [
        ("password-file", table.path("password-file", "/etc/svckit/shop.password").map(SecretSource::File)),
        ("password-env", parsed(table, "password-env", "MARIADB_ROOT_PASSWORD").map(SecretSource::ContainerEnv)),
        ("password-secret", parsed(table, "password-secret", "db_password").map(SecretSource::DockerSecret)),
        ("password-credential", parsed(table, "password-credential", "shop-db").map(SecretSource::SystemdCredential)),
        (
            "password-command",
            read_command(table, "password-command").map(|argv| SecretSource::Command(CommandLine::new(argv))),
        ),
    ];
    let mut given = secrets.into_iter().filter_map(|(key, secret)| Some((key, secret?)));
    let secret = given.next().map(|(_, secret)| secret);
    if let Some((key, _)) = given.next() {
        table.refuse(key, "one place of the password is enough", None);
    }
    let question = |statement: String| ValidationQuery { database: None, statement, expect: None };
    let validation = table.texts("validate", "SELECT 1 FROM orders LIMIT 1");
    let Some(engine) = engine else {
        const OF_SERVERS: [&str; 9] = [
            "server",
            "database",
            "user",
            "password-file",
            "password-env",
            "password-secret",
            "password-credential",
            "password-command",
            "validate",
        ];
        if !table.has("engine")
            && let Some(key) = OF_SERVERS.into_iter().find(|key| table.has(key))
        {
            table.refuse(key, "it is for a database server, and no engine is named", Some("engine = \"postgres\""));
        }
        return None;
    };
    if databases.is_some() && !engine.has_databases() {
        table.refuse("database", &format!("{} has no databases that could be dumped alone", engine.title()), None);
    }
    match table.has("server") {
        true => check_address(table, engine),
        false if !table.has("container") => {
            let instead = "container = \"shop-db\", or server = \"db.example:5432\"";
            table.refuse("engine", "which server? it lacks its container, or its address", Some(instead));
        }
        false => {}
    }
    for key in ["sqlite", "include", "mode"] {
        if table.has(key) {
            table.refuse(key, "a database server is dumped by itself: give files a target of their own", None);
        }
    }
    Some(ServerSpec {
        databases: databases.unwrap_or_default(),
        user,
        secret: secret.unwrap_or_default(),
        validation: validation.unwrap_or_default().into_iter().map(question).collect(),
        ..ServerSpec::new(engine)
    })
}

/// Where a server listens that is in no container.
pub(super) fn read_address(table: &Table<'_, '_>) -> Option<ServerAddress> {
    parsed(table, "server", "unix:/run/postgresql")
}

/// What a server at an address can't have.
fn check_address(table: &Table<'_, '_>, engine: EngineKind) {
    if !engine.is_dumped_from_host() {
        let reason = format!("{} is dumped in its container only", engine.title());
        table.refuse("server", &reason, Some("container = \"shop-db\""));
    }
    for key in ["container", "unit", "user-unit", "pid-file", "command", "service"] {
        if table.has(key) {
            table.refuse(key, "the server is reached by its address, and nothing is stopped: leave one out", None);
        }
    }
    for key in ["password-env", "password-secret"] {
        if table.has(key) {
            let instead = "password-file = \"/etc/svckit/shop.password\"";
            table.refuse(key, "it is found in a container, and this server is in none", Some(instead));
        }
    }
}

pub(super) fn read_order(table: &Table<'_, '_>) -> Order {
    let after = table.texts("after", "notes").map(|names| parsed_all(table, "after", &names));
    Order {
        priority: table.integer("priority", 10, PRIORITY_MAX).unwrap_or_default(),
        after: after.unwrap_or_default(),
    }
}

pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
    table: &Table<'_, '_>,
    key: &'static str,
    example: &str,
) -> Option<T> {
    let text = table.text(key, example)?;
    text.parse()
        .map_err(|error: T::Err| table.refuse(key, &error.to_string(), Some(&format!("{key} = {example:?}"))))
        .ok()
}

fn parsed_all<T: FromStr<Err: std::fmt::Display>>(
    table: &Table<'_, '_>,
    key: &'static str,
    texts: &[String],
) -> Vec<T> {
    let parse = |text: &String| text.parse().map_err(|error: T::Err| table.refuse(key, &error.to_string(), None)).ok();
    texts.iter().filter_map(parse).collect()
}
