//! Trees of a damaged database written anew, without SQLite: the rows that can be read, as they are stored, in the order
//! in which they are met; and the entries of whole indices but for those of lost rows, in the order that they have.
//! Nothing is sorted, so that no collation has to be known; the sums of the check say whether an index is that of its rows.
//!
//! What is written is judged by nobody here: it is checked as a whole afterwards.

mod copy;
mod kept;
mod room;
mod sheet;
mod tree;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub(in super::super) use self::room::Room;

use super::super::error::SqliteError;
use super::image::Image;
use super::schema::{Object, Schema};
use crate::progress::{Cancel, Observer};

/// Between two words to the observer, in rows.
const GRAIN: u64 = 8192;

/// A table, and what is to be written with it.
pub(in super::super) struct Wanted<'a> {
    pub(in super::super) table: &'a Object,
    /// Its indices that are whole.
    pub(in super::super) indices: Vec<&'a Object>,
    /// Leaves that nothing leads to and whose rows are its, in the order of their first rowids.
    pub(in super::super) orphans: Vec<(i64, u32)>,
}

/// What became of a table.
#[derive(Default)]
pub(in super::super) struct Grown {
    /// Rows that came from pages that nothing leads to.
    pub(in super::super) from_orphans: u64,
    /// Rows that are none of this table.
    pub(in super::super) unfit: Vec<Unfit>,
    /// Indices that are not those of the rows: they are empty now.
    pub(in super::super) left: Vec<String>,
}

/// A row that does not fit the table that it is in.
pub(in super::super) struct Unfit {
    pub(in super::super) page: u32,
    pub(in super::super) rowid: i64,
    pub(in super::super) record: Vec<u8>,
}

/// Where the trees are read.
#[derive(Clone, Copy)]
pub(in super::super) struct Source<'a> {
    /// Not the file that is written.
    pub(in super::super) image: &'a Image,
    pub(in super::super) schema: &'a Schema,
    /// For people.
    pub(in super::super) path: &'a Path,
    /// Rows and entries that are expected, for the progress.
    pub(in super::super) expected: u64,
    pub(in super::super) cancel: &'a Cancel,
    pub(in super::super) observer: &'a dyn Observer,
}

/// Writes tables and their indices into `room`, each from the root page that it has. The answers are in the order of
/// `wanted`.
///
/// # Errors
/// [`SqliteError::Corrupt`] where rows are in no order that a tree could have; what the file refuses; when it is cancelled.
pub(in super::super) fn grow(
    source: Source<'_>,
    wanted: &[Wanted<'_>],
    room: &Room,
) -> Result<Vec<Grown>, SqliteError> {
    let run = Run { source, room, done: AtomicU64::new(0) };
    let copied = in_parallel(wanted.len(), |number| run.table(&wanted[number]))?;
    let jobs: Vec<(usize, &Object)> = wanted
        .iter()
        .enumerate()
        .flat_map(|(number, wanted)| wanted.indices.iter().map(move |index| (number, *index)))
        .collect();
    let are_whole = in_parallel(jobs.len(), |number| {
        let (table, index) = jobs[number];
        run.index(index, &copied[table])
    })?;
    let mut grown: Vec<Grown> = copied.into_iter().map(|copied| copied.grown).collect();
    for ((table, index), is_whole) in jobs.into_iter().zip(are_whole) {
        if !is_whole {
            grown[table].left.push(index.name.clone());
        }
    }
    Ok(grown)
}

struct Run<'a> {
    source: Source<'a>,
    room: &'a Room,
    done: AtomicU64,
}

impl Run<'_> {
    /// `count` more rows are through.
    fn go_on(&self, count: u64) -> Result<(), SqliteError> {
        let Source { image, cancel, observer, path, .. } = self.source;
        if cancel.is_requested() {
            return Err(SqliteError::Cancelled { what: "salvaging", path: path.to_owned() });
        }
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        // In bytes, as everything that is shown.
        let bytes = u64::from(image.layout().page_count) * image.layout().page_size as u64;
        let share = done as f64 / self.source.expected.max(done).max(1) as f64;
        observer.bytes((bytes as f64 * share) as u64, bytes);
        Ok(())
    }
}

/// Does `count` jobs on all cores; the first error ends it.
fn in_parallel<T: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<T, SqliteError> + Sync,
) -> Result<Vec<T>, SqliteError> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let result = job(number);
            if result.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without a further thread it takes longer, and that is all.
            drop(std::thread::Builder::new().name("svckit-grow".to_owned()).spawn_scoped(scope, work));
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn unfit(path: &Path, what: &str) -> SqliteError {
    SqliteError::Corrupt { path: path.to_owned(), findings: vec![what.to_owned()] }
}
