//! A view, written down as one file: with what its log or its journal had, and without them beside it.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::copy::create;
use super::super::error::SqliteError;
use super::instant::Seen;
use super::view::View;
use crate::progress::{Cancel, Observer};
use crate::world::disk::AtPath;

/// Between two words to the observer, in pages.
const GRAIN: u32 = 256;
const BUFFER: usize = 1 << 20;
/// Numbers of pages that are told one by one.
const TOLD_MAX: usize = 1000;

impl View {
    /// Writes the pages of the view into a new file with mode 0600, in constant memory. The answer is the pages that
    /// could not be read, the first thousand: they are zero in the copy. Where others may write meanwhile, the copy
    /// means something only once [`View::still_holds`] has said so, and ends early where that will not be.
    ///
    /// # Errors
    /// When the copy can't be written; when it is cancelled.
    pub fn write_copy(
        &self,
        to: &Path,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Seen<Vec<u32>>, SqliteError> {
        let layout = *self.image().layout();
        let mut file = BufWriter::with_capacity(BUFFER, create(to)?);
        let size = layout.page_size as u64;
        let (mut bytes, mut unreadable) = (Vec::new(), Vec::new());
        for page in 1..=layout.page_count {
            if page % GRAIN == 1 {
                if cancel.is_requested() {
                    return Err(SqliteError::Cancelled { what: "copying to", path: to.to_owned() });
                }
                if self.has_lapsed() {
                    return Ok(Seen::Part(f64::from(page) / f64::from(layout.page_count)));
                }
                observer.bytes(u64::from(page) * size, u64::from(layout.page_count) * size);
            }
            if self.image().read(page, &mut bytes).is_err() {
                bytes.clear();
                bytes.resize(layout.page_size, 0);
                if unreadable.len() < TOLD_MAX {
                    unreadable.push(page);
                }
            }
            file.write_all(&bytes).at("write to", to)?;
        }
        file.flush().at("write to", to)?;
        Ok(Seen::All(unreadable))
    }
}
