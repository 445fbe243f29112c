//! Copies of whole files and of ranges, in constant memory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{copy_file_range, ioctl_ficlone};
use rustix::io::Errno;

use super::error::SqliteError;
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, FileId};

/// Between two looks at the cancellation.
const CHUNK: usize = 8 << 20;

/// The buffer where the kernel can't copy by itself.
const BUFFER: usize = 256 << 10;

/// How the progress of one file is told: what lies before it, and the whole.
#[derive(Clone, Copy)]
pub(super) struct Progress<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) done_before: u64,
    pub(super) total: u64,
    /// When writers must not be kept waiting any longer, and how long that was to be in all.
    pub(super) deadline: Option<(Instant, Duration)>,
}

impl Progress<'_> {
    /// `done` bytes of `path` are through; whether there may be more.
    fn go_on(&self, path: &Path, done: u64) -> Result<(), SqliteError> {
        if self.cancel.is_requested() {
            return Err(SqliteError::Cancelled { what: "copying", path: path.to_owned() });
        }
        match self.deadline {
            Some((until, hold_max)) if Instant::now() > until => {
                let through = (self.done_before + done).max(1);
                let factor = self.total.max(through) as f64 / through as f64;
                Err(SqliteError::HoldTooLong { path: path.to_owned(), estimate: hold_max.mul_f64(factor), hold_max })
            }
            _ => Ok(()),
        }
    }
}

/// Creates a copy for writing; one that is there already is an error.
pub(super) fn create(path: &Path) -> Result<File, SqliteError> {
    Ok(OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).at("create", path)?)
}

/// Copies the first `len` bytes of `from` to the beginning of `to`; the source may be shorter, and may shrink. The
/// answer is how many bytes there were.
///
/// A reflink where the file system has them; then the whole file is copied, and cut at `len`.
pub(super) fn copy_bytes(
    from: &File,
    from_path: &Path,
    to: &File,
    to_path: &Path,
    len: u64,
    progress: Progress<'_>,
) -> Result<u64, SqliteError> {
    if ioctl_ficlone(to, from).is_ok() {
        let have = to.metadata().at("look at", to_path)?.len();
        if have > len {
            to.set_len(len).at("cut", to_path)?;
        }
        progress.observer.bytes(progress.done_before + len, progress.total);
        return Ok(have.min(len));
    }
    let mut at = 0;
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    while at < len {
        progress.go_on(from_path, at)?;
        let want = usize::try_from(len - at).unwrap_or(CHUNK).min(CHUNK);
        let moved = if by_kernel {
            let (mut from_at, mut to_at) = (at, at);
            match copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), want) {
                Ok(0) => 0,
                Ok(moved) => moved,
                // Another file system, or one that can't: everything that is left goes through our hands.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    by_kernel = false;
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).at("copy to", to_path).map_err(Into::into),
            }
        } else {
            buffer.resize(BUFFER, 0);
            let part = want.min(BUFFER);
            let got = from.read_at(&mut buffer[..part], at).at("read", from_path)?;
            to.write_all_at(&buffer[..got], at).at("write to", to_path)?;
            got
        };
        if moved == 0 {
            break;
        }
        at += moved as u64;
        progress.observer.bytes(progress.done_before + at, progress.total);
    }
    Ok(at)
}

/// Two changes closer than this may carry the same time stamp: the kernel's clock for files ticks every 1 to 10 ms.
const STAMP_GRAIN: Duration = Duration::from_millis(50);

/// What tells one state of a file from another, as far as the file system knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        Ok(Self::from_metadata(&file.metadata()?))
    }

    /// Of the file that has the name now; `None` where there is none.
    pub(super) fn at(path: &Path) -> Result<Option<Self>, SqliteError> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(Self::from_metadata(&other.at("look at", path)?))),
        }
    }

    fn from_metadata(m: &std::fs::Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            len: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }

    /// Whether it is of this file.
    pub(super) fn is_of(&self, id: FileId) -> bool {
        (self.device, self.inode) == (id.device, id.inode)
    }

    /// Whether it is the same file, as long and written last at the same time; rights and links may have changed.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        (self.device, self.inode, self.len, self.modified) == (other.device, other.inode, other.len, other.modified)
    }

    /// How long after `at`, a time since the epoch, a further change is certain to carry another time than the last one; `None`
    /// for now. A time in the future, of another clock or by touch(1), is none that a change would get.
    pub(super) fn settles_in(&self, at: Duration) -> Option<Duration> {
        let time = |(seconds, nanoseconds): (i64, i64)| {
            let nanoseconds = u32::try_from(nanoseconds).unwrap_or(0).min(999_999_999);
            Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds)
        };
        let recent = [self.modified, self.changed].map(time).into_iter().filter(|time| time.abs_diff(at) < STAMP_GRAIN);
        recent.map(|time| (time + STAMP_GRAIN).saturating_sub(at)).max()
    }
}

/// Reads a file from its beginning in order, for the parsers.
pub(super) fn reader_at_start(file: &File) -> std::io::Result<impl Read + '_> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    Ok(std::io::BufReader::with_capacity(BUFFER, file))
}

/// Writes everything at its place.
pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), SqliteError> {
    Ok(file.write_all_at(bytes, at).at("write to", path)?)
}
