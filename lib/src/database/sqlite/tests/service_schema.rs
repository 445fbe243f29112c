//! A schema that only the service's own SQLite can open, as Plex has it.

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;

use super::*;
use crate::database::sqlite::snapshot_hot;

/// The service's own SQLite: with its collation, its function and its tokenizer.
fn service(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.create_collation("icu_root", |a, b| b.to_lowercase().cmp(&a.to_lowercase())).unwrap();
    let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("own_key", 1, flags, |c| c.get::<String>(0)).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, true).unwrap();
    let alias = "SELECT fts3_tokenizer('collating', fts3_tokenizer('porter'))";
    connection.query_row(alias, [], |_| Ok(())).unwrap();
    connection
}

fn create(path: &Path) {
    let connection = service(path);
    connection
        .execute_batch(
            "CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT COLLATE icu_root, guid TEXT);
             CREATE INDEX items_title ON items(title COLLATE icu_root);
             CREATE INDEX items_key ON items(own_key(guid));
             CREATE VIRTUAL TABLE fts4_titles USING fts4(title, tokenize=collating);
             CREATE VIRTUAL TABLE places USING rtree(id, x0, x1);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
               INSERT INTO items(id, title, guid) SELECT i, 'Title running ' || i, 'g' || i FROM n;
             INSERT INTO fts4_titles(docid, title) SELECT id, title FROM items;
             INSERT INTO places SELECT id, id, id + 1 FROM items;
             PRAGMA writable_schema=ON;
             INSERT INTO sqlite_schema VALUES('table', 'spell', 'spell', 0,
               'CREATE VIRTUAL TABLE spell USING spellfix1');
             PRAGMA writable_schema=OFF;",
        )
        .unwrap();
}

#[test]
fn a_schema_with_the_services_own_collation_function_and_modules_is_proved_as_far_as_it_goes() {
    let place = Place::new();
    let databases = [place.service.join("library.db")];
    create(&databases[0]);
    let taken = snapshot_hot(&place.request(&databases)).unwrap();
    let before = std::fs::read(&taken[0].file).unwrap();
    let proved = validate(&taken[0].file, &place.cancel, &Silent).unwrap();
    assert_eq!(proved.rungs, ["header", "pages", "structure", "counts"]);
    assert_eq!(proved.facts.without, ["collation icu_root", "function own_key", "tokenizer collating"]);
    let rows = |name: &str| proved.facts.tables.iter().find(|t| t.name == name).map(|t| t.rows);
    assert_eq!(rows("items"), Some(3000));
    assert_eq!(rows("fts4_titles_content"), Some(3000));
    assert!(proved.facts.objects.iter().any(|o| o.name == "spell"));
    assert!(std::fs::read(&taken[0].file).unwrap() == before, "the copy was changed");
    assert_eq!(std::fs::read_dir(&place.copies).unwrap().count(), 1, "something was left beside it");
    // And the service itself reads it back, its own index included.
    let connection = service(&taken[0].file);
    let sql = "SELECT count(*) FROM items INDEXED BY items_title WHERE title > ''";
    assert!(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok());
}

#[test]
fn damage_in_such_a_schema_is_found() {
    let place = Place::new();
    let path = place.copies.join("library.db");
    create(&path);
    let good = std::fs::read(&path).unwrap();
    for page in [5, good.len() / 4096 / 2, good.len() / 4096 - 1] {
        let mut bytes = good.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        let error = validate(&path, &place.cancel, &Silent).unwrap_err();
        assert!(matches!(error, SqliteError::Corrupt { .. }), "page {page}: {error}");
    }
}

#[test]
fn an_index_in_the_services_own_order_that_lacks_a_row_is_found_without_that_order() {
    let place = Place::new();
    let path = place.copies.join("library.db");
    create(&path);
    validate(&path, &place.cancel, &Silent).unwrap();
    // A row that no index knows of: SQLite puts it there, with the indices hidden from it.
    let connection = service(&path);
    connection
        .execute_batch(
            "PRAGMA writable_schema=ON;
             CREATE TEMP TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = 'items_title';
             DELETE FROM sqlite_schema WHERE name = 'items_title'; PRAGMA writable_schema=RESET;",
        )
        .unwrap();
    connection.execute_batch("INSERT INTO items(id, title, guid) VALUES(9000, 'Nowhere', 'g9000');").unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema SELECT * FROM hidden; PRAGMA writable_schema=RESET;",
        )
        .unwrap();
    connection.close().unwrap();
    let error = validate(&path, &place.cancel, &Silent).unwrap_err();
    assert!(matches!(error, SqliteError::Corrupt { .. }) && error.to_string().contains("items_title"), "{error}");
}

#[test]
fn a_virtual_table_that_nothing_can_open_is_left_out_and_the_rest_is_proved() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2);
             CREATE VIRTUAL TABLE words USING fts4(w);
             PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE words USING fts4(w, own=1)'
               WHERE name = 'words';
             PRAGMA writable_schema=OFF;",
        )
        .unwrap();
    connection.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let proved = validate(&path, &place.cancel, &Silent).unwrap();
    assert_eq!(proved.rungs, ["header", "pages", "structure", "counts"]);
    assert!(proved.facts.without.iter().any(|w| w.contains("own")), "{:?}", proved.facts.without);
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(std::fs::read_dir(&place.copies).unwrap().count(), 1);
}

#[test]
fn a_missing_parent_row_is_a_fact_and_no_damage() {
    let place = Place::new();
    let path = place.copies.join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA foreign_keys=OFF; CREATE TABLE p(id INTEGER PRIMARY KEY);
             CREATE TABLE c(p REFERENCES p(id)); INSERT INTO c VALUES(1), (2);",
        )
        .unwrap();
    connection.close().unwrap();
    let proved = validate(&path, &place.cancel, &Silent).unwrap();
    assert_eq!(proved.rungs, ["header", "pages", "structure", "integrity", "counts"]);
    assert_eq!(proved.facts.foreign_key_violations, Some(2));
}
