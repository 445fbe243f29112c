//! The matrix of corruption cases: never fewer rows back than SQLite's own recovery gives, and no loss untold.

use super::*;

fn patient() -> Patient {
    Patient::new("", 1024)
}

#[test]
fn a_damaged_header_costs_nothing() {
    let mut patient = patient();
    patient.bytes[3] = b'X';
    patient.expect(Step::Salvage, true);
    let mut patient = self::patient();
    patient.bytes[16..18].copy_from_slice(&[0x10, 0]);
    patient.expect(Step::Salvage, true);
}

#[test]
fn a_lost_root_or_interior_page_costs_no_row() {
    let mut patient = patient();
    let root = patient.root("items");
    patient.page(root).fill(0);
    let (_, account) = patient.expect(Step::Salvage, true);
    let items = account.tables.iter().find(|t| t.table == "items").unwrap();
    assert_eq!((items.readable_before, items.from_orphans, items.by_index), (0, 6000, Some(6000)));

    let mut patient = self::patient();
    let interior = patient.of("items", "internal").into_iter().find(|page| *page != root).unwrap();
    patient.page(interior).fill(0);
    patient.expect(Step::Salvage, true);
}

#[test]
fn every_row_of_every_page_that_can_be_read_comes_back() {
    // The case that a widely used script turns from 19,582 rows into 2,312, calling it a success.
    let mut patient = patient();
    let leaves = patient.of("items", "leaf");
    let lost_pages = patient.some(&leaves, 10);
    let mut lost = 0;
    for page in &lost_pages {
        lost += u64::from(u16::from_be_bytes([patient.page(*page)[3], patient.page(*page)[4]]));
        patient.page(*page).fill(0);
    }
    let (_, account) = patient.expect(Step::Salvage, false);
    let items = account.tables.iter().find(|t| t.table == "items").unwrap();
    assert_eq!((items.after, items.lost), (6000 - lost, Some(lost)));
    assert_eq!(account.losses(), [format!("items: {lost} rows are lost")]);
}

#[test]
fn only_damaged_tables_are_made_anew_where_the_rest_is_whole() {
    let mut patient = patient();
    let (leaves, plays) = (patient.of("items", "leaf"), patient.of("plays", "leaf"));
    patient.page(leaves[7]).fill(0);
    patient.page(plays[2]).fill(0);
    let repaired = patient.repair().unwrap();
    patient.judge(&repaired, Step::Salvage, false);
    let new = std::fs::read(&repaired.file).unwrap();
    assert_eq!(new.len(), patient.bytes.len());
    for page in ["settings", "counted", "made"].iter().flat_map(|table| patient.of(table, "leaf")) {
        let place = (page - 1) * 1024..page * 1024;
        assert!(new[place.clone()] == patient.bytes[place], "page {page} was touched");
    }
    // The trigger on it has seen no insert.
    let count = |sql: &str| {
        let connection = Connection::open(&repaired.file).unwrap();
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name IN ('items_title', 'items_size', 'played')"), 3);
    let all_from_table = "SELECT count(*) FROM items NOT INDEXED";
    assert_eq!(count("SELECT count(*) FROM items INDEXED BY items_title WHERE title > ''"), count(all_from_table));
}

#[test]
fn damage_within_pages_costs_what_is_in_it() {
    let mut patient = patient();
    let leaves = patient.of("items", "leaf");
    for page in patient.some(&leaves, 20) {
        let (offset, bit) = (8 + patient.random.below(1016), patient.random.below(8));
        patient.page(page)[offset] ^= 1 << bit;
    }
    let (share, _) = patient.expect(Step::Salvage, false);
    assert!(share > 0.9975, "{share}");

    let mut patient = self::patient();
    for page in patient.some(&leaves, 10) {
        patient.page(page)[512..].fill(0);
    }
    let (share, account) = patient.expect(Step::Salvage, false);
    assert!(share > 0.98, "{share} {:?}", account.losses());

    let mut patient = self::patient();
    let chains = patient.of("items", "overflow");
    for page in patient.some(&chains, 10) {
        patient.page(page).fill(0);
    }
    let (share, _) = patient.expect(Step::Salvage, false);
    assert!(share > 0.999, "{share}");
}

#[test]
fn damage_of_indices_and_of_the_freelist_costs_nothing() {
    let mut patient = patient();
    for index in ["items_title", "sqlite_autoindex_counted_1"] {
        let leaves = patient.of(index, "leaf");
        for page in patient.some(&leaves, 5) {
            patient.page(page).fill(0);
        }
    }
    patient.expect(Step::Indices, true);

    let mut patient = self::patient();
    let trunk = u32::from_be_bytes(patient.bytes[32..36].try_into().unwrap()) as usize;
    patient.page(trunk)[4..8].copy_from_slice(&3_000_000_u32.to_be_bytes());
    patient.expect(Step::Indices, true);
}

#[test]
fn a_file_that_was_cut_gives_what_is_left() {
    // The definitions are in the first page.
    let mut patient = Patient::new("", 4096);
    let len = patient.bytes.len() * 6 / 10;
    patient.bytes.truncate(len);
    let (share, account) = patient.expect(Step::Salvage, false);
    assert!(share > 0.3, "{share}");
    assert!(!account.losses().is_empty());
}

#[test]
fn without_any_definition_nothing_is_called_a_repair() {
    let mut patient = patient();
    patient.page(1).fill(0);
    let error = patient.repair().unwrap_err();
    assert!(error.to_string().contains("no definition of any table can be read"), "{error}");
    // What can be read is out of nobody's reach all the same.
    let SqliteError::Unrepaired { stray: Some(stray), .. } = error else { panic!("{error}") };
    let connection = Connection::open(stray).unwrap();
    let sql = "SELECT count(DISTINCT row) FROM lost_and_found WHERE fields = 4 AND c1 LIKE 'Title %'";
    let items: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(items, 6000);
}

/// As a backup of before has it: the same definitions, and other rows.
fn with_a_backup(form: &str, page_size: usize) -> (Patient, std::path::PathBuf) {
    let mut patient = Patient::new(form, page_size);
    let backup = patient.dir.path().join("backup.db");
    std::fs::copy(&patient.db, &backup).unwrap();
    let connection = Connection::open(&patient.db).unwrap();
    connection
        .execute_batch("UPDATE items SET title = 'now ' || id WHERE id % 5 = 0; DELETE FROM items WHERE id > 5900;")
        .unwrap();
    connection.close().unwrap();
    (patient.truth, patient.bytes) = (rows(&patient.db), std::fs::read(&patient.db).unwrap());
    (patient, backup)
}

#[test]
fn definitions_from_a_backup_bring_back_what_lost_its_own() {
    for (form, size) in [("", 1024), ("PRAGMA auto_vacuum=1;", 512), ("PRAGMA encoding='UTF-16be';", 4096)] {
        let (mut patient, backup) = with_a_backup(form, size);
        patient.page(1).fill(0);
        std::fs::write(&patient.db, &patient.bytes).unwrap();
        let repaired = patient.repair_as_it_lies(Some(&backup)).unwrap();
        let account = &repaired.accounting;
        assert!(account.notes.iter().any(|note| note.contains("of the backup")), "{:?}", account.notes);
        assert_eq!((account.missing_objects.len(), integrity(&repaired.file).as_str()), (0, "ok"));
        // Which pages were free can't be told any more: what lies in them is set aside, and told.
        let back = rows(&repaired.file);
        for (table, rows) in &patient.truth {
            assert!(back[table] == *rows, "{size}: {table} is not what it was: {:?}", account.losses());
        }

        // A definition that can't be read, in a header that can.
        let (mut patient, backup) = with_a_backup(form, size);
        let wide = form.contains("UTF-16");
        let text: Vec<u8> =
            "CREATE TABLE items".bytes().flat_map(|b| if wide { vec![0, b] } else { vec![b] }).collect();
        let at = patient.bytes.windows(text.len()).position(|window| window == text).unwrap();
        patient.bytes[at..at + 12].fill(b'?');
        std::fs::write(&patient.db, &patient.bytes).unwrap();
        let repaired = patient.repair_as_it_lies(Some(&backup)).unwrap();
        let back = rows(&repaired.file);
        assert!(patient.truth.iter().all(|(table, rows)| back[table] == *rows), "{:?}", repaired.accounting.losses());
    }
}

#[test]
fn definitions_of_a_backup_are_called_the_lost_ones_only_where_that_is_proved() {
    let text = b"CREATE TABLE items";
    let garbled = |patient: &mut Patient| {
        let at = patient.bytes.windows(text.len()).position(|window| window == text).unwrap();
        patient.bytes[at..at + 12].fill(b'?');
    };
    let zeroed = |patient: &mut Patient| patient.page(1).fill(0);
    let told = |patient: &Patient, backup: &Path| {
        std::fs::write(&patient.db, &patient.bytes).unwrap();
        let account = patient.repair_as_it_lies(Some(backup)).unwrap().accounting;
        assert_eq!(account.complete, account.losses().is_empty());
        account.losses().into_iter().find(|loss| loss.contains("the definitions are those of the backup"))
    };
    let (mut patient, backup) = with_a_backup("", 4096);
    garbled(&mut patient);
    assert_eq!(told(&patient, &backup), None, "the header tells that nothing has changed");
    // Whoever has lost page 1 has nothing that could tell.
    zeroed(&mut patient);
    assert!(told(&patient, &backup).unwrap().contains("can't be told"));
    // No page is used by a view, and rows with a field more are rows of the table as it was.
    for since in
        ["CREATE VIEW since AS SELECT 1", "ALTER TABLE items ADD COLUMN more DEFAULT 'x'; UPDATE items SET more = 'y'"]
    {
        let (mut patient, backup) = with_a_backup("", 4096);
        patient.change(since);
        garbled(&mut patient);
        assert!(told(&patient, &backup).unwrap().contains("have changed since"), "{since}");
    }
}

#[test]
fn what_a_header_of_a_backup_says_is_told_where_the_own_one_says_otherwise() {
    let (mut patient, backup) = with_a_backup("", 4096);
    patient.bytes[3] = b'X';
    std::fs::write(&patient.db, &patient.bytes).unwrap();
    let losses = patient.repair_as_it_lies(Some(&backup)).unwrap().accounting.losses();
    assert!(!losses.iter().any(|loss| loss.contains("user_version")), "{losses:?}");
    let (mut patient, backup) = with_a_backup("", 4096);
    patient.change("PRAGMA user_version=78");
    patient.bytes[3] = b'X';
    std::fs::write(&patient.db, &patient.bytes).unwrap();
    let account = patient.repair_as_it_lies(Some(&backup)).unwrap().accounting;
    let is_told = account.losses().iter().any(|loss| loss.contains("user_version 77") && loss.contains("78"));
    assert!(is_told && !account.complete, "{:?}", account.losses());
}

/// Two hundred rows, with an index or without, in pages of which one is overwritten by a copy of another.
#[test]
fn a_page_in_the_place_of_another_costs_the_rows_that_the_other_had() {
    for index in ["", "CREATE INDEX tx ON t(x);"] {
        let mut patient = Patient::with(
            "",
            1024,
            &format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, x, y); {index}
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO t SELECT i, 'text ' || i, 'y' || i FROM n"
            ),
        );
        let leaves = patient.of("t", "leaf");
        let copied = patient.page(leaves[0]).to_vec();
        let gone = u64::from(u16::from_be_bytes([patient.page(leaves[1])[3], patient.page(leaves[1])[4]]));
        patient.page(leaves[1]).copy_from_slice(&copied);
        let (_, account) = patient.expect(Step::Salvage, false);
        let t = account.tables.iter().find(|t| t.table == "t").unwrap();
        let lost = (!index.is_empty()).then_some(gone);
        assert_eq!((t.after, t.lost, t.lost_at_most), (200 - gone, lost, None), "{t:?}");
        assert!(t.set_aside > 10 && t.doubtful >= t.set_aside, "{t:?}");
    }
}

#[test]
fn a_definition_that_breaks_the_schema_is_missing_and_everything_else_is_there() {
    const TWO: &str = "CREATE TABLE keep(x); INSERT INTO keep VALUES(1), (2);
        CREATE TABLE a(id INTEGER PRIMARY KEY, x); INSERT INTO a VALUES(1, 'one');
        CREATE VIEW v AS SELECT * FROM a; CREATE VIEW w AS SELECT * FROM keep;
        CREATE TRIGGER tg AFTER DELETE ON a BEGIN DELETE FROM keep WHERE x = old.id; END;";
    for (sql, missing) in [("CREATE VIEW v", "view v"), ("CREATE TRIGGER tg", "trigger tg")] {
        let mut patient = Patient::with("", 1024, TWO);
        let at = patient.bytes.windows(sql.len()).position(|part| part == sql.as_bytes()).unwrap();
        patient.bytes[at] = 0;
        let (_, account) = patient.expect(Step::Salvage, false);
        assert!(account.missing_objects.iter().any(|object| object.contains(missing)), "{account:?}");
        assert_eq!(account.objects_after, account.objects_before - 1);
    }
    // A trigger of a table that can't be made.
    let mut patient = Patient::with("", 1024, TWO);
    let at = patient.bytes.windows(14).position(|part| part == b"CREATE TABLE a").unwrap();
    patient.bytes[at] = 0;
    let repaired = patient.repair().unwrap();
    let missing = &repaired.accounting.missing_objects;
    assert!(["table a", "trigger tg"].iter().all(|own| missing.iter().any(|m| m.contains(own))), "{missing:?}");
}

/// `INTEGEZ` makes another table of it: SQLite calls the schema malformed, since an index is missing.
#[test]
fn a_type_that_makes_another_table_of_it_is_found_and_told() {
    let mut patient =
        Patient::with("", 1024, "CREATE TABLE a(id INTEGER PRIMARY KEY, x); INSERT INTO a VALUES(1, 'one'), (5, NULL)");
    let at = patient.bytes.windows(7).position(|part| part == b"INTEGER").unwrap();
    patient.bytes[at + 6] = b'Z';
    let repaired = patient.repair().unwrap();
    assert_eq!(repaired.accounting.losses(), ["a: 2 rows may be wrong"]);
}

#[test]
fn rows_of_a_table_without_rowids_whose_definition_is_lost_are_set_aside() {
    let mut patient = Patient::with(
        "",
        1024,
        "CREATE TABLE keep(x); INSERT INTO keep VALUES(1); CREATE TABLE w(k TEXT, v, PRIMARY KEY(k)) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO w SELECT 'key ' || i, 'v' || i FROM n",
    );
    patient.bytes[110..112].fill(0xff);
    let repaired = patient.repair().unwrap();
    let interior = 2000 / 20;
    assert!(repaired.accounting.unmatched_rows > 2000 - interior, "{:?}", repaired.accounting);
    assert!(repaired.set_aside.is_some());
}

#[test]
fn a_damaged_r_tree_is_told_and_keeps_nothing_else_from_being_repaired() {
    const SHAPES: &str = "CREATE VIRTUAL TABLE rt USING rtree(id, x0, x1); CREATE VIRTUAL TABLE ft USING fts5(body);
        CREATE TABLE keep(x); INSERT INTO keep VALUES(1);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO rt SELECT i, i, i + 1 FROM n; INSERT INTO ft SELECT 'words ' || id FROM rt;";
    for (table, filler) in [("rt_node", 0), ("rt_rowid", 0), ("rt_node", 0xff)] {
        let mut patient = Patient::with("", 1024, SHAPES);
        let leaves = patient.of(table, "leaf");
        for page in if filler == 0 { &leaves[1..2] } else { &leaves[..] } {
            patient.page(*page).fill(filler);
        }
        let repaired = patient.repair().unwrap();
        let losses = repaired.accounting.losses();
        assert!(!repaired.accounting.spatial.is_empty(), "{table}: {losses:?}");
        assert!(!losses.iter().any(|loss| loss.contains("full-text")), "{table}: {losses:?}");
        assert_eq!(rows(&repaired.file)["keep"].len(), 1);
        let words = "SELECT count(*) FROM ft WHERE ft MATCH 'words'";
        let found: i64 = Connection::open(&repaired.file).unwrap().query_row(words, [], |row| row.get(0)).unwrap();
        assert_eq!(found, 300, "{table}");
    }
}

/// Two whole indices know nothing of rows that a page of the table has again.
#[test]
fn an_older_page_of_a_table_brings_no_deleted_row_back_untold() {
    for (unique, doubtful) in [("UNIQUE", 14), ("", 0)] {
        let mut patient = Patient::with(
            "",
            1024,
            &format!(
                "CREATE TABLE c(u, v, w {unique}); CREATE INDEX cuv ON c(u, v);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                 INSERT INTO c SELECT i, 'v' || i, i * i FROM n"
            ),
        );
        let leaf = patient.of("c", "leaf")[0];
        let before = patient.page(leaf).to_vec();
        patient.change("DELETE FROM c WHERE u % 5 = 0");
        patient.page(leaf).copy_from_slice(&before);
        let repaired = patient.repair().unwrap();
        let c = repaired.accounting.tables.iter().find(|t| t.table == "c").unwrap();
        assert_eq!((c.doubtful, repaired.accounting.complete), (doubtful, doubtful == 0), "{c:?}");
    }
}
