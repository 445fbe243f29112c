//! How a running process was started, read from /proc (proc(5): cmdline, environ, cwd, status), so that the same can
//! be started again.
//!
//! Not captured: resource limits, the class of its input and output (ionice), open descriptors. A service that depends on them needs its command told,
//! or better a unit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::launch::why_not_handed_on;
use super::shown::{argv_of, words};
use crate::controller::CommandLine;
use crate::world::ProcessId;
use crate::world::disk::FileId;
use crate::world::raw_path::RawPath;

/// The kernel's mark on the name of an executable that was replaced or removed.
const DELETED: &[u8] = b" (deleted)";
/// Where a program is looked for when the process has no PATH.
const USUAL_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command line of a live process.
pub(super) fn capture(process: &ProcessId) -> std::io::Result<CommandLine> {
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    let mut argv = argv_of(process)?;
    let directory = std::fs::read_link(base.join("cwd"))?;
    let environment = words(&std::fs::read(base.join("environ"))?);
    let status = std::fs::read(base.join("status"))?;
    let status = String::from_utf8_lossy(&status);
    let Some(first) = argv.first_mut() else {
        return Err(std::io::Error::other("it shows no command line: name the command that starts it"));
    };
    let link = std::fs::read_link(base.join("exe"))?;
    let running = FileId::of(&base.join("exe")).ok();
    let found = program(&first.0, &link, running, &directory, &environment);
    first.0 = found.ok_or_else(|| not_its_program(&first.0, &link))?;
    if let Some(reason) = why_not_handed_on(&environment) {
        return Err(std::io::Error::other(reason));
    }
    if !process.is_alive()? {
        return Err(std::io::Error::other("it ended while it was looked at"));
    }
    Ok(CommandLine {
        argv,
        directory: Some(RawPath(directory)),
        environment: Some(environment),
        credentials: credentials(&status),
        umask: umask_in(&status),
        nice: nice_of(process),
    })
}

/// A service that runs is started again with what it has: a job with a narrow umask and a low priority must not start
/// services that keep both.
pub(super) fn complete(command: &mut CommandLine, process: &ProcessId) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    command.umask = umask_in(&status).or(command.umask);
    command.nice = nice_of(process).or(command.nice);
}

fn nice_of(process: &ProcessId) -> Option<i32> {
    let pid = rustix::process::Pid::from_raw(process.pid)?;
    rustix::process::getpriority_process(Some(pid)).ok()
}

fn umask_in(status: &str) -> Option<u32> {
    u32::from_str_radix(field(status, "Umask:")?, 8).ok()
}

fn not_its_program(first: &Path, executable: &Path) -> std::io::Error {
    std::io::Error::other(format!(
        "it shows {:?} as its command line, which does not lead to its program {}: name the command that starts it",
        first.to_string_lossy().chars().take(60).collect::<String>(),
        executable.display()
    ))
}

/// The path that starts the program again. The word that it was started with is kept where it leads to the program, or
/// is a path to one: the interpreter of a virtual environment is a link whose name matters, also after an upgrade.
/// Otherwise it is the program's own path, unless the word is something else entirely, as daemons write over their
/// command lines.
fn program(
    word: &Path,
    link: &Path,
    running: Option<FileId>,
    directory: &Path,
    environment: &[RawPath],
) -> Option<PathBuf> {
    // Replaced by a newer one while it ran: that one is at the same place.
    let link = match link.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(original) if !link.exists() => PathBuf::from(OsStr::from_bytes(original)),
        _ => link.to_owned(),
    };
    let places: Vec<PathBuf> = if word.as_os_str().as_bytes().contains(&b'/') {
        vec![directory.join(word)]
    } else {
        let path = environment.iter().find_map(|variable| variable.0.as_os_str().as_bytes().strip_prefix(b"PATH="));
        let path = path.unwrap_or(USUAL_PATH).split(|byte| *byte == b':');
        path.map(|place| directory.join(OsStr::from_bytes(place)).join(word)).collect()
    };
    let leads = |place: &Path| {
        let same_file = running.is_some() && FileId::of(place).ok() == running;
        same_file || std::fs::canonicalize(place).is_ok_and(|real| real == link)
    };
    let is_path = word.as_os_str().as_bytes().contains(&b'/');
    let is_own_name = word.file_name().is_some() && word.file_name() == link.file_name();
    places
        .iter()
        .find(|place| leads(place))
        .or_else(|| places.iter().find(|place| (is_path || !link.exists()) && is_executable(place)))
        .cloned()
        .or_else(|| (is_own_name && link.exists()).then_some(link))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Why a service with this main process could not be started again from here as it runs now: what we start inherits
/// our namespaces and our restrictions.
pub(super) fn why_not_from_here(process: &ProcessId) -> Option<String> {
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    let own = Path::new("/proc/self");
    for (kind, name) in [("mnt", "mount"), ("pid", "process"), ("net", "network")] {
        let of = |base: &Path| std::fs::read_link(base.join("ns").join(kind)).ok();
        if of(&base).zip(of(own)).is_some_and(|(theirs, ours)| theirs != ours) {
            return Some(format!("it runs in another {name} namespace than this program (a container, a sandbox)"));
        }
    }
    let root = |base: &Path| FileId::of(&base.join("root")).ok();
    if root(&base).zip(root(own)).is_some_and(|(theirs, ours)| theirs != ours) {
        return Some("it has another root directory than this program (chroot)".to_owned());
    }
    let status = |base: &Path| std::fs::read_to_string(base.join("status")).ok();
    let (theirs, ours) = status(&base).zip(status(own))?;
    restriction(&theirs, &ours)
        .map(|what| format!("this program runs under a restriction that it does not have: {what}"))
}

/// What `ours` is denied and `theirs` is not, by the lines of two /proc/PID/status.
fn restriction(theirs: &str, ours: &str) -> Option<&'static str> {
    let number = |status: &str, name: &str, radix| u64::from_str_radix(field(status, name)?, radix).ok();
    let more = |name: &str| Some(number(ours, name, 10)? > number(theirs, name, 10)?);
    if more("NoNewPrivs:") == Some(true) {
        return Some("NoNewPrivileges");
    }
    if more("Seccomp:") == Some(true) {
        return Some("a filter of system calls");
    }
    let (ours, theirs) = number(ours, "CapBnd:", 16).zip(number(theirs, "CapBnd:", 16))?;
    (theirs & !ours != 0).then_some("a smaller set of capabilities")
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Effective user and group and the supplementary groups, of the lines `Uid:`, `Gid:` and `Groups:`.
fn credentials(status: &str) -> Option<(u32, u32, Vec<u32>)> {
    let effective = |name: &str| field(status, name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = field(status, "Groups:")?.split_whitespace().filter_map(|group| group.parse().ok()).collect();
    Some((effective("Uid:")?, effective("Gid:")?, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUmask:\t0027\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11\n\
                          CapBnd:\t00000000000000ff\nNoNewPrivs:\t0\nSeccomp:\t0\n";

    #[test]
    fn credentials_are_the_effective_ones() {
        assert_eq!(credentials(STATUS), Some((2, 6, vec![10, 11])));
        assert_eq!(credentials("Uid:\tx\n"), None);
    }

    #[test]
    fn a_restriction_of_ours_is_one_that_the_service_does_not_share() {
        assert_eq!(restriction(STATUS, STATUS), None);
        for (from, to) in [("NoNewPrivs:\t0", "NoNewPrivs:\t1"), ("Seccomp:\t0", "Seccomp:\t2"), ("00ff", "00f7")] {
            let stricter = STATUS.replace(from, to);
            assert!(restriction(STATUS, &stricter).is_some(), "{to}");
            assert_eq!(restriction(&stricter, STATUS), None, "{to}");
        }
    }

    #[test]
    fn the_word_is_kept_where_it_leads_to_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::write(&real, b"").unwrap();
        let link = real.with_file_name("linked");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let id = FileId::of(&real).ok();
        let parent = real.parent().unwrap();
        let path = [RawPath(PathBuf::from(format!("PATH=/nowhere:{}", parent.display())))];
        let found = |word: &str, exe: &Path| program(Path::new(word), exe, id, parent, &path);
        assert_eq!(found("linked", &real), Some(link.clone()));
        assert_eq!(found("./linked", &real), Some(parent.join("./linked")));
        assert_eq!(found(link.to_str().unwrap(), &real), Some(link));
        assert_eq!(found("/gone/real", &real), Some(real.clone()));
        assert_eq!(found("app: master process", &real), None);
        let mut deleted = real.clone().into_os_string();
        deleted.push(" (deleted)");
        assert_eq!(program(&real, Path::new(&deleted), None, parent, &path), Some(real));
    }
}
