//! The words of an SQL text (lang_keywords.html and SQLite's tokenize.c), as far as a CREATE statement needs them.

/// No schema has longer statements; SQLite's own bound is a million.
const TOKENS_MAX: usize = 200_000;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: a keyword or a name.
    Word(String),
    /// A name in quotes of any kind, the quotes taken off.
    Quoted(String),
    /// Text in single quotes, taken off.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// `x'...'`, the digits.
    Blob(String),
    /// Anything else, one character.
    Sign(char),
}

impl Token {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// As a name: SQLite takes text for one, where a name must stand.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) | Self::Text(name) => Some(name),
            _ => None,
        }
    }
}

/// Cuts a statement into words; comments and white space are left out. `None`: there is an end missing.
pub(super) fn tokens(sql: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if found.len() >= TOKENS_MAX {
            return None;
        }
        if first.is_ascii_whitespace() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        } else if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            // SQLite lets a comment end with the text.
            rest = rest[2..].split_once("*/").map_or("", |(_, rest)| rest);
        } else if matches!(first, '\'' | '"' | '`' | '[') {
            let end = if first == '[' { ']' } else { first };
            let (text, after) = quoted(&rest[1..], end)?;
            found.push(if first == '\'' { Token::Text(text) } else { Token::Quoted(text) });
            rest = after;
        } else if rest.len() > 1 && matches!(first, 'x' | 'X') && rest[1..].starts_with('\'') {
            let (digits, after) = quoted(&rest[2..], '\'')?;
            found.push(Token::Blob(digits));
            rest = after;
        } else if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let len = number_len(rest);
            found.push(Token::Number(rest[..len].to_owned()));
            rest = &rest[len..];
        } else if is_word(first) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..len].to_owned()));
            rest = &rest[len..];
        } else {
            found.push(Token::Sign(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(found)
}

/// Whether the text is one statement that ends with it, or before a last semicolon.
pub(in super::super) fn is_one_statement(sql: &str) -> bool {
    let ends = |tokens: Vec<Token>| {
        let at = tokens.iter().position(|token| *token == Token::Sign(';'));
        !tokens.is_empty() && at.is_none_or(|at| at > 0 && at + 1 == tokens.len())
    };
    tokens(sql).is_some_and(ends) && sql.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    while let Some(byte) = bytes.get(len) {
        let exponent = matches!(byte, b'+' | b'-')
            && len > 0
            && matches!(bytes[len - 1], b'e' | b'E')
            && !text.starts_with("0x")
            && !text.starts_with("0X");
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || exponent) {
            break;
        }
        len += 1;
    }
    len
}

/// The text up to `end`, doubled ones within it made one, and what follows.
fn quoted(text: &str, end: char) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once(end)?;
        found.push_str(part);
        // Brackets can't be doubled.
        match after.strip_prefix(end) {
            Some(after) if end != ']' => {
                found.push(end);
                rest = after;
            }
            _ => return Some((found, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_numbers_are_told_apart() {
        let found = tokens("CREATE --x\n\"a\"\"b\" [c d] `e` 'f''g' /* h */ x'00ff' 1.5e-3 .5 0x1F äö,(").unwrap();
        let expected = [
            Token::Word("CREATE".into()),
            Token::Quoted("a\"b".into()),
            Token::Quoted("c d".into()),
            Token::Quoted("e".into()),
            Token::Text("f'g".into()),
            Token::Blob("00ff".into()),
            Token::Number("1.5e-3".into()),
            Token::Number(".5".into()),
            Token::Number("0x1F".into()),
            Token::Word("äö".into()),
            Token::Sign(','),
            Token::Sign('('),
        ];
        assert_eq!(found, expected);
        assert_eq!(tokens("'open"), None);
    }

    #[test]
    fn one_statement_is_told_from_several_and_from_a_command() {
        for one in ["CREATE INDEX a ON b(c)", "REINDEX \"a;b\";", "SELECT ';' -- ; x"] {
            assert!(is_one_statement(one), "{one}");
        }
        for other in ["", ";", ".shell id", "REINDEX a; .shell id", "REINDEX a;\n.shell id", "A;B", "'open", "\n.shell"]
        {
            assert!(!is_one_statement(other), "{other}");
        }
    }
}
