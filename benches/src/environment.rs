//! What the figures depend on, without a date: who measures again sees what differs.

use std::path::Path;

use crate::tools;

/// A line per fact.
pub(crate) fn facts(dir: &Path) -> Vec<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel: Vec<&str> = release.split('.').take(2).collect();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    vec![
        format!("{cores} cores, Linux {}", kernel.join(".")),
        format!("data on {}", file_system(dir)),
        format!("SQLite {} in svckit, {} as sqlite3", rusqlite::version(), tools::first_word("sqlite3", "--version")),
        format!("zstd {}", tools::zstd_version()),
    ]
}

/// The type of the file system and the kind of device below it, from the longest mount point above `dir`.
fn file_system(dir: &Path) -> String {
    let real = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, "an unknown file system".to_owned());
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if real.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), format!("{kind} ({})", device.rsplit('/').next().unwrap_or(device)));
        }
    }
    best.1
}
