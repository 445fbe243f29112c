//! The rows of a table, and the entries of an index that belong to them.

use super::super::super::error::SqliteError;
use super::super::check::{RowSums, of_entry};
use super::super::record::{Field, Value, read_fields};
use super::super::schema::Object;
use super::super::shape::TableShape;
use super::super::tree::Met;
use super::kept::Kept;
use super::tree::Grower;
use super::{GRAIN, Grown, Run, Unfit, Wanted, unfit};

/// So many rows that don't fit are kept in memory.
const UNFIT_MAX: usize = 10_000;

/// A table that is written.
pub(super) struct Copied {
    pub(super) grown: Grown,
    kept: Kept,
    sums: RowSums,
}

/// A table while it is being written.
struct Table<'r, 'a> {
    run: &'r Run<'a>,
    shape: &'r TableShape,
    grower: Grower<'r>,
    copied: Copied,
    fields: Vec<Field>,
    rows: u64,
}

impl Run<'_> {
    pub(super) fn table(&self, wanted: &Wanted<'_>) -> Result<Copied, SqliteError> {
        let (table, source) = (wanted.table, self.source);
        let encoding = source.image.layout().encoding;
        let sums = RowSums::of(source.schema, encoding, &table.name);
        let (Some(shape), Some(sums)) = (&table.table_shape, sums) else {
            return Err(unfit(source.path, "a table's columns are not known"));
        };
        source.observer.step(&format!("salvaging the rows of {}", table.name));
        let grower = Grower::new(self.room, table.root, true);
        let copied = Copied { grown: Grown::default(), kept: Kept::default(), sums };
        let mut writing = Table { run: self, shape, grower, copied, fields: Vec::new(), rows: 0 };
        let (mut orphans, mut result) = (wanted.orphans.iter().copied().peekable(), Ok(()));
        source.image.walk(table.root, Some(true), usize::MAX, &mut |met| {
            let Met::Row { rowid, .. } = &met else { return true };
            while let Some((_, page)) = orphans.next_if(|(first, _)| first < rowid)
                && result.is_ok()
            {
                result = writing.orphan(page);
            }
            if result.is_ok() {
                result = writing.met(&met).map(drop);
            }
            result.is_ok()
        });
        result?;
        for (_, page) in orphans {
            writing.orphan(page)?;
        }
        self.go_on(writing.rows % GRAIN)?;
        writing.grower.finish()?;
        Ok(writing.copied)
    }

    /// Whether the index is that of its table's rows now; else it is left empty.
    pub(super) fn index(&self, index: &Object, table: &Copied) -> Result<bool, SqliteError> {
        let Some(expected) = table.sums.of_index(&index.name) else { return Ok(false) };
        self.source.observer.step(&format!("salvaging index {}", index.name));
        let mut grower = Grower::new(self.room, index.root, false);
        let (mut fields, mut sum, mut entries, mut result) = (Vec::new(), 0_u64, 0_u64, Ok(()));
        let read = self.source.image.entries(index.root, &mut |record| {
            let last = read_fields(record, record.len() as u64, &mut fields).ok().and(fields.last());
            let last = last.and_then(|field| field.value(record));
            let Some(Value::Integer(rowid)) = last else { return false };
            entries += 1;
            if entries.is_multiple_of(GRAIN) {
                result = self.go_on(GRAIN);
            }
            if result.is_ok() && table.kept.has(rowid) {
                sum = sum.wrapping_add(of_entry(&fields, record));
                result = grower.entry(record);
            }
            result.is_ok()
        });
        result?;
        self.go_on(entries % GRAIN)?;
        if read && sum == expected {
            return grower.finish().map(|()| true);
        }
        tracing::debug!(index = index.name, "its entries are not those of the rows");
        grower.abandon().map(|()| false)
    }
}

impl Table<'_, '_> {
    fn orphan(&mut self, page: u32) -> Result<(), SqliteError> {
        let mut result = Ok(());
        let _checked = self.run.source.image.rows_of_page(page, usize::MAX, &mut |met| {
            match self.met(&met) {
                Ok(is_row) => self.copied.grown.from_orphans += u64::from(is_row),
                Err(error) => result = Err(error),
            }
            result.is_ok()
        });
        result
    }

    /// Whether it is a row of the table, and is written.
    fn met(&mut self, met: &Met<'_>) -> Result<bool, SqliteError> {
        let Met::Row { page, rowid, record: Ok(record) } = met else { return Ok(false) };
        self.rows += 1;
        if self.rows.is_multiple_of(GRAIN) {
            self.run.go_on(GRAIN)?;
        }
        let path = self.run.source.path;
        if !self.fits(record) {
            if self.copied.grown.unfit.len() >= UNFIT_MAX {
                return Err(unfit(path, "too many rows don't fit their table"));
            }
            self.copied.grown.unfit.push(Unfit { page: *page, rowid: *rowid, record: record.to_vec() });
            return Ok(false);
        }
        if !self.grower.row(*rowid, record)? {
            return Err(unfit(path, "the rows of a table are not in their order"));
        }
        if !self.copied.kept.add(*rowid) {
            return Err(unfit(path, "the rowids of a table have too many gaps"));
        }
        self.copied.sums.add(*rowid, &self.fields, record);
        Ok(true)
    }

    /// Whether it can be a row of this table at all: its values are as they are, those of generated columns too. No such
    /// column is younger than a row.
    fn fits(&mut self, record: &[u8]) -> bool {
        let fields = &mut self.fields;
        read_fields(record, record.len() as u64, fields).is_ok()
            && fields.len() <= self.shape.stored.len()
            && !self.shape.stored[fields.len()..].iter().any(|column| self.shape.columns[*column].is_generated)
            && fields
                .iter()
                .zip(&self.shape.stored)
                .all(|(field, column)| self.shape.rowid_alias != Some(*column) || field.serial.is_null())
    }
}
