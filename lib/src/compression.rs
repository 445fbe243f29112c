//! How what is stored is compressed.

use std::fmt;
use std::str::FromStr;

use crate::failure::{Failure, FailureKind};

/// How what is stored is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: for what is compressed already, or lies on a file system that compresses.
    None,
    /// Zstandard.
    Zstd {
        /// The level, 1 to 19.
        level: u8,
        /// How many threads compress one stream, 1 to 16; each takes some 8 MiB, more from level 16 on.
        threads: u8,
    },
}

/// The level of zstd(1) where nobody says another, and so many threads as keep up with a disk.
const USUAL: Compression = Compression::Zstd { level: 3, threads: THREADS };
const THREADS: u8 = 2;

/// A word that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the compression {text:?} is not usable: {reason}")]
pub struct CompressionError {
    text: String,
    reason: &'static str,
}

impl Failure for CompressionError {
    fn kind(&self) -> FailureKind {
        FailureKind::Config
    }
}

impl Default for Compression {
    fn default() -> Self {
        USUAL
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    /// `none`, `zstd`, `zstd:LEVEL` or `zstd:LEVEL:THREADS`.
    ///
    /// ```
    /// use svckit::compression::Compression;
    /// assert_eq!("zstd:9:4".parse(), Ok(Compression::Zstd { level: 9, threads: 4 }));
    /// assert!("zstd:20".parse::<Compression>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let wrong = |reason| CompressionError { text: text.to_owned(), reason };
        let mut parts = text.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("none"), None, ..) => Ok(Self::None),
            (Some("zstd"), None, ..) => Ok(USUAL),
            (Some("zstd"), Some(level), threads, None) => {
                let level = level.parse().ok().filter(|level| (1..=19).contains(level));
                let level = level.ok_or_else(|| wrong("the level is a number from 1 to 19"))?;
                let threads = threads.map_or(Some(THREADS), |threads| threads.parse().ok());
                let threads = threads.filter(|threads| (1..=16).contains(threads));
                let threads = threads.ok_or_else(|| wrong("the threads are a number from 1 to 16"))?;
                Ok(Self::Zstd { level, threads })
            }
            _ => Err(wrong("write none, zstd, zstd:9 or zstd:9:4")),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Zstd { level, threads: THREADS } => write!(f, "zstd:{level}"),
            Self::Zstd { level, threads } => write!(f, "zstd:{level}:{threads}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_a_word_and_perhaps_a_level_and_threads() {
        for (text, shown) in [("zstd", "zstd:3"), ("none", "none"), ("zstd:9", "zstd:9"), ("zstd:9:4", "zstd:9:4")] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), shown);
        }
        for bad in ["zstd:0", "zstd:20", "zstd:", "gzip", "zstd:x", "", "none:1", "zstd:3:0", "zstd:3:17", "zstd:3:2:1"]
        {
            assert!(bad.parse::<Compression>().is_err(), "{bad:?}");
        }
    }
}
