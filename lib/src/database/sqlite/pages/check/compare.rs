//! What the walks of all trees together say: indices against their tables, and each tree by itself.

use std::sync::atomic::Ordering;

use super::super::schema::ObjectKind;
use super::Check;
use super::plan::{IndexSum, RowPlan, Tree};
use super::report::{Finding, FindingKind, Loss, NotChecked, TreeReport};

impl Check<'_> {
    /// Compares the sums of every index with those of its table; how many there were.
    pub(super) fn compare_indices(&self, not_checked: &mut Vec<NotChecked>) -> u64 {
        let mut compared = 0;
        for index in &self.trees {
            let Some((table, number)) = index.compared_with else {
                continue;
            };
            let Some(table) = self.trees.get(table) else {
                continue;
            };
            let Some((plan, expected)) = table.rows.as_ref().and_then(|plan| Some((plan, plan.sums.get(number)?)))
            else {
                continue;
            };
            let mut skip = |why: &str| not_checked.push(NotChecked { object: index.name.clone(), why: why.to_owned() });
            let unsummed = table.unsummed.load(Ordering::Relaxed) + index.unsummed.load(Ordering::Relaxed);
            if !table.is_whole() {
                skip("its table is damaged: not compared with it");
            } else if !index.is_whole() {
                skip("it is damaged: only what can be read of it was compared with its table");
                self.compare_rest(table, plan, index, expected);
            } else if unsummed > 0 {
                skip("some values are too long, or older than their column: not compared with its table");
            } else {
                compared += 1;
                self.compare(table, plan, index, expected);
            }
        }
        for tree in self.trees.iter().filter(|tree| tree.not_ordered.load(Ordering::Relaxed) > 0) {
            let why = "some of its text is not UTF-16: the order of its keys was not judged there".to_owned();
            not_checked.push(NotChecked { object: tree.name.clone(), why });
        }
        self.doubt_what_several_lack();
        compared
    }

    /// Rows that one index lacks are the index's fault, mostly. Where several whole ones lack the same, a page of the table
    /// may be an older one, which has them again. Where rows can't be named, it is as many.
    fn doubt_what_several_lack(&self) {
        let lack_of = |finding: &Finding| {
            let index = self.trees.iter().find(|tree| Some(&tree.name) == finding.object.as_ref())?;
            let (table, _) = index.compared_with?;
            let is_one = finding.kind == FindingKind::IndexMismatch && finding.loss == Loss::Index;
            is_one.then(|| (table, index.entries.load(Ordering::Relaxed), finding.rows.clone()))
        };
        self.findings.look_back(|all| {
            let lacking: Vec<_> = all.iter().filter_map(lack_of).collect();
            for finding in all.iter_mut() {
                let Some(own) = lack_of(finding) else { continue };
                if lacking.iter().filter(|other| **other == own).count() > 1 {
                    let which = if own.2.is_empty() { "as many rows" } else { "the same rows" };
                    finding.what.push_str(&format!("; another index lacks {which}: they may have been deleted"));
                    (finding.loss, finding.rows_at_risk) = (Loss::Unknown, true);
                }
            }
        });
    }

    fn compare(&self, table: &Tree, plan: &RowPlan, index: &Tree, expected: &IndexSum) {
        let (entries, rows) = (index.entries.load(Ordering::Relaxed), table.entries.load(Ordering::Relaxed));
        let (mut loss, mut what) = if entries != rows {
            let loss = if entries > rows { Loss::Unknown } else { Loss::Index };
            (loss, format!("it has {entries} entries, and its table {} has {rows} rows", table.name))
        } else if index.sum.load(Ordering::Relaxed) != expected.sum.load(Ordering::Relaxed) {
            (Loss::Unknown, format!("some of its entries are not those of the rows of {}", table.name))
        } else {
            return;
        };
        self.observer.step(&format!("looking for the rows that {} has wrong", index.name));
        let mut wrong = Vec::new();
        if let Some(found) = self.differences(table, plan, index, expected) {
            for (rowids, how) in [
                (&found.missing, "not in the index"),
                (&found.extra, "in the index only"),
                (&found.other, "not the same"),
            ] {
                if let Some(first) = rowids.first() {
                    what.push_str(&format!("; {how}: row {first}"));
                    what.push_str(&if rowids.len() > 1 {
                        format!(" and {} more", rowids.len() - 1)
                    } else {
                        String::new()
                    });
                }
                wrong.extend_from_slice(rowids);
            }
            // The index may have fewer entries, and other ones too.
            if !found.extra.is_empty() || !found.other.is_empty() {
                loss = Loss::Unknown;
            }
            if found.count > wrong.len() {
                what.push_str(&format!(", of {} in all", found.count));
            }
        }
        index.faults.fetch_add(1, Ordering::Relaxed);
        let mut finding = Finding::new(FindingKind::IndexMismatch, loss, what).of(&index.name).at(index.root);
        finding.rows = wrong;
        self.findings.add(finding);
    }

    /// What a damaged index still says of rows: an entry in a whole page of it that is not that of any row.
    fn compare_rest(&self, table: &Tree, plan: &RowPlan, index: &Tree, expected: &IndexSum) {
        let Some(rows) = self.without_rows(table, plan, index, expected).filter(|rows| !rows.is_empty()) else {
            return;
        };
        let count = rows.len();
        let what = format!("entries in whole pages of it are not those of any row of {}: {count}", table.name);
        let mut finding = Finding::new(FindingKind::IndexMismatch, Loss::Unknown, what).of(&index.name).at(index.root);
        finding.rows = rows;
        self.findings.add(finding);
    }

    pub(super) fn tree_reports(&self) -> Vec<TreeReport> {
        let report = |tree: &Tree| {
            let whole_index = |index: &&Tree| {
                index
                    .compared_with
                    .is_some_and(|(table, _)| self.trees.get(table).is_some_and(|t| std::ptr::eq(t, tree)))
                    && index.is_whole()
            };
            let by_index =
                self.trees.iter().filter(whole_index).map(|index| index.entries.load(Ordering::Relaxed)).max();
            TreeReport {
                name: tree.name.clone(),
                kind: tree.kind,
                table: tree.table.clone(),
                pages: tree.pages.load(Ordering::Relaxed),
                entries: tree.entries.load(Ordering::Relaxed),
                damaged: !tree.is_whole(),
                rows_by_index: by_index.filter(|_| tree.kind == ObjectKind::Table && !tree.is_whole()),
            }
        };
        self.trees.iter().map(report).collect()
    }
}
