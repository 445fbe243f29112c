//! As much of BSON as it takes to find fields in a document: no length of it is trusted.

/// A document within a document is followed so deep.
pub(super) const DEPTH_MAX: usize = 8;

/// What a field has; of what nobody here asks for, only that it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    /// Or an array, whose names are numbers.
    Document(&'a [u8]),
    Bool(bool),
    Int64(i64),
    /// Seconds, and which one of that second.
    Timestamp(u32, u32),
    Other,
}

impl Value<'_> {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Value::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }
}

/// The fields of a document, until one of them is not possible: that is `None`, as a document's end is not.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// Its fields, where its length is its own and its last byte is the one that ends it.
pub(super) fn fields(document: &[u8]) -> Option<Fields<'_>> {
    let (length, rest) = int32(document)?;
    if usize::try_from(length) != Ok(document.len()) || document.last() != Some(&0) {
        return None;
    }
    Some(Fields { rest: rest.get(..rest.len().checked_sub(1)?)? })
}

/// One field of a document; `None` where it is not there, or something in front of it is not possible.
pub(super) fn field<'a>(document: &'a [u8], name: &str) -> Option<Value<'a>> {
    let mut all = fields(document)?;
    while let Some((found, value)) = all.next()? {
        if found == name.as_bytes() {
            return Some(value);
        }
    }
    None
}

impl<'a> Fields<'a> {
    /// The next field, or `Some(None)` at the end.
    #[allow(clippy::option_option, reason = "the outer one says that it can't be read")]
    pub(super) fn next(&mut self) -> Option<Option<(&'a [u8], Value<'a>)>> {
        let Some((kind, rest)) = self.rest.split_first() else { return Some(None) };
        let (name, rest) = until_nul(rest)?;
        let (value, rest) = value(*kind, rest)?;
        self.rest = rest;
        Some(Some((name, value)))
    }
}

fn value(kind: u8, rest: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let skip = |count: usize| Some((Value::Other, rest.get(count..)?));
    match kind {
        0x02 => {
            let (length, rest) = int32(rest)?;
            let length = usize::try_from(length).ok()?;
            let (text, rest) = (rest.get(..length)?, rest.get(length..)?);
            let (last, text) = text.split_last()?;
            (*last == 0).then_some((Value::Text(text), rest))
        }
        0x03 | 0x04 => {
            let length = usize::try_from(int32(rest)?.0).ok()?;
            Some((Value::Document(rest.get(..length)?), rest.get(length..)?))
        }
        0x08 => match rest.split_first()? {
            (0, rest) => Some((Value::Bool(false), rest)),
            (1, rest) => Some((Value::Bool(true), rest)),
            _ => None,
        },
        0x12 => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            Some((Value::Int64(i64::from_le_bytes(*bytes)), rest))
        }
        0x11 => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            let all = u64::from_le_bytes(*bytes);
            Some((Value::Timestamp((all >> 32) as u32, all as u32), rest))
        }
        // Undefined, null, the least and the greatest key.
        0x06 | 0x0a | 0xff | 0x7f => skip(0),
        0x10 => skip(4),
        0x01 | 0x09 => skip(8),
        0x07 => skip(12),
        0x13 => skip(16),
        0x05 => {
            let length = usize::try_from(int32(rest)?.0).ok()?;
            skip(length.checked_add(5)?)
        }
        0x0b => {
            let (_, rest) = until_nul(rest)?;
            let (_, rest) = until_nul(rest)?;
            Some((Value::Other, rest))
        }
        0x0c => {
            let length = usize::try_from(int32(rest)?.0).ok()?;
            skip(length.checked_add(4 + 12)?)
        }
        0x0d | 0x0e => {
            let length = usize::try_from(int32(rest)?.0).ok()?;
            skip(length.checked_add(4)?)
        }
        0x0f => {
            let length = usize::try_from(int32(rest)?.0).ok().filter(|length| *length >= 4)?;
            skip(length)
        }
        _ => None,
    }
}

fn int32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_le_bytes(*number), rest))
}

fn until_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A document of fields that [`text`] and its like have made.
    pub(crate) fn document(fields: &[Vec<u8>]) -> Vec<u8> {
        let body = fields.concat();
        let length = i32::try_from(body.len() + 5).unwrap();
        [&length.to_le_bytes()[..], &body, &[0]].concat()
    }
    fn named(kind: u8, name: &str, value: &[u8]) -> Vec<u8> {
        [&[kind], name.as_bytes(), &[0], value].concat()
    }
    pub(crate) fn text(name: &str, text: &str) -> Vec<u8> {
        let length = i32::try_from(text.len() + 1).unwrap().to_le_bytes();
        named(2, name, &[&length[..], text.as_bytes(), &[0]].concat())
    }
    pub(crate) fn boolean(name: &str, is: bool) -> Vec<u8> {
        named(8, name, &[u8::from(is)])
    }
    pub(crate) fn int32(name: &str, number: i32) -> Vec<u8> {
        named(0x10, name, &number.to_le_bytes())
    }
    pub(crate) fn int64(name: &str, number: i64) -> Vec<u8> {
        named(0x12, name, &number.to_le_bytes())
    }
    pub(crate) fn timestamp(name: &str, seconds: u32, which: u32) -> Vec<u8> {
        named(0x11, name, &(u64::from(seconds) << 32 | u64::from(which)).to_le_bytes())
    }
    pub(crate) fn inner(name: &str, document: &[u8]) -> Vec<u8> {
        named(3, name, document)
    }
    pub(crate) fn array(name: &str, documents: &[Vec<u8>]) -> Vec<u8> {
        let items: Vec<Vec<u8>> =
            documents.iter().enumerate().map(|(at, document)| inner(&at.to_string(), document)).collect();
        named(4, name, &document(&items))
    }

    /// One of each kind, with the field that is asked for behind them.
    fn all_kinds() -> Vec<u8> {
        document(&[
            named(0x01, "double", &[0; 8]),
            named(0x05, "binary", &[&2_i32.to_le_bytes()[..], &[0, 1, 2]].concat()),
            named(0x06, "undefined", &[]),
            named(0x07, "id", &[7; 12]),
            named(0x09, "date", &[0; 8]),
            named(0x0a, "null", &[]),
            named(0x0b, "regex", b"a.*\0i\0"),
            named(0x0c, "pointer", &[&2_i32.to_le_bytes()[..], b"x\0", &[1; 12]].concat()),
            named(0x0d, "code", &[&2_i32.to_le_bytes()[..], b"x\0"].concat()),
            named(0x0e, "symbol", &[&2_i32.to_le_bytes()[..], b"x\0"].concat()),
            named(0x0f, "scope", &[&15_i32.to_le_bytes()[..], &[2, 0, 0, 0, b'x', 0, 5, 0, 0, 0, 0]].concat()),
            int32("int", 5),
            named(0x13, "decimal", &[0; 16]),
            named(0xff, "least", &[]),
            named(0x7f, "most", &[]),
            inner("inner", &document(&[int64("x", 1)])),
            array("array", &[document(&[])]),
            boolean("bool", true),
            timestamp("ts", 9, 2),
            int64("long", -3),
            text("last", "caf\u{e9}"),
        ])
    }

    #[test]
    fn a_field_is_found_behind_one_of_each_kind() {
        let all = all_kinds();
        assert_eq!(field(&all, "last").and_then(Value::text).as_deref(), Some("caf\u{e9}"));
        assert_eq!(field(&all, "bool"), Some(Value::Bool(true)));
        assert_eq!(field(&all, "ts"), Some(Value::Timestamp(9, 2)));
        assert_eq!(field(&all, "long"), Some(Value::Int64(-3)));
        let Some(Value::Document(inner)) = field(&all, "inner") else { panic!() };
        assert_eq!(field(inner, "x"), Some(Value::Int64(1)));
        assert_eq!(field(&all, "absent"), None);
    }

    #[test]
    fn what_is_cut_or_changed_is_read_to_no_place_outside_of_it() {
        let all = all_kinds();
        for end in 0..all.len() {
            assert!(fields(&all[..end]).is_none(), "{end}");
        }
        for at in 0..all.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = all.clone();
                changed[at] = byte;
                let _whatever = field(&changed, "last");
                let _whatever = field(&changed, "absent");
            }
        }
    }
}
