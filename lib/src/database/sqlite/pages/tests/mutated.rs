//! Seeded random damage: never a panic, never a hang, and no damage that SQLite sees is missed.

use std::time::{Duration, Instant};

use super::healthy::{EVERYTHING, integrity};
use super::*;
use crate::database::sqlite::tests::random::Random;

/// What is done to an image.
fn damage(bytes: &mut Vec<u8>, page_size: usize, random: &mut Random) -> String {
    let pages = bytes.len() / page_size;
    let page = random.below(pages);
    let at = page * page_size;
    match random.below(9) {
        0 => {
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} (page {})", at / page_size + 1)
        }
        1 => {
            bytes[at..at + page_size].fill(0);
            format!("page {} zeroed", page + 1)
        }
        2 => {
            let other = random.below(pages) * page_size;
            bytes.copy_within(other..other + page_size, at);
            format!("page {} over page {}", other / page_size + 1, page + 1)
        }
        3 => {
            // A b-tree page's header and first pointers.
            let offset = random.below(24) + if page == 0 { 100 } else { 0 };
            bytes[at + offset] = random.next() as u8;
            format!("byte {offset} of page {}", page + 1)
        }
        4 => {
            let from = random.below(page_size / 512) * 512;
            bytes[at + from..at + page_size].fill(0);
            format!("page {} torn at {from}", page + 1)
        }
        5 => {
            let len = bytes.len() - random.below(bytes.len() / 2);
            bytes.truncate(len);
            format!("cut to {len} bytes")
        }
        6 => {
            for _ in 0..4 {
                let offset = random.below(page_size);
                bytes[at + offset] = random.next() as u8;
            }
            format!("4 bytes of page {}", page + 1)
        }
        7 => {
            let offset = random.below(100);
            bytes[offset] = random.next() as u8;
            format!("byte {offset} of the header")
        }
        _ => {
            let offset = random.below(page_size - 4);
            let number = (random.below(pages + 2) as u32).to_be_bytes();
            bytes[at + offset..at + offset + 4].copy_from_slice(&number);
            format!("a page number at {offset} of page {}", page + 1)
        }
    }
}

/// Damage that only SQLite can see: what partial and expression indices and ANALYZE hold.
fn is_beyond_us(line: &str) -> bool {
    ["plain_partial", "plain_expression", "made_b", "sqlite_stat"].iter().any(|name| line.contains(name))
        || line.contains(" value in ")
}

#[test]
fn random_damage_never_panics_and_is_found_where_sqlite_finds_it() {
    campaign(50);
}

/// So many damages on each of four databases.
fn campaign(rounds: usize) {
    let (mut theirs_only, mut proved_in_spite, mut ours) = (Vec::new(), Vec::new(), 0_usize);
    for (seed, (page_size, vacuum, encoding)) in
        [(1024, 0, "UTF-8"), (512, 1, "UTF-8"), (4096, 2, "UTF-16le"), (1024, 0, "UTF-16be")].into_iter().enumerate()
    {
        let place = Place::new(&format!(
            "PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; {EVERYTHING}"
        ));
        let original = std::fs::read(&place.db).unwrap();
        let mut random = Random(seed as u64 + 1);
        for _ in 0..rounds {
            let mut bytes = original.clone();
            let what = damage(&mut bytes, page_size, &mut random);
            if bytes == original {
                continue;
            }
            let what = format!("{page_size} {encoding} {vacuum}: {what}");
            std::fs::write(&place.db, &bytes).unwrap();
            let began = Instant::now();
            let report = place.check_own();
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: it took {:?}", began.elapsed());
            assert_eq!(std::fs::read(&place.db).unwrap(), bytes);
            let all = integrity(&place.db);
            // What SQLite finds in any way never passes for a proved copy.
            let proved = crate::database::sqlite::validate(&place.db, &place.cancel, &Silent);
            if !all.is_empty() {
                proved_in_spite.extend(proved.ok().map(|_| format!("{what}: {all:?}")));
            }
            let theirs: Vec<String> = all.into_iter().filter(|line| !is_beyond_us(line)).collect();
            match (report.is_damaged(), theirs.is_empty()) {
                (false, false) => theirs_only.push(format!("{what}: {theirs:?}")),
                (found, _) => ours += usize::from(found),
            }
        }
    }
    assert_eq!(theirs_only, Vec::<String>::new());
    assert_eq!(proved_in_spite, Vec::<String>::new());
    assert!(ours > rounds, "{ours}");
}
