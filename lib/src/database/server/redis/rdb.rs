//! The end of an RDB file in a stream: the byte 0xFF and the CRC-64 of all before it, eight bytes.
//!
//! A server that sends its data set without a file (diskless replication) puts a mark of 40 bytes behind it, which
//! `redis-cli --rdb -` leaves there: it can't shorten what it wrote to a pipe. The checksum tells the two apart.

use super::super::crc64;

/// The length of the mark.
const MARK: usize = 40;
/// 0xFF and the checksum.
const TRAILER: usize = 9;
/// What can't be judged, nor handed on, before the end is seen.
const HELD: usize = MARK + TRAILER;
/// Redis's polynomial (Jones), reflected.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

const TABLE: [u64; 256] = crc64::table(POLYNOMIAL);

/// CRC-64 as Redis computes it, going on from `crc`.
pub(super) fn crc(crc: u64, bytes: &[u8]) -> u64 {
    crc64::go_on(&TABLE, crc, bytes)
}

/// Hands a stream on without the mark, and tells whether it is whole.
#[derive(Debug, Default)]
pub(super) struct Ending {
    held: Vec<u8>,
    sum: u64,
    first: Vec<u8>,
}

impl Ending {
    /// Takes bytes; puts those that can be handed on into `out`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.first.len() < TRAILER {
            self.first.extend(bytes.iter().take(TRAILER - self.first.len()));
        }
        self.held.extend_from_slice(bytes);
        let ready = self.held.len().saturating_sub(HELD);
        self.sum = crc(self.sum, &self.held[..ready]);
        out.extend(self.held.drain(..ready));
    }

    /// The rest, without the mark; `None` where it is no whole RDB file.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        if !self.first.starts_with(b"REDIS") {
            return None;
        }
        let whole = |end: usize| -> bool {
            let Some(body) = end.checked_sub(TRAILER) else { return false };
            let (head, trailer) = (&self.held[..=body], &self.held[body..end]);
            let told = trailer[1..].iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
            // 0: the server was told not to compute it (rdbchecksum no).
            trailer[0] == 0xff && (told == 0 || told == crc(self.sum, head))
        };
        let length = self.held.len();
        let marked =
            length.checked_sub(MARK).filter(|end| self.held[*end..].iter().all(u8::is_ascii_hexdigit) && whole(*end));
        let end = if whole(length) { Some(length) } else { marked }?;
        let mut rest = self.held;
        rest.truncate(end);
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(bytes: &[u8], step: usize) -> Option<Vec<u8>> {
        let (mut ending, mut out) = (Ending::default(), Vec::new());
        bytes.chunks(step).for_each(|chunk| ending.feed(chunk, &mut out));
        out.extend(ending.finish()?);
        Some(out)
    }

    /// Version 9, an auxiliary field, one key.
    fn file(checked: bool) -> Vec<u8> {
        let mut bytes = b"REDIS0009\xfa\x04name\x05value\xfe\x00\xfb\x01\x00\x00\x01k\x01v\xff".to_vec();
        let sum = if checked { crc(0, &bytes) } else { 0 };
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_checksum_is_redis_own() {
        // The test vector of crc64.c.
        assert_eq!(crc(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_whole_file_passes_as_it_is_and_loses_a_mark() {
        let mark = b"0123456789abcdef0123456789abcdef01234567";
        for checked in [true, false] {
            let file = file(checked);
            for step in [1, 7, 4096] {
                assert_eq!(through(&file, step).as_deref(), Some(&file[..]));
                assert_eq!(through(&[&file[..], mark].concat(), step).as_deref(), Some(&file[..]));
            }
        }
    }

    #[test]
    fn what_is_cut_changed_or_longer_is_no_file() {
        let file = file(true);
        for end in 0..file.len() {
            assert_eq!(through(&file[..end], 5), None, "{end}");
        }
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 4;
            assert_eq!(through(&changed, 5), None, "{at}");
        }
        assert_eq!(through(&[&file[..], b"x"].concat(), 5), None);
        assert_eq!(through(b"", 5), None);
    }
}
