//! What a new file gets of the one whose place it takes: owner, mode and extended attributes.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Gid, Uid, XattrFlags, fchown, fgetxattr, flistxattr, fsetxattr};

use super::error::SqliteError;
use crate::world::disk::AtPath;

/// Gives the staged file what the service needs to open it as it opened the old one.
pub(super) fn carry_over(target: &Path, staged: &File, staged_path: &Path) -> Result<(), SqliteError> {
    let old = File::open(target).at("open", target)?;
    let want = old.metadata().at("look at", target)?;
    let have = staged.metadata().at("look at", staged_path)?;
    if (want.uid(), want.gid()) != (have.uid(), have.gid()) {
        let (uid, gid) = (Uid::from_raw(want.uid()), Gid::from_raw(want.gid()));
        fchown(staged, Some(uid), Some(gid)).at("give to its owner", staged_path)?;
    }
    // After the owner: a change of owner clears bits. Before the attributes: an ACL holds the mode's group bits.
    staged.set_permissions(Permissions::from_mode(want.mode() & 0o7777)).at("set the mode of", staged_path)?;
    for name in attributes(&old).at("list the attributes of", target)? {
        let Some(value) = attribute(&old, &name).at("read an attribute of", target)? else {
            continue;
        };
        if attribute(staged, &name).ok().flatten().as_ref() != Some(&value) {
            fsetxattr(staged, &name, &value, XattrFlags::empty()).at("set an attribute of", staged_path)?;
        }
    }
    Ok(())
}

fn attributes(file: &File) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 65_536];
    match flistxattr(file, &mut names) {
        Ok(len) => names.truncate(len),
        Err(rustix::io::Errno::OPNOTSUPP) => names.clear(),
        Err(error) => return Err(error.into()),
    }
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn attribute(file: &File, name: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 65_536];
    match fgetxattr(file, name, &mut value) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
