//! The collations that SQLite itself has (datatype3.html, 7.1), and keys in their order.

use std::cmp::Ordering;

use super::header::Encoding;
use super::record::{Field, compare};

/// How text of a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collation {
    /// Byte by byte, in the encoding of the database.
    Binary,
    /// A to Z as a to z.
    NoCase,
    /// Without the spaces at the end.
    Rtrim,
    /// One of the service's own: its order can't be known.
    Unknown,
}

impl Collation {
    pub(super) fn named(name: &str) -> Self {
        match () {
            () if name.eq_ignore_ascii_case("binary") => Self::Binary,
            () if name.eq_ignore_ascii_case("nocase") => Self::NoCase,
            () if name.eq_ignore_ascii_case("rtrim") => Self::Rtrim,
            () => Self::Unknown,
        }
    }

    fn compare(self, a: &[u8], b: &[u8], encoding: Encoding) -> Option<Ordering> {
        match self {
            Self::Binary => Some(a.cmp(b)),
            // Equal bytes are equal under any collation.
            _ if a == b => Some(Ordering::Equal),
            Self::Unknown => None,
            // SQLite compares these two in UTF-8.
            _ if encoding != Encoding::Utf8 => {
                Some(self.compare_utf8(to_utf8(a, encoding)?.as_bytes(), to_utf8(b, encoding)?.as_bytes()))
            }
            _ => Some(self.compare_utf8(a, b)),
        }
    }

    fn compare_utf8(self, a: &[u8], b: &[u8]) -> Ordering {
        if self == Self::Rtrim {
            return trimmed(a).cmp(trimmed(b));
        }
        for (x, y) in a.iter().zip(b) {
            let order = x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase());
            // SQLite's comparison without case stops at a NUL, and goes by length then.
            if order != Ordering::Equal {
                return order;
            }
            if *x == 0 {
                break;
            }
        }
        a.len().cmp(&b.len())
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let len = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..len]
}

/// `None` for what is not UTF-16: SQLite's own treatment of it is not worth following.
fn to_utf8(text: &[u8], encoding: Encoding) -> Option<String> {
    let unit = if encoding == Encoding::Utf16Le { u16::from_le_bytes } else { u16::from_be_bytes };
    let units = text.chunks_exact(2).map(|b| unit([b[0], b[1]]));
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

/// One column of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// How its text is compared.
    pub collation: Collation,
    /// Whether large values come first.
    pub descending: bool,
}

/// How two neighbouring keys stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbours {
    /// `None` where a collation of the service's own decides, or a text is not UTF-16.
    pub(super) order: Option<Ordering>,
    /// How many leading columns are equal and not NULL.
    pub(super) equal: usize,
    /// There is no order since a text is not UTF-16.
    pub(super) no_text: bool,
}

/// A record whose header was read.
#[derive(Clone, Copy)]
pub(super) struct Parsed<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) fields: &'a [Field],
}

/// Compares two records by the columns of a key; `None` where one of them has too few.
pub(super) fn neighbours(a: Parsed<'_>, b: Parsed<'_>, key: &[KeyColumn], encoding: Encoding) -> Option<Neighbours> {
    let mut equal = 0;
    let mut without_null = true;
    for (index, column) in key.iter().enumerate() {
        let (a_field, b_field) = (a.fields.get(index)?, b.fields.get(index)?);
        without_null &= !a_field.serial.is_null();
        // Most keys are of these two, and need no look at what else there is.
        let order = if let (Some(a), Some(b)) = (a_field.integer(a.bytes), b_field.integer(b.bytes)) {
            Some(a.cmp(&b))
        } else if let (Some(a), Some(b)) = (a_field.text(a.bytes), b_field.text(b.bytes)) {
            column.collation.compare(a, b, encoding)
        } else {
            let (a, b) = (a_field.value(a.bytes)?, b_field.value(b.bytes)?);
            compare(a, b, |a, b| column.collation.compare(a, b, encoding))
        };
        if order != Some(Ordering::Equal) {
            let order = order.map(|order| if column.descending { order.reverse() } else { order });
            let no_text = order.is_none() && column.collation != Collation::Unknown;
            return Some(Neighbours { order, equal, no_text });
        }
        equal += usize::from(without_null);
    }
    Some(Neighbours { order: Some(Ordering::Equal), equal, no_text: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_sqlite_itself() {
        let words = ["", "a", "A", "ab", "AB ", "ab  ", "b", "Z", "a\0b", "a\0C", "ä", "Ä", "[", "`", "a b"];
        for pragma in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            connection.execute_batch(&format!("PRAGMA encoding='{pragma}'; CREATE TABLE t(a)")).unwrap();
            let encoding = match pragma {
                "UTF-16le" => Encoding::Utf16Le,
                "UTF-16be" => Encoding::Utf16Be,
                _ => Encoding::Utf8,
            };
            let stored = |word: &str| -> Vec<u8> {
                match encoding {
                    Encoding::Utf8 => word.as_bytes().to_vec(),
                    Encoding::Utf16Le => word.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                    Encoding::Utf16Be => word.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                }
            };
            for (name, collation) in
                [("BINARY", Collation::Binary), ("NOCASE", Collation::NoCase), ("RTRIM", Collation::Rtrim)]
            {
                for a in words {
                    for b in words {
                        // The subquery makes both of them values of the database's encoding.
                        let sql =
                            format!("SELECT CASE WHEN ?1 < ?2 COLLATE {name} THEN -1 ELSE ?1 > ?2 COLLATE {name} END");
                        let theirs: i32 = connection.query_row(&sql, [a, b], |row| row.get(0)).unwrap();
                        let ours = collation.compare(&stored(a), &stored(b), encoding).unwrap() as i32;
                        assert_eq!(ours, theirs, "{pragma} {name} {a:?} {b:?}");
                    }
                }
            }
        }
    }
}
