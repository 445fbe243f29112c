//! The third step: every row that can be read, into a new database with the definitions of the old one.

use std::path::Path;

use super::account::{Tally, account};
use super::aside::{Aside, Origin};
use super::judge::{Judged, judge};
use super::orphans::{self, Whose, fit};
use super::prove::unclaimed;
use super::rebuild::{Inserter, Rebuild, open};
use super::{Base, Repaired, Step, by_service, corrupt, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::{
    Encoding, FindingKind, Grown, IndexField, Met, Object, ObjectKind, TableShape, Value, Values,
};

/// Between two words to the observer, in rows.
const GRAIN: u64 = 8192;
/// Why rows are set aside.
const NO_RECORD: &str = "it is no record";
const NO_ROW: &str = "it is no row of this table";
/// What fits nowhere.
pub(super) const ASIDE: &str = "lost_and_found.db";
pub(super) const SEQUENCE: &str = "sqlite_sequence";
/// What SQLite writes of tables by their names: the check calls every other row none.
pub(super) const NAMED: [&str; 2] = [SEQUENCE, "sqlite_stat1"];
/// Rows of a table without one keep what AUTOINCREMENT has counted meanwhile.
const SEQUENCES_BEFORE: &str = "CREATE TEMP TABLE counted AS SELECT name, seq FROM main.sqlite_sequence;
    DELETE FROM main.sqlite_sequence;";
const SEQUENCES_AFTER: &str = "INSERT INTO main.sqlite_sequence SELECT name, seq FROM counted
        WHERE name NOT IN (SELECT name FROM main.sqlite_sequence WHERE name IS NOT NULL);
    UPDATE main.sqlite_sequence SET seq = (SELECT max(c.seq, sqlite_sequence.seq) FROM counted c
        WHERE c.name = sqlite_sequence.name) WHERE name IN (SELECT name FROM counted);
    DROP TABLE counted;";

pub(super) fn salvage(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    let layout = base.view.image().layout();
    let mut tables: Vec<&Object> = base.schema.objects.iter().filter(|o| o.kind == ObjectKind::Table).collect();
    if tables.is_empty() {
        return Err(corrupt(&base.file, "no definition of any table can be read"));
    }
    // What counts the rows of others comes last.
    tables.sort_by_key(|table| table.name == SEQUENCE);
    let file = base.input.work.join("salvaged.db");
    let rebuild = Rebuild::create(&file, base.view.image().header(), layout)?;
    let mut work = Work::new(base);
    let mut made = Vec::new();
    for table in &tables {
        match rebuild.create_table(table) {
            Ok(()) => made.push(*table),
            Err(error @ SqliteError::Corrupt { .. }) => return Err(error),
            Err(error) => drop(work.tally.failed.insert(table.name.clone(), error.to_string())),
        }
    }
    early_indices(base, &rebuild);
    for table in &tables {
        base.input.observer.step(&format!("salvaging the rows of {}", table.name));
        let counts = table.name == SEQUENCE && made.iter().any(|made| made.name == SEQUENCE);
        if counts {
            orphaned_rows(&mut work, &rebuild, &made)?;
            rebuild.run(SEQUENCES_BEFORE)?;
        }
        let shape = table.table_shape.as_ref().filter(|_| made.iter().any(|made| made.name == table.name));
        work.table(table, shape.filter(|shape| !shape.doubtful), &rebuild)?;
        if counts {
            rebuild.run(SEQUENCES_AFTER)?;
        }
    }
    if !made.iter().any(|made| made.name == SEQUENCE) {
        orphaned_rows(&mut work, &rebuild, &made)?;
    }
    base.input.observer.step("building indices");
    let failed = rebuild.finish(&base.schema)?;
    work.tally.failed.extend(failed);
    work.tell_recomputed(&file)?;
    let judged = judge(base, &file)?;
    work.unclaimed(&judged)?;
    let (tally, aside) = work.into_parts();
    let set_aside = aside.finish()?;
    let accounting = account(base, Step::Salvage, &judged, tally);
    header::finish(base, &file)?;
    Ok(Repaired { file, set_aside, accounting })
}

/// Of an index that two rows have broken, the second one must be seen when it comes.
fn early_indices(base: &Base<'_>, rebuild: &Rebuild) {
    let broken = base.report.findings.iter().filter(|finding| finding.kind == FindingKind::Duplicate);
    for name in broken.filter_map(|finding| finding.object.as_deref()) {
        let index = base.schema.objects.iter().find(|o| o.kind == ObjectKind::Index && o.name == name);
        let known = |object: &&Object| {
            object.index_shape.as_ref().is_some_and(|shape| !shape.fields.contains(&IndexField::Computed))
        };
        if let Some(sql) = index.filter(known).and_then(|object| object.sql.as_deref())
            && let Err(error) = rebuild.run(sql)
        {
            tracing::debug!(%error, "an index is made after the rows");
        }
    }
}

pub(super) struct Work<'b, 'i> {
    base: &'b Base<'i>,
    pub(super) encoding: Encoding,
    aside: Aside,
    tally: Tally,
    rows: u64,
    /// What ended a walk.
    error: Option<SqliteError>,
}

/// What became of a row.
enum Put {
    Done,
    /// It is not of this table, or breaks a constraint.
    Aside,
    /// A row with its key is there.
    There,
}

impl<'b, 'i> Work<'b, 'i> {
    pub(super) fn new(base: &'b Base<'i>) -> Self {
        let encoding = base.view.image().layout().encoding;
        let aside = Aside::new(&base.input.work.join(ASIDE), encoding);
        Self { base, encoding, aside, tally: Tally::default(), rows: 0, error: None }
    }

    pub(super) fn into_parts(self) -> (Tally, Aside) {
        (self.tally, self.aside)
    }

    pub(super) fn table(
        &mut self,
        table: &Object,
        shape: Option<&TableShape>,
        rebuild: &Rebuild,
    ) -> Result<(), SqliteError> {
        let base = self.base;
        let mut inserter = shape.map(|shape| Inserter::new(&rebuild.connection, &table.name, shape, self.encoding));
        let by_rowid = table.table_shape.as_ref().map(|shape| !shape.without_rowid);
        let (mut set_aside, mut second) = (0, 0);
        base.view.image().walk(table.root, by_rowid, usize::MAX, &mut |met| {
            let Met::Row { page, rowid, record } = met else { return true };
            let Ok(record) = record else { return true };
            let origin = Origin { table: Some(&table.name), page, rowid };
            let put = self.row(origin, shape.zip(inserter.as_mut()), &record);
            match put {
                Ok(Put::Done) => {}
                Ok(Put::Aside) => set_aside += 1,
                Ok(Put::There) => second += 1,
                Err(error) => self.error = Some(error),
            }
            self.error.is_none() && self.go_on()
        });
        let counts = self.tally.tables.entry(table.name.clone()).or_default();
        counts.set_aside += set_aside + second;
        counts.second += second;
        self.recomputed(&table.name, inserter.map_or(0, |inserter| inserter.recomputed));
        self.error.take().map_or(Ok(()), Err)
    }

    fn recomputed(&mut self, table: &str, rows: u64) {
        if rows > 0 {
            self.tally.tables.entry(table.to_owned()).or_default().recomputed += rows;
        }
    }

    /// Tells where a generated column has another value than was stored: either may be damaged, or the service's own SQLite
    /// computes otherwise. What a stand-in has computed is told elsewhere.
    pub(super) fn tell_recomputed(&mut self, file: &Path) -> Result<(), SqliteError> {
        let of_rows = self.tally.tables.iter_mut().filter(|(_, counts)| counts.recomputed > 0);
        for (name, counts) in of_rows {
            let table = self.base.schema.objects.iter().find(|o| o.kind == ObjectKind::Table && o.name == *name);
            let connection = open(file)?;
            if table.is_some_and(|table| by_service::has_stand_ins(&connection, table)) {
                counts.recomputed = 0;
            } else {
                let note = "rows had another value in a generated column, and it is computed anew";
                self.tally.notes.push(format!("{name}: {} {note}", counts.recomputed));
            }
        }
        Ok(())
    }

    /// Takes over what became of a table that was written page by page.
    pub(super) fn take(&mut self, table: &str, grown: &Grown) -> Result<(), SqliteError> {
        for unfit in &grown.unfit {
            let origin = Origin { table: Some(table), page: unfit.page, rowid: unfit.rowid };
            match Values::all(&unfit.record) {
                Some(values) => self.aside.put(origin, NO_ROW, &values)?,
                None => self.aside.put(origin, NO_RECORD, &[Value::Blob(&unfit.record)])?,
            }
        }
        let counts = self.tally.tables.entry(table.to_owned()).or_default();
        counts.set_aside += grown.unfit.len() as u64;
        counts.from_orphans += grown.from_orphans;
        Ok(())
    }

    /// Sets aside what may have been rows, and is nowhere in the result.
    pub(super) fn unclaimed(&mut self, judged: &Judged) -> Result<(), SqliteError> {
        for page in unclaimed(self.base, judged) {
            let _checked = self.base.view.image().rows_of_page(page, usize::MAX, &mut |met| {
                let Met::Row { page, rowid, record: Ok(record) } = met else { return true };
                let Some(values) = Values::all(&record) else { return true };
                let origin = Origin { table: None, page, rowid };
                match self.aside.put(origin, "nothing leads to it, and no index has it", &values) {
                    Ok(()) => self.tally.unmatched += 1,
                    Err(error) => self.error = Some(error),
                }
                self.error.is_none()
            });
            if let Some(error) = self.error.take() {
                return Err(error);
            }
        }
        Ok(())
    }

    fn go_on(&mut self) -> bool {
        self.rows += 1;
        if self.rows.is_multiple_of(GRAIN) {
            if self.base.input.cancel.is_requested() {
                self.error = Some(SqliteError::Cancelled { what: "salvaging", path: self.base.file.clone() });
                return false;
            }
            let all: u64 =
                self.base.report.trees.iter().filter(|t| t.kind == ObjectKind::Table).map(|t| t.entries).sum();
            // In bytes, as everything that is shown.
            let bytes = u64::from(self.base.report.pages) * self.base.report.page_size as u64;
            let share = self.rows as f64 / all.max(self.rows) as f64;
            self.base.input.observer.bytes((bytes as f64 * share) as u64, bytes);
        }
        true
    }

    fn row(
        &mut self,
        origin: Origin<'_>,
        into: Option<(&TableShape, &mut Inserter<'_, '_>)>,
        record: &[u8],
    ) -> Result<Put, SqliteError> {
        let Some(values) = Values::all(record) else {
            // Told by the check, and lost: its bytes are kept all the same.
            self.aside.put(origin, NO_RECORD, &[Value::Blob(record)])?;
            return Ok(Put::Aside);
        };
        let Some((shape, inserter)) = into else {
            self.aside.put(origin, "its table can't be made", &values)?;
            return Ok(Put::Aside);
        };
        let is_blank = values.iter().all(|value| *value == Value::Null);
        let is_named = is_blank || matches!(values.first(), Some(Value::Text(_)));
        if origin.table.is_some_and(|table| NAMED.contains(&table)) && !is_named {
            self.aside.put(origin, "it does not begin with the name of a table", &values)?;
            return Ok(Put::Aside);
        }
        let is_alias = |place: &usize| shape.rowid_alias == shape.stored.get(*place).copied();
        let alias_is_null = (0..values.len()).filter(is_alias).all(|place| values[place] == Value::Null);
        if values.len() > shape.stored.len() || !alias_is_null {
            self.aside.put(origin, NO_ROW, &values)?;
            return Ok(Put::Aside);
        }
        match inserter.put(origin.rowid, &values) {
            Ok(()) => Ok(Put::Done),
            Err(error) => {
                let there = is_there(&error);
                self.aside.put(origin, &error.to_string(), &values)?;
                Ok(if there { Put::There } else { Put::Aside })
            }
        }
    }
}

/// Whether a row with the same key was put before.
fn is_there(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID))
}

/// The rows of pages that nothing leads to any more.
pub(super) fn orphaned_rows(work: &mut Work<'_, '_>, rebuild: &Rebuild, tables: &[&Object]) -> Result<(), SqliteError> {
    let base = work.base;
    base.input.observer.step("matching pages that nothing leads to");
    let mut stale = 0_u64;
    for orphan in orphans::find(base) {
        let table = match orphans::whose(base, tables, &orphan) {
            Whose::Table(table) => Some(table),
            Whose::Unknown => None,
            Whose::Index => continue,
        };
        let shape = table.and_then(|table| table.table_shape.as_ref());
        let mut inserter = table
            .zip(shape)
            .map(|(table, shape)| Inserter::new(&rebuild.connection, &table.name, shape, work.encoding));
        let read = base.view.image().rows_of_page(orphan.page, usize::MAX, &mut |met| {
            let Met::Row { page, rowid, record: Ok(record) } = met else { return true };
            let Some(values) = Values::all(&record) else { return true };
            let origin = Origin { table: table.map(|table| table.name.as_str()), page, rowid };
            let fits = shape.is_some_and(|shape| fit(shape, &values).is_some());
            let put = match (shape.filter(|_| fits), inserter.as_mut()) {
                (Some(shape), Some(inserter)) => work.row(origin, Some((shape, inserter)), &record),
                _ => work.aside.put(origin, "no table is known to be its", &values).map(|()| Put::Aside),
            };
            match (put, table) {
                (Ok(Put::Done), Some(table)) => {
                    work.tally.tables.entry(table.name.clone()).or_default().from_orphans += 1;
                }
                (Ok(Put::There), _) => stale += 1,
                (Ok(_), Some(table)) => work.tally.tables.entry(table.name.clone()).or_default().set_aside += 1,
                (Ok(_), None) => work.tally.unmatched += 1,
                (Err(error), _) => work.error = Some(error),
            }
            work.error.is_none() && work.go_on()
        });
        if let Some((inserter, table)) = inserter.zip(table) {
            work.recomputed(&table.name, inserter.recomputed);
        }
        if let Some(error) = work.error.take() {
            return Err(error);
        }
        tracing::debug!(
            page = orphan.page,
            rows = orphan.rows,
            ?read,
            table = table.map(|t| t.name.as_str()),
            "orphan"
        );
    }
    if stale > 0 {
        work.tally.notes.push(format!(
            "{stale} rows in pages that nothing leads to have the key of a row that is there: they are set aside as older"
        ));
    }
    Ok(())
}
