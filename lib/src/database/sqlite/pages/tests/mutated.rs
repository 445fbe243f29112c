//! Seeded random damage: never a panic, never a hang, and no damage that SQLite sees is missed.

use std::time::{Duration, Instant};

use super::healthy::{EVERYTHING, integrity};
use super::*;
use crate::database::sqlite::tests::random::{KINDS, Random, damage};

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
            let what = damage(&mut bytes, page_size, &mut random, KINDS);
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
