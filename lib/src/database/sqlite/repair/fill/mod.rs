//! The last step, which a person has to ask for: a whole backup of the same database, and the rows salvaged since.
//!
//! Row by row, by its key (the rowid, or the primary key of a table without):
//!
//! | in the damaged database | in the backup | what is taken |
//! |---|---|---|
//! | read, in a part that is whole | anything | the database's |
//! | gone from a part that is whole | there | nothing: it was deleted since |
//! | can't be read any more | there | the backup's, unless a whole index says that the row was deleted since |
//! | read, in doubt, and an index says the same | there, differs | the database's |
//! | read, in doubt, and the indices have the backup's values | there, differs | the backup's; the other is set aside |
//! | read, in doubt, and nothing decides | there, differs | the database's; the other is set aside, and that is told |
//!
//! A row of the backup may have been changed or deleted since. Only where whole indices have all of its columns is it
//! proved to be the row that was lost; everywhere else the account says how many rows are of the backup.

mod alone;
mod doubt;
mod row;
mod witness;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

pub(super) use alone::alone;

use self::doubt::Doubt;
use self::row::{Filled, Filler};
use self::witness::Witness;
use super::account::TableAccount;
use super::aside::Aside;
use super::judge::judge;
use super::prove::disagreeing;
use super::{Base, Repaired, Step, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::Asked;
use crate::database::sqlite::pages::{Met, Object, ObjectKind, Schema, Values, View};
use crate::database::sqlite::stubs;

/// Between two words to the observer, in rows.
const GRAIN: u64 = 8192;

/// Fills what a salvage has left open.
pub(super) fn fill(base: &Base<'_>, salvaged: Repaired, backup: &View) -> Result<Repaired, SqliteError> {
    let Repaired { file, set_aside, mut accounting } = salvaged;
    header::to_rollback(&file)?;
    let aside = base.input.work.join("lost_and_found.db");
    let encoding = base.view.image().layout().encoding;
    let mut aside = match set_aside {
        Some(_) => Aside::again(&aside, encoding)?,
        None => Aside::new(&aside, encoding),
    };
    let filled = {
        let view = View::open_own(&file, base.input.cancel)?;
        let schema = Schema::read(view.image());
        drop(view);
        let job = Job { base, backup, theirs: Schema::read(backup.image()), ours: &schema };
        job.all(&file, &mut aside)?
    };
    let set_aside = aside.finish()?;
    let judged = judge(base, &file)?;
    for table in &mut accounting.tables {
        let rows = judged.report.trees.iter().find(|t| t.kind == ObjectKind::Table && t.name == table.table);
        table.after = rows.map_or(table.after, |tree| tree.entries);
        let Some((_, filled)) = filled.iter().find(|(name, _)| *name == table.table) else { continue };
        enter(table, filled);
        let proved = table.from_backup == table.proved && table.lost == Some(0) && table.doubtful == 0;
        if table.from_backup > 0 && proved {
            table.doubtful += disagreeing(base, &judged, &table.table);
        }
    }
    accounting.step = Step::Restore;
    accounting.notes.extend(filled.iter().flat_map(|(name, filled)| notes(name, filled)));
    accounting.settle(&judged);
    header::finish(base, &file)?;
    Ok(Repaired { file, set_aside, accounting })
}

fn enter(table: &mut TableAccount, filled: &Filled) {
    (table.from_backup, table.proved, table.conflicts) =
        (filled.rows + filled.replaced, filled.proved, filled.undecided);
    // Which rows there were is known: those that are there now are not lost.
    if filled.existence_known {
        table.lost = table.lost.map(|lost| lost.saturating_sub(filled.rows));
    }
    // Findings speak of pages: they are settled once every row that may be meant is.
    if !filled.doubt_left && filled.left_out.is_none() {
        table.doubtful = 0;
    }
    table.set_aside += filled.refused;
}

fn notes(name: &str, filled: &Filled) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            notes.push(format!("{name}: {count} {what}"));
        }
    };
    note(filled.deleted, "rows of the backup are not taken: a whole index says that they were deleted since");
    note(filled.replaced, "rows in doubt are taken from the backup, whose values the indices have");
    note(filled.confirmed, "rows in doubt are the database's own, whose values the indices have");
    if let Some(why) = &filled.left_out {
        notes.push(format!("{name}: nothing is taken from the backup: {why}"));
    }
    notes
}

struct Job<'a, 'b> {
    base: &'a Base<'b>,
    backup: &'a View,
    theirs: Schema,
    ours: &'a Schema,
}

impl Job<'_, '_> {
    fn all(&self, file: &std::path::Path, aside: &mut Aside) -> Result<Vec<(String, Filled)>, SqliteError> {
        let connection = open(file)?;
        let mut all = Vec::new();
        for table in self.ours.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
            let doubt = Doubt::of(self.base, &table.name);
            if doubt.is_none() || table.name.starts_with("sqlite_") {
                continue;
            }
            let filled = match self.counterpart(table) {
                Ok(theirs) => self.table(table, theirs, &doubt, &connection, aside)?,
                Err(why) => Filled { left_out: Some(why), ..Filled::default() },
            };
            all.push((table.name.clone(), filled));
        }
        connection.execute_batch("COMMIT").asked("write to", file)?;
        connection.close().map_err(|(_, source)| source).asked("close", file)?;
        Ok(all)
    }

    /// The same table in the backup, or why there is none whose rows could be taken.
    fn counterpart(&self, table: &Object) -> Result<&Object, String> {
        let is_part_of = |object: &&Object| {
            object.kind == ObjectKind::VirtualTable
                && table.name.strip_prefix(&object.name).is_some_and(|rest| rest.starts_with('_'))
        };
        if self.ours.objects.iter().any(|object| is_part_of(&object)) && !table.name.ends_with("_content") {
            return Err("it is a part of a virtual table, which is whole or nothing".to_owned());
        }
        let found = self
            .theirs
            .objects
            .iter()
            .find(|o| o.kind == ObjectKind::Table && o.name.eq_ignore_ascii_case(&table.name));
        let Some(found) = found else { return Err("the backup does not have it".to_owned()) };
        let (Some(ours), Some(theirs)) = (&table.table_shape, &found.table_shape) else {
            return Err("its definition is not understood".to_owned());
        };
        let names = |shape: &crate::database::sqlite::pages::TableShape| -> Vec<String> {
            let name =
                |column: &usize| shape.columns.get(*column).map_or(String::new(), |c| c.name.to_ascii_lowercase());
            shape.stored.iter().map(name).collect()
        };
        // A column can be added at the end, and its default is that of older rows.
        let same = ours.without_rowid == theirs.without_rowid && ours.rowid_alias == theirs.rowid_alias;
        if !same || ours.doubtful || !names(ours).starts_with(&names(theirs)) {
            return Err("it has other columns there".to_owned());
        }
        Ok(found)
    }

    fn table(
        &self,
        ours: &Object,
        theirs: &Object,
        doubt: &Doubt,
        connection: &Connection,
        aside: &mut Aside,
    ) -> Result<Filled, SqliteError> {
        let Some(shape) = &ours.table_shape else { return Ok(Filled::default()) };
        self.base.input.observer.step(&format!("filling {} from the backup", ours.name));
        let witnesses = Witness::all(self.base, &ours.name, shape, doubt);
        let mut filler = Filler::new(connection, ours, shape, doubt, &witnesses, self.backup.image().layout().encoding);
        let (mut error, mut rows) = (None, 0_u64);
        self.backup.image().walk(theirs.root, Some(!shape.without_rowid), usize::MAX, &mut |met| {
            let Met::Row { page, rowid, record: Ok(record) } = met else { return true };
            let Some(values) = Values::all(&record) else { return true };
            rows += 1;
            if rows.is_multiple_of(GRAIN) {
                self.base.input.observer.step(&format!("filling {} from the backup: {rows} rows compared", ours.name));
            }
            if self.base.input.cancel.is_requested() {
                error = Some(SqliteError::Cancelled { what: "filling", path: self.base.file.clone() });
            } else if let Err(failed) = filler.row(page, rowid, &values, aside) {
                error = Some(failed);
            }
            error.is_none()
        });
        error.map_or_else(|| Ok(filler.finish()), Err)
    }
}

fn open(file: &std::path::Path) -> Result<Connection, SqliteError> {
    let connection = Connection::open(file).asked("open", file)?;
    if let stubs::Schema::Opens(stubs) = stubs::find(file)? {
        // Of what depends on their meaning, a salvage has made nothing.
        stubs.register(&connection, file)?;
    }
    let set = || -> rusqlite::Result<()> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.execute_batch(
            "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-32768; BEGIN;",
        )
    };
    set().asked("set up", file)?;
    Ok(connection)
}
