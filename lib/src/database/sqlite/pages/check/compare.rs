//! What the walks of all trees together say: indices against their tables, and each tree by itself.

use std::sync::atomic::Ordering;

use super::super::schema::ObjectKind;
use super::Check;
use super::plan::Tree;
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
            let Some(expected) = table.rows.as_ref().and_then(|rows| rows.sums.get(number)) else {
                continue;
            };
            let mut skip = |why: &str| not_checked.push(NotChecked { object: index.name.clone(), why: why.to_owned() });
            let unsummed = table.unsummed.load(Ordering::Relaxed) + index.unsummed.load(Ordering::Relaxed);
            if !table.is_whole() {
                skip("its table is damaged: not compared with it");
            } else if !index.is_whole() {
                skip("it is damaged: not compared with its table");
            } else if unsummed > 0 {
                skip("some values are too long, or older than their column: not compared with its table");
            } else {
                compared += 1;
                let (entries, rows) = (index.entries.load(Ordering::Relaxed), table.entries.load(Ordering::Relaxed));
                let found = |loss, what: String| {
                    self.findings
                        .add(Finding::new(FindingKind::IndexMismatch, loss, what).of(&index.name).at(index.root));
                };
                if entries != rows {
                    let loss = if entries > rows { Loss::Unknown } else { Loss::Index };
                    found(loss, format!("it has {entries} entries, and its table {} has {rows} rows", table.name));
                } else if index.sum.load(Ordering::Relaxed) != expected.sum.load(Ordering::Relaxed) {
                    found(Loss::Unknown, format!("some of its entries are not those of the rows of {}", table.name));
                }
            }
        }
        compared
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
