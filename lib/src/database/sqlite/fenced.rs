//! Fenced: the service runs, and its writers wait while the files are copied as they are.

use std::time::{Duration, Instant};

use super::copy::{Progress, copy_bytes, create};
use super::error::SqliteError;
use super::hot::{Instantly, clear, copy_member, finish, same_content, snapshot_hot};
use super::live::{Member, Usage};
use super::snapshot::{Snapshot, SnapshotRequest, copy_path, in_order};
use super::wal::read_mark;
use crate::sqlite_locks::Fence;
use crate::world::disk::AtPath;

/// Copies the databases while their write locks are ours: nobody can begin a transaction on any of them.
///
/// How long that takes is measured first, by a copy without the fence that is thrown away (it also brings the files
/// into memory); writers are kept waiting for `fence_hold_max` at most, whatever happens. Where nobody has any of the
/// databases open, nobody is to be fenced, and it is a copy as [`snapshot_hot`] makes it.
///
/// # Errors
/// [`SqliteError::HoldTooLong`] with the estimate; [`SqliteError::Locks`] where the fence can't be had or would not
/// hold; [`SqliteError::InFlight`] where somebody wrote in spite of it.
pub fn snapshot_fenced(request: &SnapshotRequest<'_>) -> Result<Vec<Snapshot>, SqliteError> {
    let order = in_order(request.databases)?;
    let members: Vec<Member> =
        order.iter().map(|(index, path)| Member::open(*index, path)).collect::<Result<_, _>>()?;
    let live: Vec<_> = members.iter().filter(|m| !matches!(m.usage, Usage::Quiet)).map(|m| m.path.clone()).collect();
    if live.is_empty() {
        drop(members);
        return snapshot_hot(request);
    }
    if live.len() < members.len() {
        // A database that nobody has open can't be fenced in WAL mode, and its service could open it any time.
        let idle = members.iter().find(|m| matches!(m.usage, Usage::Quiet));
        let path = idle.map(|m| m.path.clone()).unwrap_or_default();
        let reason = "others of the set are open and this one is not: it can't be fenced together with them";
        return Err(SqliteError::InFlight { path, reason: reason.to_owned() });
    }
    let estimate = rehearse(request, &members)?;
    if estimate > request.fence_hold_max {
        let path = members.first().map(|m| m.path.clone()).unwrap_or_default();
        return Err(SqliteError::HoldTooLong { path, estimate, hold_max: request.fence_hold_max });
    }

    let fence = Fence::acquire(&live, request.fence_hold_max, request.cancel)?;
    let deadline = Instant::now() + request.fence_hold_max.saturating_sub(fence.held_for());
    let mut at = members.iter().map(under_the_fence).collect::<Result<Vec<_>, _>>()?;
    let total = at.iter().map(Instantly::len).sum();
    let mut done_before = 0;
    for (member, at) in members.iter().zip(&at) {
        request.observer.step(&format!("copying {} under the fence", member.path.display()));
        let progress = Progress {
            observer: request.observer,
            cancel: request.cancel,
            done_before,
            total,
            deadline: Some((deadline, request.fence_hold_max)),
        };
        copy_member(request.into, member, at, progress)?;
        done_before += at.len();
    }
    for (member, before) in members.iter().zip(&at) {
        let now = under_the_fence(member)?;
        if now.mark != before.mark || !same_content(now.stamps[0], before.stamps[0]) {
            return Err(member.in_flight("it was written in spite of the lock that forbids it".to_owned()));
        }
    }
    let stall = fence.held_for();
    drop(fence);
    for at in &mut at {
        at.stall = stall;
    }
    finish(request, &members, &at)
}

/// What stands there while nobody can write.
fn under_the_fence(member: &Member) -> Result<Instantly, SqliteError> {
    let mark = match &member.usage {
        Usage::Wal(shm) => Some(
            read_mark(shm)?
                .ok_or_else(|| member.in_flight("its wal-index must be recovered by the service first".to_owned()))?,
        ),
        Usage::Rollback | Usage::Quiet => None,
    };
    let mut at = Instantly::of(member)?;
    at.mark = mark;
    Ok(at)
}

/// How long the copy takes, by making it once.
fn rehearse(request: &SnapshotRequest<'_>, members: &[Member]) -> Result<Duration, SqliteError> {
    let began = Instant::now();
    for member in members {
        let target = copy_path(request.into, member.index);
        clear(&target)?;
        request.observer.step(&format!("measuring how fast {} can be copied", member.path.display()));
        let len = member.db.file().metadata().at("look at", &member.path)?.len();
        let progress =
            Progress { observer: request.observer, cancel: request.cancel, done_before: 0, total: len, deadline: None };
        copy_bytes(member.db.file(), &member.path, &create(&target)?, &target, len, progress)?;
    }
    let took = began.elapsed();
    for member in members {
        clear(&copy_path(request.into, member.index))?;
    }
    Ok(took)
}
