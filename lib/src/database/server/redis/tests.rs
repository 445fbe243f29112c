use std::io::{Cursor, Read};

use super::commands::Commands;
use super::items::{Item, Items, Key};
use super::*;

/// Of Redis 7.0: every kind of value that it writes, packed and not, two databases, functions, times to live.
const FILE: &[u8] = include_bytes!("testdata/kinds.rdb");

fn items(bytes: &[u8]) -> std::io::Result<Vec<Item>> {
    let mut items = Items::new(Cursor::new(bytes))?;
    let mut all = Vec::new();
    while let Some(item) = items.next()? {
        all.push(item);
    }
    Ok(all)
}

fn keys_of(bytes: &[u8]) -> Vec<Key> {
    items(bytes)
        .unwrap()
        .into_iter()
        .filter_map(|item| if let Item::Key(key) = item { Some(key) } else { None })
        .collect()
}

#[test]
fn every_kind_of_value_is_measured() {
    let keys = keys_of(FILE);
    let kinds: std::collections::BTreeSet<u8> = keys.iter().map(|key| key.value[0]).collect();
    // Strings, sets, sorted sets, hashes; then packed sets, hashes, sorted sets, lists, streams.
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [0, 2, 4, 5, 11, 16, 17, 18, 19]);
    let find = |name: &str| keys.iter().find(|key| key.name == name.as_bytes()).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(find("expires").expires, 4_102_444_800_123);
    assert_eq!(find("text").expires, 0);
    // A number and a long run of letters are keys that the file does not have as they are.
    find("12345");
    find(&"long".repeat(40));
    let selected: Vec<_> = items(FILE).unwrap().into_iter().filter(|item| matches!(item, Item::Select(_))).collect();
    assert_eq!(selected, [Item::Select(0), Item::Select(3)]);
    let code = items(FILE)
        .unwrap()
        .into_iter()
        .find_map(|item| if let Item::Function(code) = item { Some(code) } else { None });
    assert!(code.unwrap().starts_with(b"#!lua name=shop"));
}

#[test]
fn what_is_cut_or_changed_is_an_error_or_other_keys_and_never_more() {
    for end in 0..FILE.len() - 9 {
        assert!(items(&FILE[..end]).is_err(), "{end}");
    }
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..20_000 {
        let mut file = FILE.to_vec();
        for _ in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % file.len();
            file[at] = (random >> 32) as u8;
        }
        if let Ok(all) = items(&file) {
            let bytes: usize = all.iter().map(|item| if let Item::Key(key) = item { key.value.len() } else { 0 }).sum();
            assert!(bytes < FILE.len() + all.len() * 16);
        }
    }
}

#[test]
fn the_commands_begin_with_the_login_and_have_each_key_once() {
    let mut stream = Vec::new();
    Commands::new(FILE, Some(&["AUTH", "app", "pass word"])).unwrap().read_to_end(&mut stream).unwrap();
    assert!(stream.starts_with(b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$9\r\npass word\r\n"));
    let count = stream.windows(13).filter(|window| window == b"$7\r\nRESTORE\r\n").count();
    assert_eq!(count, keys_of(FILE).len());
}

#[test]
fn a_server_that_can_not_take_them_is_refused_before_anything_is_removed() {
    let facts = DumpFacts {
        engine: EngineKind::Redis,
        server_version: "7.0.15".to_owned(),
        program: String::new(),
        of: PartOf::Everything,
        databases: BTreeMap::new(),
        after: BTreeMap::new(),
        position: None,
        settings: BTreeMap::new(),
        image: String::new(),
        image_id: String::new(),
    };
    let why = |info: &str| refusal(info, &facts).map(|(reason, _)| reason);
    let info = "# Server\r\nredis_version:7.2.1\r\nrole:master\r\ncluster_enabled:0\r\n";
    assert_eq!(why(info), None);
    assert!(why(&info.replace("7.2.1", "6.0.16")).unwrap().contains("of 7.0.15"));
    assert!(why(&info.replace("master", "slave")).unwrap().contains("replica"));
    assert!(why(&info.replace("enabled:0", "enabled:1")).unwrap().contains("cluster"));
    assert!(why("").is_some());
}
