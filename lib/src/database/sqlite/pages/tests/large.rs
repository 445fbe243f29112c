//! A database beyond 4 GiB, past the page of the lock bytes: nearly all of it is holes of the file system.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::healthy::integrity;
use super::*;
use crate::database::sqlite::pages::FindingKind as Kind;

const SIZE: usize = 65_536;
/// The number of the last page: 4.5 GiB.
const LAST: u32 = ((9_u64 << 29) / SIZE as u64) as u32;

/// Moves the last leaf of a table to the end of a file of 4.5 GiB, and makes all pages between free ones.
fn grow(place: &Place, root: u32, auto_vacuum: bool) {
    let layout = *place.view().image().layout();
    let old_pages = layout.page_count;
    let file = std::fs::File::options().read(true).write(true).open(&place.db).unwrap();
    let at = |page: u32| u64::from(page - 1) * SIZE as u64;
    file.set_len(at(LAST + 1)).unwrap();
    // The right child of the root.
    let mut number = [0; 4];
    file.read_exact_at(&mut number, at(root) + 8).unwrap();
    let leaf = u32::from_be_bytes(number);
    let mut page = vec![0; SIZE];
    file.read_exact_at(&mut page, at(leaf)).unwrap();
    file.write_all_at(&page, at(LAST)).unwrap();
    file.write_all_at(&LAST.to_be_bytes(), at(root) + 8).unwrap();

    let is_map = |page: u32| layout.is_pointer_map(page);
    let mut free: Vec<u32> =
        (old_pages + 1..LAST).filter(|page| *page != layout.lock_page() && !is_map(*page)).collect();
    free.push(leaf);
    let count = free.len() as u32;
    let each = SIZE / 4 - 2;
    let trunks: Vec<u32> = free.drain(..free.len() / each + 1).collect();
    let mut leaves = free.chunks(each);
    for (index, trunk) in trunks.iter().enumerate() {
        let mine = leaves.next().unwrap_or_default();
        let next = trunks.get(index + 1).copied().unwrap_or(0);
        let words = [next, mine.len() as u32].into_iter().chain(mine.iter().copied());
        let bytes: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
        file.write_all_at(&bytes, at(*trunk)).unwrap();
    }
    assert!(leaves.next().is_none());
    if auto_vacuum {
        for map in (2..=LAST).filter(|page| is_map(*page)) {
            for page in (map + 1..=LAST).take(SIZE / 5).filter(|page| *page > old_pages || *page == leaf) {
                let (kind, parent) = if page == LAST { (5_u8, root) } else { (2, 0) };
                if page != layout.lock_page() {
                    let entry: Vec<u8> = std::iter::once(kind).chain(parent.to_be_bytes()).collect();
                    file.write_all_at(&entry, at(map) + u64::from(page - map - 1) * 5).unwrap();
                }
            }
        }
    }
    for (offset, word) in [(28, LAST), (32, trunks[0]), (36, count)] {
        file.write_all_at(&word.to_be_bytes(), offset).unwrap();
    }
}

#[test]
fn a_file_beyond_four_gibibytes_is_read_to_its_end() {
    for auto_vacuum in [false, true] {
        let place = Place::new(&format!(
            "PRAGMA page_size={SIZE}; PRAGMA auto_vacuum={}; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
             INSERT INTO t SELECT i, randomblob(9000) FROM n;",
            i32::from(auto_vacuum)
        ));
        let root = crate::database::sqlite::pages::Schema::read(place.view().image()).table("t").unwrap().root;
        grow(&place, root, auto_vacuum);
        let metadata = std::fs::metadata(&place.db).unwrap();
        assert!(metadata.len() > 1 << 32 && metadata.blocks() * 512 < 64 << 20, "{} blocks", metadata.blocks());
        let report = place.check();
        assert_eq!(report.findings, [], "{auto_vacuum}");
        assert_eq!((report.pages, report.trees[1].entries), (LAST, 60));
        assert_eq!(integrity(&place.db), Vec::<String>::new(), "{auto_vacuum}: the image itself is wrong");

        // The leaf at the very end.
        let file = std::fs::File::options().write(true).open(&place.db).unwrap();
        file.write_all_at(&[0; 100], u64::from(LAST - 1) * SIZE as u64).unwrap();
        drop(file);
        let report = place.check();
        assert_eq!(
            report.findings.iter().map(|f| (f.kind, f.page)).collect::<Vec<_>>(),
            [(Kind::PageType, Some(LAST))]
        );
    }
}
