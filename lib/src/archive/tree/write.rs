//! Writing a tree, streamed.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::select::{DatabaseFiles, inside, refuse_store_inside, roots, source};
use super::{TreeRequest, xattr};
use crate::archive::ArchiveError;
use crate::progress::{Cancel, Observer};
use crate::world::disk::{AtPath, DiskError, FileId};

/// Files up to this size are read before their header is written, so that a change of size does no harm. Bytes.
const READ_AHEAD_MAX: u64 = 1 << 20;
/// At most so many notices are kept; the rest is counted.
const NOTICES_MAX: usize = 1000;

/// Writes the tree to `writer`, whose file is `out`; answers the notices.
pub(in crate::archive) fn write(
    writer: &mut dyn Write,
    out: &Path,
    store: &Path,
    request: &TreeRequest<'_>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Vec<String>, ArchiveError> {
    let roots = roots(request)?;
    refuse_store_inside(store, &roots)?;
    let mut walk = Walk {
        tar: Builder::new(writer),
        out,
        store,
        store_id: FileId::of(store)?,
        skip: DatabaseFiles::of(request.databases)?,
        linked: HashMap::new(),
        notices: Vec::new(),
        notices_dropped: 0,
        bytes: 0,
        cancel,
        observer,
    };
    for root in &roots {
        if leads_out(root, &roots) {
            walk.notice(root, "it is a symbolic link, and stored as one: what it leads to is not in the backup");
        }
        walk.add(root)?;
    }
    walk.tar.finish().at("write to", out)?;
    if walk.notices_dropped > 0 {
        walk.notices.push(format!("and {} more notices of this kind", walk.notices_dropped));
    }
    Ok(walk.notices)
}

struct Walk<'a> {
    tar: Builder<&'a mut dyn Write>,
    out: &'a Path,
    store: &'a Path,
    store_id: FileId,
    skip: DatabaseFiles,
    /// The first name of each file that has several. Grows with their number alone.
    linked: HashMap<FileId, PathBuf>,
    notices: Vec<String>,
    notices_dropped: usize,
    bytes: u64,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
}

impl Walk<'_> {
    /// Adds a path, and what is below it: depth first, by an explicit stack, in the order of names.
    fn add(&mut self, root: &Path) -> Result<(), ArchiveError> {
        let mut stack = vec![root.to_owned()];
        while let Some(path) = stack.pop() {
            if self.cancel.is_requested() {
                return Err(ArchiveError::Cancelled { what: "the backup" });
            }
            let metadata = match std::fs::symlink_metadata(&path) {
                Err(error) if gone(&error) => {
                    self.notice(&path, "it vanished before it was read");
                    continue;
                }
                other => other.at("look at", &path)?,
            };
            let kind = metadata.file_type();
            if kind.is_dir() {
                if FileId::of(&path).is_ok_and(|id| id == self.store_id) {
                    return Err(inside(self.store, root));
                }
                if self.directory(&path)? {
                    stack.extend(self.children(&path)?);
                }
            } else if self.skip.contains(&path) {
                tracing::debug!(path = %path.display(), "left to the backup of the database");
            } else if kind.is_symlink() {
                self.symlink(&path, &metadata)?;
            } else if kind.is_file() {
                self.file(&path)?;
            } else if kind.is_socket() || kind.is_fifo() {
                self.notice(&path, "it is a socket or a pipe");
            } else {
                return Err(source(&path, "it is a device"));
            }
        }
        Ok(())
    }

    /// The names in a directory, the last one first, as a stack wants them.
    fn children(&mut self, path: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
        let entries = match std::fs::read_dir(path) {
            Err(error) if gone(&error) => {
                self.notice(path, "it vanished while it was read");
                return Ok(Vec::new());
            }
            other => other.at("list", path)?,
        };
        let mut children =
            entries.map(|entry| Ok(entry.at("list", path)?.path())).collect::<Result<Vec<_>, DiskError>>()?;
        children.sort_by(|a, b| b.cmp(a));
        Ok(children)
    }

    fn directory(&mut self, path: &Path) -> Result<bool, ArchiveError> {
        let Some(directory) = self.open(path, OFlags::DIRECTORY)? else { return Ok(false) };
        if path == Path::new("/") {
            return Ok(true);
        }
        let mut header = header(&directory.metadata().at("look at", path)?, EntryType::Directory, 0);
        self.xattrs(&directory, path)?;
        self.tar.append_data(&mut header, stored(path), std::io::empty()).at("write to", self.out)?;
        Ok(true)
    }

    fn symlink(&mut self, path: &Path, metadata: &Metadata) -> Result<(), ArchiveError> {
        let target = match std::fs::read_link(path) {
            Err(error) if gone(&error) => {
                self.notice(path, "it vanished while it was read");
                return Ok(());
            }
            other => other.at("read the link", path)?,
        };
        let mut header = header(metadata, EntryType::Symlink, 0);
        // Byte by byte: a link's text need not be a tidy path. A long one needs an entry of its own.
        if header.set_link_name_literal(target.as_os_str().as_bytes()).is_ok() {
            return Ok(self.tar.append_data(&mut header, stored(path), std::io::empty()).at("write to", self.out)?);
        }
        Ok(self.tar.append_link(&mut header, stored(path), &target).at("write to", self.out)?)
    }

    fn file(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let Some(mut file) = self.open(path, OFlags::NONBLOCK)? else { return Ok(()) };
        if is_database(&file) {
            // Page by page and without its locks: what is written meanwhile is neither the old state nor the new one.
            self.notice(
                path,
                "it is a SQLite database, copied as a file and not checked: if it was in use, the copy may be damaged; \
                 name it as a database (--sqlite, or sqlite = [...])",
            );
        }
        let before = file.metadata().at("look at", path)?;
        if !before.is_file() {
            self.notice(path, "it was replaced by something that is no file");
            return Ok(());
        }
        if before.nlink() > 1 {
            let id = FileId { device: before.dev(), inode: before.ino() };
            if let Some(first) = self.linked.get(&id) {
                let mut header = header(&before, EntryType::Link, 0);
                let first = stored(first).to_owned();
                self.tar.append_link(&mut header, stored(path), first).at("write to", self.out)?;
                return Ok(());
            }
            self.linked.insert(id, path.to_owned());
        }
        self.xattrs(&file, path)?;
        let read = if before.len() <= READ_AHEAD_MAX {
            let mut content = Vec::new();
            (&mut file).take(READ_AHEAD_MAX).read_to_end(&mut content).at("read", path)?;
            let mut header = header(&before, EntryType::Regular, content.len() as u64);
            self.tar.append_data(&mut header, stored(path), &*content).at("write to", self.out)?;
            content.len() as u64
        } else {
            let mut header = header(&before, EntryType::Regular, before.len());
            let mut exact = Exact { file: &mut file, left: before.len(), cancel: self.cancel, failed: None };
            let appended = self.tar.append_data(&mut header, stored(path), &mut exact);
            match exact.failed {
                Some(Failed::Shrank) => {
                    return Err(source(path, "it shrank while it was read; back up again, or leave it out"));
                }
                Some(Failed::Cancelled) => return Err(ArchiveError::Cancelled { what: "the backup" }),
                Some(Failed::Read(error)) => Err(error).at("read", path)?,
                None => appended.at("write to", self.out)?,
            }
            before.len()
        };
        let after = file.metadata().at("look at", path)?;
        let state = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        if state(&before) != state(&after) {
            self.notice(path, "it changed while it was read; the backup has what was read");
        }
        self.bytes += read;
        self.observer.bytes(self.bytes, 0);
        Ok(())
    }

    /// Opens what was seen a moment ago, never through a symbolic link that has taken its place.
    fn open(&mut self, path: &Path, flags: OFlags) -> Result<Option<File>, ArchiveError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Err(error) if gone(&error) => {
                self.notice(path, "it vanished while it was read");
                Ok(None)
            }
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO)) => {
                self.notice(path, "it was replaced while it was read");
                Ok(None)
            }
            other => Ok(Some(other.at("open", path)?)),
        }
    }

    /// Puts the extended attributes of a file before its header.
    fn xattrs(&mut self, file: &File, path: &Path) -> Result<(), ArchiveError> {
        let (records, left_out) = xattr::records(file, path)?;
        if left_out {
            self.notice(path, "an extended attribute was left out: its name has odd characters");
        }
        let pairs = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        Ok(self.tar.append_pax_extensions(pairs).at("write to", self.out)?)
    }

    fn notice(&mut self, path: &Path, what: &str) {
        let text = format!("{path:?}: {what}");
        self.observer.notice(&text);
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(text);
        } else {
            self.notices_dropped += 1;
        }
    }
}

/// Whether an include is a link to what no other include has.
fn leads_out(root: &Path, roots: &[PathBuf]) -> bool {
    let Ok(real) = std::fs::canonicalize(root) else { return root.is_symlink() };
    let has_it =
        |other: &PathBuf| !other.is_symlink() && std::fs::canonicalize(other).is_ok_and(|o| real.starts_with(o));
    root.is_symlink() && !roots.iter().any(has_it)
}

/// By the beginning of its header (fileformat2.html, 1.3).
fn is_database(file: &File) -> bool {
    let mut begin = [0; 16];
    file.read_exact_at(&mut begin, 0).is_ok() && begin == *b"SQLite format 3\0"
}

fn gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn stored(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

/// Exactly as many bytes as the header says, however the file changes; tells apart who failed.
struct Exact<'a> {
    file: &'a mut File,
    left: u64,
    cancel: &'a Cancel,
    failed: Option<Failed>,
}

enum Failed {
    Shrank,
    Cancelled,
    Read(std::io::Error),
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_requested() {
            self.failed = Some(Failed::Cancelled);
            return Err(std::io::Error::other("cancelled"));
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..want]) {
            Ok(0) if want > 0 => {
                self.failed = Some(Failed::Shrank);
                Err(std::io::Error::other("the file shrank"))
            }
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(Failed::Read(error));
                Err(std::io::Error::other("the file can't be read"))
            }
        }
    }
}
