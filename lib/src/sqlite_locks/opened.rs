//! Which processes have which databases open, from /proc/PID (proc(5)): the descriptors of all threads, since one may
//! have a table of its own, and outlive the main one; and what is mapped and shared, which needs no descriptor any more.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::descriptor::{Access, LockFile};
use super::filesystem::side_file;
use crate::world::ProcessId;
use crate::world::disk::FileId;
use crate::world::process::is_gone;

/// A database that a process has open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenDatabase {
    /// Where we reach it: the process's own path, or that path below `/proc/PID/root` where ours leads elsewhere.
    pub path: PathBuf,
    /// Which file it is.
    pub id: FileId,
}

/// A process that has a database or one of its side files open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub process: ProcessId,
    /// The file, by the path that the process knows.
    pub path: PathBuf,
    /// Which file it is.
    pub id: FileId,
}

const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The processes other than ours that have `database`, its `-wal`, `-shm` or `-journal` open.
///
/// Processes that we may not look into are not found: run as root, or judge locks as well.
///
/// # Errors
/// When /proc can't be listed.
pub fn openers(database: &Path) -> std::io::Result<Vec<Opener>> {
    Ok(openers_of(&[database])?.into_iter().map(|(_, opener)| opener).collect())
}

/// The same for several databases, with one look at /proc. Each opener comes with the index of its database.
///
/// # Errors
/// When /proc can't be listed.
pub fn openers_of<P: AsRef<Path>>(databases: &[P]) -> std::io::Result<Vec<(usize, Opener)>> {
    let mut wanted = BTreeMap::new();
    for (index, database) in databases.iter().enumerate() {
        let database = database.as_ref();
        for path in std::iter::once(database.to_owned()).chain(SIDE_FILES.map(|suffix| side_file(database, suffix))) {
            if let Ok(metadata) = std::fs::metadata(&path) {
                wanted.insert(FileId { device: metadata.dev(), inode: metadata.ino() }, index);
            }
        }
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    for item in std::fs::read_dir("/proc")? {
        let Some(pid) = item?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let mut seen = BTreeSet::new();
        each_file(pid, |named, metadata| {
            let id = FileId { device: metadata.dev(), inode: metadata.ino() };
            if let Some(index) = wanted.get(&id)
                && let Some(path) = named.path()
            {
                seen.insert((*index, path, id));
            }
        })?;
        if seen.is_empty() {
            continue;
        }
        // One that ended meanwhile has nothing open any more.
        if let Some(process) = ProcessId::of(pid)? {
            let opener = |(index, path, id)| (index, Opener { process: process.clone(), path, id });
            found.extend(seen.into_iter().map(opener));
        }
    }
    Ok(found)
}

/// The databases that these processes have open: files that begin as a SQLite database does, and those whose
/// `-wal` or `-journal` is open.
///
/// # Errors
/// When a process that is alive can't be looked into: what it has open is unknown then.
pub fn databases_open_in(processes: &[ProcessId]) -> std::io::Result<Vec<OpenDatabase>> {
    let mut found = BTreeMap::new();
    for process in processes {
        if let Err(error) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)) {
            if !is_gone(&error) || process.is_alive()? {
                let text = format!("can't see what process {} has open: {error}", process.pid);
                return Err(std::io::Error::new(error.kind(), text));
            }
            continue;
        }
        each_file(process.pid, |named, metadata| {
            let Some(path) = named.path() else { return };
            let bytes = path.as_os_str().as_bytes();
            let side = ["-wal", "-journal"].iter().find_map(|suffix| bytes.strip_suffix(suffix.as_bytes()));
            let (path, side) = match side {
                Some(stem) => (PathBuf::from(std::ffi::OsString::from_vec(stem.to_vec())), true),
                None => (path, false),
            };
            let (reachable, id) = match reach(process.pid, &path, side, metadata) {
                Some(reached) => reached,
                None => return,
            };
            if !found.contains_key(&id) && begins_as_sqlite(&reachable) {
                found.insert(id, reachable);
            }
        })?;
    }
    let mut databases: Vec<_> = found.into_iter().map(|(id, path)| OpenDatabase { path, id }).collect();
    databases.sort();
    Ok(databases)
}

/// The path by which we reach the database that the process knows as `path`, and its identity.
fn reach(pid: i32, path: &Path, side: bool, metadata: &std::fs::Metadata) -> Option<(PathBuf, FileId)> {
    let below_root = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path));
    // What the process sees under this name decides which of the two paths means the same file to us.
    let theirs =
        if side { FileId::of(&below_root).ok()? } else { FileId { device: metadata.dev(), inode: metadata.ino() } };
    [path.to_owned(), below_root].into_iter().find(|p| FileId::of(p).is_ok_and(|id| id == theirs)).map(|p| (p, theirs))
}

fn begins_as_sqlite(path: &Path) -> bool {
    // A database that this very process has open is not opened a second time; it is one by that fact.
    let file = match LockFile::open(path, Access::Read) {
        Ok(file) => file,
        Err(super::LocksError::OwnProcess { .. }) => return !is_standard_stream(path),
        Err(_) => return false,
    };
    let mut magic = [0; 16];
    let mut reader = file.file();
    reader.read_exact(&mut magic).is_ok() && &magic == b"SQLite format 3\0"
}

/// A log that we write to as the service does is no database: SQLite uses no descriptor below 3.
fn is_standard_stream(path: &Path) -> bool {
    let Ok(id) = FileId::of(path) else { return false };
    (0..=2).any(|fd| FileId::of(Path::new(&format!("/proc/self/fd/{fd}"))).is_ok_and(|stream| stream == id))
}

/// Where the path is found by which a process knows a file.
enum Named<'a> {
    /// A link of /proc/PID/task/TID/fd.
    Link(&'a Path),
    /// The text of /proc/PID/maps.
    Text(&'a Path),
}

impl Named<'_> {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Link(link) => std::fs::read_link(link).ok(),
            Self::Text(path) => Some((*path).to_owned()),
        }
    }
}

/// Calls `each` with every regular file that the process has open or mapped for sharing, as often as it has. One that is
/// gone, or that we may not look into, has none that we could see.
fn each_file(pid: i32, mut each: impl FnMut(&Named<'_>, &std::fs::Metadata)) -> std::io::Result<()> {
    let base = PathBuf::from(format!("/proc/{pid}"));
    for task in listed(&base.join("task"))? {
        for link in listed(&task.join("fd"))? {
            if let Ok(metadata) = std::fs::metadata(&link)
                && metadata.is_file()
            {
                each(&Named::Link(&link), &metadata);
            }
        }
    }
    let maps = match std::fs::read(base.join("maps")) {
        Err(error) if is_unseen(&error) => return Ok(()),
        other => other?,
    };
    for (range, inode, path) in maps.split(|byte| *byte == b'\n').filter_map(shared_mapping) {
        // The link tells of the file itself, also where a name is gone or leads elsewhere, but to root alone.
        let link = base.join("map_files").join(range);
        if let Ok(metadata) = std::fs::metadata(&link) {
            if metadata.is_file() {
                each(&Named::Link(&link), &metadata);
            }
            continue;
        }
        let below_root = base.join("root").join(path.strip_prefix("/").unwrap_or(path));
        if let Ok(metadata) = std::fs::metadata(below_root)
            && metadata.is_file()
            && metadata.ino() == inode
        {
            each(&Named::Text(path), &metadata);
        }
    }
    Ok(())
}

fn is_unseen(error: &std::io::Error) -> bool {
    is_gone(error) || error.kind() == std::io::ErrorKind::PermissionDenied
}

fn listed(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let read = || std::fs::read_dir(directory)?.map(|item| Ok(item?.path())).collect::<std::io::Result<_>>();
    match read() {
        Err(error) if is_unseen(&error) => Ok(Vec::new()),
        other => other,
    }
}

/// A line of /proc/PID/maps that has a file, of which others see what is written: its range, its inode, its path.
fn shared_mapping(line: &[u8]) -> Option<(&str, u64, &Path)> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let range = std::str::from_utf8(words.next()?).ok()?;
    let is_shared = words.next()?.get(3) == Some(&b's');
    let (_offset, _device) = (words.next()?, words.next()?);
    let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok().filter(|inode| *inode != 0)?;
    let path = Path::new(OsStr::from_bytes(words.next()?.trim_ascii_start()));
    (is_shared && path.is_absolute()).then_some((range, inode, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_mappings_those_count_of_which_others_see_what_is_written() {
        let shared = |line: &'static str| shared_mapping(line.as_bytes());
        let line = "7f00-7f10 rw-s 00000000 fe:01 42                         /srv/a b.db";
        assert_eq!(shared(line), Some(("7f00-7f10", 42, Path::new("/srv/a b.db"))));
        for other in [
            "7f00-7f10 rw-p 00000000 fe:01 42                         /srv/a.db",
            "7f00-7f10 rw-s 00000000 00:00 0 ",
            "7f00-7f10 rw-s 00000000 00:05 7                          anon_inode:[io_uring]",
            "7f00-7f10 rw-s 00000000 fe:01 x /srv/a.db",
            "7f00-7f10 rw-s",
            "",
        ] {
            assert_eq!(shared(other), None, "{other}");
        }
    }
}
