//! What happens to the bytes of a database: at random, or to pages that are chosen.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use crate::random::Random;

/// The files of a database, by suffix.
pub type Files = BTreeMap<&'static str, Vec<u8>>;

/// One damage, with every number in it: it can be done again, alone or with others.
#[derive(Debug, Clone)]
pub struct Damage {
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
    pub fn choose(random: &mut Random, files: &Files, size: usize) -> Self {
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

    /// One byte of the database itself.
    pub fn byte(at: usize, byte: u8) -> Self {
        Self { suffix: "", what: What::Bytes { at, bytes: vec![byte] } }
    }

    /// Does it. What an earlier one has cut off is left out.
    pub fn apply(&self, files: &mut Files) {
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
            _ => {}
        }
    }
}

/// The page size of a database, in bytes.
pub fn page_size(database: &Path) -> usize {
    let connection = Connection::open(database).unwrap();
    usize::try_from(connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
}

/// Pages of a table or an index, by SQLite's word; `kind`: `leaf`, `internal` or `overflow` (dbstat.html).
pub fn pages_of(database: &Path, object: &str, kind: &str) -> Vec<usize> {
    let connection = Connection::open(database).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([object, kind], |row| row.get::<_, i64>(0)).unwrap();
    pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
}

/// Zeroes pages of a file; how many cells they had.
pub fn zero(file: &Path, page_size: usize, pages: impl IntoIterator<Item = usize>) -> u64 {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut cells = 0;
    for page in pages {
        let (at, mut head) = ((page - 1) as u64 * page_size as u64, [0; 5]);
        file.read_exact_at(&mut head, at).unwrap();
        cells += u64::from(u16::from_be_bytes([head[3], head[4]]));
        file.write_all_at(&vec![0; page_size], at).unwrap();
    }
    cells
}
