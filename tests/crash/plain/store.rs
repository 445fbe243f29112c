//! What must hold of a store after anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use svckit_testbed::command::Outcome;

use super::template::{TARGET, backups};

/// The visible backups and the content of their files.
pub(crate) type Backups = BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>>;

/// The old backups are as they were, except that the `doomed` may be gone; everything visible can be read, and
/// what is new verifies, with a restore. Returns the new ones. `svc_backup` runs the program.
///
/// # Errors
/// What does not hold.
pub(crate) fn check(
    store: &Path,
    before: &Backups,
    doomed: &[String],
    svc_backup: &dyn Fn(&[&str]) -> Outcome,
) -> Result<Vec<String>, String> {
    let now = backups(store);
    for (id, files) in before {
        match now.get(id) {
            Some(found) if found == files => {}
            None if doomed.contains(id) => {}
            _ => return Err(format!("the old backup {id} was harmed")),
        }
    }
    let store = store.to_string_lossy();
    let listed = svc_backup(&["list", "--from", &store, "--json"]);
    if listed.status != 0 {
        return Err(format!("something partial is visible: list ends with {}: {}", listed.status, listed.stdout));
    }
    let new: Vec<String> = now.into_keys().filter(|id| !before.contains_key(id)).collect();
    for id in &new {
        let verified = svc_backup(&["verify", "--from", &store, TARGET, id, "--restore"]);
        if verified.status != 0 {
            let said = verified.stdout + &verified.stderr;
            return Err(format!("partial: the visible backup {id} does not verify: {said}"));
        }
    }
    Ok(new)
}
