//! The lock of a maintenance pass: that of its database and of its service, as every operation takes them.

use std::path::PathBuf;

use super::common::{begin, lock_keys};
use super::error::OperationError;
use crate::controller::ServiceController;
use crate::lock::{LockKey, OperationLock, Wait};
use crate::quiesce::Context;

/// Takes the locks under which a pass of maintenance may write into `databases`: never beside a repair, a restore or a cold
/// backup. What one of these left unfinished is brought to its end first. Nothing is waited for.
///
/// # Errors
/// When somebody else holds one of them ([`crate::FailureKind::LockHeld`]), or what was interrupted can't be finished.
pub fn lock_for_maintenance(
    context: &Context,
    rule: &str,
    service: Option<&dyn ServiceController>,
    databases: &[PathBuf],
    names: &[String],
) -> Result<OperationLock, OperationError> {
    let mut keys = lock_keys(service, databases)?;
    keys.extend(names.iter().map(|name| LockKey::named(name)));
    keys.push(LockKey::named(&format!("tend {rule}")));
    begin(context, "tend", rule, &keys, Wait::No)
}
