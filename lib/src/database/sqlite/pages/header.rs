//! The database header (fileformat2.html, 1.3), read from whatever stands there, and what follows from it for pages.

use serde::Serialize;

use super::bytes::{be16, be32, u8_at};

/// The first bytes of every database.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The byte in which SQLite's locks begin: its page is never used (fileformat2.html, 1.4).
const LOCK_BYTE: u32 = 0x4000_0000;

/// How text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Encoding {
    /// 1.
    #[serde(rename = "UTF-8")]
    Utf8,
    /// 2.
    #[serde(rename = "UTF-16le")]
    Utf16Le,
    /// 3.
    #[serde(rename = "UTF-16be")]
    Utf16Be,
}

/// What the header says, each field as it is written; [`Header::faults`] says which of them can't be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// In bytes: a power of two from 512 to 65,536; 0 where it is none.
    pub page_size: u32,
    /// The file format to write with and to read with: 1 for a rollback journal, 2 for a WAL.
    pub versions: [u8; 2],
    /// Bytes at the end of every page that are not the format's.
    pub reserved: u8,
    /// Changes with every transaction in a rollback mode.
    pub change_counter: u32,
    /// Pages, as of the writer that set [`Header::version_valid_for`].
    pub pages: u32,
    /// The first trunk page of the freelist; 0 for none.
    pub freelist_trunk: u32,
    /// Pages in the freelist.
    pub freelist_pages: u32,
    /// Changes with the schema.
    pub schema_cookie: u32,
    /// 1 to 4; descending indices exist from 4 on.
    pub schema_format: u32,
    /// Not 0 in an auto-vacuum database: there are pointer-map pages.
    pub largest_root: u32,
    /// How text is stored; UTF-8 where the field is none of the three.
    pub encoding: Encoding,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// Whether `PRAGMA incremental_vacuum` is used.
    pub incremental_vacuum: bool,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// The change counter when `pages` was written.
    pub version_valid_for: u32,
    /// The SQLite that wrote last, as 3054000.
    pub sqlite_version: u32,
}

impl Header {
    /// Reads the first 100 bytes; what is missing of them reads as 0.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at| be32(bytes, at).unwrap_or(0);
        let page_size = match be16(bytes, 16).unwrap_or(0) {
            1 => 65_536,
            size if size >= 512 && size.is_power_of_two() => u32::from(size),
            _ => 0,
        };
        Self {
            page_size,
            versions: [u8_at(bytes, 18).unwrap_or(0), u8_at(bytes, 19).unwrap_or(0)],
            reserved: u8_at(bytes, 20).unwrap_or(0),
            change_counter: word(24),
            pages: word(28),
            freelist_trunk: word(32),
            freelist_pages: word(36),
            schema_cookie: word(40),
            schema_format: word(44),
            largest_root: word(52),
            // SQLite looks at these two bits only.
            encoding: match word(56) & 3 {
                2 => Encoding::Utf16Le,
                3 => Encoding::Utf16Be,
                _ => Encoding::Utf8,
            },
            user_version: word(60).cast_signed(),
            incremental_vacuum: word(64) != 0,
            application_id: word(68),
            version_valid_for: word(92),
            sqlite_version: word(96),
        }
    }

    /// Which fields can't be as they are, for people; `bytes` are those that were parsed.
    #[must_use]
    pub fn faults(&self, bytes: &[u8]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |bad: bool, what: String| {
            if bad {
                faults.push(what);
            }
        };
        fault(!bytes.starts_with(MAGIC), "its first bytes are not those of a database".to_owned());
        fault(self.page_size == 0, format!("its page size would be {}", be16(bytes, 16).unwrap_or(0)));
        fault(!matches!(self.versions, [1 | 2, 1 | 2]), format!("its format versions are {:?}", self.versions));
        let fractions = bytes.get(21..24).unwrap_or_default();
        fault(fractions != [64, 32, 32], format!("its payload fractions are {fractions:?}"));
        let too_much = self.page_size != 0 && self.page_size < u32::from(self.reserved) + 480;
        fault(too_much, format!("{} bytes of every page are reserved", self.reserved));
        let encoding = be32(bytes, 56).unwrap_or(0);
        fault(encoding > 3, format!("its text encoding is {encoding}"));
        fault(self.schema_format > 4, format!("its schema format is {}", self.schema_format));
        fault(self.incremental_vacuum && self.largest_root == 0, "it vacuums but has no pointer map".to_owned());
        faults
    }

    /// Whether [`Header::pages`] can be relied upon.
    #[must_use]
    pub fn pages_are_valid(&self) -> bool {
        self.pages != 0 && self.version_valid_for == self.change_counter
    }
}

/// Where things are in pages of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a page.
    pub page_size: usize,
    /// Bytes of a page that are the format's; at least 480.
    pub usable: usize,
    /// Pages of the database: the number of the last one.
    pub page_count: u32,
    /// Whether there are pointer-map pages.
    pub auto_vacuum: bool,
    /// How text is stored.
    pub encoding: Encoding,
}

impl Layout {
    pub(super) fn of(header: &Header, page_size: u32, page_count: u32) -> Self {
        let page_size = page_size as usize;
        // A header that reserves nearly everything is damaged: the formulas of the format need some room.
        let reserved = if page_size < usize::from(header.reserved) + 480 { 0 } else { usize::from(header.reserved) };
        Self {
            page_size,
            usable: page_size - reserved,
            page_count,
            auto_vacuum: header.largest_root != 0,
            encoding: header.encoding,
        }
    }

    /// The page that the lock bytes are on: never used by the format (1.4).
    #[must_use]
    pub fn lock_page(&self) -> u32 {
        LOCK_BYTE / self.page_size as u32 + 1
    }

    /// The pointer-map page that has the entry of `page` (1.8); itself for a pointer-map page; `None` where there are
    /// none, and for page 1.
    #[must_use]
    pub fn pointer_map_of(&self, page: u32) -> Option<u32> {
        if !self.auto_vacuum || page < 2 {
            return None;
        }
        let each = (self.usable / 5 + 1) as u32;
        let map = (page - 2) / each * each + 2;
        Some(if map == self.lock_page() { map + 1 } else { map })
    }

    /// Whether `page` is a pointer-map page.
    #[must_use]
    pub fn is_pointer_map(&self, page: u32) -> bool {
        self.pointer_map_of(page) == Some(page)
    }

    /// The longest payload that lies in its cell as a whole (1.6).
    pub(super) fn local_max(&self, table_leaf: bool) -> usize {
        if table_leaf { self.usable - 35 } else { (self.usable - 12) * 64 / 255 - 23 }
    }

    /// How many bytes of a payload are in the cell itself (1.6).
    pub(super) fn local_of(&self, payload: u64, table_leaf: bool) -> usize {
        let most = self.local_max(table_leaf);
        if payload <= most as u64 {
            return payload as usize;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let surplus = least + ((payload - least as u64) % (self.usable as u64 - 4)) as usize;
        if surplus <= most { surplus } else { least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(page_size: usize, auto_vacuum: bool) -> Layout {
        Layout { page_size, usable: page_size, page_count: u32::MAX, auto_vacuum, encoding: Encoding::Utf8 }
    }

    #[test]
    fn a_map_page_that_would_lie_on_the_lock_bytes_comes_after_them() {
        for size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
            let layout = layout(size, true);
            let lock = layout.lock_page();
            assert!(!layout.is_pointer_map(lock), "{size}");
            assert!(layout.is_pointer_map(2));
            let each = (size / 5 + 1) as u32;
            assert_eq!(
                layout.is_pointer_map(lock + 1),
                (lock - 2).is_multiple_of(each) || (lock - 1).is_multiple_of(each),
                "{size}"
            );
        }
        assert_eq!(layout(4096, false).pointer_map_of(77), None);
    }

    #[test]
    fn a_header_of_nothing_is_all_faults_and_no_panic() {
        for len in [0, 1, 17, 99] {
            let header = Header::parse(&vec![0xff; len]);
            assert!(!header.faults(&vec![0xff; len]).is_empty());
        }
    }
}
