//! What the demonstration's service acknowledged, and when: its own log, one record of 16 bytes per commit.

use std::path::Path;
use std::time::Duration;

use crate::error::ToolError;

/// The length of a record: the row's id and the time (ns, CLOCK_MONOTONIC), both as u64 in little endian.
const RECORD_LEN: usize = 16;

/// Now, on the clock of the records: nanoseconds of CLOCK_MONOTONIC, which all processes share.
#[must_use]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The record of one commit.
#[must_use]
pub fn record(id: u64, at: u64) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..].copy_from_slice(&at.to_le_bytes());
    bytes
}

/// Every record, in the order of the commits.
#[derive(Debug, Default)]
pub struct Acks(Vec<(u64, u64)>);

impl Acks {
    /// Reads the log. A record that is being written is left out: it is not acknowledged yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(path: &Path) -> Result<Self, ToolError> {
        let bytes = std::fs::read(path).map_err(ToolError::io("read", path))?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        Ok(Self(bytes.chunks_exact(RECORD_LEN).map(|record| (number(&record[..8]), number(&record[8..]))).collect()))
    }

    /// The id of the last row that was acknowledged; 0 before the first.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.0.last().map_or(0, |(id, _)| *id)
    }

    /// The longest time between two acknowledgements that touches the interval.
    #[must_use]
    pub fn longest_gap(&self, from: u64, to: u64) -> Duration {
        let gaps = self.0.windows(2).filter(|pair| pair[1].1 >= from && pair[0].1 <= to);
        Duration::from_nanos(gaps.map(|pair| pair[1].1.saturating_sub(pair[0].1)).max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_half_written_counts_for_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = [record(1, 1_000), record(2, 5_000), record(3, 6_000)].concat();
        bytes.extend([0xff; 9]);
        std::fs::write(file.path(), bytes).unwrap();
        let acks = Acks::read(file.path()).unwrap();
        assert_eq!(acks.last_id(), 3);
        assert_eq!(acks.longest_gap(0, 10_000), Duration::from_nanos(4_000));
        assert_eq!(acks.longest_gap(5_500, 10_000), Duration::from_nanos(1_000));
    }
}
