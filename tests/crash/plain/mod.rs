//! Services that are plain processes, known by a pid file: sweeps that need root and strace, and no systemd.

pub(crate) mod aftermath;
pub(crate) mod data;
pub(crate) mod fixture;
pub(crate) mod looks;
pub(crate) mod patient;
pub(crate) mod service;
pub(crate) mod store;
pub(crate) mod template;

use tempfile::TempDir;

use crate::engine::{Fault, Tally, control, sweep};
use fixture::{Guard, Plain, Work};

/// A directory of its own, in memory where that is possible: sweeps make thousands of files.
pub(crate) fn scratch() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("svckit-crash-");
    builder.tempdir_in(memory).or_else(|_| builder.tempdir()).unwrap()
}

const ERRORS: [Fault; 3] = [Fault::Error("ENOSPC"), Fault::ErrorsFromHere("ENOSPC"), Fault::Error("EIO")];

fn swept(name: &str, work: Work, guard: Guard, on_term: &'static str, faults: &[Fault]) -> Tally {
    sweep(name, faults, || Plain::new(work, guard, on_term))
}

/// Killed with the guard alive, and killed with the guard killed too.
fn killed(name: &str, work: Work, on_term: &'static str) -> [Tally; 2] {
    [
        swept(&format!("{name}, killed"), work, Guard::Alive, on_term, &[Fault::Kill]),
        swept(&format!("{name}, killed with its guard"), work, Guard::Killed, on_term, &[Fault::Kill]),
    ]
}

fn failed(name: &str, work: Work, on_term: &'static str) -> Tally {
    swept(&format!("{name}, failed"), work, Guard::Alive, on_term, &ERRORS)
}

fn all(name: &str, work: Work, on_term: &'static str) -> [Tally; 3] {
    let [alive, killed] = killed(name, work, on_term);
    [alive, killed, failed(name, work, on_term)]
}

fn naive(name: &str, work: Work, on_term: &'static str, whys: &[&str]) {
    control(name, &[Fault::Kill, ERRORS[0]], || Plain::new(work, Guard::Alive, on_term), whys);
}

fn all_three(name: &str, work: Work, on_term: &'static str) {
    Tally::assert_hold(&all(name, work, on_term));
}

pub(crate) fn hot_backup() {
    all_three("hot backup", Work::Backup("hot"), "exit");
}

pub(crate) fn fenced_backup() {
    all_three("fenced backup", Work::Backup("fenced"), "exit");
}

pub(crate) fn cold_backup() {
    all_three("cold backup", Work::Backup("cold"), "exit");
}

pub(crate) fn restore() {
    all_three("restore", Work::Restore, "exit");
}

pub(crate) fn restore_over_a_log() {
    all_three("restore over a database with its log", Work::Restore, "crash");
}

pub(crate) fn expire() {
    all_three("expire", Work::Expire, "exit");
}

/// With a log, which the repair takes in, and without.
pub(crate) fn repair() {
    let with_log = all("repair of a database with its log", Work::Repair, "crash");
    let without = swept("repair, killed", Work::Repair, Guard::Alive, "exit", &[Fault::Kill]);
    Tally::assert_hold(&with_log);
    Tally::assert_hold(&[without]);
}

pub(crate) fn undo() {
    all_three("undo", Work::Undo, "crash");
}

pub(crate) fn naive_backup() {
    naive("naive backup", Work::NaiveBackup, "exit", &["the service is not up as before", "partial"]);
}

pub(crate) fn naive_restore() {
    naive("naive restore", Work::NaiveRestore, "crash", &["the service is not up as before"]);
}

pub(crate) fn naive_repair() {
    naive("naive repair", Work::NaiveRepair, "crash", &["the service is not up as before"]);
}

pub(crate) fn naive_expire() {
    control(
        "naive expire",
        &[Fault::Kill],
        || Plain::new(Work::NaiveExpire, Guard::Alive, "exit"),
        &["the old backup"],
    );
}
