//! What a payload must pass to count: the glue between the archive, which reads bytes back, and the database that
//! judges them.

use super::prove::read_whole;
use crate::archive::{Checked, Content, Payload, PayloadKind};
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
) -> impl FnMut(&Payload, Content<'_>) -> Result<Checked, Box<dyn Failure + Send + Sync>> + 'a {
    move |payload, content| match (payload.kind, content) {
        (PayloadKind::Sqlite, Content::File(content)) => {
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
        (_, content @ Content::Stream(_)) => read_whole(content),
        (PayloadKind::Files | PayloadKind::Dump, Content::File(_)) => {
            Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null })
        }
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

pub(super) fn boxed<E: Failure + Send + Sync + 'static>(error: E) -> Box<dyn Failure + Send + Sync> {
    Box::new(error)
}

/// The rungs that every payload of its kind climbed, in the order of the first: a tree has others than a database.
pub(super) fn common_rungs<'a>(all: impl Iterator<Item = (PayloadKind, &'a [String])> + Clone) -> Vec<String> {
    let mut common: Vec<String> = Vec::new();
    for kind in [PayloadKind::Sqlite, PayloadKind::Dump, PayloadKind::Files] {
        let mut of_kind = all.clone().filter(|(of, _)| *of == kind).map(|(_, rungs)| rungs);
        let Some(first) = of_kind.next() else { continue };
        let rest: Vec<&[String]> = of_kind.collect();
        let climbed = first.iter().filter(|rung| rest.iter().all(|rungs| rungs.contains(rung)));
        let new: Vec<String> = climbed.filter(|rung| !common.contains(rung)).cloned().collect();
        common.extend(new);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_rungs_of_its_weakest_database_and_those_of_its_files() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (strong, weak, files) =
            (words("sums header integrity counts"), words("sums header counts"), words("sums parse"));
        let of = |all: &[(PayloadKind, &[String])]| common_rungs(all.iter().copied()).join(" ");
        let (db, tree) = (PayloadKind::Sqlite, PayloadKind::Files);
        assert_eq!(of(&[(tree, &files), (db, &strong), (db, &weak)]), "sums header counts parse");
        assert_eq!(of(&[(db, &strong)]), "sums header integrity counts");
        assert_eq!(of(&[(tree, &files)]), "sums parse");
        assert_eq!(of(&[]), "");
    }
}
