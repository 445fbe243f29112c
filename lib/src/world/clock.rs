//! Time as files and people see it.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The boot id of the running kernel (`/proc/sys/kernel/random/boot_id`, proc(5)): it tells a recorded process or
/// monotonic time from before a reboot from one of now.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> std::io::Result<String> {
    // No process sees two boots.
    static OF_THIS_BOOT: OnceLock<String> = OnceLock::new();
    if let Some(id) = OF_THIS_BOOT.get() {
        return Ok(id.clone());
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    Ok(OF_THIS_BOOT.get_or_init(|| id).clone())
}

const RFC3339: &str = "%Y-%m-%dT%H:%M:%SZ";

/// Now, as RFC 3339 in UTC with whole seconds: `2026-11-21T04:07:19Z`.
#[must_use]
pub fn now_rfc3339() -> String {
    jiff::Timestamp::now().strftime(RFC3339).to_string()
}

/// The same, and the nanoseconds of that second.
#[must_use]
pub fn now_rfc3339_and_ns() -> (String, u32) {
    let now = jiff::Timestamp::now();
    (now.strftime(RFC3339).to_string(), u32::try_from(now.subsec_nanosecond()).unwrap_or(0))
}

/// Now, as it stands in a backup's identity: `20261121T040719Z`.
#[must_use]
pub fn now_compact() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Seconds since the epoch; 0 where the clock stands before it.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
