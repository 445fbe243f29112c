//! Database servers in containers: dumped while they are written to, proved by a restore, and never half a backup.

mod bed;
mod cut;
mod mysql;
mod postgres;
mod redis;
mod secrets;

use svckit_testbed::stories::Story;

/// All of them.
pub(crate) fn stories() -> Vec<Story> {
    [mysql::STORIES, cut::STORIES, secrets::STORIES, postgres::STORIES, redis::STORIES].concat()
}
