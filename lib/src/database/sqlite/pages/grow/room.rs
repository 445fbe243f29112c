//! The pages of a file that new trees may take, shared by the threads that write them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::super::error::SqliteError;
use super::super::header::Layout;
use crate::world::disk::AtPath;

/// So many pages a writer takes at once: neighbours, where there are.
const HANDFUL: usize = 64;
/// Neighbours are written together, up to so many bytes.
const RUN_MAX: usize = 256 << 10;

/// Free pages of a file, and behind them its end.
pub(in super::super::super) struct Room {
    file: File,
    path: PathBuf,
    layout: Layout,
    free: Mutex<Free>,
}

struct Free {
    /// The next one last.
    ranges: Vec<(u32, u32)>,
    /// The last page of the file.
    last: u32,
}

impl Room {
    /// `unused`: the pages of `file` that nothing leads to, as ranges in their order.
    pub(in super::super::super) fn new(
        file: &Path,
        layout: &Layout,
        unused: &[(u32, u32)],
    ) -> Result<Self, SqliteError> {
        let open = OpenOptions::new().write(true).open(file).at("open", file)?;
        let free = Free { ranges: unused.iter().rev().copied().collect(), last: layout.page_count };
        Ok(Self { file: open, path: file.to_owned(), layout: *layout, free: Mutex::new(free) })
    }

    /// The pages that are left, and the last page of the file.
    pub(in super::super::super) fn finish(self) -> (Vec<(u32, u32)>, u32) {
        let mut free = self.free.into_inner().unwrap_or_else(PoisonError::into_inner);
        free.ranges.sort_unstable();
        (free.ranges, free.last)
    }

    fn take(&self, into: &mut Vec<u32>) -> Result<(), SqliteError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while into.len() < HANDFUL {
            let Some((first, last)) = free.ranges.pop() else { break };
            into.push(first);
            if first < last {
                free.ranges.push((first + 1, last));
            }
        }
        while into.is_empty() {
            free.last = free.last.checked_add(1).ok_or_else(|| super::unfit(&self.path, "it would be too large"))?;
            if free.last != self.layout.lock_page() {
                into.push(free.last);
            }
        }
        into.reverse();
        Ok(())
    }
}

/// One thread's way into the file.
pub(super) struct Pen<'r> {
    pub(super) room: &'r Room,
    /// The next one last.
    taken: Vec<u32>,
    used: Vec<u32>,
    first: u32,
    run: Vec<u8>,
}

impl<'r> Pen<'r> {
    pub(super) fn new(room: &'r Room) -> Self {
        Self { room, taken: Vec::new(), used: Vec::new(), first: 0, run: Vec::new() }
    }

    pub(super) fn layout(&self) -> &'r Layout {
        &self.room.layout
    }

    /// The number of a page that is nobody's.
    pub(super) fn page(&mut self) -> Result<u32, SqliteError> {
        if self.taken.is_empty() {
            self.room.take(&mut self.taken)?;
        }
        let page = self.taken.pop().unwrap_or_default();
        self.used.push(page);
        Ok(page)
    }

    /// None of the pages that it had is used.
    pub(super) fn give_back(&mut self) {
        self.taken.append(&mut self.used);
        self.run.clear();
    }

    pub(super) fn write(&mut self, page: u32, bytes: &[u8]) -> Result<(), SqliteError> {
        let pages = self.run.len() / self.room.layout.page_size;
        if u64::from(self.first) + pages as u64 != u64::from(page) || self.run.len() >= RUN_MAX {
            self.flush()?;
            self.first = page;
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SqliteError> {
        if !self.run.is_empty() {
            let at = u64::from(self.first - 1) * self.room.layout.page_size as u64;
            self.room.file.write_all_at(&self.run, at).at("write to", &self.room.path)?;
            self.run.clear();
        }
        Ok(())
    }

    /// Writes what is not written yet, and gives back what it has not needed.
    pub(super) fn finish(mut self) -> Result<(), SqliteError> {
        self.flush()?;
        let mut free = self.room.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.ranges.extend(self.taken.drain(..).map(|page| (page, page)));
        Ok(())
    }
}
