//! Records: a header of serial types, then the values (fileformat2.html, 2.1).

use std::cmp::Ordering;

use super::bytes::varint;
use super::header::Encoding;

/// A value as it is stored; text in the encoding of the database, not checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Serial type 0; also a real that is not a number.
    Null,
    /// Serial types 1 to 6, 8 and 9.
    Integer(i64),
    /// Serial type 7.
    Real(f64),
    /// Odd serial types from 13.
    Text(&'a [u8]),
    /// Even serial types from 12.
    Blob(&'a [u8]),
}

/// A serial type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Serial(u64);

impl Serial {
    /// Bytes of the value; `None` for 10 and 11, which no database has.
    #[inline]
    pub(super) const fn len(self) -> Option<u64> {
        match self.0 {
            n @ 12.. => Some((n - 12) / 2),
            0 | 8 | 9 => Some(0),
            n @ 1..=4 => Some(n),
            5 => Some(6),
            6 | 7 => Some(8),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_text(self) -> bool {
        self.0 >= 13 && self.0 % 2 == 1
    }

    #[inline]
    pub(super) fn is_blob(self) -> bool {
        self.0 >= 12 && self.0.is_multiple_of(2)
    }

    #[inline]
    pub(super) fn is_integer(self) -> bool {
        matches!(self.0, 1..=6 | 8 | 9)
    }

    #[inline]
    pub(super) fn is_real(self) -> bool {
        self.0 == 7
    }

    #[inline]
    pub(super) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The value; `bytes` begins with it. `None` where they end before it.
    #[inline]
    pub(super) fn value(self, bytes: &[u8]) -> Option<Value<'_>> {
        let len = usize::try_from(self.len()?).ok()?;
        let bytes = bytes.get(..len)?;
        Some(match self.0 {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(bytes)),
            7 => {
                let real = f64::from_bits(integer(bytes).cast_unsigned());
                if real.is_nan() { Value::Null } else { Value::Real(real) }
            }
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            n if n % 2 == 1 => Value::Text(bytes),
            _ => Value::Blob(bytes),
        })
    }
}

/// One to eight bytes, with their sign.
#[inline]
fn integer(bytes: &[u8]) -> i64 {
    match *bytes {
        [a] => i64::from(a.cast_signed()),
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => {
            let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
            bytes.iter().fold(if negative { -1 } else { 0 }, |value, byte| value << 8 | i64::from(*byte))
        }
    }
}

/// Where a value is in its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) serial: Serial,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Field {
    /// Its bytes, of a payload that is whole in memory.
    #[inline]
    pub(super) fn bytes(self, payload: &[u8]) -> Option<&[u8]> {
        let at = usize::try_from(self.at).ok()?;
        payload.get(at..at.checked_add(usize::try_from(self.len).ok()?)?)
    }

    /// What it is, of a payload that is whole in memory.
    #[inline]
    pub(super) fn value(self, payload: &[u8]) -> Option<Value<'_>> {
        self.serial.value(self.bytes(payload)?)
    }

    /// Its text, of a payload that is whole in memory; `None` for what is none.
    #[inline]
    pub(super) fn text(self, payload: &[u8]) -> Option<&[u8]> {
        if self.serial.is_text() { self.bytes(payload) } else { None }
    }

    /// Its integer, of a payload that is whole in memory; `None` for what is none.
    #[inline]
    pub(super) fn integer(self, payload: &[u8]) -> Option<i64> {
        match self.serial.0 {
            1..=6 => {}
            8 => return Some(0),
            9 => return Some(1),
            _ => return None,
        }
        let end = usize::try_from(self.at.checked_add(self.len)?).ok()?;
        // The eight bytes that end with it are read at once, and what is before it is shifted out: the last value of a
        // record has a header and others before it, and nothing behind.
        match end.checked_sub(8).and_then(|from| payload.get(from..end)) {
            Some(&[a, b, c, d, e, f, g, h]) => {
                let others = 64 - 8 * self.len;
                Some(i64::from_be_bytes([a, b, c, d, e, f, g, h]) << others >> others)
            }
            _ => Some(integer(self.bytes(payload)?)),
        }
    }
}

/// How long the values of serial types below 128 are; no value is as long as `NO_TYPE`.
const LENGTHS: [u8; 128] = {
    let mut lengths = [0; 128];
    let mut serial = 0;
    while serial < 128 {
        lengths[serial] = match Serial(serial as u64).len() {
            Some(len) => len as u8,
            None => NO_TYPE,
        };
        serial += 1;
    }
    lengths
};

const NO_TYPE: u8 = u8::MAX;

const NO_SUCH_TYPE: &str = "it has a serial type that does not exist";

/// A serial type of several bytes, how many those are, and how long its value is.
#[cold]
fn long_serial(names: &[u8], at: usize) -> Result<(Serial, usize, u64), &'static str> {
    let (serial, own) = names.get(at..).and_then(varint).ok_or("its header ends within a number")?;
    let serial = Serial(serial);
    Ok((serial, own, serial.len().ok_or(NO_SUCH_TYPE)?))
}

/// No table has more columns (limits.html), and an index has a few more at most.
const FIELDS_MAX: usize = 40_000;

/// How long the header is, by its first varint.
pub(super) fn header_len(payload: &[u8]) -> Option<u64> {
    varint(payload).map(|(len, _)| len)
}

/// Reads the header, which must be whole in `bytes`, of a payload of `total` bytes.
///
/// # Errors
/// For people: why it is no record. The fields before that are in `fields`.
pub(super) fn read_fields(bytes: &[u8], total: u64, fields: &mut Vec<Field>) -> Result<(), &'static str> {
    fields.clear();
    let (header, mut at) = varint(bytes).ok_or("it has no header")?;
    let header = usize::try_from(header).map_err(|_| "its header is longer than it")?;
    let names = bytes.get(..header).ok_or("its header is longer than it")?;
    let mut value_at = header as u64;
    if at > header {
        return Err("its header is shorter than its own length");
    }
    while at < header {
        let short = names.get(at).and_then(|serial| Some((*serial, *LENGTHS.get(usize::from(*serial))?)));
        let (serial, own, len) = match short {
            Some((_, NO_TYPE)) => return Err(NO_SUCH_TYPE),
            Some((serial, len)) => (Serial(u64::from(serial)), 1, u64::from(len)),
            None => long_serial(names, at)?,
        };
        at += own;
        // Compared before it is added: a serial type can claim any length.
        if len > total.saturating_sub(value_at) {
            return Err("its values are longer than it");
        }
        if fields.len() >= FIELDS_MAX {
            return Err("it has more columns than any table");
        }
        fields.push(Field { serial, at: value_at, len });
        value_at += len;
    }
    if value_at != total {
        return Err("it is longer than its values");
    }
    Ok(())
}

/// The values of a record that is in memory, one by one; they end where the record does, or where it is damaged.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    bytes: &'a [u8],
    header_at: usize,
    header: usize,
    at: usize,
}

impl<'a> Values<'a> {
    /// All of them; `None` where it is not a record to its last byte.
    #[must_use]
    pub fn all(bytes: &'a [u8]) -> Option<Vec<Value<'a>>> {
        let mut fields = Vec::new();
        read_fields(bytes, bytes.len() as u64, &mut fields).ok()?;
        fields.iter().map(|field| field.value(bytes)).collect()
    }

    /// Begins to read a record; `None` where its header is not whole.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (header, header_at) = varint(bytes)?;
        let header = usize::try_from(header).ok().filter(|header| *header <= bytes.len() && header_at <= *header)?;
        Some(Self { bytes, header_at, header, at: header })
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (serial, len) = varint(self.bytes.get(self.header_at..self.header)?)?;
        let value = Serial(serial).value(self.bytes.get(self.at..)?)?;
        self.header_at += len;
        self.at += usize::try_from(Serial(serial).len()?).ok()?;
        Some(value)
    }
}

/// An integer against a real, exactly as SQLite compares them.
fn integer_to_real(integer: i64, real: f64) -> Ordering {
    // 2 to the power of 63, which is a real but no integer.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if real < -END {
        return Ordering::Greater;
    }
    if real >= END {
        return Ordering::Less;
    }
    let whole = real as i64;
    integer.cmp(&whole).then_with(|| (whole as f64).partial_cmp(&real).unwrap_or(Ordering::Equal))
}

/// The order of values: NULL, numbers, text, blobs. `text` compares text; `None` where it can't be known.
pub(super) fn compare(
    a: Value<'_>,
    b: Value<'_>,
    text: impl FnOnce(&[u8], &[u8]) -> Option<Ordering>,
) -> Option<Ordering> {
    let rank = |value: &Value<'_>| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    Some(match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(&b),
        (Value::Integer(a), Value::Real(b)) => integer_to_real(a, b),
        (Value::Real(a), Value::Integer(b)) => integer_to_real(b, a).reverse(),
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Value::Text(a), Value::Text(b)) => return text(a, b),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        (a, b) => rank(&a).cmp(&rank(&b)),
    })
}

/// Text as people read it; what is no text in that encoding is replaced.
#[must_use]
pub fn text(bytes: &[u8], encoding: Encoding) -> String {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Encoding::Utf16Le => wide(u16::from_le_bytes),
        Encoding::Utf16Be => wide(u16::from_be_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        let mut fields = Vec::new();
        assert_eq!(read_fields(&[2, 1, 5], 3, &mut fields), Ok(()));
        assert_eq!(fields[0].serial.value(&[5]), Some(Value::Integer(5)));
        for bad in [&[][..], &[0], &[9, 1], &[2, 10], &[2, 2, 5], &[2, 1, 5, 5], &[3, 0xff, 0xff], &[2, 0x80]] {
            assert!(read_fields(bad, bad.len() as u64, &mut fields).is_err(), "{bad:?}");
        }
        let mut huge = vec![10];
        huge.extend([0xff; 9]);
        assert!(read_fields(&huge, huge.len() as u64, &mut fields).is_err());
    }

    #[test]
    fn numbers_compare_exactly_across_their_types() {
        let compare = |a, b| compare(a, b, |a, b| Some(a.cmp(b))).unwrap();
        let (big, real) = (Value::Integer(9_007_199_254_740_993), Value::Real(9_007_199_254_740_992.0));
        assert_eq!(compare(big, real), Ordering::Greater);
        assert_eq!(compare(real, big), Ordering::Less);
        assert_eq!(compare(Value::Integer(i64::MAX), Value::Real(9.3e18)), Ordering::Less);
        assert_eq!(compare(Value::Integer(-2), Value::Real(-2.5)), Ordering::Greater);
        assert_eq!(compare(Value::Integer(7), Value::Real(7.0)), Ordering::Equal);
        assert_eq!(compare(Value::Real(1e300), Value::Text(b"")), Ordering::Less);
        assert_eq!(Serial(7).value(&f64::NAN.to_bits().to_be_bytes()), Some(Value::Null));
        assert_eq!(Serial(3).value(&[0xff, 0xff, 0xfe]), Some(Value::Integer(-2)));
    }

    #[test]
    fn an_integer_is_the_same_whatever_is_before_it() {
        let ends = [i64::MIN, -(1 << 40), -8_388_608, -129, -1, 0, 1, 127, 128, 32_768, 8_388_607, 1 << 40, i64::MAX];
        for (serial, len) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8)] {
            for bytes in ends.map(i64::to_be_bytes) {
                let stored = &bytes[8 - len..];
                let expected = Serial(serial).value(stored);
                for before in 0..12 {
                    let record = [&vec![0xa5; before][..], stored].concat();
                    let field = Field { serial: Serial(serial), at: before as u64, len: len as u64 };
                    assert_eq!(field.integer(&record).map(Value::Integer), expected, "{serial} {stored:?} {before}");
                    assert_eq!(field.integer(&record[..record.len() - 1]), None);
                }
            }
        }
        let field = |serial| Field { serial: Serial(serial), at: 0, len: 0 };
        assert_eq!(
            [8, 9, 0, 7, 12, 13].map(|serial| field(serial).integer(&[])),
            [Some(0), Some(1), None, None, None, None]
        );
    }
}
