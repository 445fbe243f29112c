//! Database servers in containers: dumped while they are written to, proved by a restore, and never half a backup.

pub(crate) mod bed;
mod cut;
mod influxdb1;
mod influxdb2;
mod mongodb;
mod mysql;
pub(crate) mod postgres;
mod redis;
mod secrets;
mod standins;

use svckit_testbed::docker::Engine;
use svckit_testbed::stories::Story;

/// All of them.
pub(crate) fn stories() -> Vec<Story> {
    let dumped = [mysql::STORIES, postgres::STORIES, redis::STORIES, influxdb1::STORIES];
    let by_stand_ins = [mongodb::STORIES, influxdb2::STORIES];
    [&dumped[..], &by_stand_ins, &[cut::STORIES, secrets::STORIES]].concat().concat()
}

/// A Redis server without a password on an engine of one's own, ready.
pub(crate) fn redis_of(engine: &Engine, name: &str) {
    let image = engine.server_image("redis");
    engine.docker(["run", "-d", "--network=none", "--name", name, &image]).expect(0);
    engine.wait_for_log(name, "eady to accept connections");
}
