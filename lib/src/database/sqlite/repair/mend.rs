//! Before the first step: of pages whose type or number of cells alone is damaged nothing is lost, and they are put right
//! where their cells prove how ([`pages::mended`]). Everything in them is checked then like the rest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{BASE, Base, RepairInput, check, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::{self, Report, View};

/// Pages that lead to others that are damaged, too.
const ROUNDS_MAX: usize = 4;
/// Of these, so many are told.
const TOLD_MAX: usize = 20;

/// Puts into `file` a copy with such pages mended, and its report into `report`; which pages.
pub(super) fn mend(input: &RepairInput<'_>, file: &mut PathBuf, report: &mut Report) -> Result<Vec<u32>, SqliteError> {
    let mut done = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let view = View::open_own(file, input.cancel)?;
        let (image, mut bytes, mut mended) = (view.image(), Vec::new(), Vec::new());
        let pages: BTreeSet<u32> = report.findings.iter().filter_map(|finding| finding.page).collect();
        for page in pages.difference(&done) {
            if image.read(*page, &mut bytes).is_ok() {
                mended.extend(pages::mended(&bytes, *page, image.layout()).map(|bytes| (*page, bytes)));
            }
        }
        if mended.is_empty() {
            break;
        }
        if *file == input.copy {
            let to = input.work.join(BASE);
            std::fs::copy(&file, &to).map_err(|source| header::disk("copy to", &to, source))?;
            *file = to;
        }
        for (page, bytes) in &mended {
            header::write(file, bytes, u64::from(page - 1) * image.layout().page_size as u64)?;
        }
        done.extend(mended.into_iter().map(|(page, _)| page));
        *report = check(file, input.cancel, input.observer)?;
    }
    Ok(done.into_iter().collect())
}

/// What of it is told.
pub(super) fn note(base: &Base<'_>) -> Option<String> {
    let pages: Vec<String> = base.mended.iter().take(TOLD_MAX).map(u32::to_string).collect();
    let more = if base.mended.len() > TOLD_MAX { " and others" } else { "" };
    let pages = (!pages.is_empty()).then(|| pages.join(", "))?;
    Some(format!("in pages {pages}{more} the type or the number of cells was wrong, and is what the cells prove"))
}
