//! Where nothing at all can be salvaged: the backup as it is.

use std::path::Path;

use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::repair::account::{Tally, account};
use crate::database::sqlite::repair::judge::judge;
use crate::database::sqlite::repair::{Base, RepairInput, Repaired, Step, header};

/// A copy of the backup, whose account says that all of it is of the backup. `reasons`: why nothing was salvaged.
pub(in super::super) fn alone(
    input: &RepairInput<'_>,
    reference: &Path,
    reasons: &[String],
) -> Result<Repaired, SqliteError> {
    let file = input.work.join("restored.db");
    std::fs::copy(reference, &file).map_err(|source| header::disk("copy to", &file, source))?;
    let base = Base::of_whole(RepairInput { copy: reference, ..*input })?;
    let judged = judge(&base, &file)?;
    let mut accounting = account(&base, Step::Restore, &judged, Tally::default());
    for table in &mut accounting.tables {
        (table.from_backup, table.readable_before) = (table.after, 0);
        (table.lost, table.lost_at_most) = (None, None);
    }
    accounting.notes.extend(reasons.iter().map(|reason| format!("nothing could be salvaged: {reason}")));
    accounting.settle(&judged);
    header::finish(&base, &file)?;
    Ok(Repaired { file, set_aside: None, accounting })
}
