//! A page whose header was changed in one place: what is called proved is what it was.

use super::super::mended;
use super::healthy::EVERYTHING;
use super::*;

#[test]
fn what_one_changed_byte_of_a_header_hides_is_proved_or_left_alone() {
    let (mut proved, mut of_type) = (0, 0);
    for (page_size, vacuum, encoding) in [(512, 0, "UTF-8"), (1024, 1, "UTF-16le"), (4096, 2, "UTF-8")] {
        let place = Place::new(&format!(
            "PRAGMA page_size={page_size}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={vacuum}; {EVERYTHING}
             CREATE TABLE alike(id INTEGER PRIMARY KEY, x INT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) INSERT INTO alike SELECT i, i + 1000 FROM n;
             DELETE FROM alike WHERE id > 700 OR id % 50 < 3;"
        ));
        let view = place.view();
        let (image, mut bytes) = (view.image(), Vec::new());
        for page in 1..=image.layout().page_count {
            image.read(page, &mut bytes).unwrap();
            let start = if page == 1 { 100 } else { 0 };
            let is_node = super::super::Node::parse(&bytes, page, image.layout()).is_ok();
            assert_eq!(mended(&bytes, page, image.layout()), None, "page {page} is whole, or no page of a tree");
            for at in (0..8).filter(|_| is_node) {
                for change in [0x01, 0x02, 0x07, 0x08, 0x10, 0x40, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[start + at] ^= change;
                    let Some(found) = mended(&damaged, page, image.layout()) else { continue };
                    assert!(found.unproved > 0 || found.bytes == bytes, "page {page}, byte {at}, {change:#x}");
                    proved += usize::from(found.unproved == 0);
                    of_type += usize::from(at == 0);
                }
            }
        }
    }
    assert!(proved > of_type && of_type > 500, "{proved} {of_type}");
}
