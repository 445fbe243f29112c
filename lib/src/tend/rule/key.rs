//! The key of a row as the name of an item, in the order that SQLite has (datatype3.html, 4.1).

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

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

    /// As an item's name: names sort as the keys do.
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
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn names_sort_as_sqlite_does_and_are_read_again(a in key(), b in key()) {
            let memory = rusqlite::Connection::open_in_memory().unwrap();
            let less: bool = memory.query_row("SELECT ?1 < ?2", [&a, &b], |row| row.get(0)).unwrap();
            let (a, b) = (Key(a), Key(b));
            prop_assert_eq!(a.item() < b.item(), less);
            prop_assert_eq!(Key::parse(&a.item()), Some(a));
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
