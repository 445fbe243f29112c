//! The pages of a database as of one commit, wherever each of them is.

use std::os::unix::fs::FileExt;

use super::header::{Header, Layout, MAGIC};
use super::node::Node;
use super::overlay::Overlay;
use crate::sqlite_locks::LockFile;

/// Looked at to find out the page size where the header does not tell.
const SAMPLES: u64 = 64;

/// So many pages more than there are may a log say that there are: what is not there needs memory all the same.
const UNWRITTEN_MAX: u32 = 1 << 22;

/// The least that files grow by, where they grow by chunks.
const CHUNK_MIN: u64 = 32 << 10;
/// So many pages behind the last one are looked at.
const BEHIND_MAX: usize = 4096;

/// A database as of one commit, read page by page. Nothing is kept in memory but where the pages of the log are
/// (8 bytes for each page in it).
#[derive(Debug)]
pub struct Image {
    db: LockFile,
    file_len: u64,
    overlay: Overlay,
    header: Header,
    layout: Layout,
    faults: Vec<String>,
    plausible: bool,
}

/// Why a page can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no page of that number.
    #[error("there is no page {0}")]
    OutOfRange(u32),
    /// The file is shorter than it says.
    #[error("the file ends before page {0} does")]
    Truncated(u32),
    /// The disk refused.
    #[error("the disk does not give page {0}: {1}")]
    Disk(u32, String),
}

impl Image {
    /// `pages`: the length of the database as the log or the journal gives it.
    pub(super) fn new(db: LockFile, overlay: Overlay, pages: Option<u32>, log_page_size: Option<u32>) -> Self {
        let file_len = db.file().metadata().map_or(0, |metadata| metadata.len());
        // The first bytes are the same for every page size.
        let mut first = vec![0; 100];
        let of_overlay = overlay.find(1, log_page_size.unwrap_or(0) as usize);
        let (file, at) = of_overlay.unwrap_or((&db, 0));
        let got = read_up_to(file, &mut first, at).unwrap_or(0);
        first.truncate(got);
        let header = Header::parse(&first);
        let mut faults = header.faults(&first);
        let (page_size, plausible) = match log_page_size {
            Some(size) => (size, true),
            None => page_size_of(&db, file_len, &header, &first, &mut faults),
        };
        let file_pages = u32::try_from(file_len.div_ceil(u64::from(page_size))).unwrap_or(u32::MAX);
        let there = file_pages.max(overlay.last_page());
        // Pages that became free before they were ever written are in no file until a checkpoint.
        let most = if pages.is_some() { there.saturating_mul(4).saturating_add(UNWRITTEN_MAX) } else { file_pages };
        let mut said = pages.or(header.pages_are_valid().then_some(header.pages));
        if pages.is_none()
            && let Some(last) = said.filter(|said| has_rows_behind(&db, file_len, page_size, *said, &header))
        {
            faults.push(format!("it should have {last} pages, and those behind them have rows"));
            said = Some(file_pages);
        }
        let page_count = said.map_or(file_pages, |said| said.min(most));
        if let Some(said) = said.filter(|said| *said > most) {
            faults.push(format!("it should have {said} pages, and the file ends in page {there}"));
        }
        let layout = Layout::of(&header, page_size, page_count.max(1));
        let mut image = Self { db, file_len, overlay, header, layout, faults, plausible };
        // A root behind the last page says nothing; the first pointer map does.
        if image.header.largest_root > page_count {
            image.layout.auto_vacuum = image.begins_with_a_map();
        }
        image
    }

    /// Whether page 2 can be a pointer map: of every page that it is about, it says what it is.
    fn begins_with_a_map(&self) -> bool {
        let mut map = Vec::new();
        let pages = self.layout.page_count.saturating_sub(2) as usize;
        let kinds = |map: &[u8]| map[..self.layout.usable].chunks_exact(5).take(pages).all(|e| (1..=5).contains(&e[0]));
        self.read(2, &mut map).is_ok() && kinds(&map)
    }

    /// Whether it is a database at all: it begins as one, or some of its pages are pages of one.
    pub(super) fn is_plausible(&self) -> bool {
        let mut first = Vec::new();
        self.plausible || self.read(1, &mut first).is_ok_and(|()| Node::parse(&first, 1, &self.layout).is_ok())
    }

    /// The header, as it is written in page 1.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is wrong with the header and with the length of the file, for people.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Where things are.
    #[must_use]
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The length of the database file itself, in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The page within which the file ends, where it belongs to the database and is not in the log.
    #[must_use]
    pub fn torn_page(&self) -> Option<u32> {
        let size = self.layout.page_size as u64;
        let last = u32::try_from(self.file_len.div_ceil(size)).ok()?;
        let torn = !self.file_len.is_multiple_of(size) && last <= self.layout.page_count;
        (torn && self.overlay.find(last, self.layout.page_size).is_none()).then_some(last)
    }

    /// Reads one page; `into` has exactly its bytes afterwards.
    ///
    /// # Errors
    /// [`Unreadable`]; the content of `into` means nothing then.
    pub fn read(&self, page: u32, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        if page == 0 || page > self.layout.page_count {
            return Err(Unreadable::OutOfRange(page));
        }
        let size = self.layout.page_size;
        into.resize(size, 0);
        let (file, at) = match self.overlay.find(page, size) {
            Some(place) => place,
            None => (&self.db, u64::from(page - 1) * size as u64),
        };
        match file.file().read_exact_at(into, at) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Unreadable::Truncated(page)),
            Err(error) => Err(Unreadable::Disk(page, error.to_string())),
        }
    }

    /// Reads pages that lie behind each other at once; `false` where they do not, since one of them is in the log, or is none.
    ///
    /// # Errors
    /// When they can't be read. Which of them, and why, [`Self::read`] tells.
    pub(super) fn read_run(&self, first: u32, pages: u32, into: &mut Vec<u8>) -> std::io::Result<bool> {
        let size = self.layout.page_size;
        let last = first.saturating_add(pages).saturating_sub(1);
        let elsewhere = |page| self.overlay.find(page, size).is_some();
        if first == 0 || last > self.layout.page_count || (first..=last).any(elsewhere) {
            return Ok(false);
        }
        into.resize(pages as usize * size, 0);
        self.db.file().read_exact_at(into, u64::from(first - 1) * size as u64)?;
        Ok(true)
    }

    /// Tells the kernel which pages are read next. Best effort: where it does not listen, it is only slower.
    pub(super) fn will_read(&self, first: u32, pages: u32) {
        let size = self.layout.page_size as u64;
        let at = u64::from(first.saturating_sub(1)) * size;
        let len = std::num::NonZeroU64::new(u64::from(pages) * size);
        let _ignored = rustix::fs::fadvise(self.db.file(), at, len, rustix::fs::Advice::WillNeed);
    }
}

fn read_up_to(file: &LockFile, into: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.file().read_at(&mut into[got..], at + got as u64) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Whether pages behind the last one that the header tells have rows: then the header is older than they are, or damaged.
/// Where the file grows by chunks (`SQLITE_FCNTL_CHUNK_SIZE`), its end is whatever was there before.
fn has_rows_behind(db: &LockFile, file_len: u64, page_size: u32, said: u32, header: &Header) -> bool {
    let size = u64::from(page_size);
    let last = u32::try_from(file_len / size).unwrap_or(u32::MAX);
    if last <= said || file_len.is_multiple_of(CHUNK_MIN.max(2 * size)) {
        return false;
    }
    let layout = Layout::of(header, page_size, u32::MAX);
    let mut bytes = vec![0; page_size as usize];
    (said + 1..=last).take(BEHIND_MAX).any(|page| {
        let read = db.file().read_exact_at(&mut bytes, u64::from(page - 1) * size);
        read.is_ok() && Node::parse(&bytes, page, &layout).is_ok_and(|node| node.cells > 0 && is_node(&node))
    })
}

fn is_node(node: &Node<'_>) -> bool {
    node.content() >= node.least_content() && (0..node.cells).all(|index| node.cell(index).is_ok())
}

/// The page size of the header, or, where that can't be it, the one with which most pages make sense; and whether
/// there is any sign of a database.
fn page_size_of(db: &LockFile, file_len: u64, header: &Header, first: &[u8], faults: &mut Vec<String>) -> (u32, bool) {
    let expected = u64::from(header.page_size) * u64::from(header.pages);
    let fits = header.pages_are_valid() && expected == file_len;
    if header.page_size != 0 && (fits || first.starts_with(MAGIC) && !other_size_fits(file_len, header)) {
        return (header.page_size, true);
    }
    let size = file_len.checked_div(u64::from(header.pages)).and_then(|size| u32::try_from(size).ok());
    // With a size that can be, a file may be longer than its pages are.
    if let Some(size) = size.filter(|_| header.page_size == 0 && other_size_fits(file_len, header)) {
        let plausible = first.starts_with(MAGIC) || share_of_nodes(db, file_len, size) > 0.0;
        if plausible {
            faults.push(format!("its pages seem to have {size} bytes"));
            return (size, true);
        }
    }
    let sizes: Vec<u32> = (9..=16).map(|power| 1 << power).collect();
    let shares: Vec<f64> = sizes.iter().map(|size| share_of_nodes(db, file_len, *size)).collect();
    let best = shares.iter().copied().fold(0.0, f64::max);
    // Every second page of half the size fits as well: the smallest that fits nearly as well as any is the one.
    let found = sizes.iter().zip(&shares).find(|(_, share)| best > 0.0 && **share >= 0.75 * best);
    let found = found.map_or(4096, |(size, _)| *size);
    if found != header.page_size {
        faults.push(format!("its pages seem to have {found} bytes"));
    }
    (found, best > 0.0 || first.starts_with(MAGIC))
}

/// Whether the file has exactly the pages that it says it has, if only they were of another size.
fn other_size_fits(file_len: u64, header: &Header) -> bool {
    let pages = u64::from(header.pages);
    header.pages_are_valid()
        && file_len.is_multiple_of(pages)
        && (512..=65_536).contains(&(file_len / pages))
        && (file_len / pages).is_power_of_two()
}

/// Of a sample of pages of that size, the share of those that are b-tree pages.
fn share_of_nodes(db: &LockFile, file_len: u64, size: u32) -> f64 {
    let pages = file_len / u64::from(size);
    let layout = Layout::of(&Header::parse(&[]), size, u32::MAX);
    let mut page = vec![0; size as usize];
    let (mut seen, mut nodes) = (0, 0);
    for sample in 0..SAMPLES.min(pages.saturating_sub(1)) {
        let number = 1 + sample * (pages - 1) / SAMPLES.min(pages - 1);
        if db.file().read_exact_at(&mut page, number * u64::from(size)).is_err() {
            continue;
        }
        seen += 1;
        let fits = Node::parse(&page, 2, &layout).is_ok_and(|node| is_node(&node));
        nodes += u32::from(fits);
    }
    if seen == 0 { 0.0 } else { f64::from(nodes) / f64::from(seen) }
}
