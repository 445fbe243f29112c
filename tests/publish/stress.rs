//! Readers and a publisher at the same time.

use std::path::Path;
use std::time::Duration;

use svckit_testbed::command::{Running, run};
use tempfile::TempDir;

use crate::publishers::{Published, UPDATE_MAX, naive, real, state, update};
use crate::readers::{How, Seen, reader};

/// Readers at once.
const READERS: u64 = 3;
/// How long a story reads, unless it is thorough.
const TIME: Duration = Duration::from_millis(2500);
/// The time of a control: it fails within moments.
const CONTROL_TIME: Duration = Duration::from_millis(1500);
/// Sets that a thorough story reads.
const THOROUGH_READS: u64 = 1_000_000;
/// A reader ends by then.
const READERS_MAX: Duration = Duration::from_secs(330);

fn thorough_reads() -> u64 {
    let is_thorough = std::env::var("SVCKIT_THOROUGH").is_ok_and(|value| value == "1");
    if is_thorough { THOROUGH_READS / READERS + 1 } else { 0 }
}

/// In memory where that is possible: there a publisher publishes most.
pub(crate) fn scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("svckit-publish-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}

fn readers(how: How, root: &Path, reads: u64, time: Duration) -> Vec<Running> {
    (0..READERS).map(|_| reader(how, &root.join("tree"), reads, time)).collect()
}

fn finish(readers: Vec<Running>) -> Seen {
    let mut all = Seen::default();
    for reader in readers {
        all.add(serde_json::from_value(reader.finish(READERS_MAX).expect(0).json()).unwrap());
    }
    all
}

fn tell(name: &str, seen: Seen, published: Option<Published>) {
    let Seen { reads, mixed, missing, changes } = seen;
    let published = published.map_or_else(String::new, |p| format!(", {} updates, {} killed", p.updates, p.killed));
    let text = format!("{name}: {reads} reads, {mixed} mixed, {missing} missing, {changes} changes seen{published}\n");
    let _nobody_reads = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

fn published(name: &str, how: How, keep: &[&str], kill: bool, reads: u64) -> Seen {
    let directory = scratch();
    let root = directory.path();
    state(&root.join("source"), 1);
    run(update(root, keep), UPDATE_MAX).expect(0);
    let readers = readers(how, root, reads, TIME);
    let pids: Vec<i32> = readers.iter().map(Running::pid).collect();
    let published = real(root, keep, kill, &pids);
    let seen = finish(readers);
    tell(name, seen, Some(published));
    // Enough happened that it means something.
    assert!(published.updates >= 5 && seen.changes > READERS, "{published:?} {seen:?}");
    assert!(!kill || published.killed > 0, "{published:?}");
    seen
}

/// Everything that nobody reads is removed at once.
const KEEP_NOTHING: [&str; 4] = ["--keep", "1", "--grace", "0s"];

pub(crate) fn leased() {
    let seen = published("leased", How::Leased, &KEEP_NOTHING, true, thorough_reads());
    assert_eq!((seen.mixed, seen.missing), (0, 0), "{seen:?}");
}

pub(crate) fn pinned() {
    let seen = published("pinned", How::Pinned, &["--keep", "1", "--grace", "1h"], true, 0);
    assert_eq!((seen.mixed, seen.missing), (0, 0), "{seen:?}");
}

pub(crate) fn two_looks() {
    let seen = published("control: by path", How::ByPath, &["--keep", "1", "--grace", "1h"], false, 0);
    assert!(seen.mixed > 0, "{seen:?}");
}

fn control(name: &str, how: How, publisher: &str) {
    let directory = scratch();
    let root = directory.path();
    let names: &[&str] = if publisher == "in-place" { &["current"] } else { &["production", "staging"] };
    for name in names {
        state(&root.join("tree").join(name), 1);
    }
    if publisher != "in-place" {
        std::os::unix::fs::symlink("production", root.join("tree/current")).unwrap();
    }
    let publisher = naive(publisher, root, CONTROL_TIME);
    let seen = finish(readers(how, root, 0, CONTROL_TIME));
    publisher.finish(UPDATE_MAX).expect(0);
    tell(name, seen, None);
    assert!(seen.mixed > 0, "{seen:?}");
}

pub(crate) fn in_place() {
    control("control: in place", How::ByPath, "in-place");
}

/// Even readers who pin the directory.
pub(crate) fn in_turns() {
    control("control: in turns", How::Pinned, "in-turns");
}
