//! The first step: what the log or the hot journal has is in the file already; is that all it takes?

use super::account::{Tally, account};
use super::judge::judge;
use super::{Base, Repaired, Step, corrupt, header};
use crate::database::sqlite::error::SqliteError;

pub(super) fn recover(base: &Base<'_>) -> Result<Repaired, SqliteError> {
    if base.report.is_damaged() {
        return Err(corrupt(&base.file, "more is damaged than the files beside it"));
    }
    let file = base.input.work.join("recovered.db");
    std::fs::copy(&base.file, &file).map_err(|source| header::disk("copy to", &file, source))?;
    let judged = judge(base, &file)?;
    let accounting = account(base, Step::Recovery, &judged, Tally::default());
    header::finish(base, &file)?;
    Ok(Repaired { file, set_aside: None, accounting })
}
