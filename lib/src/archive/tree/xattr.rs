//! Extended attributes in PAX headers.
//!
//! `SCHILY.xattr.NAME` has the value as it is, and GNU tar, star and bsdtar read it. The parser of the crate `tar` takes
//! a header apart at each newline, whatever the lengths say: a value with a newline in it would be lost, or could pose
//! as a `path` or a `size`. Such a value is written as bsdtar writes it: `LIBARCHIVE.xattr.NAME`, in base 64 without
//! padding. GNU tar passes over those few.

use std::fs::File;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, lsetxattr};
use rustix::io::Errno;
use tar::PaxExtensions;

use crate::progress::Observer;
use crate::world::disk::{AtPath, DiskError};

const PLAIN: &str = "SCHILY.xattr.";
const ENCODED: &str = "LIBARCHIVE.xattr.";
/// The kernel's bound on a list of names and on a value, in bytes (xattr(7)).
const LEN_MAX: usize = 64 << 10;

/// Names and values.
pub(super) type Attributes = Vec<(String, Vec<u8>)>;

/// The attributes of an open file as PAX records, and whether some were left out for names that no record can have.
pub(super) fn records(file: &File, path: &Path) -> Result<(Attributes, bool), DiskError> {
    let (mut records, mut left_out) = (Vec::new(), false);
    let mut list = vec![0u8; LEN_MAX];
    let length = match flistxattr(file, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other.at("list the attributes of", path)?,
    };
    for name in list[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Some(name) = std::str::from_utf8(name).ok().filter(|n| !n.contains(['\n', '=', '%'])) else {
            left_out = true;
            continue;
        };
        let mut value = vec![0u8; LEN_MAX];
        let length = match fgetxattr(file, name, &mut value[..]) {
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            other => other.at("read an attribute of", path)?,
        };
        value.truncate(length);
        records.push(if value.contains(&b'\n') {
            (format!("{ENCODED}{name}"), STANDARD_NO_PAD.encode(value).into_bytes())
        } else {
            (format!("{PLAIN}{name}"), value)
        });
    }
    Ok((records, left_out))
}

/// The attributes that an entry's records carry.
pub(super) fn parse(extensions: PaxExtensions<'_>) -> std::io::Result<Attributes> {
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix(PLAIN) {
            found.push((name.to_owned(), extension.value_bytes().to_owned()));
        } else if let Some(name) = key.strip_prefix(ENCODED) {
            let value = STANDARD_NO_PAD.decode(extension.value_bytes()).map_err(std::io::Error::other)?;
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

/// Sets them. To be done after the owner is set, which clears capabilities.
pub(super) fn set(path: &Path, attributes: &Attributes, observer: &dyn Observer) -> Result<(), DiskError> {
    for (name, value) in attributes {
        match lsetxattr(path, name.as_str(), value, XattrFlags::empty()) {
            // `security.*` and `trusted.*` are the super-user's; some file systems have none at all.
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                observer.notice(&format!("{path:?}: the attribute {name} can't be set here"));
            }
            other => other.at("set an attribute of", path)?,
        }
    }
    Ok(())
}
