//! The engines that have dumps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::WordError;

/// A database server's engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// MariaDB and MySQL.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// Redis, and what speaks its protocol (Valkey).
    Redis,
    /// MongoDB.
    Mongodb,
    /// InfluxDB 2.
    Influxdb,
    /// InfluxDB 1.
    Influxdb1,
}

impl EngineKind {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Mysql, Self::Postgres, Self::Redis, Self::Mongodb, Self::Influxdb, Self::Influxdb1];

    /// Its stable word, in manifests, labels and options.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mongodb => "mongodb",
            Self::Influxdb => "influxdb",
            Self::Influxdb1 => "influxdb1",
        }
    }

    /// Other words that are understood.
    fn also(self) -> &'static [&'static str] {
        match self {
            Self::Mysql => &["mariadb"],
            Self::Postgres => &["postgresql"],
            Self::Redis => &["valkey"],
            Self::Mongodb => &["mongo"],
            Self::Influxdb => &["influxdb2"],
            Self::Influxdb1 => &[],
        }
    }

    /// For people: `PostgreSQL`.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Mysql => "MySQL",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Mongodb => "MongoDB",
            Self::Influxdb => "InfluxDB 2",
            Self::Influxdb1 => "InfluxDB 1",
        }
    }

    /// Whether it keeps several databases that can be dumped alone.
    #[must_use]
    pub fn has_databases(self) -> bool {
        !matches!(self, Self::Redis)
    }

    /// Whether it is dumped over the network or a socket too, by programs of this host.
    #[must_use]
    pub fn is_dumped_from_host(self) -> bool {
        matches!(self, Self::Mysql | Self::Postgres | Self::Redis)
    }

    /// The variables by which the engine's usual images are given the password of [`Self::usual_user`], the first that
    /// is set counts; each may also be set as `NAME_FILE`, with the path of a file in the container.
    #[must_use]
    pub fn password_variables(self) -> &'static [&'static str] {
        match self {
            Self::Mysql => &["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"],
            // The local socket of these images asks for none, and one that does asks for this.
            Self::Postgres => &["POSTGRES_PASSWORD"],
            Self::Redis => &["REDIS_PASSWORD"],
            Self::Mongodb => &["MONGO_INITDB_ROOT_PASSWORD"],
            Self::Influxdb => &["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"],
            Self::Influxdb1 => &["INFLUXDB_ADMIN_PASSWORD"],
        }
    }

    /// The variable by which the usual images are told the name of the user who may read everything.
    #[must_use]
    pub fn user_variable(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("POSTGRES_USER"),
            Self::Mongodb => Some("MONGO_INITDB_ROOT_USERNAME"),
            Self::Influxdb1 => Some("INFLUXDB_ADMIN_USER"),
            Self::Mysql | Self::Redis | Self::Influxdb => None,
        }
    }

    /// The user who may read everything, where nobody named another.
    #[must_use]
    pub fn usual_user(self) -> Option<&'static str> {
        match self {
            Self::Mysql => Some("root"),
            Self::Postgres => Some("postgres"),
            Self::Redis | Self::Mongodb | Self::Influxdb | Self::Influxdb1 => None,
        }
    }
}

impl FromStr for EngineKind {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Self::ALL.iter().copied().find(|kind| kind.word() == text || kind.also().contains(&text)).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|kind| kind.word()).collect();
            WordError::new("the engine", text, format!("it is none of {}", words.join(", ")))
        })
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
