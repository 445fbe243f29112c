//! The key of a row as the name of an item, in the order that SQLite has (datatype3.html, 4.1).

use std::cmp::Ordering;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql};

/// The key of a row: an integer, a text or a blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Key(Value);

impl Key {
    /// Reads what SQLite gave; `None` for NULL and for a number with a fraction, which name no row safely.
    #[must_use]
    pub fn from_value(value: ValueRef<'_>) -> Option<Self> {
        match value {
            ValueRef::Integer(number) => Some(Self(Value::Integer(number))),
            ValueRef::Text(text) => Some(Self(Value::Text(String::from_utf8(text.to_vec()).ok()?))),
            ValueRef::Blob(bytes) => Some(Self(Value::Blob(bytes.to_vec()))),
            ValueRef::Null | ValueRef::Real(_) => None,
        }
    }

    /// For SQL.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// As an item's name: names sort as the keys do in a database of UTF-8.
    ///
    /// ```
    /// use svckit::tend::rule::Key;
    /// let name = |number: i64| Key::from_value(rusqlite::types::ValueRef::Integer(number)).unwrap().item();
    /// assert!(name(-1) < name(0) && name(9) < name(10));
    /// ```
    #[must_use]
    pub fn item(&self) -> String {
        match &self.0 {
            // Moved up, so that all have one length and none a sign.
            Value::Integer(number) => format!("#{:020}", i128::from(*number) - i128::from(i64::MIN)),
            Value::Text(text) => format!("'{text}"),
            Value::Blob(bytes) => bytes.iter().fold("x".to_owned(), |hex, byte| hex + &format!("{byte:02x}")),
            Value::Null | Value::Real(_) => String::new(),
        }
    }

    /// Reads an item's name; `None` where it is none.
    #[must_use]
    pub fn parse(item: &str) -> Option<Self> {
        let (kind, rest) = (item.get(..1)?, item.get(1..)?);
        match kind {
            "#" => {
                let number: i128 = rest.parse().ok()?;
                Some(Self(Value::Integer(i64::try_from(number + i128::from(i64::MIN)).ok()?)))
            }
            "'" => Some(Self(Value::Text(rest.to_owned()))),
            "x" if rest.len().is_multiple_of(2) => {
                let byte = |at: usize| u8::from_str_radix(rest.get(at..at + 2)?, 16).ok();
                (0..rest.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>().map(|bytes| Self(Value::Blob(bytes)))
            }
            _ => None,
        }
    }

    /// The items that a person may mean by a word: as it is shown, or a key as SQLite shows it.
    #[must_use]
    pub fn meant_by(word: &str) -> Vec<String> {
        let number = word.parse::<i64>().ok().map(|number| Self(Value::Integer(number)).item());
        let text = Self(Value::Text(word.to_owned())).item();
        let blob = word.strip_prefix("x").and_then(|_| Self::parse(word)).map(|key| key.item());
        [Some(text), number, blob].into_iter().flatten().collect()
    }
}

/// How a database keeps its text. BINARY compares the bytes of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    #[default]
    Utf8,
    Utf16le,
    Utf16be,
}

impl Encoding {
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Self> {
        let name: String = db.pragma_query_value(None, "encoding", |row| row.get(0))?;
        Ok(match name.as_str() {
            "UTF-16le" => Self::Utf16le,
            "UTF-16be" => Self::Utf16be,
            _ => Self::Utf8,
        })
    }

    /// Compares two items as the database does their keys.
    pub(super) fn compare(self, one: &str, other: &str) -> Ordering {
        match (one.strip_prefix('\''), other.strip_prefix('\'')) {
            (Some(a), Some(b)) => match self {
                Self::Utf8 => a.cmp(b),
                Self::Utf16le => a.encode_utf16().map(u16::to_le_bytes).cmp(b.encode_utf16().map(u16::to_le_bytes)),
                Self::Utf16be => a.encode_utf16().map(u16::to_be_bytes).cmp(b.encode_utf16().map(u16::to_be_bytes)),
            },
            _ => one.cmp(other),
        }
    }
}

/// Where a look through a table's keys ended: at any value, also one that names no item.
#[derive(Debug)]
pub(super) enum Position {
    Value(Value),
    /// Text, in whatever encoding.
    Text(Vec<u8>),
}

impl Position {
    pub(super) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Value(Value::Null),
            ValueRef::Integer(number) => Self::Value(Value::Integer(number)),
            ValueRef::Real(number) => Self::Value(Value::Real(number)),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Self::Value(Value::Blob(bytes.to_vec())),
        }
    }
}

impl ToSql for Position {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Value(value) => value.to_sql(),
            Self::Text(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text))),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Value::Integer(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "{text}"),
            _ => write!(f, "{}", self.item()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            "\\PC{0,6}".prop_map(Value::Text),
            "[aÂĀāłﾀ😀]{0,3}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn names_sort_as_sqlite_does_and_are_read_again(a in key(), b in key()) {
            let (one, other) = (Key(a.clone()), Key(b.clone()));
            for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
                let memory = rusqlite::Connection::open_in_memory().unwrap();
                memory.pragma_update(None, "encoding", encoding).unwrap();
                let less: bool = memory.query_row("SELECT ?1 < ?2", [&a, &b], |row| row.get(0)).unwrap();
                let order = Encoding::of(&memory).unwrap().compare(&one.item(), &other.item());
                prop_assert_eq!(order.is_lt(), less, "{}", encoding);
            }
            prop_assert_eq!(one.item() < other.item(), Encoding::Utf8.compare(&one.item(), &other.item()).is_lt());
            prop_assert_eq!(Key::parse(&one.item()), Some(one));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "#", "#x", "#99999999999999999999999", "x1", "xzz", "é", "abc"] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
        assert_eq!(Key::meant_by("7").len(), 2);
    }
}
