//! One lock file: opened, locked, waited for.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::holder::Record;
use super::set::LockError;
use super::table::Table;
use super::{Holder, LockKey};
use crate::progress::Cancel;
use crate::world::disk::{AtPath, DiskError, FileId};

/// How long a refused one waits for the name of a holder that has not written it yet.
const NAME_WAIT_MAX: Duration = Duration::from_secs(1);

pub(super) fn open(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed())
        .open(path)
        .at("open the lock", path)
}

/// The lock of one directory's only writer, beside the lock of the operation: taken or refused at once, since whoever waits
/// waits for the operation's. `Err` inside is who has it, where it said so.
pub(crate) fn lock_beside(path: &Path, holder: &Holder) -> Result<Result<File, Option<Box<Holder>>>, DiskError> {
    let mut file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Err(Holder::read_from(&mut file).map(Box::new))),
        Err(error) => Err(error).at("lock", path)?,
    }
    // The record only informs, and a full disk must not keep anything old from being removed.
    let _unrecorded_on_a_full_disk = holder.write_to(&mut file);
    Ok(Ok(file))
}

/// A directory of locks that others may write to is no place for them: who removes a lock file lets two in.
pub(super) fn check_rights(directory: &Path) -> Result<(), LockError> {
    let metadata = std::fs::metadata(directory).at("look at", directory)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let owner = metadata.uid();
    let ours = rustix::process::geteuid().as_raw();
    if owner != ours && owner != 0 || mode & 0o022 != 0 {
        return Err(LockError::UnsafeDirectory { directory: directory.to_owned(), owner, mode });
    }
    Ok(())
}

/// Opens and locks, waiting until `deadline` where there is one. What it returns is the file that stands at `path`, and
/// nobody holds the lock of one that stood there before.
pub(super) fn lock(
    path: &Path,
    key: &LockKey,
    holder: &Holder,
    deadline: Option<Instant>,
    cancel: &Cancel,
) -> Result<File, LockError> {
    loop {
        let mut file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => match deadline {
                Some(deadline) if deadline > Instant::now() => file = wait_for(file, path, key, deadline, cancel)?,
                _ => return Err(held(key, path, &mut file)),
            },
            Err(error) => return Err(refusal(error, path)),
        }
        // Somebody may have removed the name between our open and our lock: then the lock is on a file that nobody
        // else will find.
        let own = FileId::of_open(&file).at("look at", path)?;
        if FileId::of(path).ok() != Some(own) {
            continue;
        }
        // A file that no holder has marked as its own is new: the first of its name, or one that took another's place.
        let is_marked = Record::read_from(&mut file).is_some_and(|record| record.file == Some(own));
        // Said before the look at every process, which takes its time: whoever is refused meanwhile is told who we are.
        let mut record = Record { holder: holder.clone(), lock: key.label().to_owned(), file: None };
        if !is_marked {
            record.write_to(&mut file).at("write the holder to", path)?;
            if let Some(pid) = former_holder(path, own) {
                return Err(LockError::Replaced { label: key.label().to_owned(), path: path.to_owned(), pid });
            }
        }
        record.file = Some(own);
        record.write_to(&mut file).at("write the holder to", path)?;
        return Ok(file);
    }
}

fn refusal(error: Errno, path: &Path) -> LockError {
    LockError::Disk(DiskError { action: "lock", path: path.to_owned(), source: error.into() })
}

fn former_holder(path: &Path, own: FileId) -> Option<i32> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Table::read().holder_of_former(&real, own)
}

/// The refusal, with whoever holds it now: the one who took the lock may have ended and left it to a child.
fn held(key: &LockKey, path: &Path, file: &mut File) -> LockError {
    let holder = named_holder(path, file).map(Box::new);
    let has_ended = |holder: &Holder| matches!(holder.process.is_alive(), Ok(false));
    let is_unnamed = holder.as_deref().is_none_or(has_ended);
    let left_to = FileId::of_open(file).ok().filter(|_| is_unnamed).and_then(|id| {
        let holders = Table::read().holders_of(id);
        holders.first().map(|party| party.process.pid)
    });
    LockError::Held { label: key.label().to_owned(), holder, left_to }
}

/// Who the file says has it. A holder that has just locked a new file is about to say so: it is given a moment.
fn named_holder(path: &Path, file: &mut File) -> Option<Holder> {
    Holder::read_from(file).or_else(|| {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        watch.add_watch(path, AddWatchFlags::IN_MODIFY).ok()?;
        let until = Instant::now() + NAME_WAIT_MAX;
        loop {
            if let Some(holder) = Holder::read_from(file) {
                return Some(holder);
            }
            if crate::world::wait::readable(&[watch.as_fd()], until).ok()?.is_empty() {
                return None;
            }
            watch.read_events().ok()?;
        }
    })
}

/// Blocks until the lock is ours. flock(2) has no time-out: a thread blocks in it and hands the locked file over; past
/// the deadline it is left to itself, and closes the file whenever it gets it.
fn wait_for(file: File, path: &Path, key: &LockKey, deadline: Instant, cancel: &Cancel) -> Result<File, LockError> {
    let (give, given) = mpsc::channel();
    let (wake_read, wake_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at("make a pipe for", path)?;
    let in_thread = move || {
        let outcome = loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                other => break other,
            }
        };
        let _nobody_waits_any_more = give.send(outcome.map(|()| file));
        drop(wake_write);
    };
    let spawned = std::thread::Builder::new().name("lock".to_owned()).spawn(in_thread);
    spawned.at("start the thread that waits for", path)?;
    let ready = crate::world::wait::readable(&[wake_read.as_fd(), cancel.as_fd()], deadline).at("wait for", path)?;
    if cancel.is_requested() {
        return Err(LockError::Cancelled { label: key.label().to_owned() });
    }
    if ready.is_empty() {
        // Another description: the thread has ours.
        return Err(held(key, path, &mut open(path)?));
    }
    match given.recv() {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => Err(refusal(error, path)),
        Err(_) => Err(LockError::Disk(DiskError {
            action: "wait for",
            path: PathBuf::from(path),
            source: std::io::Error::other("the thread that waited is gone"),
        })),
    }
}
