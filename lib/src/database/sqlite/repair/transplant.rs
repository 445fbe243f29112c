//! Definitions that are damaged, from an earlier copy of the same database: the pages of its schema are put behind the
//! last page of a copy, with the numbers that they have there, and page 1 leads to them. Everything else is as it was,
//! and the ladder begins anew with it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Base, RepairInput, corrupt, header};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::beside;
use crate::database::sqlite::pages::{Finding, FindingKind, Header, Image, Node, ObjectKind, Report, View};
use crate::world::disk::AtPath;

/// No schema has more pages.
const PAGES_MAX: usize = 100_000;
/// SQLite's own bound for the depth of a b-tree.
const DEPTH_MAX: usize = 20;
/// How long the header is.
const HEADER: usize = 100;

/// Whether any definition can't be read.
pub(super) fn is_needed(base: &Base<'_>) -> bool {
    let unread = |kind| kind == ObjectKind::Table || kind == ObjectKind::Index;
    let objects = &base.schema.objects;
    !base.schema.faults.is_empty()
        || objects.is_empty()
        || schema_damage(&base.report).next().is_some()
        || objects.iter().any(|o| o.kind == ObjectKind::Table && o.table_shape.is_none())
        || objects.iter().any(|o| unread(o.kind) && o.sql.as_deref().is_some_and(|sql| !sql.starts_with("CREATE")))
}

/// What was found in the pages of the schema, beside definitions that can't be read: some may be missing.
pub(super) fn schema_damage(report: &Report) -> impl Iterator<Item = &Finding> {
    let of_schema = |finding: &&Finding| finding.object.as_deref() == Some("sqlite_schema") && finding.rows_at_risk;
    report.findings.iter().filter(of_schema).filter(|finding| finding.kind != FindingKind::Schema)
}

/// A copy in which something is that of an earlier one.
pub(super) struct Grafted {
    pub(super) file: PathBuf,
    /// Why that may not be what was lost.
    pub(super) doubt: Option<String>,
}

/// Where the header says nothing that can be so: a copy that has the one of `reference`, in what never changes. Beside a
/// log or a journal, which says what it needs, none is made.
pub(super) fn with_header(input: &RepairInput<'_>, reference: &Path) -> Result<Option<Grafted>, SqliteError> {
    let first = |path: &Path| -> Result<Vec<u8>, SqliteError> {
        let mut bytes = vec![0; HEADER];
        let got = File::open(path).at("open", path)?.read_at(&mut bytes, 0).at("read", path)?;
        bytes.truncate(got);
        Ok(bytes)
    };
    let own = first(input.copy)?;
    let logs = ["-wal", "-journal"].iter().any(|suffix| std::fs::metadata(beside(input.copy, suffix)).is_ok());
    if logs || own.len() < HEADER || Header::parse(&own).faults(&own).is_empty() {
        return Ok(None);
    }
    let mut bytes = first(reference)?;
    let header = Header::parse(&bytes);
    if !header.faults(&bytes).is_empty() || bytes.len() < HEADER {
        return Ok(None);
    }
    let file = input.work.join("headed.db");
    std::fs::copy(input.copy, &file).map_err(|source| header::disk("copy to", &file, source))?;
    let len = std::fs::metadata(&file).at("look at", &file)?.len();
    let pages = u32::try_from(len.div_ceil(u64::from(header.page_size))).unwrap_or(u32::MAX);
    bytes[28..32].copy_from_slice(&pages.to_be_bytes());
    // Where the freelist begins may be damaged too: the check of it tells.
    bytes[32..40].copy_from_slice(&own[32..40]);
    bytes.copy_within(24..28, 92);
    header::write(&file, &bytes, 0)?;
    let ours = |header: &Header| (header.user_version, header.application_id);
    let said = ours(&Header::parse(&own));
    let doubt = (said != ours(&header)).then(|| {
        let ((version, id), (own_version, own_id)) = (ours(&header), said);
        format!(
            "user_version {version} and application_id {id} are those of the backup; the damaged header says {own_version} \
             and {own_id}"
        )
    });
    Ok(Some(Grafted { file, doubt }))
}

/// A copy of the base with the definitions of `reference`. That they are the ones that were lost is proved by the number in
/// both headers that changes with every definition (fileformat2.html, 1.3.9).
pub(super) fn transplant(base: &Base<'_>, reference: &Path) -> Result<Grafted, SqliteError> {
    let donor = View::open_own(reference, base.input.cancel)?;
    let (from, to) = (donor.image(), base.view.image());
    if from.layout().page_size != to.layout().page_size || from.layout().usable != to.layout().usable {
        return Err(corrupt(reference, "its pages have another size"));
    }
    let file = base.input.work.join("transplanted.db");
    std::fs::copy(&base.file, &file).map_err(|source| header::disk("copy to", &file, source))?;
    let size = to.layout().page_size;
    let mut graft = Graft { from, pages: Vec::new(), first: to.layout().page_count + 1 };
    let mut first = graft.page(1, 1).map_err(|what| corrupt(reference, what))?;
    let pages = to.layout().page_count + u32::try_from(graft.pages.len()).unwrap_or(u32::MAX);
    let mut own = Vec::new();
    let own_header_is_whole =
        to.read(1, &mut own).is_ok() && to.header().faults(&own).is_empty() && to.header().pages != 0;
    if own_header_is_whole {
        first[..HEADER].copy_from_slice(&own[..HEADER]);
    } else {
        // What the freelist was can't be told.
        first[32..40].fill(0);
    }
    first[28..32].copy_from_slice(&pages.to_be_bytes());
    // The length counts where these two agree (fileformat2.html, 1.3.7).
    first.copy_within(24..28, 92);
    let open = OpenOptions::new().write(true).open(&file).at("open", &file)?;
    open.write_all_at(&first, 0).at("write to", &file)?;
    // A page within which the file ended is whole again, with zeros.
    open.set_len(u64::from(pages) * size as u64).at("set the length of", &file)?;
    for (page, bytes) in (graft.first..).zip(&graft.pages) {
        open.write_all_at(bytes, u64::from(page - 1) * size as u64).at("write to", &file)?;
    }
    // One that was taken from the backup says nothing.
    let doubt = match own_header_is_whole && !base.headed {
        true if to.header().schema_cookie == from.header().schema_cookie => None,
        true => Some("the definitions are those of the backup, and have changed since it was made"),
        false => {
            Some("the definitions are those of the backup; whether they have changed since it was made can't be told")
        }
    };
    Ok(Grafted { file, doubt: doubt.map(str::to_owned) })
}

/// Pages that were read, with their new numbers in them.
struct Graft<'a> {
    from: &'a Image,
    pages: Vec<Vec<u8>>,
    first: u32,
}

impl Graft<'_> {
    /// A page of the b-tree; those below it are in `pages` then.
    fn page(&mut self, number: u32, depth: usize) -> Result<Vec<u8>, String> {
        if depth > DEPTH_MAX || self.pages.len() > PAGES_MAX {
            return Err("its schema is larger than any".to_owned());
        }
        let mut bytes = Vec::new();
        self.from.read(number, &mut bytes).map_err(|error| error.to_string())?;
        let source = bytes.clone();
        let node = Node::parse(&source, number, self.from.layout())?;
        let mut set = |at: usize, page: u32| bytes[at..at + 4].copy_from_slice(&page.to_be_bytes());
        for index in 0..node.cells {
            let cell = node.cell(index).map_err(str::to_owned)?;
            if !node.kind.is_leaf() {
                set(cell.at, self.below(cell.left, depth)?);
            } else if cell.payload.overflow != 0 {
                set(cell.at + cell.size - 4, self.chain(cell.payload.overflow)?);
            }
        }
        if !node.kind.is_leaf() {
            let start = if number == 1 { HEADER } else { 0 };
            set(start + 8, self.below(node.right, depth)?);
        }
        Ok(bytes)
    }

    fn below(&mut self, number: u32, depth: usize) -> Result<u32, String> {
        let bytes = self.page(number, depth + 1)?;
        self.add(bytes)
    }

    /// An overflow chain, from its end.
    fn chain(&mut self, first: u32) -> Result<u32, String> {
        let (mut chain, mut page) = (Vec::new(), first);
        while page != 0 {
            let mut bytes = Vec::new();
            self.from.read(page, &mut bytes).map_err(|error| error.to_string())?;
            page = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            chain.push(bytes);
            if chain.len() > PAGES_MAX {
                return Err("its schema is larger than any".to_owned());
            }
        }
        let mut next = 0_u32;
        for mut bytes in chain.into_iter().rev() {
            bytes[..4].copy_from_slice(&next.to_be_bytes());
            next = self.add(bytes)?;
        }
        Ok(next)
    }

    fn add(&mut self, bytes: Vec<u8>) -> Result<u32, String> {
        let number = u32::try_from(self.pages.len()).ok().and_then(|len| self.first.checked_add(len));
        self.pages.push(bytes);
        number.ok_or_else(|| "there are too many pages".to_owned())
    }
}
