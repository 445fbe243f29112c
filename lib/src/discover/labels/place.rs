//! From a path in a container to the same file on the host.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::controller::docker::Mount;

/// Where `path` of a container is on the host, or why it can't be told.
///
/// Whoever can write in the container could put a symbolic link there that leads out of it on the host, into a backup
/// that others read: a link below the mount is refused. One that is put there later is a race that this can't win;
/// `openat2` guards the opening of databases, and a tree is packed without following links.
pub(super) fn on_host(path: &Path, mounts: &[Mount]) -> Result<PathBuf, String> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("it has `..` in it: write the path without".to_owned());
    }
    let best = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.destination))
        .max_by_key(|mount| mount.destination.components().count());
    let Some(mount) = best else {
        return Err(format!(
            "nothing of the host is mounted there, so it goes with the container: keep it in a volume ({})",
            mounted(mounts)
        ));
    };
    let Some(source) = &mount.source else {
        return Err(format!("{} is a memory file system of the container", mount.destination.display()));
    };
    let below = path.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
    if below.as_os_str().is_empty() {
        return Ok(source.clone());
    }
    let mut found = source.clone();
    for part in below.components() {
        found.push(part);
        // What is no name but a pattern is resolved later, and what is not there yet is no link.
        if std::fs::symlink_metadata(&found).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(format!("{} is a symbolic link in the container: name what it leads to", found.display()));
        }
    }
    Ok(found)
}

fn mounted(mounts: &[Mount]) -> String {
    let mut all: Vec<String> = mounts
        .iter()
        .filter(|mount| mount.source.is_some() && !mount.destination.as_os_str().as_bytes().starts_with(b"/etc/"))
        .map(|mount| mount.destination.display().to_string())
        .collect();
    all.sort_unstable();
    match all.is_empty() {
        true => "it has none".to_owned(),
        false => format!("mounted: {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, source: Option<&Path>) -> Mount {
        Mount { destination: destination.into(), source: source.map(Path::to_owned) }
    }

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = [
            mount("/data", Some(Path::new("/srv/a"))),
            mount("/data/db", Some(Path::new("/var/lib/docker/volumes/db/_data"))),
            mount("/data/tmp", None),
        ];
        let found = |path: &str| on_host(Path::new(path), &mounts);
        assert_eq!(found("/data/x.db").unwrap(), Path::new("/srv/a/x.db"));
        assert_eq!(found("/data/db/x.db").unwrap(), Path::new("/var/lib/docker/volumes/db/_data/x.db"));
        assert_eq!(found("/data").unwrap(), Path::new("/srv/a"));
        assert_eq!(found("/data/*.yaml").unwrap(), Path::new("/srv/a/*.yaml"));
        assert!(found("/data/tmp/x.db").unwrap_err().contains("memory"));
        let elsewhere = found("/database/x.db").unwrap_err();
        assert!(elsewhere.contains("volume") && elsewhere.contains("/data, /data/db"), "{elsewhere}");
        assert!(found("/data/../etc/shadow").unwrap_err().contains(".."));
    }

    #[test]
    fn a_link_that_could_lead_out_of_the_container_is_refused() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("real")).unwrap();
        std::os::unix::fs::symlink("/etc", host.path().join("link")).unwrap();
        let mounts = [mount("/data", Some(host.path()))];
        assert!(on_host(Path::new("/data/real/new.db"), &mounts).is_ok());
        for through in ["/data/link", "/data/link/shadow"] {
            assert!(on_host(Path::new(through), &mounts).unwrap_err().contains("symbolic link"), "{through}");
        }
    }
}
