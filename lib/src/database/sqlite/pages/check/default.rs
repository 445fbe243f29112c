//! What a row has for a column that is younger than it (lang_altertable.html, 5; datatype3.html, 3).

use super::super::create::DefaultSql;
use super::super::header::Encoding;
use super::super::record::Value;
use super::super::shape::Column;
use super::super::sql::Token;
use super::hash;

/// How a column stores what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Blob,
    Text,
    Number,
}

fn affinity(type_name: &str) -> Affinity {
    let name = type_name.to_ascii_uppercase();
    let has = |word| name.contains(word);
    match () {
        () if has("INT") => Affinity::Number,
        () if has("CHAR") || has("CLOB") || has("TEXT") => Affinity::Text,
        () if has("BLOB") || name.is_empty() => Affinity::Blob,
        () => Affinity::Number,
    }
}

/// The hash of the default; `None` where it can't be known.
pub(super) fn default_hash(column: &Column, encoding: Encoding) -> Option<u64> {
    let (negative, literal) = match &column.default {
        DefaultSql::Null => return Some(hash::value(Value::Null)),
        DefaultSql::Unknown => return None,
        DefaultSql::Literal(negative, literal) => (*negative, literal),
    };
    if negative && !matches!(literal, Token::Number(_)) {
        return None;
    }
    match (literal, affinity(&column.type_name)) {
        (Token::Number(digits), Affinity::Text) => {
            let number: i64 = digits.parse().ok()?;
            // How a real is written as text is SQLite's business; and a long integer stays as it is written.
            let is_as_written = i32::try_from(number).is_err() && number.to_string() != *digits;
            let sign = if negative && number != 0 { "-" } else { "" };
            if is_as_written { None } else { text_hash(&format!("{sign}{number}"), encoding) }
        }
        (Token::Number(digits), _) => number(digits, negative),
        (Token::Text(text), Affinity::Number) => {
            // Only text that looks like a number becomes one.
            let plain = text.trim_matches(|c: char| matches!(c, '\t'..='\r' | ' '));
            let (sign, digits) = match plain.strip_prefix('-') {
                Some(digits) => (true, digits),
                None => (false, plain.strip_prefix('+').unwrap_or(plain)),
            };
            let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && !digits.starts_with("0x")
                && !digits.starts_with("0X")
                && digits.parse::<f64>().is_ok();
            if is_number { number(digits, sign) } else { text_hash(text, encoding) }
        }
        (Token::Text(text), _) => text_hash(text, encoding),
        (Token::Blob(digits), _) => {
            let digits: Vec<u8> = digits.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
            let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            Some(hash::value(Value::Blob(&bytes)))
        }
        _ => None,
    }
}

fn number(digits: &str, negative: bool) -> Option<u64> {
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let integer = match hex {
        // A longer one is text to old rows, and a number to new ones.
        Some(hex) => Some(i64::from(i32::from_str_radix(hex, 16).ok()?)),
        None => format!("{}{digits}", if negative { "-" } else { "" }).parse::<i64>().ok(),
    };
    if let Some(integer) = integer {
        let integer = if hex.is_some() && negative { -integer } else { integer };
        return Some(hash::value(Value::Integer(integer)));
    }
    let real: f64 = digits.parse().ok().filter(|_| is_exact(digits))?;
    Some(hash::value(Value::Real(if negative { -real } else { real })))
}

/// Whether every version of SQLite reads it alike: the last bit of longer ones has changed between them.
fn is_exact(real: &str) -> bool {
    let (digits, exponent) = real.split_once(['e', 'E']).unwrap_or((real, "0"));
    digits.bytes().filter(u8::is_ascii_digit).count() <= 15
        && exponent.parse::<i32>().is_ok_and(|exponent| exponent.abs() <= 7)
}

fn text_hash(text: &str, encoding: Encoding) -> Option<u64> {
    let bytes: Vec<u8> = match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    };
    Some(hash::value(Value::Text(&bytes)))
}
