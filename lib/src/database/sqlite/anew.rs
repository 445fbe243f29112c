//! Work that is begun anew, where a database was opened, closed or written while it was looked at.
//!
//! A service that opens its database for each request (a CGI program, cron, the sqlite3 program) removes `-wal` and `-shm`
//! with every close and makes new ones with every open. What was found of the one says nothing of the other: the answer
//! is another look, and no judgement.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::SqliteError;
use crate::progress::Cancel;
use crate::world::disk::AtPath;
use crate::world::wait;

/// So often, however long one takes.
const TIMES: u32 = 5;
/// And for so long, however short one is.
const LASTS: Duration = Duration::from_secs(2);
/// The longest pause before one. Of a request that is short, too long a pause would never see anything.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// How often, and since when.
#[derive(Debug)]
pub(super) struct Anew {
    began: Instant,
    times: u32,
}

impl Anew {
    /// The first time is now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), times: 1 }
    }

    /// Whether it is to be begun once more; after a moment, which others need to get on.
    ///
    /// # Errors
    /// The cancellation.
    pub(super) fn once_more(&mut self, path: &Path, cancel: &Cancel) -> Result<bool, SqliteError> {
        if self.times >= TIMES && self.began.elapsed() >= LASTS {
            return Ok(false);
        }
        let pause = Duration::from_millis(1 << (self.times - 1).min(8)).min(PAUSE_MAX);
        self.times += 1;
        pause_for(pause, path, cancel)?;
        Ok(true)
    }
}

/// Lets some time pass.
///
/// # Errors
/// The cancellation.
pub(super) fn pause_for(time: Duration, path: &Path, cancel: &Cancel) -> Result<(), SqliteError> {
    let cancelled = wait::readable(&[cancel.as_fd()], Instant::now() + time).at("wait for", path)?;
    if cancelled.is_empty() {
        return Ok(());
    }
    Err(SqliteError::Cancelled { what: "reading", path: path.to_owned() })
}
