//! What the changes that a dump has with it (`mongodump --oplog`) do to what is counted in it.
//!
//! A change may be in the documents already, or not: a document that was written before its collection was read is in
//! both. So there is a least and a most of what a restored copy has, and only what nobody changed is known to a row.

use std::collections::{BTreeMap, BTreeSet};

use super::bson::{DEPTH_MAX, Value, field, fields};

/// How many documents may come, and how many may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) inserted: u64,
    pub(super) deleted: u64,
    /// It may be without any of those that it had.
    pub(super) emptied: bool,
}

/// All changes of a dump.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By database and collection.
    pub(super) collections: BTreeMap<(String, String), Change>,
    /// Databases that lost everything on the way.
    pub(super) dropped: BTreeSet<String>,
    /// Databases whose definitions changed.
    pub(super) defined: BTreeSet<String>,
    /// When the last one was.
    pub(super) last: Option<(u32, u32)>,
}

/// Commands that say how another one, which is told elsewhere, ended, or that change nothing that is counted.
const SILENT: &[&str] = &["commitTransaction", "abortTransaction", "startIndexBuild", "abortIndexBuild"];
const EMPTIES: &[&str] = &["drop", "convertToCapped", "emptycapped"];

impl Changes {
    /// Takes one entry of the log; `None` where it can't be read.
    pub(super) fn add(&mut self, entry: &[u8]) -> Option<()> {
        if let Some(Value::Timestamp(seconds, which)) = field(entry, "ts") {
            self.last = Some((seconds, which));
        }
        self.apply(entry, DEPTH_MAX)
    }

    fn apply(&mut self, entry: &[u8], depth: usize) -> Option<()> {
        let kind = field(entry, "op")?.text()?;
        if kind == "n" {
            return Some(());
        }
        let namespace = field(entry, "ns")?.text()?;
        let (database, collection) = namespace.split_once('.').unwrap_or((&namespace, ""));
        if kind == "c" {
            let Value::Document(command) = field(entry, "o")? else { return None };
            return self.command(database, command, depth.checked_sub(1)?);
        }
        if collection == "system.views" {
            self.defined.insert(database.to_owned());
        }
        let change = self.collections.entry((database.to_owned(), collection.to_owned())).or_default();
        match kind.as_str() {
            "i" => change.inserted += 1,
            "d" => change.deleted += 1,
            // Of the same documents, or of a kind that is not known: what is there may be another.
            _ => {}
        }
        Some(())
    }

    fn command(&mut self, database: &str, command: &[u8], depth: usize) -> Option<()> {
        let (name, value) = fields(command)?.next()??;
        let name = String::from_utf8_lossy(name);
        if name == "applyOps" {
            let Value::Document(entries) = value else { return None };
            let mut entries = fields(entries)?;
            while let Some((_, entry)) = entries.next()? {
                let Value::Document(entry) = entry else { return None };
                self.apply(entry, depth)?;
            }
            return Some(());
        }
        if SILENT.contains(&name.as_ref()) {
            return Some(());
        }
        self.defined.insert(database.to_owned());
        if name == "dropDatabase" {
            self.dropped.insert(database.to_owned());
        }
        if EMPTIES.contains(&name.as_ref())
            && let Some(collection) = value.text()
        {
            self.collections.entry((database.to_owned(), collection)).or_default().emptied = true;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::bson::tests::{array, document, inner, int32, text, timestamp};
    use super::*;

    fn entry(kind: &str, namespace: &str, object: &[Vec<u8>], second: u32) -> Vec<u8> {
        let fields =
            [timestamp("ts", second, 1), text("op", kind), text("ns", namespace), inner("o", &document(object))];
        document(&fields)
    }

    fn all(entries: &[Vec<u8>]) -> Option<Changes> {
        let mut changes = Changes::default();
        entries.iter().try_for_each(|entry| changes.add(entry))?;
        Some(changes)
    }

    #[test]
    fn changes_are_told_by_collection_also_those_of_a_transaction() {
        let of_transaction = [entry("i", "shop.a.b", &[], 0), entry("d", "shop.item", &[], 0)];
        let found = all(&[
            entry("n", "", &[], 4),
            entry("i", "shop.item", &[int32("_id", 1)], 5),
            entry("u", "shop.other", &[], 5),
            entry("c", "admin.$cmd", &[array("applyOps", &of_transaction)], 6),
            entry("c", "admin.$cmd", &[int32("commitTransaction", 1)], 6),
            entry("c", "shop.$cmd", &[text("drop", "old")], 7),
            entry("c", "gone.$cmd", &[int32("dropDatabase", 1)], 8),
        ])
        .unwrap();
        let of = |name: &str| found.collections[&("shop".to_owned(), name.to_owned())];
        assert_eq!(of("item"), Change { inserted: 1, deleted: 1, emptied: false });
        assert_eq!(of("a.b"), Change { inserted: 1, deleted: 0, emptied: false });
        assert_eq!(of("other"), Change::default());
        assert!(of("old").emptied && found.dropped.contains("gone"));
        assert_eq!(found.defined.iter().collect::<Vec<_>>(), ["gone", "shop"]);
        assert_eq!(found.last, Some((8, 1)));
    }

    #[test]
    fn an_entry_that_can_t_be_read_is_told_and_one_without_end_is_followed_to_a_depth() {
        assert!(all(&[document(&[text("op", "i")])]).is_none());
        assert!(all(&[entry("c", "a.$cmd", &[], 1)]).is_none());
        let mut nested = entry("i", "a.b", &[], 1);
        for _ in 0..3 {
            nested = entry("c", "a.$cmd", &[array("applyOps", std::slice::from_ref(&nested))], 1);
        }
        assert!(all(&[nested.clone()]).is_some());
        for _ in 0..DEPTH_MAX {
            nested = entry("c", "a.$cmd", &[array("applyOps", std::slice::from_ref(&nested))], 1);
        }
        assert!(all(&[nested]).is_none());
    }
}
