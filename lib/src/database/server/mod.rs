//! Databases that a server keeps: what is to be dumped, as whom, and where the password comes from.
//!
//! Nothing here has a secret in it: a [`SecretSource`] says where one is found. It is read at the moment of its use.

mod address;
mod crc64;
mod dump;
mod error;
mod influx_files;
mod influxdb1;
mod influxdb2;
mod kind;
mod made;
mod mongodb;
mod mysql;
mod place;
mod postgres;
mod redis;
mod resolve;
mod secret;
mod secret_file;
mod session;
mod spec;
mod sum;
mod tail;
mod tar_scan;

pub use address::ServerAddress;
pub(crate) use dump::{DumpFacts, DumpStream, Looked, Part, PartOf, ServerEngine};
pub use error::ServerError;
pub(crate) use influxdb1::Influxdb1;
pub(crate) use influxdb2::Influxdb2;
pub use kind::EngineKind;
pub(crate) use mongodb::Mongodb;
pub(crate) use mysql::Mysql;
pub(crate) use place::{Host, Place, PrivateServer};
pub(crate) use postgres::Postgres;
pub(crate) use redis::Redis;
pub(crate) use resolve::{open_host_session, open_session};
pub use secret::{SecretName, SecretSource, VariableName};
pub(crate) use secret_file::SecretFile;
pub(crate) use session::{Kept, Secret, Session};
pub use spec::{DatabaseName, Databases, ServerSpec, UserName, ValidationQuery};

use crate::failure::{Failure, FailureKind};

/// What is done with a server of this kind.
pub(crate) fn engine_of(kind: EngineKind) -> Box<dyn ServerEngine> {
    match kind {
        EngineKind::Mysql => Box::new(Mysql),
        EngineKind::Postgres => Box::new(Postgres),
        EngineKind::Redis => Box::new(Redis),
        EngineKind::Mongodb => Box::new(Mongodb),
        EngineKind::Influxdb => Box::new(Influxdb2),
        EngineKind::Influxdb1 => Box::new(Influxdb1::default()),
    }
}

/// A word of a configuration or a label that can't be used, and what could stand in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not usable: {reason}")]
pub struct WordError {
    what: &'static str,
    text: String,
    reason: String,
}

impl WordError {
    fn new(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self { what, text: text.to_owned(), reason: reason.into() }
    }
}

impl Failure for WordError {
    fn kind(&self) -> FailureKind {
        FailureKind::Config
    }
}

/// A text in a type of its own, made by `FromStr` only, so that what is data stays data.
macro_rules! word_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = $crate::database::server::WordError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(reason) => Err($crate::database::server::WordError::new($what, text, reason)),
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = $crate::database::server::WordError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.0
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use word_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_found_by_its_word_and_by_the_names_that_people_use() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        for (name, kind) in [
            ("mariadb", EngineKind::Mysql),
            ("postgresql", EngineKind::Postgres),
            ("mongo", EngineKind::Mongodb),
            ("influxdb2", EngineKind::Influxdb),
        ] {
            assert_eq!(name.parse(), Ok(kind));
        }
        let error = "oracle".parse::<EngineKind>().unwrap_err().to_string();
        assert!(error.contains("oracle") && error.contains("mysql, postgres"), "{error}");
    }

    #[test]
    fn a_name_is_data_and_never_an_option_or_a_line_of_its_own() {
        for good in ["shop", "my shop", "caf\u{e9}", "a'b", "a`b", "x=y", "$(id)", &"x".repeat(255)] {
            assert!(good.parse::<DatabaseName>().is_ok(), "{good:?}");
        }
        for bad in ["", "-shop", "a\nb", "a\0b", " a", "a ", "\u{7f}", &"x".repeat(256)] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad:?}");
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_s_name_can_t_lead_elsewhere() {
        for bad in ["", ".", "..", "../x", "a/b", "-x", "a b", "a\n"] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
        assert!("db-root.password_1".parse::<SecretName>().is_ok());
        for bad in ["", "1A", "A-B", "A=B", "A B"] {
            assert!(bad.parse::<VariableName>().is_err(), "{bad:?}");
        }
        assert!("MARIADB_ROOT_PASSWORD".parse::<VariableName>().is_ok());
    }
}
