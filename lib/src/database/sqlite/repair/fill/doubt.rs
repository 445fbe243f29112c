//! Where rows of a table may be missing or wrong.

use std::collections::HashSet;

use crate::database::sqlite::pages::{FindingKind, Met, ObjectKind, Rowids};
use crate::database::sqlite::repair::Base;

/// With more rows in doubt than these, all are.
const ROWS_MAX: usize = 1 << 20;

/// The doubtful parts of one table.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Any row may be missing: commits are lost, or nothing tells where.
    pub(super) everywhere: bool,
    /// Between these rowids, rows may be missing.
    ranges: Vec<Rowids>,
    /// Rows that were read and may be wrong.
    rows: HashSet<i64>,
    /// And others, that are not told one by one.
    pub(super) more: bool,
}

/// A finding tells so many rows of each kind of disagreement.
const TOLD_MAX: usize = 100;

impl Doubt {
    pub(super) fn of(base: &Base<'_>, table: &str) -> Self {
        let mut doubt = Self { everywhere: !base.log_losses.is_empty(), ..Self::default() };
        let Some(object) = base.schema.objects.iter().find(|o| o.kind == ObjectKind::Table && o.name == table) else {
            return Self { everywhere: true, ..doubt };
        };
        let is_its_index = |name: &str| base.report.trees.iter().any(|tree| tree.name == name && tree.table == table);
        let mut pages = HashSet::new();
        for finding in base.report.findings.iter().filter(|finding| finding.rows_at_risk) {
            let Some(name) = finding.object.as_deref() else { continue };
            if finding.kind == FindingKind::IndexMismatch && is_its_index(name) {
                doubt.more |= finding.rows.is_empty() || finding.rows.len() >= TOLD_MAX;
                doubt.rows.extend(&finding.rows);
                doubt
                    .ranges
                    .extend(finding.rows.iter().map(|row| Rowids { after: row.checked_sub(1), up_to: Some(*row) }));
            } else if name == table {
                match (finding.rowids, finding.page) {
                    (Some(rowids), _) => doubt.ranges.push(rowids),
                    (None, Some(page)) => drop(pages.insert(page)),
                    (None, None) => doubt.everywhere = true,
                }
            }
        }
        let without_rowid = object.table_shape.as_ref().is_none_or(|shape| shape.without_rowid);
        if without_rowid {
            doubt.everywhere |= !pages.is_empty() || !doubt.ranges.is_empty();
        } else if !pages.is_empty() {
            doubt.add_pages(base, object.root, &pages);
        }
        doubt
    }

    /// Rows of a page with damage in it may be wrong, and others may have been on it: between those of its neighbours.
    fn add_pages(&mut self, base: &Base<'_>, root: u32, pages: &HashSet<u32>) {
        let (mut here, mut last, mut open) = (0, None, None);
        base.view.image().walk(root, Some(true), 0, &mut |met| {
            let (page, rowid) = match met {
                Met::Row { page, rowid, .. } => (page, Some(rowid)),
                Met::Fault { page, .. } => (page, None),
            };
            if page != here {
                here = page;
                if let Some(after) = open.take() {
                    let up_to = rowid.and_then(|rowid| rowid.checked_sub(1));
                    self.ranges.push(Rowids { after, up_to });
                }
                if pages.contains(&page) {
                    open = Some(last);
                }
            }
            if let Some(rowid) = rowid {
                last = Some(rowid);
                if pages.contains(&page) {
                    self.rows.insert(rowid);
                    self.everywhere |= self.rows.len() > ROWS_MAX;
                }
            }
            !self.everywhere
        });
        if let Some(after) = open {
            self.ranges.push(Rowids { after, up_to: None });
        }
    }

    pub(super) fn is_none(&self) -> bool {
        !self.everywhere && self.ranges.is_empty() && self.rows.is_empty()
    }

    /// Rows that were read and may be wrong, one by one.
    pub(super) fn rows(&self) -> &HashSet<i64> {
        &self.rows
    }

    /// Whether a row with this rowid may be missing.
    pub(super) fn may_be_missing(&self, rowid: i64) -> bool {
        let within =
            |r: &Rowids| r.after.is_none_or(|after| rowid > after) && r.up_to.is_none_or(|up_to| rowid <= up_to);
        self.everywhere || self.ranges.iter().any(within)
    }

    /// Whether the row with this rowid, which was read, may be wrong.
    pub(super) fn may_be_wrong(&self, rowid: i64) -> bool {
        self.everywhere || self.rows.contains(&rowid)
    }
}
