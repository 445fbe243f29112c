//! What a program's system calls were: the lines of `strace -f -y`, as calls with the number that `when=` counts by.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// One call, when it was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// How many calls of that name its thread has made, this one included: strace counts a thread and a name.
    pub(crate) when: u32,
    /// Its arguments as strace prints them.
    pub(crate) arguments: String,
    /// Where it is made, as well as can be told from outside: the name, and what it is applied to, without what
    /// differs from run to run.
    pub(crate) class: String,
}

/// The calls in the order in which they were entered. `root` is the fixture's directory.
pub(crate) fn parse(log: &str, root: &str) -> Vec<Call> {
    let mut counts: HashMap<(String, String), u32> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let rest = rest.trim_start();
        // Signals and ends (`---`, `+++`), and the second half of a call that another thread interrupted (`<...`).
        if !rest.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let count = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *count += 1;
        let class = class(name, arguments, root);
        calls.push(Call { name: name.to_owned(), when: *count, arguments: arguments.to_owned(), class });
    }
    calls
}

/// The paths among the arguments: of a descriptor (`3</a/b>`), or given as text (`"/a/b"`).
fn paths(name: &str, arguments: &str) -> Vec<String> {
    static PATHS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"\d+<([^>]*)>|"([^"]*)""#).unwrap());
    // What is written is no path.
    let data_first = matches!(name, "write" | "writev" | "pwrite64" | "pwritev" | "read" | "pread64" | "sendto");
    PATHS
        .captures_iter(arguments.split(" = ").next().unwrap_or_default())
        .filter_map(|found| found.get(1).or_else(|| found.get(2)))
        .map(|found| found.as_str().to_owned())
        .take(if data_first { 1 } else { 4 })
        .collect()
}

fn class(name: &str, arguments: &str, root: &str) -> String {
    static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
        // Identities of backups and entries; names of temporary files; numbers.
        Regex::new(r"\d{8}T\d{6}[A-Za-z0-9.-]*|\.tmp[A-Za-z0-9]{6}|(scratch-[a-z]*-?)[A-Za-z0-9]{6}|[0-9]+").unwrap()
    });
    let mut class = name.to_owned();
    for path in paths(name, arguments) {
        class.push(' ');
        class.push_str(&CHANGING.replace_all(&path.replace(root, "~"), "$1#"));
    }
    class
}

/// Whether a call is about a file below `root`, and not about a terminal, a pipe, a socket or the system's files.
pub(crate) fn is_below(call: &Call, root: &str) -> bool {
    paths(&call.name, &call.arguments).iter().any(|path| path.starts_with(root))
}

/// Run as stories: this binary has a harness of its own.
pub(crate) mod tests {
    use super::{is_below, parse};

    pub(crate) fn calls_are_counted_by_thread_and_name_and_classed_without_what_changes() {
        let log = "\
12 openat(AT_FDCWD</>, \"/t/x/20260101T000000Z-00ab12.json\", O_WRONLY|O_CREAT, 0600) = 5</t/x/a>\n\
12 write(5</t/x/a1>, \"\\\"/no/path\\\"\"..., 20 <unfinished ...>\n\
13 write(5</t/x/a2>, \"b\", 1) = 1\n\
12 <... write resumed>) = 20\n\
12 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
12 write(5</t/x/a3>, \"c\", 1) = 1\n\
12 +++ exited with 0 +++\n";
        let calls = parse(log, "/t/x");
        let seen: Vec<(&str, u32, &str)> = calls.iter().map(|c| (c.name.as_str(), c.when, c.class.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("openat", 1, "openat ~/#"),
                ("write", 1, "write ~/a#"),
                ("write", 1, "write ~/a#"),
                ("write", 2, "write ~/a#")
            ]
        );
        assert!(is_below(&calls[0], "/t/x") && !is_below(&calls[0], "/t/y"));
    }
}
