//! Damage that leaves every page a page like every other: what is not proved is told, and never called complete.

use super::*;

/// Where the number of fragmented free bytes of a page is (fileformat2.html, 1.6).
const FRAGMENTS: usize = 7;

/// Something that is found, and that touches no row.
fn add_a_finding(patient: &mut Patient, table: &str) -> usize {
    let page = *patient.of(table, "leaf").last().unwrap();
    patient.page(page)[FRAGMENTS] ^= 1;
    page
}

#[test]
fn rows_on_a_damaged_page_are_in_doubt_unless_indices_have_every_column() {
    let mut patient = Patient::new("", 1024);
    let page = add_a_finding(&mut patient, "plays");
    let rows = u64::from(u16::from_be_bytes([patient.page(page)[3], patient.page(page)[4]]));
    let (share, account) = patient.expect(Step::Salvage, false);
    assert_eq!((share, of(&account, "plays").doubtful), (1.0, rows), "{:?}", account.losses());
    assert_eq!(account.losses(), [format!("plays: {rows} rows may be wrong")]);

    // `t` is UNIQUE, and the other column is the rowid.
    let mut patient = Patient::new("", 1024);
    add_a_finding(&mut patient, "counted");
    patient.expect(Step::Salvage, true);
}

fn header_of(patient: &mut Patient, page: usize) -> &mut [u8] {
    let start = if page == 1 { 100 } else { 0 };
    &mut patient.page(page)[start..start + 8]
}

/// The number of cells of a page (fileformat2.html, 1.6), changed; and its room does not add up whatever that is.
fn with_cells(patient: &mut Patient, page: usize, change: impl Fn(u16) -> u16) {
    let header = header_of(patient, page);
    let new = change(u16::from_be_bytes([header[3], header[4]])).to_be_bytes();
    header[3..5].copy_from_slice(&new);
    header[FRAGMENTS] ^= 1;
}

#[test]
fn of_a_page_whose_type_or_number_of_cells_alone_is_wrong_nothing_is_lost() {
    let kinds = [("items", "leaf"), ("items", "internal"), ("settings", "leaf"), ("settings", "internal"), ("", "")];
    for (name, kind) in kinds {
        for (byte, change) in [(0, 0x01), (0, 0x08), (0, 0xff), (3, 0x01), (4, 0x01), (4, 0x80)] {
            let mut patient = Patient::new("", 1024);
            let page = patient.of(name, kind).first().copied().unwrap_or(1);
            let header = header_of(&mut patient, page);
            header[byte] ^= change;
            let fewer = byte > 0 && header[byte] & change == 0;
            let repaired = patient.repair().unwrap();
            let complete = repaired.accounting.complete;
            let (share, account) = patient.judge(&repaired, Step::Recovery, complete);
            assert!(share >= 1.0 && account.notes[0].contains(&format!("in pages {page} the type")), "{account:?}");
            // Where fewer cells are named, the others may be those of deleted rows, unless an index has them.
            assert!(
                complete || fewer && name != "items" && account.unproved_pages.len() == 1,
                "{name} {byte} {change}"
            );
        }
    }
}

#[test]
fn rows_that_were_deleted_at_the_end_of_a_page_do_not_come_back_unsaid() {
    let mut patient = Patient::new("", 1024);
    let page = *patient.of("plays", "leaf").last().unwrap();
    let content = |patient: &mut Patient| u16::from_be_bytes(header_of(patient, page)[5..7].try_into().unwrap());
    let before = content(&mut patient);
    patient.change("DELETE FROM plays WHERE rowid > (SELECT max(rowid) - 2 FROM plays)");
    patient.truth = rows(&patient.db);
    assert!(content(&mut patient) > before, "the cells of the deleted rows lie before the others");
    // As it was, but for the number of cells.
    header_of(&mut patient, page)[5..7].copy_from_slice(&before.to_be_bytes());
    let account = patient.repair().unwrap().accounting;
    assert!(!account.complete, "{account:?}");
}

#[test]
fn rows_that_a_page_does_not_name_any_more_are_lost() {
    // No index has them, and no byte of the rows that are left is wrong.
    for (table, left) in [("plays", 0), ("plays", 3), ("settings", 0), ("settings", 2)] {
        let mut patient = Patient::new("", 1024);
        let page = patient.of(table, "leaf")[2];
        with_cells(&mut patient, page, |_| left);
        let account = patient.repair().unwrap().accounting;
        let told = of(&account, table);
        assert!(!account.complete && told.lost.is_none(), "{table} {left}: {:?}", account.losses());
        assert_eq!(told.lost_at_most.is_some(), table == "plays", "{told:?}");
    }
    // As a page without rows would be, if there were such ones.
    let mut patient = Patient::new("", 1024);
    let page = patient.of("plays", "leaf")[2];
    patient.page(page)[1..8].copy_from_slice(&[0, 0, 0, 0, 4, 0, 0]);
    let account = patient.repair().unwrap().accounting;
    assert!(!account.complete && of(&account, "plays").lost.is_none(), "{:?}", account.losses());
    // An index tells how many they were.
    let mut patient = Patient::new("", 1024);
    let page = patient.of("items", "leaf")[2];
    let rows = u64::from(u16::from_be_bytes([patient.page(page)[3], patient.page(page)[4]]));
    with_cells(&mut patient, page, |_| 0);
    let (_, account) = patient.expect(Step::Salvage, false);
    assert_eq!(of(&account, "items").lost, Some(rows));
}

#[test]
fn definitions_that_a_page_does_not_name_any_more_are_told() {
    let mut patient = Patient::new("", 4096);
    // The last ones: a view and a trigger have no page that would be missed.
    patient.change("CREATE VIEW last AS SELECT 1; CREATE TRIGGER later AFTER INSERT ON made BEGIN SELECT 1; END;");
    let backup = patient.dir.path().join("backup.db");
    std::fs::write(&backup, &patient.bytes).unwrap();
    let last = match patient.page(1)[100] {
        13 => 1,
        _ => u32::from_be_bytes(patient.page(1)[108..112].try_into().unwrap()) as usize,
    };
    with_cells(&mut patient, last, |cells| cells - 2);
    let account = patient.repair().unwrap().accounting;
    assert!(!account.complete && account.unreadable_schema.len() == 1, "{:?}", account.losses());
    // A backup has them, and its number of the schema is that of the database.
    let repaired = patient.repair_as_it_lies(Some(&backup)).unwrap();
    assert!(
        repaired.accounting.complete && rows(&repaired.file) == patient.truth,
        "{:?}",
        repaired.accounting.losses()
    );
    assert_eq!(repaired.accounting.objects_after, account.objects_after + 2);
}

#[test]
fn a_row_that_its_words_contradict_is_in_doubt() {
    let mut patient = Patient::new("", 1024);
    let rows = patient.of("words_content", "leaf");
    let at = |page: &usize| {
        let bytes = &patient.bytes[(page - 1) * 1024..page * 1024];
        bytes.windows(6).position(|window| window == b"Title ").map(|at| (page - 1) * 1024 + at + 6)
    };
    let digit = rows.iter().find_map(at).unwrap();
    patient.bytes[digit] = if patient.bytes[digit] == b'1' { b'2' } else { b'1' };
    // The words are built anew from it, and agree with it then.
    let account = patient.repair().unwrap().accounting;
    assert_eq!((account.step, account.complete), (Step::Recovery, false));
    assert_eq!(account.words_in_doubt, ["words"]);

    // With words that can't be read, nothing contradicts.
    let mut patient = Patient::new("", 1024);
    let leaf = *patient.of("words_idx", "leaf").last().unwrap();
    patient.page(leaf).fill(0);
    let account = patient.repair().unwrap().accounting;
    assert_eq!(account.words_in_doubt, Vec::<String>::new());
}

/// Pages of chains that go on, each the second one of its own.
fn seconds(patient: &mut Patient) -> Vec<usize> {
    let pages = patient.of("items", "overflow");
    let next = |patient: &mut Patient, page: usize| {
        let bytes = patient.page(page);
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    };
    let follow: BTreeSet<usize> = pages.iter().map(|page| next(patient, *page)).collect();
    let firsts: Vec<usize> = pages.iter().copied().filter(|page| !follow.contains(page)).collect();
    firsts.into_iter().map(|page| next(patient, page)).collect()
}

#[test]
fn chains_that_may_have_changed_pages_are_in_doubt() {
    let mut patient = Patient::new("PRAGMA auto_vacuum=1;", 1024);
    let seconds = seconds(&mut patient);
    patient.swap(seconds[3], seconds[9]);
    let (_, account) = patient.expect(Step::Salvage, false);
    assert!(of(&account, "items").doubtful > 0, "{:?}", account.losses());

    // One entry of the map alone costs nothing.
    let mut patient = Patient::new("PRAGMA auto_vacuum=1;", 1024);
    let page = self::seconds(&mut patient)[3];
    let in_map = (page - 3) % (1024 / 5 + 1) * 5;
    let map = page - in_map / 5 - 1;
    assert_eq!(patient.page(map)[in_map], 4, "it is in the middle of a chain");
    patient.page(map)[in_map + 4] ^= 1;
    patient.expect(Step::Indices, true);
}

#[test]
fn pages_that_a_broken_freelist_never_had_are_not_taken_for_free() {
    let mut patient = Patient::new("", 1024);
    let trunk = u32::from_be_bytes(patient.bytes[32..36].try_into().unwrap()) as usize;
    let free = patient.page(trunk)[8..12].to_vec();
    let free = u32::from_be_bytes(free.try_into().unwrap()) as usize;
    // What was deleted long ago, in place of a table's root: it has rows, in their order.
    let root = patient.root("plays");
    let stale = patient.page(free).to_vec();
    assert_eq!(stale[0], 13, "it is a page of rows");
    patient.page(root).copy_from_slice(&stale);
    patient.page(trunk)[4..8].copy_from_slice(&3_000_000_u32.to_be_bytes());
    let account = patient.repair().unwrap().accounting;
    assert_eq!((account.step, account.complete), (Step::Salvage, false));
    assert!(account.unmatched_rows >= 2000, "those of the table are kept: {:?}", account.losses());
}

/// The leaf that has the first or the last keys.
fn end(patient: &Patient, object: &str, order: &str) -> usize {
    let connection = Connection::open(&patient.db).unwrap();
    let sql = format!("SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path {order} LIMIT 1");
    usize::try_from(connection.query_row(&sql, [object], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
}

#[test]
fn a_page_of_an_index_in_a_table_without_rowids_is_told() {
    // 'Title' comes before 'key', so that either page fits where the other was.
    let mut patient = Patient::new("", 1024);
    let (settings, titles) = (end(&patient, "settings", "ASC"), end(&patient, "items_title", "DESC"));
    patient.swap(settings, titles);
    let account = patient.repair().unwrap().accounting;
    let told = of(&account, "settings");
    assert!(!account.complete && told.doubtful > 0 && told.lost.is_none(), "{:?}", account.losses());
}

#[test]
fn an_index_that_only_sqlite_can_compare_testifies_too() {
    let mut patient = Patient::new("", 1024);
    patient.change("CREATE INDEX items_upper ON items(upper(title))");
    let (settings, titles) = (end(&patient, "settings", "ASC"), end(&patient, "items_upper", "DESC"));
    patient.swap(settings, titles);
    // Nothing else of it is found.
    add_a_finding(&mut patient, "counted");
    let (_, account) = patient.expect(Step::Salvage, false);
    assert!(of(&account, "items").doubtful > 0, "{:?}", account.losses());
    let told = of(&account, "settings");
    assert!(told.doubtful > 0 && told.lost.is_none(), "{:?}", account.losses());
}

#[test]
fn what_sqlite_itself_never_writes_into_its_own_tables_is_set_aside() {
    let mut patient = Patient::new("", 1024);
    let (leaf, root) = (patient.of("counted", "leaf")[1], patient.root("sqlite_sequence"));
    let other = patient.page(leaf).to_vec();
    patient.page(root).copy_from_slice(&other);
    let repaired = patient.repair().unwrap();
    patient.judge(&repaired, Step::Salvage, false);
    assert!(of(&repaired.accounting, "sqlite_sequence").set_aside > 0);
    // Counted by the rows that are there: those above were deleted.
    assert_eq!(rows(&repaired.file)["sqlite_sequence"].len(), 1);
}

#[test]
fn rows_of_a_table_without_rowids_that_nothing_leads_to_are_not_taken_for_an_index() {
    let mut patient = Patient::new("", 1024);
    let (root, leaf) = (patient.root("settings"), end(&patient, "settings", "ASC"));
    let rows = u64::from(u16::from_be_bytes([patient.page(leaf)[3], patient.page(leaf)[4]]));
    patient.swap(root, leaf);
    // The table is a whole one now, with the rows of one leaf.
    let account = patient.repair().unwrap().accounting;
    assert_eq!((account.step, account.complete), (Step::Salvage, false));
    assert!(of(&account, "settings").after == rows && account.unmatched_rows > 500, "{:?}", account.losses());

    // Pages of an index that nothing leads to cost nothing: it is built anew, and has them.
    let mut patient = Patient::new("", 1024);
    let root = patient.root("items_title");
    patient.page(root).fill(0);
    patient.expect(Step::Indices, true);
}

#[test]
fn rows_that_two_indices_lack_are_in_doubt_where_they_have_no_rowid() {
    let mut patient = Patient::with(
        "",
        4096,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b) WITHOUT ROWID; CREATE INDEX ta ON t(a); CREATE INDEX tb ON t(b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO t SELECT i, 'a' || i, 'b' || i FROM n;",
    );
    let before = patient.bytes.clone();
    patient.change("DELETE FROM t WHERE id BETWEEN 300 AND 305");
    for page in patient.of("t", "leaf") {
        patient.page(page).copy_from_slice(&before[(page - 1) * 4096..page * 4096]);
    }
    let account = patient.repair().unwrap().accounting;
    assert!(!account.complete && of(&account, "t").doubtful > 0, "{:?}", account.losses());
}
