//! What a payload must pass to count: the glue between the archive, which reads bytes back, and the database that
//! judges them.

use std::path::Path;

use crate::archive::{Checked, Payload, PayloadKind};
use crate::database::sqlite;
use crate::failure::Failure;
use crate::progress::{Cancel, Observer};

/// The check of one payload on the decompressed bytes that were written.
pub(super) fn check_payload<'a>(
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
) -> impl FnMut(&Payload, &Path) -> Result<Checked, Box<dyn Failure + Send + Sync>> + 'a {
    move |payload, content| match payload.kind {
        PayloadKind::Sqlite => {
            let validation = sqlite::validate(content, cancel, observer).map_err(boxed)?;
            let facts = serde_json::to_value(&validation.facts).unwrap_or_default();
            Ok(Checked { rungs: validation.rungs, facts })
        }
        // Its rungs (hashes, a full parse) are climbed by the archive itself.
        PayloadKind::Files => Ok(Checked { rungs: Vec::new(), facts: serde_json::Value::Null }),
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
