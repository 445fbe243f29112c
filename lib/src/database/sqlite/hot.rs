//! Hot: a consistent copy of a set as of one instant, the service running.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::anew::{Anew, pause_for};
use super::copy::{Progress, Stamp, copy_bytes, create};
use super::error::SqliteError;
use super::live::{Member, Usage, open_if_there};
use super::own::{beside, recover};
use super::snapshot::{Snapshot, SnapshotRequest, copy_path, in_order};
use super::together::part_for_a_copy;
use super::wal::{WalMark, overlay};
use crate::progress::Cancel;
use crate::sqlite_locks::{Access, DB_RESERVED, DB_SHARED, LockMode, SHM_WRITE, Wanted, lock_together, side_file};
use crate::world::disk::AtPath;

/// How often a copy in a rollback mode that somebody wrote to meanwhile is begun anew.
const ATTEMPTS_MAX: usize = 5;
pub(super) const CAME: &str = "nobody had it open, and somebody came to it during each copy";
/// Between two looks whether somebody came.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Copies the databases as of one instant while their service runs; also when nobody has them open.
///
/// - Live, WAL: nobody waits for the copy. For a set of several, writers wait while the ends of the logs are read
///   (tens of microseconds); [`Snapshot::stall`] says how long.
/// - Live, rollback journal: copied without a lock first and compared; if somebody wrote, copied again under a reader's
///   lock, provided that this takes no longer than `fence_hold_max`. For a set of several, the instant is one in which
///   nobody has a write transaction open on any of them.
/// - Nobody has it open: copied with its side files, compared before and after, recovered in the copy.
///
/// # Errors
/// [`SqliteError::InFlight`] and [`SqliteError::HoldTooLong`] where it can't be done in a running service; what the
/// files themselves refuse. The directory `into` may have partial copies then.
pub fn snapshot_hot(request: &SnapshotRequest<'_>) -> Result<Vec<Snapshot>, SqliteError> {
    let order = in_order(request.databases)?;
    let mut hold = false;
    let mut last = None;
    let mut anew = Anew::new();
    let mut attempts = 0;
    while attempts < ATTEMPTS_MAX {
        let outcome = open_all(request, &order).and_then(|members| Ok((attempt(request, &members, hold)?, members)));
        match outcome {
            Err(SqliteError::Disturbed { .. }) if anew.once_more(request.into, request.cancel)? => {}
            Err(error) => return Err(error),
            Ok((Outcome::Done(at), members)) => return finish(request, &members, &at),
            Ok((Outcome::Written { path, held_for }, _)) => {
                attempts += 1;
                // The copy just made measured how long writers would have to wait.
                if held_for > request.fence_hold_max {
                    return Err(SqliteError::HoldTooLong {
                        path,
                        estimate: held_for,
                        hold_max: request.fence_hold_max,
                    });
                }
                hold = true;
                last = Some(path);
            }
        }
    }
    let path = last.unwrap_or_default();
    Err(SqliteError::InFlight { path, reason: format!("it was written during each of {ATTEMPTS_MAX} copies") })
}

/// Opens the databases, with nothing left of a copy before.
pub(super) fn open_all(request: &SnapshotRequest<'_>, order: &[(usize, &Path)]) -> Result<Vec<Member>, SqliteError> {
    order
        .iter()
        .map(|(index, path)| {
            clear(&copy_path(request.into, *index))?;
            Member::open(*index, path, request.cancel)
        })
        .collect()
}

enum Outcome {
    Done(Vec<Instantly>),
    /// Somebody wrote this database, in a rollback mode, during the copy, which took so long.
    Written {
        path: std::path::PathBuf,
        held_for: Duration,
    },
}

/// What was true of a member at the instant.
pub(super) struct Instantly {
    pub(super) stamps: [Option<Stamp>; 3],
    change_counter: u32,
    pub(super) mark: Option<WalMark>,
    hot_journal: bool,
    racy: bool,
    pub(super) stall: Duration,
}

impl Instantly {
    /// In a rollback mode, or with the mark still to be read.
    pub(super) fn of(member: &Member) -> Result<Self, SqliteError> {
        let stamps = member.stamps()?;
        let header = member.keeps_mode()?;
        let is_recent = |stamp: &Stamp| stamp.settles_in(now()).is_some();
        let racy = match member.usage {
            // Whoever comes to it changes its log or its journal, and the database only perhaps.
            Usage::Quiet => stamps[0].is_none() || stamps.iter().flatten().any(is_recent),
            Usage::Rollback | Usage::Wal(_) => stamps[0].as_ref().is_none_or(is_recent),
        };
        Ok(Self {
            racy,
            stamps,
            change_counter: header.change_counter,
            mark: None,
            hot_journal: false,
            stall: Duration::ZERO,
        })
    }

    /// Of the database itself, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.stamps[0].map_or(0, |stamp| stamp.len)
    }
}

fn attempt(request: &SnapshotRequest<'_>, members: &[Member], hold: bool) -> Result<Outcome, SqliteError> {
    let quiet = members.iter().filter(|member| matches!(member.usage, Usage::Quiet));
    settle(quiet, request.cancel)?;
    let (mut at, locked_at) = lock_and_mark(request, members, hold)?;
    let total = at.iter().map(Instantly::len).sum();
    let deadline = hold.then(|| (locked_at + request.fence_hold_max, request.fence_hold_max));
    let mut done_before = 0;
    let began = Instant::now();
    // Those whose writers may be waiting come first.
    let mut sequence: Vec<usize> = (0..members.len()).collect();
    sequence.sort_by_key(|i| matches!(members[*i].usage, Usage::Wal(_)));
    for i in sequence {
        let (member, at) = (&members[i], &mut at[i]);
        // Only those whose writers wait have to be through by then.
        let deadline = deadline.filter(|_| matches!(member.usage, Usage::Rollback));
        let progress = Progress { observer: request.observer, cancel: request.cancel, done_before, total, deadline };
        request.observer.step(&format!("copying {}", member.path.display()));
        let all: Vec<&Path> = members.iter().map(|member| member.path.as_path()).collect();
        copy_member(request.into, member, &all, at, progress)?;
        done_before += at.len();
        if !is_unchanged(request, member, at, hold)? {
            if matches!(member.usage, Usage::Quiet) {
                return Err(member.disturbed(CAME));
            }
            return Ok(Outcome::Written { path: member.path.clone(), held_for: began.elapsed() });
        }
        member.db.unlock(DB_SHARED)?;
        if hold && matches!(member.usage, Usage::Rollback) {
            at.stall = locked_at.elapsed();
        }
    }
    Ok(Outcome::Done(at))
}

/// Brings into the copies what was copied beside them.
pub(super) fn finish(
    request: &SnapshotRequest<'_>,
    members: &[Member],
    at: &[Instantly],
) -> Result<Vec<Snapshot>, SqliteError> {
    let mut snapshots = Vec::new();
    for (member, at) in members.iter().zip(at) {
        let file = copy_path(request.into, member.index);
        recover(&file)?;
        let bytes = std::fs::metadata(&file).at("look at", &file)?.len();
        let journal_mode = member.identity.journal_mode;
        snapshots
            .push((member.index, Snapshot { source: member.path.clone(), file, bytes, journal_mode, stall: at.stall }));
    }
    snapshots.sort_by_key(|(index, _)| *index);
    Ok(snapshots.into_iter().map(|(_, snapshot)| snapshot).collect())
}

/// Waits until the last change of every file is old enough for a further one to carry another time stamp.
///
/// # Errors
/// [`SqliteError::Disturbed`] as soon as somebody comes to one in WAL mode: from then on there is a log to be read, and no
/// need to wait.
pub(super) fn settle<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    cancel: &Cancel,
) -> Result<(), SqliteError> {
    let mut until = Instant::now();
    for member in members.clone() {
        for stamp in member.stamps()?.iter().flatten() {
            until = until.max(stamp.settles_in(now()).map_or(until, |longest| Instant::now() + longest));
        }
    }
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        for member in members.clone() {
            if member.was_opened()? {
                return Err(member.disturbed(CAME));
            }
            pause_for(left.min(LOOK_EVERY), &member.path, cancel)?;
        }
    }
    Ok(())
}

/// Takes every member's locks, and then reads what is true of all of them at one instant.
fn lock_and_mark(
    request: &SnapshotRequest<'_>,
    members: &[Member],
    hold: bool,
) -> Result<(Vec<Instantly>, Instant), SqliteError> {
    let until = Instant::now() + request.fence_hold_max;
    let cancel = request.cancel;
    let several = members.len() > 1;
    let mut together = Vec::new();
    for member in members {
        match &member.usage {
            Usage::Wal(shm) => {
                member.pin(shm, until, cancel)?;
                if several {
                    let (mode, range) = (LockMode::Write, SHM_WRITE);
                    together.push(Wanted { file: shm, mode, range, through: None, what: "the lock WRITE" });
                }
            }
            Usage::Rollback | Usage::Quiet => together.push(member.shared()),
        }
    }
    let locked_at = loop {
        let locked_at = lock_together(&together, until, cancel)?;
        let Some(writer) = (if several { in_transaction(members)? } else { None }) else {
            break locked_at;
        };
        for one in &together {
            one.file.unlock(one.range)?;
        }
        // Given up at once: under it, others would take the journal of a writer that died for a living one's.
        writer.db.lock(LockMode::Read, DB_RESERVED, "the lock RESERVED", until, cancel)?;
        writer.db.unlock(DB_RESERVED)?;
        if Instant::now() >= until {
            return Err(writer.in_flight(format!(
                "transactions followed each other so closely that in {:?} there was no moment without one",
                request.fence_hold_max
            )));
        }
    };
    // The instant. Every writer of the set waits, or is between two transactions.
    let mut all = Vec::new();
    for member in members {
        let mark = match &member.usage {
            Usage::Wal(shm) if several => Some(member.mark_under_write(shm)?),
            Usage::Wal(shm) => Some(member.mark(shm, until, cancel)?),
            Usage::Rollback | Usage::Quiet => None,
        };
        let mut at = Instantly::of(member)?;
        if matches!(member.usage, Usage::Quiet) && at.racy {
            // A copy would prove nothing.
            return Err(member.disturbed(CAME));
        }
        at.hot_journal = mark.is_none() && member.has_hot_journal()?;
        at.mark = mark;
        all.push(at);
    }
    for (member, at) in members.iter().zip(&mut all) {
        match &member.usage {
            Usage::Wal(shm) if several => {
                shm.unlock(SHM_WRITE)?;
                at.stall = locked_at.elapsed();
            }
            // A hot journal is rolled back by the next who comes: only our lock keeps it as it is.
            Usage::Rollback if !hold && !at.hot_journal => {
                member.db.unlock(DB_SHARED)?;
                at.stall = locked_at.elapsed();
            }
            _ => {}
        }
    }
    Ok((all, locked_at))
}

/// A member in a rollback mode on which somebody has a write transaction open. To be asked under SHARED on all.
///
/// SHARED alone is not enough for a set: who changes two databases may have committed to one and be about to commit to
/// the other. While we have SHARED nobody commits, so a transaction that was open when we took it is still open now,
/// and one database can be asked after the other.
fn in_transaction(members: &[Member]) -> Result<Option<&Member>, SqliteError> {
    for member in members {
        if matches!(member.usage, Usage::Rollback) && member.db.foreign(LockMode::Read, DB_RESERVED)?.is_some() {
            return Ok(Some(member));
        }
    }
    Ok(None)
}

pub(super) fn copy_member(
    into: &Path,
    member: &Member,
    others: &[&Path],
    at: &Instantly,
    progress: Progress<'_>,
) -> Result<(), SqliteError> {
    let target = copy_path(into, member.index);
    let copy = create(&target)?;
    // The length of the instant: the one that was seen before the lock may be shorter.
    let Some(itself) = at.stamps[0] else {
        return Err(member.disturbed("it was replaced or written while it was looked at"));
    };
    copy_bytes(member.db.file(), &member.path, &copy, &target, itself.len, progress)?;
    let mut with = Vec::new();
    match (&member.usage, &at.mark) {
        (Usage::Wal(shm), Some(mark)) if mark.frame > 0 => {
            let Some(wal) = open_if_there(&side_file(&member.path, "-wal"), Access::Read)? else {
                return Err(member.disturbed("its -wal has vanished"));
            };
            return overlay(wal.file(), wal.path(), &copy, &target, mark, progress.cancel)
                .map_err(|found| member.judged(shm, &wal, found));
        }
        (Usage::Quiet, _) => with.extend(["-wal", "-journal"]),
        _ if at.hot_journal => with.push("-journal"),
        _ => {}
    }
    for suffix in with {
        let Some(side) = open_if_there(&side_file(&member.path, suffix), Access::Read)? else {
            continue;
        };
        let len = match suffix {
            "-journal" => part_for_a_copy(&member.path, &side, others)?,
            _ => Some(side.file().metadata().at("look at", side.path())?.len()),
        };
        let Some(len) = len else { continue };
        let target = beside(&target, suffix);
        copy_bytes(side.file(), side.path(), &create(&target)?, &target, len, progress)?;
    }
    Ok(())
}

/// Whether what was copied is what stood there at the instant.
pub(super) fn is_unchanged(
    request: &SnapshotRequest<'_>,
    member: &Member,
    at: &Instantly,
    hold: bool,
) -> Result<bool, SqliteError> {
    let ignores_locks = || member.in_flight("it was written in spite of the lock that forbids it".to_owned());
    match &member.usage {
        Usage::Wal(shm) => {
            member.stands(shm)?;
            // Writers of the log change -wal all the time; the database itself stands still under CKPT.
            if !same_content(member.stamps()?[0], at.stamps[0]) {
                return Err(ignores_locks());
            }
            Ok(true)
        }
        Usage::Quiet => Ok(member.stamps()? == at.stamps && !at.racy && !member.is_in_use()?),
        Usage::Rollback => {
            let held = hold || at.hot_journal;
            if !held {
                lock_together(&[member.shared()], Instant::now() + request.fence_hold_max, request.cancel)?;
            }
            let counter = super::header::identify_open(&member.db)?.change_counter;
            let same = counter == at.change_counter && same_content(member.stamps()?[0], at.stamps[0]);
            match (same, held) {
                (true, true) => Ok(true),
                (false, true) => Err(ignores_locks()),
                (same, false) => Ok(same && !at.racy),
            }
        }
    }
}

pub(super) fn same_content(now: Option<Stamp>, then: Option<Stamp>) -> bool {
    matches!((now, then), (Some(now), Some(then)) if now.same_content(&then))
}

/// Removes what an attempt before this one left.
pub(super) fn clear(copy: &Path) -> Result<(), SqliteError> {
    for path in [copy.to_owned(), beside(copy, "-wal"), beside(copy, "-journal"), beside(copy, "-shm")] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.at("remove", &path)?,
        }
    }
    Ok(())
}

pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
