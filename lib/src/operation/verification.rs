//! What a payload must pass to count: the glue between the archive, which reads bytes back, and the database that
//! judges them.

use std::path::Path;

use crate::archive::{Checked, Payload, PayloadKind};
use crate::database::sqlite::{self, SqliteError};
use crate::failure::{Failure, FailureKind};
use crate::progress::{Cancel, Observer};

/// Whose damage a damaged content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// That of the database itself: what was read from it a moment ago is what was written.
    Source,
    /// The backup's.
    Backup,
}

/// The check of one payload on the decompressed bytes that were written.
pub(super) fn check_payload<'a>(
    judged: Judged,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
) -> impl FnMut(&Payload, &Path) -> Result<Checked, Box<dyn Failure + Send + Sync>> + 'a {
    move |payload, content| match payload.kind {
        PayloadKind::Sqlite => {
            let validation = sqlite::validate(content, cancel, observer).map_err(|error| match (error, judged) {
                (SqliteError::Corrupt { findings, .. }, Judged::Source) => {
                    boxed(SqliteError::Corrupt { path: payload.source.clone(), findings })
                }
                (error, Judged::Source) => boxed(error),
                (error, Judged::Backup) => of_backup(error),
            })?;
            let facts = serde_json::to_value(&validation.facts).unwrap_or_default();
            Ok(Checked { rungs: validation.rungs, facts })
        }
        // Its rungs (hashes, a full parse) are climbed by the archive itself.
        PayloadKind::Files => Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null }),
    }
}

/// What is wrong with a copy that was taken out of a backup, and is gone when a person reads of it.
pub(super) fn of_backup(error: SqliteError) -> Box<dyn Failure + Send + Sync> {
    match error {
        SqliteError::Corrupt { findings, .. } => boxed(Unsound { findings }),
        other => boxed(other),
    }
}

/// A backup whose bytes are as they were written, and are no whole database.
#[derive(Debug, thiserror::Error)]
#[error("the database in it is damaged: {}", findings.join("; "))]
struct Unsound {
    findings: Vec<String>,
}

impl Failure for Unsound {
    fn kind(&self) -> FailureKind {
        FailureKind::Unverified
    }
    fn hint(&self) -> Option<String> {
        Some("use another backup, or take the database out with `zstd -d` and run `svc-repair check` on it".to_owned())
    }
}

fn boxed<E: Failure + Send + Sync + 'static>(error: E) -> Box<dyn Failure + Send + Sync> {
    Box::new(error)
}

/// The rungs that every payload climbed, in the order of the first.
pub(super) fn common_rungs(all: &[&[String]]) -> Vec<String> {
    let Some((first, rest)) = all.split_first() else { return Vec::new() };
    first.iter().filter(|rung| rest.iter().all(|rungs| rungs.contains(rung))).cloned().collect()
}
