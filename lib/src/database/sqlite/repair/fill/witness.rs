//! Indices of the damaged database that can be read: they say which rows there were, and what was in some columns.

use std::collections::{HashMap, HashSet};

use super::doubt::Doubt;
use crate::database::sqlite::pages::{IndexField, IndexShape, ObjectKind, TableShape, Value, entry_of, index_entries};
use crate::database::sqlite::repair::Base;

/// So many entries of one index are held: beyond that, it says nothing.
const ENTRIES_MAX: usize = 4 << 20;

/// One index.
pub(super) struct Witness {
    shape: IndexShape,
    entries: HashMap<i64, u64>,
    /// Nothing is wrong with it at all: which rows it has is which rows there were.
    whole: bool,
}

/// What all witnesses together say of a version of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Those who know the row have these values.
    Same,
    /// One of them has others.
    Other,
    /// Nobody knows the row.
    Nothing,
}

impl Witness {
    pub(super) fn all(base: &Base<'_>, table: &str, shape: &TableShape, doubt: &Doubt) -> Vec<Self> {
        // Commits that are lost are lost for the indices too.
        if shape.without_rowid || !base.log_losses.is_empty() {
            return Vec::new();
        }
        let of_table = |o: &&crate::database::sqlite::pages::Object| {
            o.kind == ObjectKind::Index && o.table.eq_ignore_ascii_case(table)
        };
        base.schema.objects.iter().filter(of_table).filter_map(|index| Self::of(base, index, doubt)).collect()
    }

    fn of(base: &Base<'_>, index: &crate::database::sqlite::pages::Object, doubt: &Doubt) -> Option<Self> {
        let shape = index.index_shape.clone()?;
        if shape.partial || shape.fields.contains(&IndexField::Computed) {
            return None;
        }
        let tree = base.report.trees.iter().find(|tree| tree.kind == ObjectKind::Index && tree.name == index.name)?;
        let wanted = |rowid| doubt.may_be_missing(rowid) || doubt.may_be_wrong(rowid);
        let entries = index_entries(base.view.image(), index.root, ENTRIES_MAX, &wanted, base.input.cancel)?;
        Some(Self { shape, entries, whole: !tree.damaged })
    }

    /// Whether there was such a row; `None` where nobody can tell.
    pub(super) fn existed(all: &[Self], rowid: i64) -> Option<bool> {
        all.iter().find(|witness| witness.whole).map(|witness| witness.entries.contains_key(&rowid))
    }

    pub(super) fn ask(all: &[Self], table: &TableShape, rowid: i64, values: &[Value<'_>]) -> Word {
        let mut word = Word::Nothing;
        for witness in all {
            let Some(entry) = witness.entries.get(&rowid) else { continue };
            match entry_of(&witness.shape, table, rowid, values) {
                Some(own) if own == *entry => word = Word::Same,
                Some(_) => return Word::Other,
                None => {}
            }
        }
        word
    }

    /// Whether the whole ones have every column that a row consists of.
    pub(super) fn have_all_columns(all: &[Self], table: &TableShape) -> bool {
        let whole = || all.iter().filter(|witness| witness.whole);
        let known: HashSet<usize> = whole()
            .flat_map(|witness| witness.shape.fields.iter())
            .filter_map(|field| if let IndexField::Column(column) = field { Some(*column) } else { None })
            .collect();
        let is_own = |column: &&usize| {
            table.rowid_alias != Some(**column) && table.columns.get(**column).is_some_and(|c| !c.is_generated)
        };
        whole().next().is_some() && table.stored.iter().filter(is_own).all(|column| known.contains(column))
    }
}
