//! Services in containers of a Docker engine: stopped and held by messages to the engine, and dumped by its execs.

mod dumped;
mod stopped;

use svckit_testbed::docker::Engine;

use crate::engine::{Fault, Fixture, Tally, control, sweep};
use crate::plain::fixture::Guard;
use dumped::{Dumped, Server};
use stopped::{Stopped, Work};

fn killed<F: Fixture>(name: &str, build: impl Fn() -> F + Sync) -> Tally {
    sweep(name, &[Fault::Kill], build)
}

fn stopped(name: &str, work: Work) {
    let engine = Engine::start();
    let tallies = [
        killed(&format!("container, {name}, killed"), || Stopped::new(&engine, work, Guard::Alive)),
        killed(&format!("container, {name}, killed with its guard"), || Stopped::new(&engine, work, Guard::Killed)),
    ];
    Tally::assert_hold(&tallies);
}

pub(crate) fn cold_backup() {
    stopped("cold backup", Work::ColdBackup);
}

pub(crate) fn restore() {
    stopped("restore", Work::Restore);
}

pub(crate) fn redis_dump() {
    let server = Server::redis();
    Tally::assert_hold(&[killed("dump of Redis, killed", || Dumped::new(&server, false))]);
}

pub(crate) fn postgres_dump() {
    let server = Server::postgres();
    Tally::assert_hold(&[killed("dump of PostgreSQL, killed", || Dumped::new(&server, false))]);
}

pub(crate) fn naive_backup() {
    let engine = Engine::start();
    let build = || Stopped::new(&engine, Work::Naive, Guard::Alive);
    control("container, naive backup", &[Fault::Kill], build, &["the container is not up as before", "partial"]);
}

pub(crate) fn naive_dump() {
    let server = Server::redis();
    control("naive dump", &[Fault::Kill], || Dumped::new(&server, true), &["partial", "a secret"]);
}
