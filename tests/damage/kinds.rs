//! What happens to the bytes of a database.

use svckit_testbed::random::Random;

use super::patient::Files;

/// One damage, with every number in it: it can be done again, alone or with others.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    /// Which file, by its suffix.
    suffix: &'static str,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Bit { at: usize, bit: usize },
    Bytes { at: usize, bytes: Vec<u8> },
    Zeros { at: usize, len: usize },
    Copy { from: usize, to: usize, len: usize },
    Swap { one: usize, other: usize, len: usize },
    Cut { len: usize },
    Longer { bytes: usize },
}

impl Damage {
    /// Of a database with pages of that size, and of its log where it has one.
    pub(crate) fn choose(random: &mut Random, files: &Files, size: usize) -> Self {
        let logs: Vec<&'static str> = files.keys().copied().filter(|suffix| !suffix.is_empty()).collect();
        let suffix = if logs.is_empty() || random.below(2) == 0 { "" } else { logs[random.below(logs.len())] };
        let len = files[suffix].len();
        let pages = (len / size).max(1);
        let page = random.below(pages);
        let at = page * size;
        let what = match random.below(12) {
            0 => What::Bit { at: random.below(len), bit: random.below(8) },
            1 => What::Zeros { at, len: size },
            2 => What::Copy { from: random.below(pages) * size, to: at, len: size },
            3 => {
                let offset = random.below(24) + if page == 0 { 100 } else { 0 };
                What::Bytes { at: at + offset, bytes: vec![random.bits() as u8] }
            }
            4 => {
                let from = random.below(size / 512) * 512;
                What::Zeros { at: at + from, len: size - from }
            }
            5 => What::Cut { len: len - random.below(len / 2) },
            6 => What::Bytes { at: random.below(100), bytes: vec![random.bits() as u8] },
            7 => {
                let number = (random.below(pages + 2) as u32).to_be_bytes();
                What::Bytes { at: at + random.below(size - 4), bytes: number.to_vec() }
            }
            8 => {
                let count = 1 + random.below(64);
                let bytes = (0..count).map(|_| random.bits() as u8).collect();
                What::Bytes { at: at + random.below(size - 64), bytes }
            }
            9 => What::Bytes { at, bytes: (0..size).map(|_| random.bits() as u8).collect() },
            10 => What::Swap { one: at, other: random.below(pages) * size, len: size },
            _ => What::Longer { bytes: 1 + random.below(3 * size) },
        };
        Self { suffix, what }
    }

    pub(crate) fn apply(&self, files: &mut Files) {
        let Some(bytes) = files.get_mut(self.suffix) else { return };
        let end = bytes.len();
        match &self.what {
            What::Bit { at, bit } if *at < end => bytes[*at] ^= 1 << bit,
            What::Bytes { at, bytes: new } if at + new.len() <= end => bytes[*at..at + new.len()].copy_from_slice(new),
            What::Zeros { at, len } if at + len <= end => bytes[*at..at + len].fill(0),
            What::Copy { from, to, len } if from.max(to) + len <= end => bytes.copy_within(*from..from + len, *to),
            What::Swap { one, other, len } if one.max(other) + len <= end => {
                let (first, second) = (bytes[*one..one + len].to_vec(), bytes[*other..other + len].to_vec());
                bytes[*one..one + len].copy_from_slice(&second);
                bytes[*other..other + len].copy_from_slice(&first);
            }
            What::Cut { len } => bytes.truncate(*len),
            What::Longer { bytes: more } => bytes.resize(end + more, 0),
            // An earlier one has cut it off.
            _ => {}
        }
    }
}
