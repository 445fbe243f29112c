//! Looks at a service's processes that fail. What can't be looked at may be alive: it is never taken for ended.

use super::fixture::{Guard, Plain, Work};
use crate::engine::{Fault, Fixture, Point, interrupt_on, is_thorough, seed, tell};

/// What the programs read of processes and locks, and how much of it is tried: every look, or every third.
const PLACES: [(&str, u32); 6] = [
    ("/proc/PID/stat", 1),
    ("/proc/PID/status", 3),
    ("/proc/PID/cmdline", 3),
    ("/proc/PID/cgroup", 3),
    ("/proc/locks", 1),
    ("/proc/sys/kernel/random/boot_id", 3),
];
/// How long one run may take.
const RUN_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(120);
/// A run makes fewer of one kind.
const LOOKS_MAX: u32 = 500;

pub(crate) fn failing_looks() {
    for (place, step) in PLACES {
        let step = if is_thorough() { 1 } else { step };
        let first = 1 + u32::try_from(seed() % u64::from(step)).unwrap();
        let mut failed = 0;
        for when in (first..LOOKS_MAX).step_by(usize::try_from(step).unwrap()) {
            let mut plain = Plain::new(Work::Backup("cold"), Guard::Alive, "exit");
            let file = place.replace("PID", &plain.first_pid().to_string());
            let point = Point { name: "read".to_owned(), when, class: file.clone() };
            let scratch = plain.root().to_owned();
            let program = plain.program();
            let end = interrupt_on(Some(&file), &program, &point, Fault::Error("EIO"), &scratch, RUN_WAIT_MAX);
            let checked = plain.check(&end, Fault::Error("EIO"));
            plain.tear_down();
            assert!(checked.is_ok(), "{place} read for the {when}th time fails: {checked:?}\n{:?}", end.outcome);
            if !end.fired {
                break;
            }
            failed += 1;
        }
        tell(&format!("looks: {failed} reads of {place} failed, one in each run\n"));
        assert!(failed > 0, "{place} is never read");
    }
}
