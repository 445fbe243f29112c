//! Records of rows and of index entries: their shape, what must not be NULL, and their part of the sums.

use std::sync::atomic::Ordering;

use super::super::bytes::be32;
use super::super::chain::{Step, bytes_of, follow};
use super::super::node::Payload;
use super::super::record::{Field, header_len, read_fields};
use super::cells::Key;
use super::contested::can_be_linked;
use super::crossed::Link;
use super::hash;
use super::plan::{Place, RowPlan};
use super::report::{FindingKind, Loss};
use super::walk::{Here, Worker};

/// Of one record, what lies in overflow pages and is hashed: more is not held in memory, and not compared. A thread holds
/// up to three times as much: two keys, and the fields of a row.
const GATHER_MAX: u64 = 4 << 20;
/// A longer header is not read: no table of SQLite's own limits has so many columns.
const HEADER_MAX: usize = 64 << 10;

impl Worker<'_> {
    /// A row: its chain is claimed, its shape checked, and it is added to the sums of the indices.
    pub(super) fn row(&mut self, here: Here<'_>, rowid: Option<i64>, payload: &Payload<'_>) {
        self.entries += 1;
        let mut fields = std::mem::take(&mut self.fields);
        self.row_with(here, rowid, payload, &mut fields);
        self.fields = fields;
    }

    fn row_with(&mut self, here: Here<'_>, rowid: Option<i64>, payload: &Payload<'_>, fields: &mut Vec<Field>) {
        let read = self.fields_of(payload, fields);
        let plan = here.tree.rows.as_ref();
        let hashed = plan.map_or(&[][..], |plan| &plan.hashed);
        // What the sums need of the overflow pages.
        let local = payload.local.len() as u64;
        let wanted =
            |place: usize, field: &Field| hashed.get(place).copied().unwrap_or(false) && field.at + field.len > local;
        let mut gathered: Vec<(Field, Vec<u8>)> = Vec::new();
        let mut too_long = false;
        if payload.overflow != 0 || local < payload.total {
            let mut room = GATHER_MAX;
            for (place, field) in fields.iter().enumerate().filter(|(place, field)| wanted(*place, field)) {
                let _place = place;
                too_long |= field.len > room;
                room = room.saturating_sub(field.len);
                if !too_long {
                    let mut bytes = Vec::with_capacity(field.len as usize);
                    take(&mut bytes, *field, 0, payload.local);
                    gathered.push((*field, bytes));
                }
            }
            let whole = self.claim_chain(here, payload, |at, part| {
                for (field, bytes) in &mut gathered {
                    take(bytes, *field, at, part);
                }
            });
            if !whole {
                return;
            }
        }
        if let Err(what) = read {
            self.found(here, FindingKind::Record, here.tree.loss(), format!("{}: {what}", named(rowid)));
            return;
        }
        let Some(plan) = plan else {
            return;
        };
        for (place, column) in &plan.not_null {
            if fields.get(*place).is_some_and(|field| field.serial.is_null()) {
                let what = format!("{} has NULL in column {column}", named(rowid));
                self.found(here, FindingKind::NullValue, Loss::Unknown, what);
            }
        }
        for (place, declared, column) in &plan.types {
            if fields.get(*place).is_some_and(|field| !declared.takes(field.serial)) {
                let what = format!("{} has what is not {} in column {column}", named(rowid), declared.word());
                self.found(here, FindingKind::Record, Loss::Unknown, what);
            }
        }
        // Who edits these tables by hand may leave a row of NULLs; a row of another table has more.
        let is_blank = !fields.is_empty() && fields.iter().all(|field| field.serial.is_null());
        if plan.is_named && !is_blank && fields.first().is_none_or(|field| !field.serial.is_text()) {
            let what = format!("{} does not begin with the name of a table", named(rowid));
            self.found(here, FindingKind::Record, Loss::Rows, what);
        }
        if plan.sums.is_empty() {
            return;
        }
        if too_long || self.hash_fields(plan, fields, payload.local, &gathered).is_none() {
            here.tree.unsummed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let rowid = rowid.map_or(0, |rowid| hash::value(super::super::record::Value::Integer(rowid)));
        for (index, own) in plan.sums.iter().zip(&mut self.sums) {
            let row = index.places.iter().fold(hash::START, |row, place| match place {
                Place::Rowid => hash::join(row, rowid),
                Place::Field(field) => hash::join(row, self.hashes.get(*field).copied().unwrap_or(0)),
            });
            match &index.known {
                Some(known) => known.add(row),
                None => *own = own.wrapping_add(row),
            }
        }
    }

    /// An entry of an index, or a row of a table without rowid: its record, for the comparison with the next. Its fields
    /// are in `self.fields` then.
    pub(super) fn entry<'p>(&mut self, here: Here<'_>, payload: &Payload<'p>) -> Key<'p> {
        if payload.total == payload.local.len() as u64 {
            return if self.record(here, payload.local) { Key::Page(payload.local) } else { Key::None };
        }
        let mut long = std::mem::take(&mut self.long);
        long.clear();
        let mut whole = payload.total <= GATHER_MAX;
        if whole {
            // It would have grown to twice as much.
            long.reserve_exact(payload.total as usize);
            long.extend_from_slice(payload.local);
            whole = self.claim_chain(here, payload, |_, part| long.extend_from_slice(part));
        } else {
            let _whole = self.claim_chain(here, payload, |_, _| {});
            here.tree.unsummed.fetch_add(1, Ordering::Relaxed);
        }
        if whole {
            whole = self.record(here, &long);
        } else {
            self.entries += 1;
        }
        self.long = long;
        if whole { Key::Long } else { Key::None }
    }

    /// A record that is whole in memory; whether it is one.
    #[inline]
    fn record(&mut self, here: Here<'_>, record: &[u8]) -> bool {
        if here.tree.rows.is_some() {
            self.row(here, None, &Payload { total: record.len() as u64, local: record, overflow: 0 });
            return true;
        }
        self.entries += 1;
        if let Err(what) = read_fields(record, record.len() as u64, &mut self.fields) {
            self.found(here, FindingKind::Record, here.tree.loss(), format!("an entry: {what}"));
            return false;
        }
        if here.tree.key.as_ref().is_some_and(|key| key.fields.is_some_and(|fields| fields != self.fields.len())) {
            let what = format!("an entry has {} fields", self.fields.len());
            self.found(here, FindingKind::Record, here.tree.loss(), what);
        } else if here.tree.compared_with.is_some() {
            let add = |entry, field: &Field| hash::join(entry, hash::field(*field, record).unwrap_or(0));
            self.sum = self.sum.wrapping_add(self.fields.iter().fold(hash::START, add));
        }
        true
    }

    /// The fields of a payload, whose header may go on in overflow pages.
    fn fields_of(&self, payload: &Payload<'_>, fields: &mut Vec<Field>) -> Result<(), &'static str> {
        fields.clear();
        let header = header_len(payload.local).ok_or("it has no header")?;
        if header <= payload.local.len() as u64 || payload.overflow == 0 {
            return read_fields(payload.local, payload.total, fields);
        }
        // A chain is read for a header once at most: what is somebody's already is not this one's.
        if self.check.pages.is_claimed(payload.overflow) {
            return Err("its header goes on in a page that has a use already");
        }
        let len = usize::try_from(header).ok().filter(|len| *len <= HEADER_MAX).ok_or("its header is too long")?;
        let bytes = bytes_of(self.check.image, payload, len).map_err(|_| "its header can't be read")?;
        read_fields(&bytes, payload.total, fields)
    }

    /// Hashes what the sums need. `None` where a value can't be known.
    fn hash_fields(
        &mut self,
        plan: &RowPlan,
        fields: &[Field],
        local: &[u8],
        gathered: &[(Field, Vec<u8>)],
    ) -> Option<()> {
        self.hashes.clear();
        for (place, hashed) in plan.hashed.iter().enumerate() {
            let hash = match fields.get(place) {
                _ if !hashed => 0,
                None => *plan.defaults.get(place)?.as_ref()?,
                Some(field) if gathered.is_empty() => hash::field(*field, local)?,
                Some(field) => {
                    let at = usize::try_from(field.at).ok()?;
                    let value = match gathered.iter().find(|(other, _)| other.at == field.at && other.len == field.len)
                    {
                        Some((_, bytes)) if field.len > 0 => field.serial.value(bytes)?,
                        _ => field.serial.value(local.get(at.min(local.len())..)?)?,
                    };
                    hash::value(value)
                }
            };
            self.hashes.push(hash);
        }
        Some(())
    }

    /// Claims the pages of a chain; whether it is whole.
    fn claim_chain(&mut self, here: Here<'_>, payload: &Payload<'_>, on_bytes: impl FnMut(u64, &[u8])) -> bool {
        let mut buffer = std::mem::take(&mut self.chain);
        let check = self.check;
        let mut links: Vec<(u32, u32)> = Vec::new();
        let on_page = |page, before, next| {
            if !can_be_linked(&check.pages, next) {
                // It ends here.
                check.contested.unfit(page, &check.pages);
            } else if !check.pages.claim(page) {
                check.contested.twice(page);
                return Step::Stop("it leads to a page that has a use already".to_owned());
            }
            if check.image.layout().auto_vacuum && links.len() < LINKS_MAX {
                links.push((page, before));
            }
            check.progress();
            Step::GoOn
        };
        let followed = follow(check.image, payload, &mut buffer, on_page, on_bytes);
        self.chain = buffer;
        for (page, before) in links {
            let (kind, from) = if before == 0 { (3, here.page) } else { (4, before) };
            self.expect_link(here, page, kind, from);
        }
        match followed {
            Ok(()) => true,
            Err(fault) => {
                let what = format!("an overflow chain at page {}: {}", fault.page, fault.what);
                self.found(here, FindingKind::OverflowChain, here.tree.loss(), what);
                false
            }
        }
    }

    /// Compares the entry of a page of a tree: where it names another page of its kind, one of them may be in the place
    /// of the other.
    pub(super) fn expect_link(&mut self, here: Here<'_>, page: u32, kind: u8, parent: u32) {
        if let Some(said) = self.expect_map(page, kind, parent) {
            self.check.crossed.add(Link { tree: here.index, at: here.page, page, said, is: parent });
        }
    }

    /// Compares a page's entry in the pointer map (1.8) with what it is; the page that it names instead.
    pub(super) fn expect_map(&mut self, page: u32, kind: u8, parent: u32) -> Option<u32> {
        let (map, entry) = self.map_entry(page)?;
        if entry == Some((kind, parent)) {
            return None;
        }
        self.check.map_fault(page, map, entry, (kind, parent));
        let (said, named) = entry?;
        (matches!(said, 3..=5) && self.check.pages.exists(named)).then_some(named)
    }

    /// The pointer-map page of a page, and its entry there: what kind of page it is, and which one leads to it.
    pub(super) fn map_entry(&mut self, page: u32) -> Option<(u32, Option<(u8, u32)>)> {
        let layout = self.check.image.layout();
        let map = layout.pointer_map_of(page).filter(|map| *map <= layout.page_count)?;
        if self.map.0 != map {
            let read = self.check.image.read(map, &mut self.map.1);
            self.map.0 = map;
            if read.is_err() {
                self.map.1.clear();
            }
        }
        let at = page.checked_sub(map + 1)? as usize * 5;
        Some((map, self.map.1.get(at).copied().zip(be32(&self.map.1, at + 1))))
    }
}

/// Of the chains of an auto-vacuum database, so many pages of each are compared with the pointer map.
const LINKS_MAX: usize = 100_000;

/// Adds to `bytes` what of `field` is in `part`, which begins at `at` of the payload.
fn take(bytes: &mut Vec<u8>, field: Field, at: u64, part: &[u8]) {
    let (end, part_end) = (field.at + field.len, at + part.len() as u64);
    let (from, to) = (field.at.max(at), end.min(part_end));
    if from < to {
        let range = (from - at) as usize..(to - at) as usize;
        bytes.extend_from_slice(part.get(range).unwrap_or_default());
    }
}

fn named(rowid: Option<i64>) -> String {
    rowid.map_or_else(|| "a row".to_owned(), |rowid| format!("row {rowid}"))
}
