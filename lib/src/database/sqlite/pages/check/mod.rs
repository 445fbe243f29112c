//! A check of every page, in parallel and without SQLite.
//!
//! What is judged: the structure of every b-tree and page, the order of keys where the collation is SQLite's own, that
//! every page has exactly one use, overflow chains, the freelist and the pointer map, the shape of every record,
//! NOT NULL, the types of STRICT tables, UNIQUE among neighbours, and every index against its table by sums that do not depend on order; and what
//! the files beside the database tell of lost commits.
//!
//! What is not, since only SQLite knows it: CHECK and foreign keys, full-text and other virtual tables, generated
//! columns, the order in collations of the service. Indices on expressions are not compared with their table, and of
//! partial ones, only that each entry is that of a row; the report names them.

mod ahead;
mod audit;
mod cells;
mod compare;
mod contested;
mod crossed;
mod default;
mod differ;
mod entries;
mod free;
mod hash;
mod known;
mod mapped;
mod opened;
mod partial;
mod plan;
mod queue;
mod report;
mod rows;
mod sums;
mod syntax;
mod walk;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(in super::super) use entries::{entry_of, index_entries};
pub use report::{Finding, FindingKind, Loss, NotChecked, PageUses, Report, Rowids, TreeReport, WalReport};
pub(super) use sums::{RowSums, of_entry};

use super::super::error::SqliteError;
use super::claims::Claims;
use super::image::Image;
use super::instant::{LOCKS_WAIT_MAX, Seen, at_one_instant};
use super::schema::Schema;
use super::tree::Met;
use super::view::{Consistency, Log, View, Whose};
use crate::progress::{Cancel, Observer};

/// What a reader of the database might keep writers waiting as well: a transaction that is refused for as long needs no
/// more than the usual patience.
const HOLD_MAX: Duration = Duration::from_millis(50);

/// How a check is made.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
    /// Findings that are told one by one; all are counted.
    pub findings_max: usize,
    /// Ranges of pages without a use that are told, at 8 bytes each.
    pub ranges_max: usize,
    /// The files are a copy that nobody else knows: no lock is taken and nothing is waited for.
    pub own: bool,
    /// How long writers in a rollback mode may be kept waiting, where they leave no other way.
    pub hold_max: Duration,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { threads: None, findings_max: 1000, ranges_max: 1000, own: false, hold_max: HOLD_MAX }
    }
}

const THREADS_MAX: usize = 64;
/// Bytes of a page that a row takes, at least: most take more.
const ROW_MIN: u64 = 16;
/// Between two words to the observer, in pages.
const PROGRESS_GRAIN: u64 = 1024;

/// Checks the database at `path` with what lies beside it; all of it is left as it is. The database may be damaged,
/// and may be in use: [`View`] tells how a consistent view is had, and [`Report::consistency`] which it was.
///
/// Lost commits are found by the evidence that they left in the log or in its `-shm`. Some losses leave none: a log that
/// was cut or deleted together with its `-shm`, a whole older database without a log, and a hot journal that was removed
/// where the pages of its transaction happen to fit those of before.
///
/// Memory: one bit a page, 8 bytes for each page in the log, some hundred KiB for each thread and for the schema, and for
/// each thread up to 12 MiB where values are as large; where an index is not that of its table, 30 MiB to find the rows; for
/// all partial indices together, up to 16 MiB.
///
/// # Errors
/// That there is no database; [`SqliteError::InFlight`] and [`SqliteError::HoldTooLong`] where somebody writes all the
/// time and can't be kept waiting for as long as it takes: check a copy then. Damage is no error.
pub fn check(
    path: &Path,
    options: &CheckOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Report, SqliteError> {
    let (mut report, consistency) = at_one_instant(path, options.own, options.hold_max, cancel, &mut |view| {
        check_view(path, view, options, cancel, observer)
    })?;
    let nobody = matches!(consistency, Consistency::Quiet | Consistency::Own);
    let takes_log = nobody && report.wal.as_ref().is_some_and(|w| w.frames > 0);
    if takes_log && report.findings.iter().any(|finding| finding.kind < FindingKind::WalHeader) {
        observer.step("checking without the log");
        let whose = if options.own { Whose::Own } else { Whose::Service { hold: None } };
        let alone = match View::open_with(path, whose, LOCKS_WAIT_MAX, Log::Ignore, cancel) {
            // All that there is of it is in the log.
            Err(SqliteError::Empty { .. } | SqliteError::NotSqlite { .. }) => return Ok(report),
            // Nobody had it open, and now somebody has: the log is in use.
            Err(SqliteError::Disturbed { .. } | SqliteError::InFlight { .. }) => return Ok(report),
            other => other?,
        };
        if let Seen::All(without) = check_view(path, &alone, options, cancel, observer)?
            && !without.findings.iter().any(|finding| finding.kind < FindingKind::WalHeader)
            && alone.still_holds(LOCKS_WAIT_MAX, cancel)?
        {
            let what =
                "the database is whole without its -wal, and damaged with it: the -wal is of another state of it";
            report.add(Finding::new(FindingKind::WalForeign, Loss::Commits, what));
        }
    }
    Ok(report)
}

/// The sum over the entries of an index, whatever their order: two indices with the same have the same entries. `None`
/// where one of them can't be read.
pub(in super::super) fn index_sum(image: &Image, root: u32, cancel: &Cancel) -> Option<u64> {
    let mut sum = 0_u64;
    index_hashes(image, root, cancel, &mut |_, _, entry| sum = sum.wrapping_add(entry)).then_some(sum)
}

/// Gives page, number of fields and hash of each entry of an index, or row of a table without rowids; whether all of it
/// could be read.
pub(in super::super) fn index_hashes(
    image: &Image,
    root: u32,
    cancel: &Cancel,
    each: &mut dyn FnMut(u32, usize, u64),
) -> bool {
    let mut whole = true;
    image.walk(root, Some(false), usize::MAX, &mut |met| {
        match entry_hash(&met) {
            Some((page, fields, hash)) => each(page, fields, hash),
            None => whole = false,
        }
        whole && !cancel.is_requested()
    });
    whole && !cancel.is_requested()
}

/// The same of the entries that can be read in one page, whatever leads to it.
pub(in super::super) fn page_hashes(image: &Image, page: u32, each: &mut dyn FnMut(u64)) {
    let _no_page = image.rows_of_page(page, usize::MAX, &mut |met| {
        entry_hash(&met).into_iter().for_each(|(_, _, hash)| each(hash));
        true
    });
}

fn entry_hash(met: &Met<'_>) -> Option<(u32, usize, u64)> {
    let Met::Row { page, record: Ok(record), .. } = met else { return None };
    let values = super::record::Values::all(record)?;
    let hash = values.iter().fold(hash::START, |entry, value| hash::join(entry, hash::value(*value)));
    Some((*page, values.len(), hash))
}

/// Checks what a view shows.
fn check_view(
    path: &Path,
    view: &View,
    options: &CheckOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Seen<Report>, SqliteError> {
    let image = view.image();
    let layout = image.layout();
    let findings = report::Findings::new(options.findings_max);
    let wal = audit::audit(view, &findings);
    for fault in image.faults() {
        findings.add(Finding::new(FindingKind::Header, Loss::Unknown, fault.clone()).at(1));
    }
    if let Some(page) = image.torn_page() {
        findings.add(Finding::new(FindingKind::FileLength, Loss::Nothing, "the file ends within it").at(page));
    }
    observer.step("reading the schema");
    let schema = Schema::read(image);
    for (page, fault) in &schema.faults {
        findings.add(Finding::new(FindingKind::Schema, Loss::Unknown, fault.clone()).of("sqlite_schema").at(*page));
    }
    if let Some(fault) = largest_root_fault(image, &schema) {
        findings.add(Finding::new(FindingKind::Header, Loss::Nothing, fault).at(1));
    }
    let mut not_checked = Vec::new();
    syntax::check(&schema, &findings, &mut not_checked);
    let mut trees = plan::trees(&schema, layout.encoding, &mut not_checked);
    plan::know_partial(&mut trees, u64::from(layout.page_count) * layout.page_size as u64 / ROW_MIN);
    let roots = trees.iter().enumerate().map(|(tree, t)| queue::Task {
        tree,
        page: t.root,
        parent: 0,
        depth: 1,
        bounds: queue::Bounds::default(),
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores).clamp(1, THREADS_MAX);
    let check = Check {
        image,
        queue: queue::Queue::new(roots.collect(), threads),
        pages: Claims::new(layout.page_count),
        trees,
        findings,
        cancel,
        observer,
        done: AtomicU64::new(0),
        view,
        lapsed: AtomicBool::new(false),
        schema_is_whole: schema.faults.is_empty(),
        contested: contested::Contested::default(),
        crossed: crossed::Crossed::default(),
        ranges_max: options.ranges_max,
    };
    observer.step("checking every page");
    let kept = check.claim_kept();
    let mut worker = walk::Worker::new(&check);
    let list = check.freelist(&mut worker);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let work = || {
                let mut worker = walk::Worker::new(&check);
                check.queue.drain(|task| worker.run(task));
            };
            // Without a further thread it takes longer, and that is all.
            drop(std::thread::Builder::new().name("svckit-check".to_owned()).spawn_scoped(scope, work));
        }
        check.queue.drain(|task| worker.run(task));
    });
    check.tell_contested();
    if cancel.is_requested() {
        return Err(SqliteError::Cancelled { what: "checking", path: path.to_owned() });
    }
    if check.lapsed.load(Ordering::Relaxed) {
        let through = check.done.load(Ordering::Relaxed).max(1);
        return Ok(Seen::Part(through as f64 / check.to_read().max(through) as f64));
    }
    check.tell_mapped(&mut worker);
    let indices_compared = check.compare_indices(&mut not_checked);
    check.compare_partial(&mut not_checked);
    check.tell_crossed();
    let (uses, never_used) = check.never_used(kept, list);
    let trees = check.tree_reports();
    let (findings, totals) = check.findings.into_parts();
    Ok(Seen::All(Report {
        consistency: view.consistency(),
        page_size: layout.page_size,
        pages: layout.page_count,
        encoding: layout.encoding,
        findings,
        totals,
        trees,
        not_checked,
        indices_compared,
        uses,
        never_used,
        wal,
    }))
}

/// An auto-vacuum database has its roots at the beginning, and says where the last one is.
fn largest_root_fault(image: &Image, schema: &Schema) -> Option<String> {
    let said = image.header().largest_root;
    let last = schema.objects.iter().map(|object| object.root).max().unwrap_or(0).max(1);
    let differs = said != 0 && said != last && schema.faults.is_empty();
    differs.then(|| format!("its last root page would be {said}, and it is {last}"))
}

/// What all threads share.
struct Check<'a> {
    image: &'a Image,
    queue: queue::Queue,
    pages: Claims,
    trees: Vec<plan::Tree>,
    findings: report::Findings,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    done: AtomicU64,
    view: &'a View,
    lapsed: AtomicBool,
    schema_is_whole: bool,
    contested: contested::Contested,
    crossed: crossed::Crossed,
    ranges_max: usize,
}

impl Check<'_> {
    /// Whether the work is to end early.
    fn is_over(&self) -> bool {
        self.lapsed.load(Ordering::Relaxed) || self.cancel.is_requested()
    }

    /// How many pages are read: free ones are not.
    fn to_read(&self) -> u64 {
        let pages = u64::from(self.image.layout().page_count);
        pages.saturating_sub(u64::from(self.image.header().freelist_pages))
    }

    /// One more page is through.
    fn progress(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        if done.is_multiple_of(64) && self.view.has_lapsed() {
            self.lapsed.store(true, Ordering::Relaxed);
        }
        if done.is_multiple_of(PROGRESS_GRAIN) {
            let all = self.to_read().max(done);
            let size = self.image.layout().page_size as u64;
            self.observer.bytes(done * size, all * size);
        }
    }
}
