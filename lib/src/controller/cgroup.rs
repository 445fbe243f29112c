//! The control group of a unit or a container: the set of processes that no daemon can leave by forking.
//!
//! Layouts: pure v2 (`/sys/fs/cgroup`), hybrid (v1 hierarchy `name=systemd` beside an empty v2 one at
//! `/sys/fs/cgroup/unified`), and v1 alone. The same relative path holds in each; what /proc/self/mountinfo shows
//! decides, and the processes are the union over all of them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::world::ProcessId;

/// Nested groups are bounded, so that a service that creates them endlessly can't hold us.
const GROUPS_MAX: usize = 4096;

/// Where the hierarchies that systemd keeps its units in are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    mounts: Vec<Mount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// The group that the mount point shows; `/` unless a part of the tree is mounted.
    root: String,
    unified: bool,
}

impl Hierarchies {
    /// Those that this process sees.
    pub(crate) fn visible() -> std::io::Result<Self> {
        let found = Self::parse(&std::fs::read_to_string("/proc/self/mountinfo")?);
        if found.mounts.is_empty() {
            // An empty answer would pass for a service without processes.
            return Err(std::io::Error::other("no control group hierarchy of systemd is mounted here"));
        }
        Ok(found)
    }

    /// From the text of mountinfo (proc_pid_mountinfo(5)).
    fn parse(mountinfo: &str) -> Self {
        let mut mounts: Vec<Mount> = Vec::new();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else {
                continue;
            };
            let mount: Vec<&str> = mount.split(' ').collect();
            let filesystem: Vec<&str> = filesystem.split(' ').collect();
            let (Some(root), Some(point), Some(kind)) = (mount.get(3), mount.get(4), filesystem.first()) else {
                continue;
            };
            let unified = *kind == "cgroup2";
            let named = *kind == "cgroup"
                && filesystem.last().is_some_and(|options| options.split(',').any(|option| option == "name=systemd"));
            if unified || named {
                let point = PathBuf::from(unescaped(point));
                // A later mount on the same point hides the earlier one.
                mounts.retain(|known| known.point != point);
                mounts.push(Mount { point, root: unescaped(root), unified });
            }
        }
        Self { mounts }
    }

    /// The directories of a group that exist now, the unified one first.
    pub(crate) fn directories(&self, group: &str) -> Vec<PathBuf> {
        let mut found: Vec<(bool, PathBuf)> = self
            .mounts
            .iter()
            .filter_map(|mount| {
                let below = if mount.root == "/" { group } else { group.strip_prefix(mount.root.as_str())? };
                let directory = mount.point.join(below.trim_start_matches('/'));
                directory.is_dir().then_some((!mount.unified, directory))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, directory)| directory).collect()
    }
}

/// The group that a process is in, as systemd and container engines know it: of the unified hierarchy, else of
/// systemd's own. `None` for a process that is gone.
pub(crate) fn group_of(pid: i32) -> std::io::Result<Option<String>> {
    let text = match std::fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(text) => text,
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(group_in(&text))
}

/// From the text of /proc/PID/cgroup (cgroups(7)): `ID:CONTROLLERS:PATH` a line.
fn group_in(text: &str) -> Option<String> {
    let path_of = |controllers: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next() == Some(controllers)).then(|| fields.next().unwrap_or_default().to_owned())
        })
    };
    // In a hybrid layout the unified hierarchy may show `/` for what systemd's own shows in full.
    let is_root = |path: &String| path == "/";
    path_of("").filter(|path| !is_root(path)).or_else(|| path_of("name=systemd")).filter(|path| !is_root(path))
}

/// mountinfo writes space, tab, newline and backslash as octal escapes.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The processes of the groups at `directories` and of all groups below, without zombies.
pub(crate) fn processes_below(directories: &[PathBuf]) -> std::io::Result<Vec<ProcessId>> {
    let mut pids = BTreeSet::new();
    for directory in directories {
        let mut todo = vec![directory.clone()];
        let mut seen = 0;
        while let Some(group) = todo.pop() {
            seen += 1;
            if seen > GROUPS_MAX {
                return Err(std::io::Error::other(format!(
                    "more than {GROUPS_MAX} control groups below {}",
                    directory.display()
                )));
            }
            pids_of(&group, &mut pids)?;
            todo.extend(groups_in(&group)?);
        }
    }
    let mut processes = Vec::new();
    for pid in pids {
        processes.extend(ProcessId::of(pid)?);
    }
    Ok(processes)
}

fn pids_of(group: &Path, pids: &mut BTreeSet<i32>) -> std::io::Result<()> {
    match std::fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => {
            for pid in text.lines().filter_map(|line| line.parse::<i32>().ok()) {
                // 0 stands for a process of a pid namespace that we don't see: it is there, and can't be named.
                if pid == 0 {
                    return Err(std::io::Error::other(format!(
                        "{} has a process that is not visible from this pid namespace",
                        group.display()
                    )));
                }
                pids.insert(pid);
            }
        }
        Err(error) if is_gone(&error) => {}
        // A threaded group has no list of its own: its threads' processes are in the group above.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn groups_in(group: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_gone(&error) => break,
            Err(error) => return Err(error),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A group can be removed between two looks; a read of a removed one's open file says ENODEV.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Where systemd puts a unit that does not say it itself: below its manager and its slice. systemd forgets the group
/// of a unit that is inactive, even while processes are left in it. Two candidates: a name that the kernel could
/// take for a file of its own is prefixed by `_`.
pub(crate) fn groups_by_name(manager_group: &str, slice: Option<&str>, id: &str) -> Vec<String> {
    let mut parent = manager_group.trim_end_matches('/').to_owned();
    if let Some(stem) = slice.and_then(|slice| slice.strip_suffix(".slice")).filter(|stem| *stem != "-") {
        // a-b.slice lies in a.slice.
        for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            parent.push('/');
            parent.push_str(&stem[..at]);
            parent.push_str(".slice");
        }
    }
    vec![format!("{parent}/{id}"), format!("{parent}/_{id}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_process_is_read_in_every_layout() {
        assert_eq!(group_in("0::/system.slice/docker-1.scope\n").as_deref(), Some("/system.slice/docker-1.scope"));
        assert_eq!(group_in("5:memory:/docker/1\n1:name=systemd:/docker/1\n0::/\n").as_deref(), Some("/docker/1"));
        assert_eq!(group_in("1:name=systemd:/a:b\n").as_deref(), Some("/a:b"));
        assert_eq!(group_in("0::/\n"), None);
        assert_eq!(group_in("nonsense"), None);
    }

    #[test]
    fn a_hybrid_layout_has_both_hierarchies_and_no_controllers() {
        let text = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory";
        let found = Hierarchies::parse(text);
        assert_eq!(
            found.mounts,
            [
                Mount { point: "/sys/fs/cgroup/unified".into(), root: "/".into(), unified: true },
                Mount { point: "/sys/fs/cgroup/systemd".into(), root: "/".into(), unified: false },
            ]
        );
    }

    #[test]
    fn a_group_of_a_mounted_part_is_found_below_it_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("system.slice/a.service")).unwrap();
        let text = format!("31 30 0:27 /docker/x {} rw - cgroup2 cgroup2 rw", dir.path().display());
        let found = Hierarchies::parse(&text);
        assert_eq!(found.directories("/docker/x/system.slice/a.service"), [dir.path().join("system.slice/a.service")]);
        assert!(found.directories("/system.slice/a.service").is_empty());
    }

    #[test]
    fn slices_nest_by_their_dashes() {
        assert_eq!(groups_by_name("/", Some("app-web.slice"), "x.service")[0], "/app.slice/app-web.slice/x.service");
        assert_eq!(groups_by_name("/", Some("-.slice"), "x.service")[0], "/x.service");
        assert_eq!(
            groups_by_name("/user.slice/u.service", Some("app.slice"), "x.service")[0],
            "/user.slice/u.service/app.slice/x.service"
        );
    }
}
