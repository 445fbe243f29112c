//! Reads what `mongodump --archive` writes, while it passes: how many documents each collection has, how they are defined,
//! and whether the end is the archive's own.
//!
//! A magic number; then blocks, each a header, documents, and four bytes 0xFF. The first block names every collection
//! that follows. Those come in pieces, several side by side; each ends with a header that says so and has the CRC-64 of
//! its documents. The archive as a whole has no mark of its end: it is whole where it ends between two blocks, and every
//! collection that was named has ended.

use std::collections::{BTreeMap, BTreeSet};

use super::super::crc64;
use super::super::sum::Sum;
use super::bson::{Value, field};
use super::facts::{Collected, Collection, Found};

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
const TERMINATOR: u32 = u32::MAX;
/// An empty document.
const DOCUMENT_MIN: u32 = 5;
/// Servers take 16 MB of a client, and a little more for themselves.
const DOCUMENT_MAX: u32 = 48 << 20;
/// The polynomial of ECMA-182.
const TABLE: [u64; 256] = crc64::table(0xc96c_5795_d787_0f42);
/// The log of changes has no database.
pub(super) const OPLOG: (&str, &str) = ("", "oplog");

/// Which documents come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Magic,
    /// What made the archive.
    Maker,
    /// The collections that it has.
    Named,
    /// The header of a block, or the end.
    Header,
    /// Documents of the current collection; `false`: there must be none.
    Body(bool),
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    /// Four bytes that say how long a document is, or that none follows.
    Length,
    /// A document that is looked at when it is there; so much is left.
    Kept(usize),
    /// One that passes by.
    Passing(usize),
}

/// Takes an archive in pieces of any size.
#[derive(Debug)]
pub(super) struct Scan {
    place: Place,
    reading: Reading,
    kept: Vec<u8>,
    sum: Sum,
    last: u8,
    current: (String, String),
    found: Found,
    /// Where the documents of those that were named are.
    known: BTreeSet<(String, String)>,
    /// The CRC-64 of each collection's documents so far, and whether it has ended.
    ends: BTreeMap<(String, String), (u64, bool)>,
    wrong: Option<String>,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            place: Place::Magic,
            reading: Reading::Length,
            kept: Vec::new(),
            sum: Sum::NEW,
            last: 0,
            current: Default::default(),
            found: Found::default(),
            known: BTreeSet::new(),
            ends: BTreeMap::new(),
            wrong: None,
        }
    }
}

impl Scan {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wrong.is_none() {
            let wanted = match self.reading {
                Reading::Length => 4 - self.kept.len(),
                Reading::Kept(left) | Reading::Passing(left) => left,
            };
            let (now, rest) = bytes.split_at(bytes.len().min(wanted));
            bytes = rest;
            let is_all = now.len() == wanted;
            let result = match &mut self.reading {
                Reading::Length => {
                    self.kept.extend_from_slice(now);
                    if is_all { self.length() } else { Ok(()) }
                }
                Reading::Kept(left) => {
                    *left -= now.len();
                    self.kept.extend_from_slice(now);
                    if is_all { self.document() } else { Ok(()) }
                }
                Reading::Passing(left) => {
                    *left -= now.len();
                    self.pass(now);
                    if is_all { self.passed() } else { Ok(()) }
                }
            };
            if let Err(wrong) = result {
                self.wrong = Some(wrong);
            }
        }
    }

    /// What the archive has, where it is whole; else why it is not.
    pub(super) fn finish(self) -> Result<Collected, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if !matches!((self.place, self.reading), (Place::Header, Reading::Length)) || !self.kept.is_empty() {
            return Err("it ends in the middle".to_owned());
        }
        if let Some(((database, collection), _)) = self.ends.iter().find(|(_, (_, is_over))| !is_over) {
            return Err(format!("{database}.{collection} has no end"));
        }
        for named in &self.found.named {
            if !named.data().iter().any(|name| self.ends.contains_key(name)) {
                return Err(format!("{}.{} is missing", named.database, named.name));
            }
        }
        Ok(self.found.collected())
    }

    /// Four bytes are there.
    fn length(&mut self) -> Result<(), String> {
        let Some(bytes) = self.kept.first_chunk::<4>().copied() else { return Ok(()) };
        if self.place == Place::Magic {
            self.kept.clear();
            self.place = Place::Maker;
            return if bytes == MAGIC { Ok(()) } else { Err("it does not begin as an archive does".to_owned()) };
        }
        let length = u32::from_le_bytes(bytes);
        if length == TERMINATOR {
            self.kept.clear();
            return match self.place {
                Place::Named | Place::Body(_) => {
                    self.place = Place::Header;
                    Ok(())
                }
                _ => Err("a block in it has no header".to_owned()),
            };
        }
        if !(DOCUMENT_MIN..=DOCUMENT_MAX).contains(&length) {
            return Err(format!("a document in it would have {length} bytes"));
        }
        if self.place == Place::Body(false) {
            return Err(format!("{}.{} goes on behind its end", self.current.0, self.current.1));
        }
        let left = usize::try_from(length).unwrap_or(usize::MAX) - bytes.len();
        if self.place == Place::Body(true) && self.current != (OPLOG.0.to_owned(), OPLOG.1.to_owned()) {
            self.kept.clear();
            self.sum = Sum::NEW;
            self.pass(&bytes);
            self.reading = Reading::Passing(left);
        } else {
            self.reading = Reading::Kept(left);
        }
        Ok(())
    }

    /// A document that was kept is there.
    fn document(&mut self) -> Result<(), String> {
        self.reading = Reading::Length;
        let document = std::mem::take(&mut self.kept);
        match self.place {
            Place::Maker => {
                self.place = Place::Named;
                self.found.server_version = field(&document, "server_version").and_then(Value::text);
            }
            Place::Named => {
                let named = Collection::read(&document).ok_or("what it says of a collection can't be read")?;
                self.known.extend(named.data());
                self.found.named.push(named);
            }
            Place::Header => self.header(&document)?,
            Place::Magic | Place::Body(_) => {
                self.pass_sum(&document);
                self.found.changes.add(&document).ok_or("an entry of its oplog can't be read")?;
            }
        }
        Ok(())
    }

    fn header(&mut self, document: &[u8]) -> Result<(), String> {
        const UNREADABLE: &str = "the header of a block in it can't be read";
        let name = |name: &str| field(document, name).and_then(Value::text).ok_or(UNREADABLE);
        let (Some(Value::Bool(is_end)), Some(Value::Int64(crc))) = (field(document, "EOF"), field(document, "CRC"))
        else {
            return Err(UNREADABLE.to_owned());
        };
        self.current = (name("db")?, name("collection")?);
        let (database, collection) = &self.current;
        if !self.known.contains(&self.current) {
            return Err(format!("{database}.{collection} is not among those that it names"));
        }
        // Of no bytes the sum is 0: what is kept between is inverted.
        let (sum, is_over) = self.ends.entry(self.current.clone()).or_insert((u64::MAX, false));
        if *is_over {
            return Err(format!("{database}.{collection} goes on behind its end"));
        }
        if is_end {
            *is_over = true;
            if !*sum != crc.cast_unsigned() {
                return Err(format!("the documents of {database}.{collection} have not their own checksum"));
            }
        }
        self.place = Place::Body(!is_end);
        Ok(())
    }

    fn pass_sum(&mut self, bytes: &[u8]) {
        if let Some((crc, _)) = self.ends.get_mut(&self.current) {
            *crc = crc64::go_on(&TABLE, *crc, bytes);
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.pass_sum(bytes);
        self.sum.add_all(bytes);
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// A document has passed by.
    fn passed(&mut self) -> Result<(), String> {
        self.reading = Reading::Length;
        if self.last != 0 {
            return Err(format!("a document of {}.{} has no end", self.current.0, self.current.1));
        }
        self.found.count(&self.current, self.sum.end());
        Ok(())
    }
}
