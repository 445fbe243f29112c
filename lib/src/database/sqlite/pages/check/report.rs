//! What a check found.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::super::header::Encoding;
use super::super::schema::ObjectKind;
use super::super::view::Consistency;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The first hundred bytes can't be so, or the file is shorter than they say.
    Header,
    /// The file ends within a page.
    FileLength,
    /// A row of the schema can't be read, or a definition in it.
    Schema,
    /// The disk does not give a page, or the file ends before it.
    Unreadable,
    /// A number leads to a page that does not exist.
    PageNumber,
    /// A page is not what it must be where it is.
    PageType,
    /// A page has two uses.
    UsedTwice,
    /// A page has no use.
    NeverUsed,
    /// A cell lies outside its page or on another one.
    Cell,
    /// The free room of a page does not add up.
    FreeSpace,
    /// Keys are not in their order.
    KeyOrder,
    /// A leaf is not as deep as the others, or a tree is deeper than any can be.
    Depth,
    /// A chain of overflow pages is broken.
    OverflowChain,
    /// A record is none.
    Record,
    /// The list of free pages is broken.
    Freelist,
    /// A pointer map says something else than the pages.
    PointerMap,
    /// An index and its table do not agree.
    IndexMismatch,
    /// A UNIQUE index has a key twice.
    Duplicate,
    /// A NOT NULL column has NULL.
    NullValue,
    /// The header of the log is damaged: SQLite will take none of its commits.
    WalHeader,
    /// Commits lie behind a damaged frame of the log: SQLite drops them in silence.
    WalLostCommits,
    /// The log was longer when it was used last: commits are missing at its end.
    WalCut,
    /// The log is gone, and the database does not have all that was in it.
    WalDeleted,
    /// The log is that of another database, or of another state of this one.
    WalForeign,
    /// The log of a service that runs is damaged where the service reads it.
    WalDamaged,
    /// A transaction was cut off; the next who opens the database rolls it back. No damage.
    HotJournal,
    /// The journal that would undo a cut-off transaction is damaged.
    JournalDamaged,
}

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Nothing but room.
    Nothing,
    /// What can be built anew from the rows.
    Index,
    /// Rows, or parts of them.
    Rows,
    /// Whole transactions.
    Commits,
    /// It can't be told.
    Unknown,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// The table or index.
    pub object: Option<String>,
    /// The page.
    pub page: Option<u32>,
    /// For people: a clause about the page, the object or the file.
    pub what: String,
    /// What is lost by it.
    pub loss: Loss,
    /// Whether rows may be missing or wrong.
    pub rows_at_risk: bool,
    /// Where a page of a table can't be reached: between which rowids its rows were.
    pub rowids: Option<Rowids>,
    /// The rowids of rows about which a table and an index disagree, up to 100 of each kind of disagreement.
    pub rows: Vec<i64>,
}

/// A range of rowids; `None` for an end that nothing tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rowids {
    /// All of them are larger.
    pub after: Option<i64>,
    /// None of them is larger.
    pub up_to: Option<i64>,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, loss: Loss, what: impl Into<String>) -> Self {
        let rows_at_risk = matches!(loss, Loss::Rows | Loss::Commits | Loss::Unknown);
        Self { kind, object: None, page: None, what: what.into(), loss, rows_at_risk, rowids: None, rows: Vec::new() }
    }

    pub(super) fn of(mut self, object: &str) -> Self {
        self.object = Some(object.to_owned());
        self
    }

    pub(super) fn at(mut self, page: u32) -> Self {
        self.page = Some(page);
        self
    }
}

/// A table or an index, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeReport {
    /// Its name.
    pub name: String,
    /// Table or index.
    pub kind: ObjectKind,
    /// For an index, its table.
    pub table: String,
    /// Pages of its b-tree that could be read, overflow pages excepted.
    pub pages: u64,
    /// Rows, or entries of an index, that could be read.
    pub entries: u64,
    /// Whether something is wrong with it.
    pub damaged: bool,
    /// For a damaged table: how many rows its whole indices say that it had.
    pub rows_by_index: Option<u64>,
}

/// Something that was not judged, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// The table or index.
    pub object: String,
    /// For people.
    pub why: String,
}

/// What the pages of a database are used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PageUses {
    /// B-trees and their overflow pages.
    pub used: u64,
    /// The freelist.
    pub free: u64,
    /// Pointer maps, and the page of the lock bytes.
    pub kept: u64,
    /// None: see [`Report::never_used`].
    pub never: u64,
}

/// What lies in the log beside the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalReport {
    /// Frames up to the last commit.
    pub frames: u32,
    /// Commits, where they could be counted.
    pub commits: u64,
    /// Whole frames that the file has room for, old ones included.
    pub room: u32,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How a consistent view was had.
    pub consistency: Consistency,
    /// In bytes.
    pub page_size: usize,
    /// Pages of the database, the log included.
    pub pages: u32,
    /// How text is stored.
    pub encoding: Encoding,
    /// What is wrong: the first of each kind and page, up to a bound.
    pub findings: Vec<Finding>,
    /// How many of each kind there are in all.
    pub totals: BTreeMap<FindingKind, u64>,
    /// Every table and index with pages of its own.
    pub trees: Vec<TreeReport>,
    /// What was not judged.
    pub not_checked: Vec<NotChecked>,
    /// How many indices agree or disagree with their table: those that could be compared.
    pub indices_compared: u64,
    /// What the pages are used for.
    pub uses: PageUses,
    /// Ranges of pages without a use, up to a bound: rows that nothing leads to any more may lie there.
    pub never_used: Vec<(u32, u32)>,
    /// The log, where there is one.
    pub wal: Option<WalReport>,
}

impl Report {
    /// Whether nothing at all was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        *self.totals.entry(finding.kind).or_default() += 1;
        self.findings.push(finding);
    }

    /// Whether something is damaged: a hot journal alone is none, it is undone by the next who opens the database.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.kind != FindingKind::HotJournal)
    }

    /// Whether rows may be missing or wrong.
    #[must_use]
    pub fn rows_at_risk(&self) -> bool {
        self.findings.iter().any(|finding| finding.rows_at_risk)
    }
}

/// Collects findings of all threads, in bounded memory.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) max: usize,
    inner: Mutex<(Vec<Finding>, BTreeMap<FindingKind, u64>)>,
}

impl Findings {
    pub(super) fn new(max: usize) -> Self {
        Self { max, inner: Mutex::default() }
    }

    pub(super) fn add(&self, finding: Finding) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inner.1.entry(finding.kind).or_default();
        *count += 1;
        // The first of a kind is always kept: a flood of one does not hide another.
        if *count == 1 || inner.0.len() < self.max {
            inner.0.push(finding);
        }
    }

    /// The pages of an object that something was found in; `None` where not all of them are told.
    pub(super) fn pages_of(&self, object: &str) -> Option<HashSet<u32>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let of_object = inner.0.iter().filter(|finding| finding.object.as_deref() == Some(object));
        (inner.0.len() < self.max).then(|| of_object.filter_map(|finding| finding.page).collect())
    }

    /// What only all of them together tell.
    pub(super) fn look_back(&self, look: impl FnOnce(&mut [Finding])) {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    /// In the order of pages.
    pub(super) fn into_parts(self) -> (Vec<Finding>, BTreeMap<FindingKind, u64>) {
        let (mut all, totals) = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by(|a, b| (a.page, a.kind, &a.object, &a.what).cmp(&(b.page, b.kind, &b.object, &b.what)));
        (all, totals)
    }
}
