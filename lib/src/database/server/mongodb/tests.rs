use std::collections::BTreeMap;

use super::archive::Scan;
use super::bson::tests::{array, boolean, document, inner, int32, int64, text, timestamp};
use super::facts::{Collected, differences};
use crate::database::server::crc64;
use crate::database::server::dump::DatabaseFacts;

/// By mongodump 3.4 and 4.1; see testdata/README.md.
const PLAIN: &[u8] = include_bytes!("testdata/plain.archive");
const WITH_OPLOG: &[u8] = include_bytes!("testdata/oplog.archive");
const END: [u8; 4] = [0xff; 4];

fn through(bytes: &[u8], step: usize) -> Result<Collected, String> {
    let mut scan = Scan::default();
    bytes.chunks(step).for_each(|chunk| scan.feed(chunk));
    scan.finish()
}

fn rows(found: &Collected, database: &str, collection: &str) -> Option<u64> {
    found.databases.get(database)?.tables.get(collection).map(|table| table.rows)
}

/// An archive of our own, of documents in pieces of collections: an empty piece is a collection's end.
fn archive(named: &[(&str, &str, &str)], pieces: &[(&str, &str, &[Vec<u8>])]) -> Vec<u8> {
    const TABLE: [u64; 256] = crc64::table(0xc96c_5795_d787_0f42);
    let mut bytes = vec![0x6d, 0xe2, 0x99, 0x81];
    bytes.extend(document(&[int32("concurrent_collections", 4), text("server_version", "7.0.1")]));
    for (database, name, kind) in named {
        let metadata = format!(r#"{{"indexes":[{{"v":2,"key":{{"_id":1}},"name":"_id_"}}],"uuid":"{}"}}"#, bytes.len());
        let fields = [text("db", database), text("collection", name), text("metadata", &metadata), int32("size", 0)];
        bytes.extend(document(&[&fields[..], &[text("type", kind)]].concat()));
    }
    bytes.extend(END);
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (database, name, documents) in pieces {
        let sum = sums.entry((database, name)).or_insert(u64::MAX);
        *sum = crc64::go_on(&TABLE, *sum, &documents.concat());
        let (is_end, crc) = (documents.is_empty(), if documents.is_empty() { !*sum } else { 0 });
        let fields = [text("db", database), text("collection", name), boolean("EOF", is_end)];
        bytes.extend(document(&[&fields[..], &[int64("CRC", crc.cast_signed())]].concat()));
        bytes.extend(documents.concat());
        bytes.extend(END);
    }
    bytes
}

fn item(id: i32) -> Vec<u8> {
    document(&[int32("_id", id)])
}

#[test]
fn what_mongodump_wrote_is_read_whatever_the_pieces() {
    for step in [1, 3, 16, 511, PLAIN.len()] {
        let found = through(PLAIN, step).unwrap();
        assert_eq!(found.server_version.as_deref(), Some("3.4.3"));
        assert_eq!((found.databases.len(), rows(&found, "test", "bar")), (1, Some(1)), "{found:?}");
        assert_eq!(
            found.databases["test"].definitions,
            [("collections".to_owned(), 1), ("indexes".to_owned(), 1)].into()
        );
        assert!(found.after.is_empty() && found.position.is_none());
    }
}

#[test]
fn the_oplog_of_mongodump_tells_the_instant_and_what_was_changed() {
    for step in [1, 7, WITH_OPLOG.len()] {
        let found = through(WITH_OPLOG, step).unwrap();
        assert_eq!(found.databases.len(), 1, "{found:?}");
        let (least, most) = (rows(&found, "test", "foo").unwrap(), found.after["test"].tables["foo"].rows);
        assert_eq!((least, most), (25, 41), "{found:?}");
        let position = found.position.unwrap();
        assert!(position.split_once(':').is_some_and(|(seconds, _)| seconds.parse::<u32>().is_ok()), "{position}");
    }
}

#[test]
fn an_archive_that_ends_early_is_none() {
    for whole in [PLAIN, WITH_OPLOG] {
        for end in 0..whole.len() {
            assert!(through(&whole[..end], 100).is_err(), "{end} of {}", whole.len());
        }
        assert!(through(&[whole, &[0]].concat(), 100).is_err());
        assert!(through(&[whole, whole].concat(), 100).is_err());
    }
    assert!(through(b"", 1).is_err());
}

#[test]
fn collections_side_by_side_are_told_apart_and_each_has_an_end() {
    let named = [("shop", "item", "collection"), ("shop", "none", "collection"), ("shop", "all", "view")];
    let items = [item(1), item(2)];
    let whole: [(&str, &str, &[Vec<u8>]); 5] = [
        ("shop", "item", &items),
        ("shop", "none", &[]),
        ("shop", "item", &items[..1]),
        ("shop", "all", &[]),
        ("shop", "item", &[]),
    ];
    let found = through(&archive(&named, &whole), 9).unwrap();
    assert_eq!((rows(&found, "shop", "item"), rows(&found, "shop", "none")), (Some(3), Some(0)));
    let kinds = &found.databases["shop"].definitions;
    assert_eq!((kinds["collections"], kinds["views"]), (2, 1), "{kinds:?}");
    for (pieces, says) in [
        (&whole[..4], "item has no end"),
        (&whole[..3], "item has no end"),
        (&[whole[0], whole[4]], "none is missing"),
        (&[], "is missing"),
        (&[("shop", "other", &[])], "other is not among those"),
        (&[whole[4], whole[0]], "goes on behind its end"),
    ] {
        let why = through(&archive(&named, pieces), 9).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn time_series_and_what_belongs_to_the_server_are_known() {
    let named =
        [("iot", "heat", "timeseries"), ("admin", "system.users", ""), ("config", "x", ""), ("admin", "mine", "")];
    let found = through(
        &archive(
            &named,
            &[
                ("iot", "system.buckets.heat", &[item(1)]),
                ("iot", "system.buckets.heat", &[]),
                ("admin", "system.users", &[item(1), item(2)]),
                ("admin", "system.users", &[]),
                ("config", "x", &[]),
                ("admin", "mine", &[item(3)]),
                ("admin", "mine", &[]),
            ],
        ),
        50,
    )
    .unwrap();
    assert_eq!((rows(&found, "iot", "heat"), rows(&found, "admin", "mine")), (Some(1), Some(1)), "{found:?}");
    assert_eq!(found.databases["admin"].definitions["users"], 2);
    assert!(!found.databases.contains_key("config"));
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn random_damage_never_panics_and_none_of_a_document_passes() {
    let documents: Vec<Vec<u8>> = (0..200).map(|id| document(&[int32("_id", id), text("name", "caf\u{e9}")])).collect();
    let entry = document(&[
        timestamp("ts", 5, 1),
        text("op", "c"),
        text("ns", "shop.$cmd"),
        inner("o", &document(&[array("applyOps", &[document(&[text("op", "i"), text("ns", "shop.item")])])])),
    ]);
    let whole = archive(
        &[("shop", "item", "collection"), ("", "oplog", "")],
        &[("shop", "item", &documents), ("shop", "item", &[]), ("", "oplog", &[entry]), ("", "oplog", &[])],
    );
    let good = through(&whole, 4096).unwrap();
    assert_eq!(good.after["shop"].tables["item"].rows, 201);
    let first = whole.windows(documents[0].len()).position(|window| window == documents[0]).unwrap();
    let of_documents = first..first + documents.concat().len();
    let mut state = 1;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        let at = random(&mut state) as usize % bytes.len();
        match random(&mut state) % 4 {
            0 => bytes[at] ^= 1 << (random(&mut state) % 8),
            1 => bytes[at] = random(&mut state) as u8,
            2 => drop(bytes.drain(at..(at + random(&mut state) as usize % 64).min(whole.len()))),
            _ => bytes.splice(at..at, random(&mut state).to_le_bytes()).for_each(drop),
        }
        let is_changed = bytes.len() == whole.len() && bytes != whole;
        let found = through(&bytes, 1 + at % 700);
        if is_changed && of_documents.contains(&at) {
            assert!(found.is_err(), "byte {at}");
        }
        if bytes.len() != whole.len() {
            assert_ne!(found.as_ref(), Ok(&good), "at {at}");
        }
    }
    for _ in 0..2_000 {
        let mut bytes = whole[..4].to_vec();
        bytes.extend((0..random(&mut state) % 600).map(|_| random(&mut state) as u8));
        assert!(through(&bytes, 33).is_err());
    }
}

#[test]
fn a_restored_copy_has_what_was_counted_and_of_what_was_changed_what_lies_between() {
    let of = |entry: Option<Vec<u8>>, count: i32| {
        let items: Vec<Vec<u8>> = (0..count).map(item).collect();
        let mut named = vec![("shop", "item", "collection"), ("shop", "still", "collection")];
        let mut pieces: Vec<(&str, &str, &[Vec<u8>])> = vec![("shop", "item", &items), ("shop", "item", &[])];
        // An empty piece is an end already.
        pieces.truncate(if items.is_empty() { 1 } else { 2 });
        let same = [item(7)];
        pieces.extend([("shop", "still", &same[..]), ("shop", "still", &[])]);
        let entries: Vec<Vec<u8>> = entry.into_iter().collect();
        if !entries.is_empty() {
            named.push(("", "oplog", ""));
            pieces.extend([("", "oplog", &entries[..]), ("", "oplog", &[])]);
        }
        through(&archive(&named, &pieces), 512).unwrap()
    };
    let entry = |kind: &str, namespace: &str, object: &[Vec<u8>]| {
        let fields = [timestamp("ts", 5, 1), text("op", kind), text("ns", namespace), inner("o", &document(object))];
        Some(document(&fields))
    };
    let differs = |was: &Collected, is: &DatabaseFacts| -> usize {
        differences("shop", (&was.databases["shop"], was.after.get("shop")), is).len()
    };
    let plain = of(None, 3);
    assert_eq!(differs(&plain, &of(None, 3).databases["shop"]), 0, "the identities of collections don't count");
    assert_eq!(differs(&plain, &of(None, 4).databases["shop"]), 1);
    let mut another = plain.databases["shop"].clone();
    another.tables.get_mut("still").unwrap().rows_sum = Some("another".to_owned());
    assert_eq!(differs(&plain, &another), 1, "the same number, and not the same");
    let inserted = of(entry("i", "shop.item", &[]), 3);
    let deleted = of(entry("d", "shop.item", &[]), 3);
    let dropped = of(entry("c", "shop.$cmd", &[text("drop", "item")]), 3);
    for (was, right) in [(&inserted, 3..=4), (&deleted, 2..=3), (&dropped, 0..=3)] {
        for count in 0..6 {
            let expected = usize::from(!right.contains(&count));
            assert_eq!(differs(was, &of(None, count).databases["shop"]), expected, "{count} of {right:?}");
        }
        assert_eq!(differs(was, &another), 1, "what nobody changed is the same to a row");
    }
    let mut without = plain.databases["shop"].clone();
    without.tables.remove("item");
    without.definitions_sum = "another".to_owned();
    assert_eq!(differs(&dropped, &without), 0);
    assert!(differs(&plain, &without) > 0);
}
