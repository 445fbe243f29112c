//! One function a rule: what breaks it, as `path:line: why`.

use regex::Regex;

use crate::source::{Tree, code};

/// Ideally 300; never more than this.
pub(crate) const LINES_MAX: usize = 500;

/// The law of the library's modules: each imports only from lower levels; modules of one level do not know each other.
const LEVELS: &[(&str, u8)] = &[
    ("world", 0),
    ("compression", 0),
    ("name", 0),
    ("failure", 0),
    ("progress", 0),
    ("lock", 1),
    ("journal", 1),
    ("sqlite_locks", 1),
    ("controller", 2),
    ("ready", 2),
    ("quiesce", 3),
    ("database", 4),
    ("archive", 4),
    ("publish", 4),
    ("discover", 5),
    ("plan", 6),
    ("operation", 7),
    ("tend", 8),
];
/// An entry of the journal names the keys of the lock under which it was written; the lock knows nothing
/// of the journal.
const SIDEWAYS: &[(&str, &str)] = &[("journal", "lock")];
/// Level 0 is a few files that may know each other: names and failures are words that all of them use.
const FREE_AMONG_THEMSELVES: u8 = 0;

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

pub(crate) fn module_order(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, code) in tree.code(&["lib/src/"]) {
        let inner = path.trim_start_matches("lib/src/");
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" || !inner.contains('/') && level(module).is_none() && path.contains("planted") {
            continue;
        }
        let Some(own) = level(module) else {
            found.push(format!("{path}:1: module {module} has no level: give it one in tests/house/rules.rs"));
            continue;
        };
        for (line, imported) in imports(&code) {
            match level(&imported) {
                _ if imported == module || SIDEWAYS.contains(&(module, imported.as_str())) => {}
                Some(other) if other < own || other == own && own == FREE_AMONG_THEMSELVES => {}
                Some(other) => {
                    found.push(format!("{path}:{line}: {module} (level {own}) imports {imported} (level {other})"))
                }
                // `crate::Failure` and the like: what lib.rs exports again comes from level 0.
                None if imported.starts_with(char::is_uppercase) => {}
                None => found.push(format!("{path}:{line}: imports {imported}, which has no level")),
            }
        }
    }
    found
}

/// The first segments after each `crate::`, groups included.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::`, `my_crate::`: the second is somebody else's name.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|head| (line, head))),
            None => found.push((line, head(rest))),
        }
    }
    found
}

fn head(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn group_heads(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.retain(|h| !h.is_empty());
    heads
}

/// The one place that may send SIGKILL, behind the fence.
const FENCED_KILL: &str = "lib/src/quiesce/fenced_kill.rs";

pub(crate) fn sigkill(tree: &Tree) -> Vec<String> {
    let in_code = pattern(
        r"\bSIGKILL\b|\bSignal::(KILL|Kill)\b|\.(kill|start_kill|kill_on_drop)\s*\(|\bkill_process(_group)?\b|\b(kill|killpg|raise|tgkill|sigqueue)\s*\(|\bfrom_(named_)?raw(_unchecked)?\s*\(\s*9\b|\bKillUnit|\bkill_unit",
    );
    // A program or a file that kills for us can only be named in a string.
    let in_strings = pattern(r#""(pkill|kill|killall|fuser|[^" ]*cgroup\.kill)""#);
    let mut found = grep(tree.shipped(&["lib/src/", "bins/src/"]).map(|(path, text)| (path, code(&text))), &in_code);
    found.extend(grep(tree.shipped(&["lib/src/", "bins/src/"]), &in_strings));
    found.retain(|f| !f.starts_with(FENCED_KILL));
    found
}

pub(crate) fn sleeping(tree: &Tree) -> Vec<String> {
    let in_code = pattern(r"\bsleep(_until|_ms)?\s*\(|\bpark_timeout\b|\bnanosleep\b");
    let mut found = grep(tree.code(&["lib/", "bins/", "tests/", "benches/"]), &in_code);
    let in_shell = pattern(r"(^|[\s;|&(])sleep\s+[0-9$]");
    for (path, text) in &tree.files {
        if text.starts_with("#!/") {
            let code: Vec<&str> = text.lines().map(|l| if l.trim_start().starts_with('#') { "" } else { l }).collect();
            found.extend(grep([(path.as_str(), code.join("\n"))], &in_shell));
        }
    }
    found
}

pub(crate) fn library(tree: &Tree) -> Vec<String> {
    let forbidden = pattern(
        r"\bstd::env\b|\benv::(var|args|vars|current_dir|home_dir|temp_dir)|\bstd::\{[^}]*\benv\b|\be?print(ln)?!|\bprocess::(exit|abort)\b|\bstd(out|err)\(\)|\bdbg!",
    );
    grep(tree.shipped(&["lib/src/"]).map(|(path, text)| (path, code(&text))), &forbidden)
}

pub(crate) fn length(tree: &Tree) -> Vec<String> {
    let long = |(path, text): &&(String, String)| path.ends_with(".rs") && text.lines().count() > LINES_MAX;
    let all = tree.files.iter().filter(long);
    all.map(|(path, text)| format!("{path}:1: {} lines, at most {LINES_MAX}", text.lines().count())).collect()
}

pub(crate) fn words(tree: &Tree) -> Vec<String> {
    // Written so that this file does not find itself.
    let words = pattern(
        r"/wor[k]/|(?i)\bAI assistan[t]\b|\blanguage mode[l]\b|\bclaud[e]\b|\banthropi[c]\b|\bthe brie[f]\b|\bBRIEF\.m[d]\b|\bREQUIREMENTS\.m[d]\b|\bthe CE[O]\b|\bissue #?2\b",
    );
    tree.files.iter().flat_map(|(path, text)| grep([(path.as_str(), text.clone())], &words)).collect()
}

/// A test binary with a `main` of its own runs nothing at all under the usual harness, and passes.
pub(crate) fn harness(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        for section in text.split("[[test]]").skip(1) {
            let section = section.split("\n[").next().unwrap_or_default();
            let source = section.lines().find_map(|line| line.strip_prefix("path = \"../")?.strip_suffix('"'));
            let Some(source) = source else { continue };
            let source = format!("tests/{source}");
            let has_main = tree.files.iter().any(|(path, text)| *path == source && code(text).contains("\nfn main()"));
            if has_main != section.contains("harness = false") {
                found.push(format!("{path}: {source} has a main of its own: {has_main}"));
            }
        }
    }
    found
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

fn grep<'a>(files: impl IntoIterator<Item = (&'a str, String)>, pattern: &Regex) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            if pattern.is_match(line) {
                found.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    found
}
