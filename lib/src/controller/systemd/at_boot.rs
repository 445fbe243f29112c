//! Whether what a power cut interrupts is brought to its end at the next boot.

use super::bus::{self, Bus};
use crate::controller::Scope;

/// The unit that finishes or undoes at boot what a power cut interrupted.
pub(super) const RESUME_UNIT: &str = "svc-resume.service";

/// What is said where it is not enabled.
pub(in crate::controller) fn not_enabled(leaves: &str) -> String {
    format!(
        "{RESUME_UNIT} is not enabled, so after a power cut {leaves}; enable it first: svc-backup install-units && systemctl enable {RESUME_UNIT}"
    )
}

/// Whether the manager of that scope runs `svc-ctl resume` at boot; `None` where no systemd runs at all. Bounded to a
/// few seconds.
pub(in crate::controller) fn resumes_at_boot(scope: Scope) -> Option<bool> {
    match Bus::connect(scope) {
        Ok(bus) => Some(is_enabled(&bus)),
        // A user without a manager, on a machine that has one: nobody resumes for them.
        Err(_) if scope == Scope::User => Bus::connect(Scope::System).ok().map(|_| false),
        Err(_) => None,
    }
}

pub(super) fn is_enabled(bus: &Bus) -> bool {
    let state = bus.manager("GetUnitFileState", (RESUME_UNIT,));
    state.and_then(|message| bus::parsed::<String>(&message)).is_ok_and(|state| state == "enabled")
}
