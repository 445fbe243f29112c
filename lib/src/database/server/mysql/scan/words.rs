//! What the text of a statement or a comment says.

/// `-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.000002', MASTER_LOG_POS=1234;`, and SOURCE in newer ones.
pub(super) fn log_position(line: &str) -> Option<String> {
    let rest = line.strip_prefix("-- CHANGE ")?;
    let after = |key: &str| rest.split_once(key).map(|(_, rest)| rest);
    let file = after("LOG_FILE='")?.split('\'').next()?;
    let position = after("LOG_POS=")?.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(format!("{file}:{position}"))
}

/// The code without `/*!50003` and `*/`, its space collapsed.
pub(super) fn without_marks(head: &str) -> String {
    let is_mark = |word: &&str| {
        let digits = word.strip_prefix("/*!").or_else(|| word.strip_prefix("/*M!"));
        !digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())) && *word != "*/"
    };
    let words: Vec<&str> = head.split_whitespace().filter(is_mark).map(|word| word.trim_end_matches("*/")).collect();
    words.join(" ")
}

/// The words outside of quotes.
pub(super) fn unquoted_words(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split(['`', '\'', '"']).step_by(2);
    outside.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
}

pub(super) fn name_after(text: &str, keyword: &str) -> Option<String> {
    let (_, rest) = text.split_once(keyword)?;
    let rest = rest.trim_start();
    quoted_name(rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest))
}

/// A name in backticks, a doubled one in it being itself.
pub(super) fn quoted_name(text: &str) -> Option<String> {
    let mut rest = text.trim_start().strip_prefix('`')?;
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('`')?;
        name.push_str(part);
        match after.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some(name),
        }
    }
}

pub(super) fn without_counter(head: &str) -> String {
    const COUNTER: &str = " AUTO_INCREMENT=";
    match head.rfind(COUNTER) {
        None => head.to_owned(),
        Some(at) => {
            let rest = &head[at + COUNTER.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            format!("{}{}", &head[..at], &rest[digits..])
        }
    }
}
