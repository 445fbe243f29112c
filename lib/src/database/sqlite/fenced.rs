//! Fenced: the service runs, and its writers wait while the files are copied as they are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::anew::Anew;
use super::copy::{Progress, copy_bytes, create};
use super::error::SqliteError;
use super::hot::{
    CAME, Instantly, clear, copy_member, finish, is_unchanged, open_all, same_content, settle, snapshot_hot,
};
use super::live::{Member, Usage};
use super::snapshot::{Snapshot, SnapshotRequest, copy_path, in_order};
use crate::sqlite_locks::Fence;
use crate::world::disk::AtPath;

/// Copies the databases while their write locks are ours: nobody can begin a transaction on any of them.
///
/// How long that takes is measured first, by a copy without the fence that is thrown away (it also brings the files
/// into memory); writers are kept waiting for `fence_hold_max` at most, whatever happens. A database that nobody has
/// open can't be fenced, and has no writer: it is looked at under the fence of the others, and its copy is good if
/// nobody has come to it up to the end. Where nobody has any of them open, it is a copy as [`snapshot_hot`] makes it.
///
/// # Errors
/// [`SqliteError::HoldTooLong`] with the estimate; [`SqliteError::Locks`] where the fence can't be had or would not
/// hold; [`SqliteError::InFlight`] where somebody wrote in spite of it; [`SqliteError::Disturbed`] where somebody came to
/// an idle one each time, or it was opened and closed all the time.
pub fn snapshot_fenced(request: &SnapshotRequest<'_>) -> Result<Vec<Snapshot>, SqliteError> {
    let order = in_order(request.databases)?;
    let mut anew = Anew::new();
    loop {
        match once(request, &order) {
            Err(SqliteError::Disturbed { .. }) if anew.once_more(request.into, request.cancel)? => {}
            other => return other,
        }
    }
}

fn once(request: &SnapshotRequest<'_>, order: &[(usize, &Path)]) -> Result<Vec<Snapshot>, SqliteError> {
    let members = open_all(request, order)?;
    if members.iter().all(is_idle) {
        drop(members);
        return snapshot_hot(request);
    }
    let at = attempt(request, &members)?;
    finish(request, &members, &at)
}

fn is_idle(member: &Member) -> bool {
    matches!(member.usage, Usage::Quiet)
}

fn attempt(request: &SnapshotRequest<'_>, members: &[Member]) -> Result<Vec<Instantly>, SqliteError> {
    let (idle, live): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(|i| is_idle(&members[*i]));
    let paths: Vec<PathBuf> = live.iter().map(|i| members[*i].path.clone()).collect();
    let estimate = rehearse(request, live.iter().map(|i| &members[*i]))?;
    if estimate > request.fence_hold_max {
        let path = paths.into_iter().next().unwrap_or_default();
        return Err(SqliteError::HoldTooLong { path, estimate, hold_max: request.fence_hold_max });
    }
    settle(idle.iter().map(|i| &members[*i]), request.cancel)?;

    let fence = Fence::acquire(&paths, request.fence_hold_max, request.cancel)?;
    let deadline = Instant::now() + request.fence_hold_max.saturating_sub(fence.held_for());
    let mut at = members.iter().map(under_the_fence).collect::<Result<Vec<_>, _>>()?;
    let total = at.iter().map(Instantly::len).sum();
    let mut done_before = 0;
    let all: Vec<&Path> = members.iter().map(|member| member.path.as_path()).collect();
    let mut copy = |i: usize, at: &Instantly, deadline| {
        request.observer.step(&format!("copying {}", members[i].path.display()));
        let progress = Progress { observer: request.observer, cancel: request.cancel, done_before, total, deadline };
        copy_member(request.into, &members[i], &all, at, progress)?;
        done_before += at.len();
        Ok::<_, SqliteError>(())
    };
    for i in &live {
        copy(*i, &at[*i], Some((deadline, request.fence_hold_max)))?;
    }
    for i in &live {
        let (member, now) = (&members[*i], under_the_fence(&members[*i])?);
        if now.mark != at[*i].mark || !same_content(now.stamps[0], at[*i].stamps[0]) {
            return Err(member.in_flight("it was written in spite of the lock that forbids it".to_owned()));
        }
    }
    let stall = fence.held_for();
    drop(fence);
    for i in &live {
        at[*i].stall = stall;
    }
    // What is still as it was under the fence, is of that instant.
    for i in &idle {
        copy(*i, &at[*i], None)?;
        if !is_unchanged(request, &members[*i], &at[*i], false)? {
            return Err(members[*i].disturbed(CAME));
        }
    }
    Ok(at)
}

/// What stands there while nobody can write.
fn under_the_fence(member: &Member) -> Result<Instantly, SqliteError> {
    let mark = match &member.usage {
        Usage::Wal(shm) => Some(member.mark_under_write(shm)?),
        Usage::Rollback | Usage::Quiet => None,
    };
    let mut at = Instantly::of(member)?;
    at.mark = mark;
    Ok(at)
}

/// How long the copy takes, by making it once.
fn rehearse<'a>(
    request: &SnapshotRequest<'_>,
    members: impl Iterator<Item = &'a Member> + Clone,
) -> Result<Duration, SqliteError> {
    let began = Instant::now();
    for member in members.clone() {
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
