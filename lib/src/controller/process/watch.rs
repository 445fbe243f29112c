//! Notices that one file appears, changes or goes, in a directory that many others may use and that may itself come
//! and go, as those below /run do.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::world::disk::parent_of;

#[derive(Debug)]
pub(super) struct FileWatch {
    inotify: Inotify,
    path: PathBuf,
}

impl FileWatch {
    /// Changes from now on are noticed.
    pub(super) fn new(path: &Path) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watch = Self { inotify, path: path.to_owned() };
        watch.attach()?;
        Ok(watch)
    }

    /// Watches the directory of the file, or the nearest one above it that exists. Watching one again changes nothing.
    pub(super) fn attach(&self) -> nix::Result<()> {
        let events = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE;
        let mut directory = parent_of(&self.path);
        loop {
            match self.inotify.add_watch(directory, events) {
                Err(nix::Error::ENOENT) if parent_of(directory) != directory => directory = parent_of(directory),
                other => return other.map(drop),
            }
        }
    }

    /// Whether what was noticed since the last call concerns the file or a directory on the way to it.
    pub(super) fn drain(&self) -> bool {
        let mut concerns = false;
        // Bounded by what is queued: an empty queue is EAGAIN.
        while let Ok(events) = self.inotify.read_events() {
            concerns |= events.iter().any(|event| match &event.name {
                Some(name) => self.path.iter().any(|part| part == name),
                // A watched directory went away, or events were lost.
                None => true,
            });
        }
        concerns
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_noticed_in_a_directory_that_is_made_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run").join("app.pid");
        let watch = FileWatch::new(&path).unwrap();
        std::fs::write(dir.path().join("other"), b"").unwrap();
        assert!(!watch.drain());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(watch.drain());
        watch.attach().unwrap();
        std::fs::write(path.with_file_name("another.pid"), b"1").unwrap();
        assert!(!watch.drain());
        std::fs::write(&path, b"1").unwrap();
        assert!(watch.drain());
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(watch.drain());
    }
}
