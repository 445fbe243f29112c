//! What is dumped of a server, and as whom.

use serde::Serialize;

use super::{EngineKind, SecretSource, word_type};

/// The longest name that is accepted, in bytes; engines allow 63 to 255.
const NAME_LEN_MAX: usize = 255;

word_type! {
    /// The name of a database in a server. Almost anything goes, as it does in the engines: it is quoted where it is used,
    /// and never part of a command line that a shell reads.
    DatabaseName, "the database", check_name
}
word_type! {
    /// The name of a server's user.
    UserName, "the user", check_name
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > NAME_LEN_MAX {
        Err("it is longer than 255 bytes")
    } else if name.starts_with('-') {
        Err("it begins with '-', as an option does")
    } else if name.trim() != name {
        Err("it begins or ends with a space")
    } else if name.chars().any(char::is_control) {
        Err("it has a control character")
    } else {
        Ok(())
    }
}

/// Which databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Databases {
    /// All that the server has but its own, with users, roles and grants.
    #[default]
    All,
    /// These, without users and roles.
    Named(Vec<DatabaseName>),
}

impl Databases {
    /// The named ones; `None`: all.
    #[must_use]
    pub fn named(&self) -> Option<&[DatabaseName]> {
        match self {
            Self::All => None,
            Self::Named(names) => Some(names),
        }
    }
}

/// A question to the restored databases of a scratch server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationQuery {
    /// The database it is asked of; `None`: the first of the backup that has tables.
    pub database: Option<DatabaseName>,
    /// One statement in the engine's own language.
    pub statement: String,
    /// The first line of the answer; `None`: any answer that is not empty.
    pub expect: Option<String>,
}

/// What is dumped of a server, and as whom.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSpec {
    /// The engine.
    pub engine: EngineKind,
    /// Which databases.
    pub databases: Databases,
    /// As whom; `None`: who the image was told, else the engine's usual user.
    pub user: Option<UserName>,
    /// Where that user's password is found.
    pub secret: SecretSource,
    /// What a restored copy must answer.
    pub validation: Vec<ValidationQuery>,
}

impl ServerSpec {
    /// All databases of a server, as its image was set up.
    #[must_use]
    pub fn new(engine: EngineKind) -> Self {
        Self { engine, databases: Databases::All, user: None, secret: SecretSource::Image, validation: Vec::new() }
    }
}
