//! Whose a thing is: the process that made it, in words that another process can judge.

use super::{ProcessId, clock};

/// `PID:START_TICKS:BOOT_ID:PID_NAMESPACE` of this process.
///
/// # Errors
/// When /proc can't be read.
pub(crate) fn own() -> std::io::Result<String> {
    let own = ProcessId::own()?;
    Ok(format!("{}:{}:{}:{}", own.pid, own.start_ticks, own.boot_id, namespace()?))
}

fn namespace() -> std::io::Result<String> {
    Ok(std::fs::read_link("/proc/self/ns/pid")?.display().to_string().replace([':', '[', ']'], ""))
}

/// Whether whoever wrote it is gone. `None`: nobody here can tell, as of one in another namespace of processes.
pub(crate) fn is_dead(mark: &str) -> Option<bool> {
    let mut parts = mark.split(':');
    let (pid, ticks) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u64>().ok()?);
    let (boot, in_namespace) = (parts.next()?, parts.next()?);
    if boot != clock::boot_id().ok()? {
        return Some(true);
    }
    if in_namespace != namespace().ok()? {
        return None;
    }
    Some(ProcessId::of(pid).ok()?.is_none_or(|now| now.start_ticks != ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_of_this_namespace_or_of_an_earlier_boot_made_is_removed() {
        let own = own().unwrap();
        assert_eq!(is_dead(&own), Some(false));
        let parts: Vec<&str> = own.split(':').collect();
        let other = |ticks: &str, boot: &str, namespace: &str| format!("{}:{ticks}:{boot}:{namespace}", parts[0]);
        assert_eq!(is_dead(&other("1", parts[2], parts[3])), Some(true), "its pid was given away again");
        assert_eq!(is_dead(&other(parts[1], "another-boot", "pid1")), Some(true));
        assert_eq!(is_dead(&other("1", parts[2], "pid1")), None);
        assert_eq!(is_dead("nonsense"), None);
    }
}
