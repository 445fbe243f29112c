//! What became of every table and every definition.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::judge::Judged;
use super::{Base, Step, mend, prove, transplant};
use crate::database::sqlite::deep::DeepKind;
use crate::database::sqlite::pages::{Finding, FindingKind, Object, ObjectKind, Report, Rowids, Schema, TreeReport};

/// In what a check says of rows whose foreign key names no row.
const PARENTLESS: &str = " have no parent in ";

/// One table, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableAccount {
    /// Its name.
    pub table: String,
    /// Rows that its b-tree led to, before.
    pub readable_before: u64,
    /// Rows that it had by its whole indices, where it was damaged and has such.
    pub by_index: Option<u64>,
    /// Rows that it has now.
    pub after: u64,
    /// Of these, rows from pages that nothing led to any more.
    pub from_orphans: u64,
    /// Rows that are in it and may be wrong.
    pub doubtful: u64,
    /// Rows that could be read and don't fit: they are in `lost_and_found`.
    pub set_aside: u64,
    /// Rows that are lost; `None`: it can't be told.
    pub lost: Option<u64>,
    /// Where it can't be told: not more than these, by the rowids around them.
    pub lost_at_most: Option<u64>,
    /// Of the rows that it has now, those that are a backup's: they may have been changed or deleted since.
    #[serde(default)]
    pub from_backup: u64,
    /// Of these, the rows that whole indices prove to be what was lost, in every column.
    #[serde(default)]
    pub proved: u64,
    /// Rows in doubt that differ from the backup's, where nothing decides: the backup's are in `lost_and_found`.
    #[serde(default)]
    pub conflicts: u64,
}

/// The account of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// The step that it took.
    pub step: Step,
    /// Whether nothing at all is missing or doubtful, as far as anything tells.
    pub complete: bool,
    /// Every table with rows of its own.
    pub tables: Vec<TableAccount>,
    /// Tables, indices, views and triggers before, as far as they could be read.
    pub objects_before: usize,
    /// And now.
    pub objects_after: usize,
    /// Those that are missing now, with the reason where there is one.
    pub missing_objects: Vec<String>,
    /// Parts of the schema that could not be read before, and what of a backup stands in for them and may not be the same.
    pub unreadable_schema: Vec<String>,
    /// Pages of which nothing proves how many rows or definitions they have.
    #[serde(default)]
    pub unproved_pages: Vec<String>,
    /// What the log or the journal has lost.
    pub log_losses: Vec<String>,
    /// Rows that belong to no table that is known: they are in `lost_and_found`.
    pub unmatched_rows: u64,
    /// Full-text indices that do not agree with their rows and can't be built here.
    pub full_text: Vec<String>,
    /// R-trees whose own tables do not agree with each other: entries are missing or wrong, and nothing says which.
    #[serde(default)]
    pub spatial: Vec<String>,
    /// Full-text indices that were whole and did not agree with their rows: they are built anew from the rows, and which
    /// of the two was wrong can't be told.
    #[serde(default)]
    pub words_in_doubt: Vec<String>,
    /// What was made with stand-ins for something that only the service has, and must be made anew by the service.
    #[serde(default)]
    pub stand_ins: Vec<String>,
    /// What could not be judged here, rows without the parent that a foreign key names, and the like: no losses.
    pub notes: Vec<String>,
}

impl Accounting {
    /// Everything that is missing or doubtful, a sentence each; empty for a complete repair.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut losses: Vec<String> = self.tables.iter().filter_map(of_table).collect();
        losses.extend(self.missing_objects.iter().map(|object| format!("missing: {object}")));
        losses.extend(self.unreadable_schema.iter().map(|what| format!("schema: {what}")));
        losses.extend(self.unproved_pages.iter().cloned());
        losses.extend(self.log_losses.iter().cloned());
        if self.unmatched_rows > 0 {
            losses.push(format!("{} rows belong to no table that is known and are set aside", self.unmatched_rows));
        }
        losses.extend(self.full_text.iter().cloned());
        losses.extend(self.spatial.iter().map(|what| format!("R-tree: {what}")));
        losses.extend(self.words_in_doubt.iter().map(|table| {
            format!(
                "full-text index {table} did not agree with its rows and is built anew from them: some may be wrong"
            )
        }));
        losses.extend(self.stand_ins.iter().cloned());
        losses
    }

    /// Once more, of a result that was changed since the account was made.
    pub(super) fn settle(&mut self, judged: &Judged) {
        let of_deep = |kind| judged.deep.findings.iter().filter(move |f| f.kind == kind).map(|f| f.what.clone());
        self.objects_after = judged.schema.objects.iter().map(key).collect::<BTreeSet<_>>().len();
        self.full_text = of_deep(DeepKind::FullText).collect();
        self.spatial = of_deep(DeepKind::Spatial).collect();
        self.notes.retain(|note| !note.contains(PARENTLESS));
        self.notes.extend(of_deep(DeepKind::ForeignKey));
        self.complete = self.losses().is_empty();
    }
}

fn of_table(table: &TableAccount) -> Option<String> {
    let mut parts = Vec::new();
    match (table.lost, table.lost_at_most) {
        (Some(0), _) => {}
        (Some(lost), _) => parts.push(format!("{lost} rows are lost")),
        (None, Some(most)) => parts.push(format!("at most {most} rows are lost")),
        (None, None) => parts.push("how many rows are lost can't be told".to_owned()),
    }
    if table.set_aside > 0 {
        parts.push(format!("{} rows don't fit and are set aside", table.set_aside));
    }
    if table.doubtful > 0 {
        parts.push(format!("{} rows may be wrong", table.doubtful));
    }
    if table.from_backup > table.proved {
        let unproved = table.from_backup - table.proved;
        parts.push(format!("{unproved} rows are those of the backup, and may have been changed or deleted since"));
    }
    if table.conflicts > 0 {
        parts.push(format!("{} rows in doubt differ from the backup's, which are set aside", table.conflicts));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", table.table, parts.join(", ")))
}

/// What a salvage counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) tables: BTreeMap<String, Counts>,
    pub(super) unmatched: u64,
    /// Name of an object and why it could not be made.
    pub(super) failed: BTreeMap<String, String>,
    /// The definitions that were wanted, where others than the database's own were used.
    pub(super) wanted: Option<Schema>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) set_aside: u64,
    /// Of these, the rows whose key another row of the result has: of which one of the two is a copy, or an older one.
    pub(super) second: u64,
    pub(super) from_orphans: u64,
    /// Rows whose generated columns were stored with other values than they are given now.
    pub(super) recomputed: u64,
}

pub(super) fn account(base: &Base<'_>, step: Step, judged: &Judged, tally: Tally) -> Accounting {
    let wanted = tally.wanted.as_ref().unwrap_or(&base.schema);
    let names: BTreeSet<&str> = [wanted, &judged.schema]
        .iter()
        .flat_map(|schema| schema.objects.iter().filter(|o| o.kind == ObjectKind::Table).map(|o| o.name.as_str()))
        .collect();
    let table = |name: &str| of_one(base, step, judged, name, tally.tables.get(name).copied().unwrap_or_default());
    let tables = names.into_iter().map(table).collect();
    let keys = |schema: &Schema| schema.objects.iter().map(key).collect::<BTreeSet<_>>();
    let (before, after) = (keys(wanted), keys(&judged.schema));
    let missing_objects = before.difference(&after).map(|(kind, name, ..)| {
        let why = tally.failed.get(name).map_or_else(String::new, |why| format!(" ({why})"));
        format!("{kind} {name}{why}")
    });
    let of_deep = |kind| judged.deep.findings.iter().filter(move |f| f.kind == kind).map(|f| f.what.clone());
    let mut notes = tally.notes;
    notes.extend(mend::note(base));
    notes.extend(of_deep(DeepKind::ForeignKey));
    notes.extend(judged.deep.not_judged.iter().map(|what| format!("not judged by SQLite here: {what}")));
    // With definitions from elsewhere, what could not be read was replaced.
    let unreadable = if tally.wanted.is_some() { Vec::new() } else { base.schema.faults.clone() };
    let unreadable = unreadable.into_iter().map(|(page, what)| format!("page {page}: {what}"));
    let of_schema = transplant::schema_damage(&base.report).filter(|_| tally.wanted.is_none());
    let is_unnamed =
        |f: &&Finding| f.kind == FindingKind::PointerMap && f.rows_at_risk && f.object.is_none() && !base.borrowed;
    let of_schema = of_schema.into_iter().chain(base.report.findings.iter().filter(is_unnamed));
    let unreadable = unreadable.chain(of_schema.map(|f| format!("page {}: {}", f.page.unwrap_or_default(), f.what)));
    let mut accounting = Accounting {
        step,
        complete: false,
        tables,
        objects_before: before.len(),
        objects_after: after.len(),
        missing_objects: missing_objects.collect(),
        unreadable_schema: unreadable.chain(base.doubts.iter().cloned()).collect(),
        unproved_pages: base.mends.doubts.clone(),
        log_losses: base.log_losses.clone(),
        unmatched_rows: tally.unmatched,
        full_text: of_deep(DeepKind::FullText).collect(),
        spatial: of_deep(DeepKind::Spatial).collect(),
        words_in_doubt: Vec::new(),
        stand_ins: Vec::new(),
        notes,
    };
    // Words that are missing because their rows are: that is told of the rows.
    let is_explained =
        |words: &str| accounting.tables.iter().any(|t| t.table == format!("{words}_content") && of_table(t).is_some());
    accounting.words_in_doubt = judged.words_in_doubt.iter().filter(|words| !is_explained(words)).cloned().collect();
    accounting.complete = accounting.losses().is_empty();
    accounting
}

/// What makes two objects the same one.
fn key(object: &Object) -> (&'static str, String, String, Option<String>) {
    let kind = match object.kind {
        ObjectKind::Table => "table",
        ObjectKind::VirtualTable => "virtual table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    };
    (kind, object.name.clone(), object.table.clone(), object.sql.clone())
}

fn of_one(base: &Base<'_>, step: Step, judged: &Judged, name: &str, counts: Counts) -> TableAccount {
    let before = tree(&base.report, name);
    let after = tree(&judged.report, name).map_or(0, |tree| tree.entries);
    let readable_before = before.map_or(0, |tree| tree.entries);
    let by_index = before.and_then(|tree| tree.rows_by_index);
    let of_table = |f: &&Finding| f.object.as_deref() == Some(name) && f.rows_at_risk;
    let doubts = base.report.findings.iter().filter(of_table).filter(|f| is_doubt(f.kind)).count() as u64;
    let mut at_risk = base.report.findings.iter().filter(of_table).peekable();
    // What is set aside and is a row of its own.
    let apart = counts.set_aside - counts.second;
    let (lost, lost_at_most) = if at_risk.peek().is_none() {
        // A table whose definition could not be read was in no tree.
        (Some(readable_before.saturating_sub(after + counts.set_aside)), None)
    } else if let Some(rows) = by_index {
        (Some(rows.saturating_sub(after + apart)), None)
    } else if counts.second > 0 {
        // Pages that have them stand where others stood, and nothing tells how many rows those had.
        (None, None)
    } else {
        let gaps: Option<u64> = at_risk.filter(|f| !is_doubt(f.kind)).map(gap).sum();
        match gaps.map(|gaps| (readable_before + gaps).saturating_sub(after + apart)) {
            Some(0) => (Some(0), None),
            most => (None, most),
        }
    };
    // What is lost or set aside is in doubt no more; of two rows with one key the wrong one may have been kept.
    let mut doubtful =
        doubts.saturating_sub(lost.unwrap_or(0) + counts.set_aside).max(counts.second) + of_indices(base, name);
    doubtful += counts.recomputed;
    if base.report.findings.iter().any(|f| of_table(&f) && f.kind == FindingKind::Schema) {
        // What its rows mean is in doubt, then.
        doubtful = doubtful.max(after);
    }
    let mut lost = lost;
    if doubtful == 0 && lost == Some(0) && counts.set_aside == 0 {
        let unproved = prove::unproved(base, step, judged, name, counts.from_orphans);
        doubtful = unproved.rows;
        lost = lost.filter(|_| !unproved.others_are_gone);
    }
    TableAccount {
        table: name.to_owned(),
        readable_before,
        by_index,
        after,
        from_orphans: counts.from_orphans,
        doubtful,
        set_aside: counts.set_aside,
        lost,
        lost_at_most,
        from_backup: 0,
        proved: 0,
        conflicts: 0,
    }
}

pub(super) fn tree<'a>(report: &'a Report, name: &str) -> Option<&'a TreeReport> {
    report.trees.iter().find(|tree| tree.kind == ObjectKind::Table && tree.name == name)
}

/// Whether it speaks of rows that may be there and wrong. A page that can't be reached is there or is not: once its
/// rows are found, nothing about them is in doubt. Nor is anything of cells that a page does not name any more.
fn is_doubt(kind: FindingKind) -> bool {
    use FindingKind::{FreeSpace, NeverUsed, PageNumber, PageType, Unreadable};
    !matches!(kind, PageType | PageNumber | Unreadable | FreeSpace | NeverUsed)
}

/// Rows about which its indices say something else than it does. Those that only an index lacks are no doubt.
fn of_indices(base: &Base<'_>, table: &str) -> u64 {
    let is_its = |name: &str| base.report.trees.iter().any(|t| t.name == name && t.table == table);
    let mismatches =
        base.report.findings.iter().filter(|f| {
            f.kind == FindingKind::IndexMismatch && f.rows_at_risk && f.object.as_deref().is_some_and(is_its)
        });
    mismatches.map(|finding| (finding.rows.len() as u64).max(1)).max().unwrap_or(0)
}

/// The most rows that a page had which can't be read.
fn gap(finding: &Finding) -> Option<u64> {
    let Rowids { after: Some(after), up_to: Some(up_to) } = finding.rowids? else { return None };
    u64::try_from(up_to.checked_sub(after)?).ok()
}
