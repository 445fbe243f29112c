//! Partial indices: every entry must be that of a row. Which rows must have one is not judged, since only SQLite evaluates
//! a condition.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::super::record::{Value, read_fields};
use super::super::tree::Met;
use super::Check;
use super::differ::{RECORD_MAX, TOLD_MAX};
use super::known::Known;
use super::plan::Tree;
use super::report::{Finding, FindingKind, Loss, NotChecked};
use super::sums::of_entry;

impl Check<'_> {
    /// Compares the entries of every partial index with the rows that its table has shown.
    pub(super) fn compare_partial(&self, not_checked: &mut Vec<NotChecked>) {
        for index in &self.trees {
            let Some((table, number)) = index.partial_of else { continue };
            let Some(table) = self.trees.get(table) else { continue };
            let sum = table.rows.as_ref().and_then(|plan| plan.sums.get(number));
            let Some(known) = sum.and_then(|sum| sum.known.as_ref()) else { continue };
            let mut skip = |why: &str| not_checked.push(NotChecked { object: index.name.clone(), why: why.to_owned() });
            if self.view.keeps_waiting() {
                skip("its entries are not compared with rows while writers wait");
            } else if !table.is_whole() || table.unsummed.load(Ordering::Relaxed) > 0 {
                skip("its table is damaged, or has values that are too long: its entries are not compared with rows");
            } else {
                self.compare_entries(table, index, known);
            }
        }
    }

    fn compare_entries(&self, table: &Tree, index: &Tree, known: &Known) {
        let of_index = || self.findings.pages_of(&index.name);
        let Some(damaged) = (if index.is_whole() { Some(HashSet::new()) } else { of_index() }) else { return };
        let (mut fields, mut rows, mut count) = (Vec::new(), Vec::new(), 0_usize);
        self.image.walk(index.root, index.by_rowid, RECORD_MAX, &mut |met| {
            if let Met::Row { page, record: Ok(record), .. } = met
                && !damaged.contains(&page)
                && read_fields(&record, record.len() as u64, &mut fields).is_ok()
                && !known.has(of_entry(&fields, &record))
            {
                count += 1;
                if let Some(Value::Integer(rowid)) = fields.last().and_then(|field| field.value(&record))
                    && table.by_rowid == Some(true)
                    && rows.len() < TOLD_MAX
                {
                    rows.push(rowid);
                }
            }
            !self.is_over()
        });
        if count == 0 {
            return;
        }
        rows.sort_unstable();
        index.faults.fetch_add(1, Ordering::Relaxed);
        let first = rows.first().map_or_else(String::new, |row| format!("; the first of them: row {row}"));
        let what = format!("{count} of its entries are those of no row of {}{first}", table.name);
        let mut finding = Finding::new(FindingKind::IndexMismatch, Loss::Unknown, what).of(&index.name).at(index.root);
        finding.rows = rows;
        self.findings.add(finding);
    }
}
