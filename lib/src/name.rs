//! Validated names: what a person types becomes part of a path only through these types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};

/// The longest name that is accepted, in bytes: it must fit a file name together with our suffixes.
pub const NAME_LEN_MAX: usize = 128;

/// A name that can't be used, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind_of_name} name {name:?} is not usable: {reason}")]
pub struct NameError {
    kind_of_name: &'static str,
    name: String,
    reason: &'static str,
}

impl Failure for NameError {
    fn kind(&self) -> FailureKind {
        FailureKind::Usage
    }
    fn hint(&self) -> Option<String> {
        Some("use letters, digits, '.', '_', '-', '@', starting with a letter or a digit".to_owned())
    }
}

fn validate(kind_of_name: &'static str, name: &str) -> Result<(), NameError> {
    let refuse = |reason| Err(NameError { kind_of_name, name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_LEN_MAX {
        return refuse("it is longer than 128 bytes");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it does not start with a letter or a digit");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@')) {
        return refuse("it has a character other than letters, digits, '.', '_', '-', '@'");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                validate($what, name)?;
                Ok(Self(name.to_owned()))
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a service in the configuration.
    ///
    /// ```
    /// use svckit::name::ServiceName;
    /// assert!("plex".parse::<ServiceName>().is_ok());
    /// assert!("../plex".parse::<ServiceName>().is_err());
    /// ```
    ServiceName, "service"
}
name_type! {
    /// The name under which a store keeps the backups of one target: one directory of the store.
    TargetName, "target"
}
name_type! {
    /// The identity of one backup: its UTC time and random digits, `20261121T040719Z-3fa96c`. Sorts by time.
    BackupId, "backup"
}

impl BackupId {
    /// A new identity: now, and six random hexadecimal digits.
    #[must_use]
    pub fn fresh() -> Self {
        let mut random = [0u8; 3];
        // An old kernel without getrandom(2) leaves zeros: ids of one second would meet then, and the one that comes
        // second is refused by the file system.
        let _filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let [a, b, c] = random;
        Self(format!("{}-{a:02x}{b:02x}{c:02x}", crate::world::clock::now_compact()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "/a", ".hidden", "-x", "a\nb", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_read_from_a_manifest_are_validated_too() {
        assert!(serde_json::from_str::<TargetName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<TargetName>("\"plex\"").is_ok());
    }
}
