//! Where no definition of any table can be read: every row that can be, as values without names, in `lost_and_found`. No
//! repair, but nothing that was readable is out of reach then.

use std::path::PathBuf;

use super::aside::{Aside, Origin};
use super::{Base, orphans};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::{Met, ObjectKind, Values};

/// The database, and how many rows are in it; `None` where there are definitions, or no rows.
pub(super) fn rows(base: &Base<'_>) -> Result<Option<(PathBuf, u64)>, SqliteError> {
    if base.schema.objects.iter().any(|object| object.kind == ObjectKind::Table) {
        return Ok(None);
    }
    base.input.observer.step("keeping every row that can be read");
    let path = base.input.work.join("stray.db");
    let mut aside = Aside::new(&path, base.view.image().layout().encoding);
    let (mut rows, mut error) = (0, None);
    for orphan in orphans::find(base) {
        let reason = match orphan.is_table() {
            true => "no definition of any table can be read",
            false => "no definition can be read: an entry of an index, or a row of a table without rowid",
        };
        let _unreadable = base.view.image().rows_of_page(orphan.page, usize::MAX, &mut |met| {
            let Met::Row { page, rowid, record: Ok(record) } = met else { return true };
            let Some(values) = Values::all(&record) else { return true };
            match aside.put(Origin { table: None, page, rowid }, reason, &values) {
                Ok(()) => rows += 1,
                Err(failed) => error = Some(failed),
            }
            error.is_none()
        });
        if base.input.cancel.is_requested() {
            return Err(SqliteError::Cancelled { what: "salvaging", path: base.file.clone() });
        }
        if let Some(error) = error.take() {
            return Err(error);
        }
    }
    Ok(aside.finish()?.map(|path| (path, rows)))
}
