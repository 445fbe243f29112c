//! Which rowids a table has, as ranges: few, where rows were numbered as they came.

/// More ranges would take more memory than is worth it, at 16 bytes each.
const RANGES_MAX: usize = 4 << 20;

/// Rowids, added in their order.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(i64, i64)>);

impl Kept {
    /// Adds one beyond all others; whether there was room.
    pub(super) fn add(&mut self, rowid: i64) -> bool {
        match self.0.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(rowid) => *last = rowid,
            _ => self.0.push((rowid, rowid)),
        }
        self.0.len() <= RANGES_MAX
    }

    pub(super) fn has(&self, rowid: i64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= rowid);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| rowid <= *last)
    }
}
