//! What `svc-repair` keeps of an original, which one an undo takes, and what stands in the way of both.

// Helpers of tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rusqlite::Connection;
use rustix::fs::{FileType, Mode};
use serde_json::Value;
use support::Place;

/// A database, damaged so that a repair loses rows; `first` makes it another one.
fn damaged(place: &Place, name: &str, first: i64) -> PathBuf {
    let path = place.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size=1024; CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);
             WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first} + 999)
             INSERT INTO notes SELECT i, 'some words of note ' || i FROM n;"
        ))
        .unwrap();
    connection.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9 * 1024..12 * 1024].fill(0);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn repaired(place: &Place, path: &str, accept: bool) {
    let accept = if accept { &["--accept-loss"][..] } else { &[] };
    let said = place.repair(&[&["repair", path, "--no-service"], accept].concat());
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
}

/// The preserved sets in a directory.
fn sets(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("svckit-preserved-")).collect()
}

#[test]
fn what_only_looks_like_a_preserved_set_is_told_and_waited_for_by_nobody() {
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    let lay = |name: &str| {
        let set = place.path(format!("data/x.db.svckit-preserved-{name}"));
        std::fs::create_dir(&set).unwrap();
        set.join("preserved.json")
    };
    rustix::fs::mknodat(rustix::fs::CWD, lay("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("/dev/zero", lay("link")).unwrap();
    std::fs::write(lay("huge"), vec![b' '; 2 << 20]).unwrap();
    std::fs::write(lay("bad"), "{}").unwrap();
    lay("none");
    let list = place.repair(&["list", "data"]);
    assert!(list.succeeds().contains("nothing that is preserved here can be used"), "{}", list.out);
    let why =
        ["-fifo can't be used: ", "-link can't be used: ", "-huge can't be used: ", "-bad can't be", "-none can't be"];
    list.fails(0, &why);
    list.fails(0, &["it is no plain file", "more than 1048576 bytes"]);
    place.repair(&["undo", "data/x.db", "--no-service"]).fails(12, &["can't be used: its preserved.json"]);
    let original = bytes(&path);
    repaired(&place, "data/x.db", true);
    let undo = place.repair(&["undo", "data/x.db", "--no-service"]);
    assert!(undo.succeeds().contains("-fifo can't be used: "), "{}", undo.out);
    assert_eq!(bytes(&path), original);
}

#[test]
fn a_directory_that_was_moved_has_its_sets_in_the_order_in_which_they_were_made() {
    let place = Place::new();
    damaged(&place, "z/x.db", 1);
    repaired(&place, "z/x.db", true);
    std::fs::rename(place.path("z"), place.path("a")).unwrap();
    std::fs::remove_file(place.path("a/x.db")).unwrap();
    let path = damaged(&place, "a/x.db", 5000);
    let second = bytes(&path);
    repaired(&place, "a/x.db", true);
    place.repair(&["undo", "a/x.db", "--no-service"]).succeeds();
    assert!(bytes(&path) == second);
}

#[test]
fn an_original_that_is_preserved_once_more_is_the_latest_again() {
    let place = Place::new();
    let (path, other) = (damaged(&place, "data/x.db", 1), damaged(&place, "other.db", 5000));
    let first = bytes(&path);
    for content in [&first, &bytes(&other), &first] {
        std::fs::write(&path, content).unwrap();
        repaired(&place, "data/x.db", true);
    }
    assert_eq!(sets(&place.path("data")).len(), 2);
    place.repair(&["undo", "data/x.db", "--no-service"]).succeeds();
    assert!(bytes(&path) == first);
}

#[test]
fn a_repair_that_replaced_nothing_is_not_undone() {
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    repaired(&place, "data/x.db", false);
    let insert = || {
        let connection = Connection::open(&path).unwrap();
        connection.execute("INSERT INTO notes VALUES(9999, 'since')", []).unwrap();
        connection.close().unwrap();
    };
    let original = bytes(&path);
    insert();
    let now = bytes(&path);
    place.repair(&["undo", "data/x.db", "--no-service"]).fails(10, &["no repair replaced anything", "--set"]);
    place.repair(&["undo", "data/x.db", "--no-service", "--dry-run"]).fails(10, &["no repair replaced anything"]);
    assert!(bytes(&path) == now);
    let set = sets(&place.path("data")).remove(0);
    let id = set.to_string_lossy().rsplit_once("preserved-").unwrap().1.to_owned();
    place.repair(&["undo", "data/x.db", "--no-service", "--set", &id]).succeeds();
    assert!(bytes(&path) == original);
    // One that did is undone, and what was written since is told.
    repaired(&place, "data/x.db", true);
    let undo = |more: &[&str]| {
        let said = place.repair(&[&["undo", "data/x.db", "--no-service"], more].concat());
        said.succeeds().contains("was written since that repair")
    };
    assert!(!undo(&["--dry-run"]));
    insert();
    assert!(undo(&["--dry-run"]) && undo(&[]));
    assert!(bytes(&path) == original);
}

/// As a kill between the report and the switch leaves it.
#[test]
fn a_report_of_a_replacement_that_never_came_to_pass_counts_for_nothing() {
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    let original = place.path("original");
    std::fs::hard_link(&path, &original).unwrap();
    place.repair(&["repair", "data/x.db", "--no-service"]).fails(22, &["more than one name (hard links)"]);
    std::fs::rename(&original, place.path("data/y.db")).unwrap();
    std::fs::remove_file(place.path("data/y.db")).unwrap();
    repaired(&place, "data/x.db", true);
    let set = sets(&place.path("data")).remove(0);
    let report = set.join("report.json");
    let mut value: Value = serde_json::from_slice(&bytes(&report)).unwrap();
    assert_eq!(value["placed"]["sequence"], 1);
    let metadata = std::fs::metadata(&path).unwrap();
    value["placed"]["instead_of"] = serde_json::json!({ "device": metadata.dev(), "inode": metadata.ino() });
    std::fs::write(&report, value.to_string()).unwrap();
    std::fs::create_dir(set.join("replaced-x")).unwrap();
    std::fs::copy(set.join("x.db"), set.join("replaced-x/x.db")).unwrap();
    assert!(place.repair(&["list", "data"]).succeeds().trim_end().ends_with('-'));
    place.repair(&["undo", "data/x.db", "--no-service"]).fails(10, &["no repair replaced anything"]);
    // The next repair clears both away.
    place.repair(&["repair", "data/x.db", "--no-service"]).succeeds();
    assert!(!report.exists() && !set.join("replaced-x").exists());
}

#[test]
fn a_set_that_has_changed_is_named_and_the_database_may_be_gone() {
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    let original = bytes(&path);
    repaired(&place, "data/x.db", true);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(place.path("data/x.db-journal"), "of another").unwrap();
    let copy = sets(&place.path("data")).remove(0).join("x.db");
    let mut changed = original.clone();
    changed[5000] ^= 1;
    let undo = || place.repair(&["undo", "data/x.db", "--no-service"]);
    std::fs::write(&copy, changed).unwrap();
    undo().fails(12, &["does not verify", "svckit-preserved-", "/x.db: its SHA-256 is another"]);
    std::fs::remove_file(&copy).unwrap();
    undo().fails(12, &["does not verify", "/x.db: "]);
    std::fs::write(&copy, &original).unwrap();
    let said = undo();
    assert!(said.succeeds().contains("the database was gone; what lay beside it is in "), "{}", said.out);
    assert!(bytes(&path) == original && !place.path("data/x.db-journal").exists());
}

#[test]
fn names_that_can_not_work_are_refused_before_anything_is_done() {
    let place = Place::new();
    for wrong in ["nowhere/x.db", "nowhere", "/etc/passwd"] {
        place.repair(&["list", wrong]).fails(2, &["list what is preserved of "]);
    }
    let long = "x".repeat(220);
    damaged(&place, &format!("data/{long}"), 1);
    let said = place.repair(&["repair", &format!("data/{long}"), "--no-service", "--accept-loss"]);
    said.fails(22, &["its name has 220 bytes"]);
    assert_eq!(std::fs::read_dir(place.path("data")).unwrap().count(), 1);
    assert!(place.repair(&["list", &format!("data/{long}")]).succeeds().contains("nothing is preserved here"));
}

/// Whoever may not look into a process sees its locks: with a connection in WAL mode it has one while it is idle.
#[test]
fn a_connection_of_another_user_is_seen_by_its_locks() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    let connection = Connection::open(&path).unwrap();
    let _mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).unwrap();
    let _row: i64 = connection.query_row("SELECT id FROM notes LIMIT 1", [], |row| row.get(0)).unwrap();
    let (user, before) = (65534, bytes(&path));
    for name in ["", "data", "data/x.db", "data/x.db-wal", "data/x.db-shm"] {
        std::os::unix::fs::chown(place.path(name), Some(user), Some(user)).unwrap();
    }
    // Where nobody else may go: the program is run from a copy.
    let program = place.path("svc-repair");
    std::fs::copy(env!("CARGO_BIN_EXE_svc-repair"), &program).unwrap();
    let output = place
        .command("/usr/bin/setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["repair", "data/x.db", "--no-service", "--accept-loss"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(21), "{told}");
    assert!(told.contains("is locked by process"), "{told}");
    assert!(bytes(&path) == before);
}

/// It holds the database in ways that the descriptors of a main thread do not show, says so, and waits for its input.
const HIDDEN: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static const char *path;
static int own;
static void *wait(void *unused) {
  if (own) { unshare(CLONE_FILES); open(path, O_RDWR); }
  puts("ready"); fflush(stdout);
  char byte;
  _exit(read(0, &byte, 1) != 0);
}
int main(int count, char **words) {
  pthread_t thread;
  path = words[2];
  own = !strcmp(words[1], "own");
  int fd = own ? -1 : open(path, O_RDWR);
  if (!strcmp(words[1], "mapped")) { mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); close(fd); }
  pthread_create(&thread, 0, wait, 0);
  if (!strcmp(words[1], "thread")) pthread_exit(0);
  pthread_join(thread, 0);
}
"#;

#[test]
fn who_has_a_database_mapped_or_open_in_another_thread_is_found() {
    let place = Place::new();
    let path = damaged(&place, "data/x.db", 1);
    let (source, program) = (place.path("hidden.c"), place.path("hidden"));
    std::fs::write(&source, HIDDEN).unwrap();
    let built = std::process::Command::new("cc").arg("-o").arg(&program).arg(&source).arg("-pthread").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for how in ["mapped", "thread", "own"] {
        let mut command = std::process::Command::new(&program);
        let mut child = command.arg(how).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{how}");
        let said = place.repair(&["repair", "data/x.db", "--no-service", "--accept-loss"]);
        child.stdin.take().unwrap().write_all(b"x").unwrap();
        child.wait().unwrap();
        said.fails(21, &[&format!("process {} has ", child.id()), "data/x.db open"]);
    }
    repaired(&place, "data/x.db", true);
}
