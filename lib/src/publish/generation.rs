//! The number of a generation.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a generation: each is given once, in rising order, also where an update fails. Written with six digits
/// or more, as its directory is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl FromStr for Generation {
    type Err = String;
    /// Reads a number as people type it: zeros in front are not needed.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_number && *number > 0);
        number.map(Self).ok_or_else(|| format!("{text:?} is no generation: write a number, as status shows it"))
    }
}

/// The generation that a directory entry's name stands for: only the one way in which we write it.
pub(super) fn of_name(name: &std::ffi::OsStr) -> Option<Generation> {
    let generation: Generation = name.to_str()?.parse().ok()?;
    (generation.to_string().as_str() == name).then_some(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_typed_and_names_only_as_written() {
        assert_eq!("42".parse(), Ok(Generation(42)));
        assert_eq!("000042".parse(), Ok(Generation(42)));
        for bad in ["", "0", "-1", "+1", "1a", "99999999999999999999999"] {
            assert!(bad.parse::<Generation>().is_err(), "{bad}");
        }
        assert_eq!(of_name("000042".as_ref()), Some(Generation(42)));
        assert_eq!(of_name("1000000".as_ref()), Some(Generation(1_000_000)));
        assert_eq!(of_name("0000042".as_ref()), None);
        assert_eq!(of_name("42".as_ref()), None);
        assert_eq!(of_name(".000042.new".as_ref()), None);
    }
}
