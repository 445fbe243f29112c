//! What svckit may not leave on a service once it is done: drop-ins, holds, journal entries.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

const UNIT_ROOTS: [&str; 4] =
    ["/run/systemd/system", "/etc/systemd/system", "/run/systemd/transient", "/run/user/0/systemd/user"];
const STATE_ROOTS: [&str; 2] = ["/run/svckit", "/var/lib/svckit"];

/// The records of targets and runs.
const KEPT: [&str; 2] = ["/var/lib/svckit/targets", "/var/lib/svckit/runs"];

/// Everything of svckit's that is on the unit or speaks of it, as text. Lock files stay by design, and say nothing:
/// the lock is the kernel's; so do the records and logs of commands, which say who runs them.
#[must_use]
pub fn leftovers(unit: &str) -> Vec<String> {
    let mut found: Vec<PathBuf> = Vec::new();
    for root in UNIT_ROOTS {
        let drop_ins = files(&Path::new(root).join(format!("{unit}.d")));
        found.extend(drop_ins.into_iter().filter(|file| file.to_string_lossy().contains("svckit")));
    }
    for root in STATE_ROOTS {
        found.extend(files(Path::new(root)).into_iter().filter(|file| mentions(file, unit)));
    }
    // What became of targets and runs is kept, and holds nothing.
    found.retain(|file| !KEPT.iter().any(|root| file.starts_with(root)));
    found
        .iter()
        .map(|path| format!("{}: {}", path.display(), std::fs::read_to_string(path).unwrap_or_default()))
        .collect()
}

/// Waits until nothing is left; woken by each change in the directories where it could be.
///
/// # Panics
/// When something is left after `wait_max`.
#[track_caller]
pub fn wait_until_clean(unit: &str, wait_max: Duration) {
    let until = Instant::now() + wait_max;
    loop {
        // Anew each time: directories come and go. Watched before it is looked, so that no change is missed.
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
        let changes = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVED_FROM;
        for directory in directories(unit) {
            // One that is not there holds nothing that could be left.
            let _absent = inotify.add_watch(&directory, changes);
        }
        let left = leftovers(unit);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left on {unit} after {wait_max:?}: {left:#?}");
        svckit::world::wait::readable(&[inotify.as_fd()], until).unwrap();
    }
}

fn directories(unit: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = UNIT_ROOTS.iter().map(|root| Path::new(root).join(format!("{unit}.d"))).collect();
    let mut todo: Vec<PathBuf> = STATE_ROOTS.iter().map(PathBuf::from).collect();
    while let Some(directory) = todo.pop() {
        todo.extend(entries(&directory).into_iter().filter(|path| path.is_dir()));
        found.push(directory);
    }
    found
}

fn mentions(file: &Path, unit: &str) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().contains(unit))
        || std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(unit))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for path in entries(&directory) {
            match path.is_dir() {
                true if path.ends_with("lock") || path.ends_with("commands") => {}
                true => todo.push(path),
                false => found.push(path),
            }
        }
    }
    found
}
