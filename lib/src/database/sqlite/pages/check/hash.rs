//! Sums over rows that do not depend on their order: those of a table and of each of its indices must be equal.
//!
//! Equal values have equal hashes: a real that is whole is stored as an integer in one place and not in another.
//! This guards against damage, not against somebody who makes collisions.

use super::super::record::{Field, Value};

const SEEDS: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xd1b5_4a32_d192_ed03,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
];

/// None of the seeds: what is multiplied by zero forgets everything before it.
const NULL: u64 = 0x2127_599b_f432_5c37;

/// The two halves of the product, mixed.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed;
    let mut parts = bytes.chunks_exact(16);
    for part in &mut parts {
        let (a, b) = part.split_at(8);
        hash = mix(word(a) ^ SEEDS[2], word(b) ^ hash);
    }
    let rest = parts.remainder();
    let (a, b) = rest.split_at(rest.len().min(8));
    // Where it meets no bytes that could make up for another length.
    let len = (bytes.len() as u64).wrapping_mul(SEEDS[0]);
    mix(word(a) ^ SEEDS[3], mix(word(b) ^ SEEDS[4], hash ^ SEEDS[5]) ^ len)
}

/// Up to eight bytes. Of fewer, some are in it twice: that their number is hashed too keeps them apart.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk() {
        return u64::from_le_bytes(*whole);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
    }
}

#[inline]
fn integer(integer: i64) -> u64 {
    mix(integer.cast_unsigned() ^ SEEDS[0], SEEDS[1])
}

/// The hash of a field of a record that is whole in memory; `None` where it ends before it. Most are integers.
#[inline]
pub(super) fn field(field: Field, record: &[u8]) -> Option<u64> {
    match field.integer(record) {
        Some(own) => Some(integer(own)),
        None => field.value(record).map(value),
    }
}

/// The hash of one value.
#[inline]
pub(super) fn value(value: Value<'_>) -> u64 {
    match value {
        Value::Null => NULL,
        Value::Integer(own) => integer(own),
        Value::Real(real) => {
            let whole = real as i64;
            // Beyond 2^63 the conversion saturates, and is not equal any more but at the very end.
            if whole as f64 == real && whole != i64::MAX {
                return integer(whole);
            }
            mix(real.to_bits() ^ SEEDS[1], SEEDS[2])
        }
        Value::Text(text) => bytes(SEEDS[3], text),
        Value::Blob(blob) => bytes(SEEDS[4], blob),
    }
}

/// The hash of a row begins with this.
pub(super) const START: u64 = SEEDS[0];

/// Adds the hash of its next field.
#[inline]
pub(super) fn join(row: u64, field: u64) -> u64 {
    mix(row.rotate_left(23) ^ SEEDS[2], field ^ SEEDS[5])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_equal_to_sqlite_hash_alike_and_others_do_not() {
        let all = [
            Value::Null,
            Value::Integer(0),
            Value::Integer(1),
            Value::Integer(-1),
            Value::Real(0.5),
            Value::Real(1e300),
            Value::Text(b""),
            Value::Text(b"\0"),
            Value::Text(b"sixteen bytes!!!"),
            Value::Text(b"sixteen bytes!!!\0"),
            Value::Blob(b""),
            Value::Blob(b"sixteen bytes!!!"),
        ];
        let hashes: std::collections::BTreeSet<u64> = all.iter().map(|v| value(*v)).collect();
        assert_eq!(hashes.len(), all.len());
        assert_eq!(value(Value::Real(-0.0)), value(Value::Integer(0)));
        assert_eq!(value(Value::Real(1e15)), value(Value::Integer(1_000_000_000_000_000)));
        assert_ne!(join(join(START, 1), 2), join(join(START, 2), 1));
        // A field is not forgotten because of one that follows it, whatever that is.
        for last in all {
            let rows: std::collections::BTreeSet<u64> =
                all.iter().map(|first| join(join(START, value(*first)), value(last))).collect();
            assert_eq!(rows.len(), all.len(), "{last:?}");
        }
    }

    #[test]
    fn no_byte_of_a_text_is_left_out() {
        for len in 0..40 {
            let mut text = vec![b'a'; len];
            let mut hashes = std::collections::BTreeSet::from([value(Value::Text(&text))]);
            for at in 0..len {
                text[at] = b'b';
                hashes.insert(value(Value::Text(&text)));
                text[at] = b'a';
            }
            text.push(b'a');
            hashes.insert(value(Value::Text(&text)));
            assert_eq!(hashes.len(), len + 2);
        }
    }
}
