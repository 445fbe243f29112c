//! Where a program is interrupted: which of its calls, and which of those when not all.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::trace::{Call, is_below};

/// What happens to the program at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// SIGKILL, before the call.
    Kill,
    /// The call fails once.
    Error(&'static str),
    /// The call and every later one of its name fail: the disk stays full.
    ErrorsFromHere(&'static str),
}

impl Fault {
    /// As strace's `inject=` says it.
    pub(crate) fn injection(self, point: &Point) -> String {
        match self {
            Self::Kill => format!("inject={}:signal=KILL:when={}", point.name, point.when),
            Self::Error(error) => format!("inject={}:error={error}:when={}", point.name, point.when),
            Self::ErrorsFromHere(error) => format!("inject={}:error={error}:when={}+", point.name, point.when),
        }
    }
}

/// A call that is interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Point {
    /// The call's name.
    pub(crate) name: String,
    /// Its number in its thread.
    pub(crate) when: u32,
    /// Where it is made.
    pub(crate) class: String,
}

/// Calls that change a file or a directory; each can fail.
const CHANGING: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "lchown",
    "utimensat",
    "setxattr",
    "fsetxattr",
    "lsetxattr",
    "removexattr",
];
/// Calls that open; those that may write are changes.
const OPENING: &[&str] = &["open", "openat", "openat2", "creat"];
/// Calls that read; they can fail too.
const READING: &[&str] = &["read", "pread64"];
/// Locks, processes, signals, and messages on sockets: the steps between the changes.
const STEPS: &[&str] = &[
    "flock",
    "fcntl",
    "clone",
    "clone3",
    "vfork",
    "fork",
    "execve",
    "kill",
    "tgkill",
    "tkill",
    "pidfd_send_signal",
    "pidfd_open",
    "sendmsg",
    "sendto",
    "recvmsg",
    "recvfrom",
    "connect",
];
/// Only in a complete sweep: the state of the disk is the same as at the next change.
const QUIET: &[&str] = &["close"];

/// Everything that is traced, as `-e trace=` takes it. A name that this architecture does not have is no error.
pub(crate) fn traced() -> String {
    let all = [CHANGING, OPENING, READING, STEPS, QUIET].concat();
    all.iter().map(|name| format!("?{name}")).collect::<Vec<_>>().join(",")
}

fn is_change(call: &Call) -> bool {
    let name = call.name.as_str();
    let opens_to_write = || ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC"].iter().any(|f| call.arguments.contains(f));
    CHANGING.contains(&name) || OPENING.contains(&name) && opens_to_write()
}

fn is_step(call: &Call) -> bool {
    let name = call.name.as_str();
    // Of fcntl only the locks.
    STEPS.contains(&name) && (name != "fcntl" || call.arguments.contains("SETLK"))
}

/// Every point of a recorded run at which this fault means something.
pub(crate) fn all(calls: &[Call], fault: Fault, roots: &[&str], thorough: bool) -> Vec<Point> {
    let mut seen = HashSet::new();
    let applies = |call: &&Call| match fault {
        Fault::Kill => thorough || is_change(call) || is_step(call),
        Fault::Error(_) | Fault::ErrorsFromHere(_) => {
            let reads = READING.contains(&call.name.as_str()) && fault == Fault::Error("EIO");
            (reads || is_change(call)) && roots.iter().any(|root| is_below(call, root))
        }
    };
    // Every thread's N-th call of a name fails, so an error is only where the first of them is the program's own: the
    // loader's first read is nobody's disk.
    let mut first = HashSet::new();
    calls
        .iter()
        .filter(|call| first.insert((call.name.clone(), call.when)) || fault == Fault::Kill)
        .filter(applies)
        .map(|call| Point { name: call.name.clone(), when: call.when, class: call.class.clone() })
        // Two threads may both have an N-th call of a name; the first to come to it is the one that is interrupted.
        .filter(|point| seen.insert((point.name.clone(), point.when)))
        .collect()
}

/// One point a distinct place, and a sample of the rest. A place is what a call is applied to and what the call before
/// was applied to, and the first of a run of equal calls; it counts `same_place_max` times, since a journal is written
/// at each stage, and each stage is a place of its own. Of more than `points_max` the seed chooses: each day others.
pub(crate) fn sample(all: Vec<Point>, same_place_max: u32, more: usize, points_max: usize, seed: u64) -> Vec<Point> {
    let mut seen: HashMap<(String, String), u32> = HashMap::new();
    let mut before = String::new();
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    for point in all {
        let is_repeat = point.class == before;
        let count = seen.entry((before, point.class.clone())).or_default();
        *count += 1;
        before = point.class.clone();
        if is_repeat && *count > 1 || *count > same_place_max { rest.push(point) } else { chosen.push(point) }
    }
    rest.sort_by_cached_key(|point| by_seed(seed, point));
    rest.truncate(more);
    chosen.extend(rest);
    if chosen.len() > points_max {
        chosen.sort_by_cached_key(|point| by_seed(seed, point));
        chosen.truncate(points_max);
    }
    chosen
}

/// A key that puts points in another order each day, and in the same one for the same seed.
pub(crate) fn by_seed(seed: u64, point: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, point).hash(&mut hasher);
    hasher.finish()
}

/// Run as stories: this binary has a harness of its own.
pub(crate) mod tests {
    use super::{Call, Fault, all, sample};

    fn call(name: &str, when: u32, path: &str, flags: &str) -> Call {
        let arguments = format!("3<{path}>{flags}");
        Call { name: name.to_owned(), when, arguments, class: format!("{name} {path}") }
    }

    pub(crate) fn a_sample_has_every_place_and_every_stage_and_a_seed_repeats_it() {
        let calls: Vec<Call> = (0..40).map(|n| call("write", n, if n == 20 { "/r/b" } else { "/r/a" }, "")).collect();
        let all = all(&calls, Fault::Kill, &["/r"], false);
        assert_eq!(all.len(), 40);
        let one = sample(all.clone(), 6, 3, 40, 7);
        let whens: Vec<u32> = one.iter().map(|point| point.when).collect();
        assert_eq!(whens[..4], [0, 1, 20, 21]);
        assert_eq!(whens.len(), 7);
        assert_eq!(one, sample(all.clone(), 6, 3, 40, 7));
        assert_eq!(sample(all.clone(), 6, 3, 5, 7).len(), 5);
        assert_ne!(one, sample(all, 6, 3, 40, 8));
    }

    pub(crate) fn an_error_is_injected_only_where_the_program_changes_its_own_files() {
        let calls = [
            call("openat", 1, "/usr/lib/x", ", O_RDONLY"),
            call("openat", 2, "/r/x", ", O_RDONLY"),
            call("openat", 3, "/r/x", ", O_WRONLY|O_CREAT"),
            call("write", 1, "pipe:[1]", ""),
            call("read", 1, "/r/x", ""),
            call("flock", 1, "/r/x", ""),
            call("pread64", 1, "/usr/lib/x", ""),
            call("pread64", 1, "/r/x", ""),
        ];
        let names =
            |fault| all(&calls, fault, &["/r"], false).iter().map(|p| (p.name.clone(), p.when)).collect::<Vec<_>>();
        assert_eq!(names(Fault::Error("ENOSPC")), [("openat".to_owned(), 3)]);
        assert_eq!(names(Fault::Error("EIO")), [("openat".to_owned(), 3), ("read".to_owned(), 1)]);
        assert_eq!(names(Fault::Kill).len(), 3);
    }
}
