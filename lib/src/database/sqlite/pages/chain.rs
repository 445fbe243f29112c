//! Overflow chains (fileformat2.html, 1.7): four bytes for the next page, then the payload.

use std::borrow::Cow;

use super::bytes::be32;
use super::image::{Image, Unreadable};
use super::node::Payload;

/// Why a payload can't be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFault {
    /// The overflow page at which it ends; 0 where it has none.
    pub page: u32,
    /// For people.
    pub what: String,
}

/// What is done with an overflow page.
pub(super) enum Step {
    GoOn,
    /// It is somebody else's already.
    Stop(String),
}

/// Follows a chain. `on_page` hears of every page, of the one that names it (0: the cell), and of the one that it names
/// (0: none); `on_bytes` of what is
/// at which offset of the payload. At most as many pages are read as the payload needs, and as the database has.
pub(super) fn follow(
    image: &Image,
    payload: &Payload<'_>,
    buffer: &mut Vec<u8>,
    mut on_page: impl FnMut(u32, u32, u32) -> Step,
    mut on_bytes: impl FnMut(u64, &[u8]),
) -> Result<(), ChainFault> {
    let usable = image.layout().usable;
    let mut offset = payload.local.len() as u64;
    let (mut page, mut before) = (payload.overflow, 0);
    let pages = payload.total.saturating_sub(offset).div_ceil(usable as u64 - 4);
    let fault = |page, what: String| Err(ChainFault { page, what });
    if pages > u64::from(image.layout().page_count) {
        return fault(page, format!("it would take {pages} pages, more than the database has"));
    }
    for left in (0..pages).rev() {
        if let Err(error) = image.read(page, buffer) {
            let what = match error {
                Unreadable::OutOfRange(0) => format!("it ends {} pages too early", left + 1),
                other => other.to_string(),
            };
            return fault(page, what);
        }
        let next = be32(buffer, 0).unwrap_or(0);
        match on_page(page, before, next) {
            Step::GoOn => {}
            Step::Stop(what) => return fault(page, what),
        }
        let content = buffer.get(4..usable).unwrap_or_default();
        let part = content.len().min(usize::try_from(payload.total - offset).unwrap_or(usize::MAX));
        on_bytes(offset, &content[..part]);
        offset += part as u64;
        before = page;
        page = next;
    }
    if page != 0 {
        return fault(before, format!("it goes on to page {page} after its end"));
    }
    Ok(())
}

/// The whole payload, or as much of it as `most` bytes allow.
///
/// # Errors
/// [`ChainFault`] where the chain is broken.
pub fn bytes_of<'a>(image: &Image, payload: &Payload<'a>, most: usize) -> Result<Cow<'a, [u8]>, ChainFault> {
    if payload.total == payload.local.len() as u64 {
        return Ok(Cow::Borrowed(payload.local));
    }
    let mut bytes = payload.local.to_vec();
    let mut cut = *payload;
    cut.total = payload.total.min(most.max(payload.local.len()) as u64);
    let followed = follow(image, &cut, &mut Vec::new(), |_, _, _| Step::GoOn, |_, part| bytes.extend_from_slice(part));
    match followed {
        // A chain that was not followed to its end goes on.
        Err(_) if cut.total < payload.total && bytes.len() as u64 == cut.total => Ok(Cow::Owned(bytes)),
        Err(fault) => Err(fault),
        Ok(()) => Ok(Cow::Owned(bytes)),
    }
}
