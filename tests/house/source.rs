//! The repository's text, and Rust code without its comments and strings.

use std::path::Path;

/// Where a file's own unit tests begin; they stand at its end.
const TEST_MODULE: &str = "#[cfg(test)]\nmod tests {";

/// The tracked kinds of text file, by path from the root of the repository.
#[derive(Clone)]
pub(crate) struct Tree {
    pub(crate) files: Vec<(String, String)>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        let mut todo = vec![root.to_owned()];
        while let Some(directory) = todo.pop() {
            for entry in std::fs::read_dir(&directory).expect("a directory of the repository").flatten() {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if path.is_dir() {
                    if name != "target" && name != ".git" {
                        todo.push(path);
                    }
                } else if name != "Cargo.lock"
                    && name != ".git"
                    && let Ok(text) = std::fs::read_to_string(&path)
                {
                    let relative = path.strip_prefix(root).expect("below the root");
                    files.push((relative.to_string_lossy().into_owned(), text));
                }
            }
        }
        files.sort();
        Self { files }
    }

    /// A copy with one more file.
    pub(crate) fn with(&self, path: &str, text: &str) -> Self {
        let mut copy = self.clone();
        copy.files.push((path.to_owned(), text.to_owned()));
        copy
    }

    /// Rust files below one of the directories without their tests: what reaches a user. Tests may look for a temporary
    /// directory, and kill their own children.
    pub(crate) fn shipped<'a>(&'a self, below: &'a [&str]) -> impl Iterator<Item = (&'a str, String)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs") && below.iter().any(|root| path.starts_with(root)))
            .filter(|(path, _)| !self.is_test_module(path))
            .map(|(path, text)| (path.as_str(), text.split(TEST_MODULE).next().unwrap_or_default().to_owned()))
    }

    /// Whether the file is a module that its parent declares for tests only.
    fn is_test_module(&self, path: &str) -> bool {
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        let module = file.trim_end_matches(".rs");
        let parents = [format!("{directory}/mod.rs"), format!("{directory}/lib.rs"), format!("{directory}.rs")];
        let declared = |text: &str| {
            text.match_indices("#[cfg(test)]").any(|(at, attribute)| {
                let item = text[at + attribute.len()..].split([';', '{']).next().unwrap_or_default();
                item.ends_with(&format!("mod {module}"))
            })
        };
        self.files.iter().any(|(path, text)| parents.contains(path) && declared(text))
    }

    /// Rust files below one of the directories, as code: comments and the insides of strings blanked.
    pub(crate) fn code<'a>(&'a self, below: &'a [&str]) -> impl Iterator<Item = (&'a str, String)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs") && below.iter().any(|root| path.starts_with(root)))
            .map(|(path, text)| (path.as_str(), code(text)))
    }
}

/// The text with comments and the contents of string and character literals replaced by spaces; lines stay lines.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = literal(rest, at.checked_sub(1).map(|before| bytes[before]));
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(rest[..length].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }));
            at += length;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The length of the comment or literal that begins here; 0 where none does.
fn literal(rest: &[u8], before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !in_word => raw_string(rest),
        // A lifetime has no closing quote near by.
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', ..] => {
            let end = rest.iter().skip(1).take(5).position(|b| *b == b'\'').map_or(0, |p| p + 2);
            let one_character = std::str::from_utf8(&rest[1..end.max(2) - 1]).is_ok_and(|t| t.chars().count() == 1);
            if end > 2 && one_character { end } else { 0 }
        }
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    body.windows(end.len()).position(|w| w == end).map_or(rest.len(), |p| 2 + hashes + p + end.len())
}

#[test]
fn comments_and_literals_are_not_code() {
    assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a     \nc                   g");
    assert_eq!(code(r#"x("a\"b") y"#), "x(      ) y");
    assert_eq!(code("r#\"a\"b\"# c br'"), "         c br'");
    assert_eq!(code("f::<'a>('x', '\\'', '\"') \"y\""), "f::<'a>(   ,     ,    )    ");
    assert_eq!(code("for_each(\"x\")"), "for_each(   )");
}
