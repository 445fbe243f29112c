//! Numbers that look random, and come again with the same seed; and what they do to the bytes of a database.

/// splitmix64, from its seed on.
pub(in super::super) struct Random(pub(in super::super) u64);

impl Random {
    /// The next 64 bits.
    pub(in super::super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to it, not included.
    pub(in super::super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Kinds of damage; the last has several places, of which one may be silent and another not.
pub(in super::super) const KINDS: usize = 9;

/// Damages an image with pages of that size, in one of the first `kinds` ways; says how.
pub(in super::super) fn damage(bytes: &mut Vec<u8>, page_size: usize, random: &mut Random, kinds: usize) -> String {
    let pages = bytes.len() / page_size;
    let page = random.below(pages);
    let at = page * page_size;
    match random.below(kinds) {
        0 => {
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} (page {})", at / page_size + 1)
        }
        1 => {
            bytes[at..at + page_size].fill(0);
            format!("page {} zeroed", page + 1)
        }
        2 => {
            let other = random.below(pages) * page_size;
            bytes.copy_within(other..other + page_size, at);
            format!("page {} over page {}", other / page_size + 1, page + 1)
        }
        3 => {
            // A b-tree page's header and first pointers.
            let offset = random.below(24) + if page == 0 { 100 } else { 0 };
            bytes[at + offset] = random.next() as u8;
            format!("byte {offset} of page {}", page + 1)
        }
        4 => {
            let from = random.below(page_size / 512) * 512;
            bytes[at + from..at + page_size].fill(0);
            format!("page {} torn at {from}", page + 1)
        }
        5 => {
            let len = bytes.len() - random.below(bytes.len() / 2);
            bytes.truncate(len);
            format!("cut to {len} bytes")
        }
        6 => {
            let offset = random.below(100);
            bytes[offset] = random.next() as u8;
            format!("byte {offset} of the header")
        }
        7 => {
            let offset = random.below(page_size - 4);
            let number = (random.below(pages + 2) as u32).to_be_bytes();
            bytes[at + offset..at + offset + 4].copy_from_slice(&number);
            format!("a page number at {offset} of page {}", page + 1)
        }
        _ => {
            for _ in 0..4 {
                let offset = random.below(page_size);
                bytes[at + offset] = random.next() as u8;
            }
            format!("4 bytes of page {}", page + 1)
        }
    }
}
