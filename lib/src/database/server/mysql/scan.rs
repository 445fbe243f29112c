//! Reads what mysqldump writes: how many rows each table has, which definitions there are, and whether the end is the
//! dump's own. What it counts is exactly what is in the dump, of the dump's own instant.
//!
//! It is a lexer, no parser: it tells strings, names and comments from the rest, and statements from each other. What it
//! does not understand it counts the same way in a dump of a restored copy.

mod words;

use std::collections::BTreeMap;
use std::io::Read;

use self::words::{log_position, name_after, quoted_name, unquoted_words, without_counter, without_marks};
use super::super::dump::DatabaseFacts;
use super::super::sum::Sum;
use super::TRAILER;

/// So much of a statement is looked at to tell what it is.
const HEAD_MAX: usize = 4096;

const BLOCK: usize = 64 << 10;

const DELIMITER: &[u8] = b"DELIMITER ";

/// The last two bytes where a comment begins.
const SLASH_STAR: u64 = u16::from_be_bytes(*b"/*") as u64;

/// Whether a byte of code means nothing to the lexer, whatever stands before it.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b',' | b'.' | b'_')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Code,
    Quoted(u8),
    /// From `--` or `#` to the end of the line.
    Line,
    /// From `/*` to `*/`, unless `!` follows: that is code.
    Block,
}

/// The state between two bytes.
#[derive(Debug)]
pub(super) struct Scan {
    state: In,
    escaped: bool,
    /// The last bytes of code, the newest lowest.
    recent: u64,
    head: Vec<u8>,
    sum: Sum,
    delimiter: Vec<u8>,
    depth: u32,
    /// The table whose rows follow.
    rows_of: Option<String>,
    row: Sum,
    line: Vec<u8>,
    last_comment: String,
    database: String,
    found: BTreeMap<String, DatabaseFacts>,
    sums: BTreeMap<String, u64>,
    row_sums: BTreeMap<(String, String), u64>,
    position: Option<String>,
}

/// What a whole dump has.
#[derive(Debug, PartialEq)]
pub(super) struct Scanned {
    pub(super) databases: BTreeMap<String, DatabaseFacts>,
    /// Where the binary log stood.
    pub(super) position: Option<String>,
    /// Whether its last line says that it is complete.
    pub(super) is_complete: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            state: In::Code,
            escaped: false,
            recent: 0,
            head: Vec::new(),
            sum: Sum::NEW,
            delimiter: b";".to_vec(),
            depth: 0,
            rows_of: None,
            row: Sum::NEW,
            line: Vec::new(),
            last_comment: String::new(),
            database: String::new(),
            found: BTreeMap::new(),
            sums: BTreeMap::new(),
            row_sums: BTreeMap::new(),
            position: None,
        }
    }
}

impl Scan {
    /// Of everything that is read.
    pub(super) fn all(content: &mut dyn Read) -> std::io::Result<Scanned> {
        let mut scan = Self::default();
        let mut buffer = vec![0; BLOCK];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(scan.finish()),
                count => scan.feed(&buffer[..count]),
            }
        }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(byte) = bytes.first() {
            bytes = match self.of_row(bytes) {
                0 => {
                    self.byte(*byte);
                    &bytes[1..]
                }
                count => &bytes[count..],
            };
        }
    }

    /// Takes what of the bytes is inside of a row and neither begins nor ends anything: nearly all of a dump, which would
    /// else wait for us. Answers how many there were.
    fn of_row(&mut self, bytes: &[u8]) -> usize {
        // Behind an escape, or where a comment begins, the next byte is not what it seems.
        if self.depth == 0 || self.escaped || self.recent & 0xffff == SLASH_STAR || self.rows_of.is_none() {
            return 0;
        }
        match self.state {
            In::Quoted(quote) => self.row.add_until(bytes, |byte| byte == quote || byte == b'\\'),
            In::Code if !self.delimiter.last().is_none_or(|last| is_plain(*last)) => {
                let count = self.row.add_until(bytes, |byte| !is_plain(byte));
                for byte in &bytes[count.saturating_sub(8)..count] {
                    self.recent = self.recent << 8 | u64::from(*byte);
                }
                count
            }
            In::Code | In::Line | In::Block => 0,
        }
    }

    pub(super) fn finish(mut self) -> Scanned {
        if self.state == In::Line {
            self.end_comment();
        }
        for (name, facts) in &mut self.found {
            facts.definitions_sum = format!("{:016x}", self.sums.get(name).copied().unwrap_or(0));
            for (table, of_table) in &mut facts.tables {
                let sum = self.row_sums.get(&(name.clone(), table.clone())).copied().unwrap_or(0);
                of_table.rows_sum = Some(format!("{sum:016x}"));
            }
        }
        let ends_between = self.head.iter().all(u8::is_ascii_whitespace) && matches!(self.state, In::Code | In::Line);
        Scanned {
            databases: self.found,
            position: self.position,
            is_complete: ends_between && self.last_comment.starts_with(TRAILER),
        }
    }

    fn byte(&mut self, byte: u8) {
        match self.state {
            In::Line => {
                if byte == b'\n' {
                    self.end_comment();
                    self.state = In::Code;
                } else if self.line.len() < HEAD_MAX {
                    self.line.push(byte);
                }
                return;
            }
            In::Block => {
                self.recent = self.recent << 8 | u64::from(byte);
                if self.recent & 0xffff == u64::from(u16::from_be_bytes(*b"*/")) {
                    (self.state, self.recent) = (In::Code, 0);
                }
                return;
            }
            In::Quoted(quote) => {
                self.take(byte);
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' && quote != b'`' {
                    self.escaped = true;
                } else if byte == quote {
                    // A doubled quote opens the next string at once: the same bytes are inside.
                    (self.state, self.recent) = (In::Code, 0);
                }
                return;
            }
            In::Code => {}
        }
        let before = self.recent;
        self.recent = before << 8 | u64::from(byte);
        match byte {
            b'\'' | b'"' | b'`' => {
                self.take(byte);
                self.state = In::Quoted(byte);
            }
            b'#' => self.begin_comment(b"#"),
            b' ' | b'\t' | b'\n' | b'\r' if before & 0xffff == u64::from(u16::from_be_bytes(*b"--")) => {
                self.untake(2);
                self.begin_comment(b"-- ");
                if byte == b'\n' {
                    self.byte(byte);
                }
            }
            // What follows `/*` decides: `!` and `M!` are code.
            _ if before & 0xffff == SLASH_STAR && !matches!(byte, b'!' | b'M') => {
                self.untake(2);
                self.state = In::Block;
                self.recent = u64::from(byte);
            }
            b'\n' if self.head.starts_with(DELIMITER) => {
                self.delimiter = self.head[DELIMITER.len()..].trim_ascii().to_vec();
                self.reset();
            }
            _ => self.code(byte),
        }
    }

    fn code(&mut self, byte: u8) {
        match byte {
            b'(' => {
                if self.depth == 0 && self.rows_of.is_none() {
                    self.rows_of = self.table_of_rows();
                }
                self.depth += 1;
                if self.depth == 1 {
                    self.row = Sum::NEW;
                }
                self.take(byte);
                return;
            }
            b')' => {
                self.take(byte);
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0
                    && let Some(table) = self.rows_of.clone()
                {
                    let of = self.found.entry(self.database.clone()).or_default();
                    of.tables.entry(table.clone()).or_default().rows += 1;
                    let sum = self.row_sums.entry((self.database.clone(), table)).or_default();
                    *sum = sum.wrapping_add(self.row.end());
                }
                return;
            }
            _ => self.take(byte),
        }
        // The client's own command, to the end of its line, names the next delimiter.
        let is_command = self.head.len() < 64 && self.head.starts_with(DELIMITER);
        if self.delimiter.last() == Some(&byte) && !is_command && self.ends_with_delimiter() {
            self.untake(self.delimiter.len());
            self.end_statement();
        }
    }

    fn ends_with_delimiter(&self) -> bool {
        let length = self.delimiter.len().min(8);
        let mask = if length == 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
        let wanted = self.delimiter.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        self.recent & mask == wanted & mask
    }

    /// One more byte of the statement.
    fn take(&mut self, byte: u8) {
        if self.depth > 0 && self.rows_of.is_some() {
            self.row.add(byte);
            return;
        }
        if self.head.is_empty() && byte.is_ascii_whitespace() {
            return;
        }
        if self.head.len() < HEAD_MAX {
            self.head.push(byte);
        }
        self.sum.add(byte);
    }

    fn untake(&mut self, count: usize) {
        if self.head.len() < HEAD_MAX {
            self.head.truncate(self.head.len().saturating_sub(count));
        }
    }

    fn begin_comment(&mut self, start: &[u8]) {
        self.state = In::Line;
        self.line.clear();
        self.line.extend_from_slice(start);
    }

    fn end_comment(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        if let Some(position) = log_position(&line) {
            self.position = Some(position);
        }
        if !line.trim().is_empty() && line.trim() != "--" {
            self.last_comment = line;
        }
        self.recent = 0;
    }

    /// The table of an INSERT whose VALUES begin here.
    fn table_of_rows(&self) -> Option<String> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let rest = head.strip_prefix("INSERT ")?;
        head.trim_end().ends_with("VALUES").then(|| name_after(rest, "INTO")).flatten()
    }

    fn end_statement(&mut self) {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let plain = without_marks(&head);
        if let Some(name) = plain.strip_prefix("USE ") {
            self.database = quoted_name(name).unwrap_or_default();
            self.found.entry(self.database.clone()).or_default();
        } else if let Some(rest) = plain.strip_prefix("CREATE ") {
            self.definition(rest, &head);
        }
        self.reset();
    }

    fn definition(&mut self, rest: &str, head: &str) {
        const KINDS: &[(&str, &str)] = &[
            ("TABLE", "tables"),
            ("VIEW", "views"),
            ("TRIGGER", "triggers"),
            ("PROCEDURE", "routines"),
            ("FUNCTION", "routines"),
            ("PACKAGE", "routines"),
            ("EVENT", "events"),
            ("SEQUENCE", "sequences"),
            ("USER", "users"),
            ("ROLE", "roles"),
        ];
        let kind = unquoted_words(rest).find_map(|word| KINDS.iter().find(|(keyword, _)| *keyword == word));
        let Some((keyword, plural)) = kind else { return };
        // A view comes twice: first as a stand-in for those that use it.
        if *keyword == "VIEW" && !rest.contains("ALGORITHM") {
            return;
        }
        let facts = self.found.entry(self.database.clone()).or_default();
        *facts.definitions.entry((*plural).to_owned()).or_default() += 1;
        if *keyword == "TABLE"
            && let Some(name) = name_after(rest, "TABLE")
        {
            facts.tables.entry(name).or_default();
        }
        // What a table counts up to is no part of its definition.
        let sum = match head.len() < HEAD_MAX {
            true => {
                let mut sum = Sum::NEW;
                without_counter(head).bytes().for_each(|byte| sum.add(byte));
                sum
            }
            false => self.sum,
        };
        let all = self.sums.entry(self.database.clone()).or_default();
        *all = all.wrapping_add(sum.end());
    }

    fn reset(&mut self) {
        self.head.clear();
        (self.sum, self.depth, self.rows_of, self.recent) = (Sum::NEW, 0, None, 0);
    }
}

#[cfg(test)]
mod tests;
