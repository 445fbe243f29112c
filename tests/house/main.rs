//! The rules of the house, read from the source text. Each rule has a control: a planted violation must be found.

#![allow(clippy::expect_used, reason = "a rule that can't be checked is broken")]

mod defects;
mod rules;
mod source;

use std::path::{Path, PathBuf};

use source::Tree;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Holds in the repository, and finds what is planted in a copy of one file.
fn check(rule: fn(&Tree) -> Vec<String>, plant: &str, text: &str) {
    let tree = Tree::read(&root());
    assert!(tree.files.len() > 20, "the repository's sources were not found below {}", root().display());
    let found = rule(&tree);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let found = rule(&tree.with(plant, text));
    assert!(found.iter().any(|f| f.contains(plant)), "planted in {plant}, not found: {text}\n{found:?}");
}

#[test]
fn a_module_imports_only_lower_levels() {
    check(rules::module_order, "lib/src/lock/planted.rs", "use crate::journal::Entry;\n");
    check(rules::module_order, "lib/src/archive/planted.rs", "use crate::{failure::Failure, database::sqlite};\n");
    check(rules::module_order, "lib/src/world/planted.rs", "fn f() { crate::lock::prove(); }\n");
    check(rules::module_order, "lib/src/unlisted/mod.rs", "\n");
}

#[test]
fn sigkill_is_sent_by_the_fenced_kill_only() {
    check(rules::sigkill, "lib/src/quiesce/planted.rs", "fn f() { send(Signal::KILL); }\n");
    check(rules::sigkill, "bins/src/planted.rs", "fn f() { child.kill(); }\n");
    check(rules::sigkill, "lib/src/planted.rs", "fn f() { nix::sys::signal::kill(pid, 9) }\n");
    check(rules::sigkill, "lib/src/planted.rs", "fn f() { write(\"cgroup.kill\", \"1\") }\n");
    check(rules::sigkill, "lib/src/planted.rs", "fn f() { Command::new(\"pkill\") }\n");
    check(rules::sigkill, "bins/src/planted.rs", "fn f() { Signal::from_named_raw(9) }\n");
}

#[test]
fn nothing_sleeps_in_place_of_waiting() {
    check(rules::sleeping, "lib/src/planted.rs", "fn f() { std::thread::sleep(pause); }\n");
    check(rules::sleeping, "tests/lifecycle/planted.rs", "fn f() { tokio::time::sleep(pause).await; }\n");
    check(rules::sleeping, "bins/src/planted.rs", "fn f() { park_timeout(pause); }\n");
    check(rules::sleeping, "tests/planted", "#!/bin/bash\nwhile ! ready; do sleep 1; done\n");
}

#[test]
fn the_library_takes_nothing_from_its_surroundings_prints_nothing_and_never_exits() {
    check(rules::library, "lib/src/planted.rs", "fn f() { std::env::var(\"HOME\"); }\n");
    check(rules::library, "lib/src/planted.rs", "use std::{env, fs};\n");
    check(rules::library, "lib/src/planted.rs", "fn f() { println!(\"x\"); }\n");
    check(rules::library, "lib/src/planted.rs", "fn f() { std::process::exit(1); }\n");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    check(rules::length, "lib/src/planted.rs", &"// a line\n".repeat(rules::LINES_MAX + 1));
}

#[test]
fn every_story_that_is_declared_runs() {
    let without = "[[test]]\nname = \"planted\"\npath = \"../damage/main.rs\"\n\n";
    check(rules::harness, "tests/planted/Cargo.toml", without);
}

#[test]
fn nothing_speaks_of_how_it_was_made() {
    check(rules::words, "lib/src/planted.rs", "// as /wor\u{6b}/main has it\n");
    check(rules::words, "README.planted.md", "Written by an AI assistan\u{74}.\n");
}

#[test]
fn each_defect_of_the_tool_that_ours_takes_over_from_has_a_test() {
    let tree = Tree::read(&root());
    let found = defects::missing(&tree, defects::DEFECTS);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let planted = [("a defect", "lib/src/archive/retention.rs", "a_test_that_is_not_there")];
    assert_eq!(defects::missing(&tree, &planted).len(), 1);
}

#[test]
fn nothing_of_ours_listens() {
    check(defects::listening, "bins/src/planted.rs", "fn f() { TcpListener::bind(\"0.0.0.0:80\"); }\n");
}

#[test]
fn nothing_derives_a_key_from_a_passphrase() {
    check(defects::key_derivation, "lib/src/planted.rs", "fn f() { argon2::hash(); }\n");
}
