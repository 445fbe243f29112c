//! Paths in JSON. A Linux path is bytes: UTF-8 ones are written as text, others as `{"hex": "..."}`.
//!
//! Use as `#[serde(with = "crate::world::raw_path")]`, or [`RawPath`] inside containers.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes { hex: String },
}

/// Serialises a path.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let form = match path.to_str() {
        Some(text) => Form::Text(text.to_owned()),
        None => Form::Bytes { hex: path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect() },
    };
    form.serialize(serializer)
}

/// Deserialises a path.
///
/// # Errors
/// Those of the deserializer, and hexadecimal digits that are none.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    match Form::deserialize(deserializer)? {
        Form::Text(text) => Ok(PathBuf::from(text)),
        Form::Bytes { hex } => {
            let bytes = hex.as_bytes().chunks(2).map(|pair| {
                std::str::from_utf8(pair).ok().filter(|p| p.len() == 2).and_then(|p| u8::from_str_radix(p, 16).ok())
            });
            let bytes: Option<Vec<u8>> = bytes.collect();
            let bytes = bytes.ok_or_else(|| serde::de::Error::custom("a path's hex digits are malformed"))?;
            Ok(PathBuf::from(OsString::from_vec(bytes)))
        }
    }
}

/// A path that serialises as this module says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawPath(#[serde(with = "self")] pub PathBuf);

impl AsRef<Path> for RawPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_path_survives_json() {
        for bytes in [&b"/plain/path"[..], b"/new\nline", b"/not\xffutf8", b"/quote\"s"] {
            let path = RawPath(PathBuf::from(OsString::from_vec(bytes.to_vec())));
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<RawPath>(&json).unwrap(), path, "{json}");
        }
        assert!(serde_json::from_str::<RawPath>("{\"hex\":\"zz\"}").is_err());
        assert!(serde_json::from_str::<RawPath>("{\"hex\":\"abc\"}").is_err());
    }
}
