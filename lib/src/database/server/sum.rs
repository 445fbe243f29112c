//! A sum of bytes that shows accidents, not forgery; such sums of many texts can be added up in any order.

/// FNV-1a, 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) const NEW: Self = Self(0xcbf2_9ce4_8422_2325);

    pub(super) fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    pub(super) fn add_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add(*byte));
    }

    /// Adds all before the first byte that `ends`; answers how many.
    pub(super) fn add_until(&mut self, bytes: &[u8], ends: impl Fn(u8) -> bool) -> usize {
        let mut sum = *self;
        let mut count = 0;
        for &byte in bytes {
            if ends(byte) {
                break;
            }
            sum.add(byte);
            count += 1;
        }
        *self = sum;
        count
    }

    /// Spread, so that a sum of many tells one changed bit.
    pub(super) fn end(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}
