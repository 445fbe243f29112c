//! Before the first step: of pages whose type or number of cells alone is damaged nothing is lost, and they are put right
//! where their cells prove how ([`pages::mended`]), or an index does. Everything in them is checked then like the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{BASE, Base, RepairInput, check, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::pages::{self, Image, ObjectKind, Report, View};

/// Pages that lead to others that are damaged, too.
const ROUNDS_MAX: usize = 4;
/// Of these, so many are told.
const TOLD_MAX: usize = 20;

/// What was put right.
#[derive(Debug, Default)]
pub(super) struct Mends {
    /// The pages.
    pub(super) pages: BTreeSet<u32>,
    /// What of it nothing proves, for people.
    pub(super) doubts: Vec<String>,
}

/// A page whose last cells may be those of deleted rows.
struct Unproved {
    page: u32,
    tree: String,
    cells: usize,
    before: Vec<u8>,
}

/// Puts into `file` a copy with such pages mended, and its report into `report`.
pub(super) fn mend(input: &RepairInput<'_>, file: &mut PathBuf, report: &mut Report) -> Result<Mends, SqliteError> {
    let (mut mends, mut unproved) = (Mends::default(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        let view = View::open_own(file, input.cancel)?;
        let (image, mut bytes, mut mended) = (view.image(), Vec::new(), Vec::new());
        for finding in &report.findings {
            let Some(page) = finding.page.filter(|page| !mends.pages.contains(page)) else { continue };
            if image.read(page, &mut bytes).is_ok()
                && let Some(found) = pages::mended(&bytes, page, image.layout())
            {
                if found.unproved > 0 {
                    let (tree, before) = (finding.object.clone().unwrap_or_default(), std::mem::take(&mut bytes));
                    unproved.push(Unproved { page, tree, cells: found.unproved, before });
                }
                mends.pages.insert(page);
                mended.push((page, found.bytes));
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
            write(file, image, *page, bytes)?;
        }
        *report = check(file, input.cancel, input.observer)?;
    }
    let image = View::open_own(file, input.cancel)?;
    let mut is_back = false;
    for Unproved { page, tree, cells, before } in unproved {
        if agrees(report, &tree) {
            continue;
        }
        if report.trees.iter().any(|found| found.name == tree && found.kind == ObjectKind::Index) {
            // It is built anew.
            write(file, image.image(), page, &before)?;
            mends.pages.remove(&page);
            is_back = true;
            continue;
        }
        mends.doubts.push(format!(
            "{tree}: page {page} did not name its last {cells} cells: they are taken for rows, and may be of deleted ones"
        ));
    }
    if is_back {
        *report = check(file, input.cancel, input.observer)?;
    }
    Ok(mends)
}

fn write(file: &Path, image: &Image, page: u32, bytes: &[u8]) -> Result<(), SqliteError> {
    header::write(file, bytes, u64::from(page - 1) * image.layout().page_size as u64)
}

/// Whether an index and its table, of which `tree` is one, were compared and are the same.
fn agrees(report: &Report, tree: &str) -> bool {
    let is_compared = |name: &str| !report.not_checked.iter().any(|not| not.object == name);
    report.trees.iter().any(|index| {
        index.kind == ObjectKind::Index
            && !index.damaged
            && is_compared(&index.name)
            && (index.name == tree || index.table == tree)
    })
}

/// What of it is told.
pub(super) fn note(base: &Base<'_>) -> Option<String> {
    let mended = &base.mends.pages;
    let pages: Vec<String> = mended.iter().take(TOLD_MAX).map(u32::to_string).collect();
    let more = if mended.len() > TOLD_MAX { " and others" } else { "" };
    let pages = (!pages.is_empty()).then(|| pages.join(", "))?;
    Some(format!("in pages {pages}{more} the type or the number of cells was wrong, and is what the cells prove"))
}
