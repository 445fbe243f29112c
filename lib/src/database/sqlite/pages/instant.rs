//! Work on a database as of one instant, begun anew where somebody wrote meanwhile.

use std::path::Path;
use std::time::Duration;

use super::super::anew::Anew;
use super::super::error::SqliteError;
use super::view::{Consistency, Log, View, Whose};
use crate::progress::Cancel;

/// How often work that somebody wrote into is done.
const ATTEMPTS_MAX: usize = 3;
/// How long locks of others are waited for.
pub(super) const LOCKS_WAIT_MAX: Duration = Duration::from_secs(2);

/// How far work on a [`View`] has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen<T> {
    /// To its end.
    All(T),
    /// It ended early, since [`View::has_lapsed`]; which part of it was done, from 0 to 1.
    Part(f64),
}

/// Does `work` on a view of one instant, and gives what it was seen through with it.
///
/// Where writers can be kept waiting (a rollback mode) they are not: it is done again. Only where it is known from that to
/// take no longer than `hold_max`, they are.
///
/// # Errors
/// Those of [`View::open`] and of the work; [`SqliteError::InFlight`], [`SqliteError::Disturbed`] and [`SqliteError::HoldTooLong`] where somebody writes
/// all the time.
pub(crate) fn at_one_instant<T>(
    path: &Path,
    own: bool,
    hold_max: Duration,
    cancel: &Cancel,
    work: &mut dyn FnMut(&View) -> Result<Seen<T>, SqliteError>,
) -> Result<(T, Consistency), SqliteError> {
    let too_long = |estimate| SqliteError::HoldTooLong { path: path.to_owned(), estimate, hold_max };
    let mut attempt = 1;
    let mut hold = None;
    let mut anew = Anew::new();
    loop {
        let whose = if own { Whose::Own } else { Whose::Service { hold } };
        let view = match View::open_with(path, whose, LOCKS_WAIT_MAX, Log::Use, cancel) {
            // It was about to be opened, closed or replaced.
            Err(SqliteError::Disturbed { .. }) if anew.once_more(path, cancel)? => continue,
            other => other?,
        };
        let seen = work(&view)?;
        // Before others are waited for.
        let took = view.age();
        let estimate = match seen {
            Seen::All(seen) if view.still_holds(LOCKS_WAIT_MAX, cancel)? => return Ok((seen, view.consistency())),
            Seen::All(_) => took,
            Seen::Part(part) => whole_of(took, part),
        };
        match view.consistency() {
            // Kept, and not in time; or the journal was somebody's after all.
            Consistency::ReadLock if view.has_lapsed() || attempt == ATTEMPTS_MAX => return Err(too_long(estimate)),
            Consistency::Compared if estimate <= hold_max => hold = Some(hold_max),
            Consistency::Compared if attempt == ATTEMPTS_MAX => return Err(too_long(estimate)),
            // Somebody came: it may be in use the next time, and then nothing disturbs.
            Consistency::Quiet | Consistency::ReadMark => {
                if anew.once_more(path, cancel)? {
                    continue;
                }
                let reason = "somebody came to it each time that it was read".to_owned();
                return Err(SqliteError::Disturbed { path: path.to_owned(), reason });
            }
            _ if attempt == ATTEMPTS_MAX => {
                let reason = format!("it was written each of {ATTEMPTS_MAX} times that it was read");
                return Err(SqliteError::InFlight { path: path.to_owned(), reason });
            }
            _ => {}
        }
        attempt = (attempt + 1).min(ATTEMPTS_MAX);
    }
}

/// How long all of it would take.
fn whole_of(took: Duration, part: f64) -> Duration {
    Duration::try_from_secs_f64(took.as_secs_f64() / part).unwrap_or(Duration::MAX)
}
