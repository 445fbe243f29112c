//! What only the service's own SQLite can build, built by its own program: sqlite3 with a real extension, as Plex's.

// Helpers of tests: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;
use support::Place;

const LIBRARY: &str = "PRAGMA page_size=1024; CREATE TABLE items(id INTEGER PRIMARY KEY, title TEXT, size INT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
    INSERT INTO items SELECT i, 'Title ' || (i * 7919 % 4000), i % 97 FROM n;
    CREATE INDEX items_icu ON items(title COLLATE icu_root); CREATE INDEX items_norm ON items(norm(title));
    CREATE TABLE unlike(id INTEGER PRIMARY KEY, name TEXT COLLATE icu_root UNIQUE);
    INSERT INTO unlike SELECT id, title FROM items WHERE id <= 300;
    CREATE TABLE normal(id INTEGER PRIMARY KEY, a TEXT, n TEXT AS (norm(a)) STORED);
    INSERT INTO normal(id, a) SELECT id, title FROM items WHERE id <= 300;
    CREATE VIRTUAL TABLE words USING fts5(body, tokenize = 'collating');
    INSERT INTO words SELECT title FROM items WHERE id <= 500;";

/// The program, beside its extension. `None` where this machine can't have one: `tests/run` says so.
fn own_program(place: &Place) -> Option<PathBuf> {
    let source = place.path("own.c");
    std::fs::write(&source, include_str!("support/own.c")).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(place.path("own.so")).arg(source).output();
    let has_sqlite = Command::new("sqlite3").arg("-version").output().is_ok_and(|said| said.status.success());
    if !has_sqlite || !built.as_ref().is_ok_and(|said| said.status.success()) {
        let why = format!("no sqlite3, or no extension of it can be built: {built:?}");
        assert_ne!(std::env::var("SVCKIT_REQUIRE").as_deref(), Ok("all"), "{why}");
        drop(std::io::Write::write_all(&mut std::io::stderr(), format!("not run: {why}\n").as_bytes()));
        return None;
    }
    let program = place.path("Own SQLite");
    let extension = place.path("own").display().to_string();
    std::fs::write(&program, format!("#!/bin/sh\nexec sqlite3 -cmd '.load {extension}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(program)
}

fn ask(program: &Path, database: &Path, sql: &str) -> String {
    let said = Command::new(program).args(["-batch", "-bail"]).arg(database).arg(sql).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// A database of such a service, the root of its largest table zeroed; and all that was in it.
fn patient(place: &Place, program: &Path) -> (PathBuf, String) {
    std::fs::create_dir(place.path("data")).unwrap();
    let path = place.path("data/library.db");
    ask(program, &path, LIBRARY);
    let truth = contents(program, &path);
    place.backup(&["backup", "--sqlite", "data/library.db", "--to", "store"]).succeeds();
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'items'";
    let root: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    connection.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let root = usize::try_from(root).unwrap();
    bytes[(root - 1) * 1024..root * 1024].fill(0);
    std::fs::write(&path, bytes).unwrap();
    (path, truth)
}

fn contents(program: &Path, path: &Path) -> String {
    let all = "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2; SELECT * FROM normal ORDER BY id;
        SELECT id, name FROM unlike ORDER BY name COLLATE icu_root; SELECT id FROM items ORDER BY title COLLATE icu_root;
        SELECT id FROM items INDEXED BY items_norm WHERE norm(title) >= 'TITLE 39' ORDER BY norm(title);
        SELECT rowid FROM words WHERE words MATCH '7';";
    ask(program, path, all)
}

fn json(said: &support::Said, code: i32) -> Value {
    assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
    serde_json::from_str(said.out.lines().last().unwrap()).unwrap()
}

#[test]
fn its_indices_columns_and_words_are_built_by_its_own_program_and_told_as_missing_without_one() {
    let place = Place::new();
    let Some(program) = own_program(&place) else { return };
    let (path, truth) = patient(&place, &program);
    let alone = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 13);
    let losses = alone["losses"].to_string();
    for missing in
        ["items_icu", "items_norm", "sqlite_autoindex_unlike_1", "generated columns of normal", "a full-text index"]
    {
        assert!(losses.contains(missing), "{missing}: {losses}");
    }
    assert!(alone["accounting"]["notes"].to_string().contains("--sqlite-program"), "{alone}");
    let own = program.to_str().unwrap();
    // What everybody can change is not run.
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = place.repair(&["repair", "data/library.db", "--no-service", "--sqlite-program", own, "--json"]);
    assert!(
        json(&refused, 13)["accounting"]["notes"].to_string().contains("can be changed by everybody"),
        "{}",
        refused.out
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let value =
        json(&place.repair(&["repair", "data/library.db", "--no-service", "--sqlite-program", own, "--json"]), 0);
    assert_eq!((&value["outcome"], &value["losses"]), (&"complete".into(), &serde_json::json!([])), "{value}");
    assert_eq!(value["accounting"]["objects_before"], value["accounting"]["objects_after"]);
    assert_eq!(ask(&program, &path, "PRAGMA integrity_check"), "ok\n");
    assert_eq!(contents(&program, &path), truth);
    place.repair(&["check", "data/library.db"]).succeeds();
}

#[test]
fn the_program_of_the_configuration_is_used_and_must_be_an_absolute_path() {
    let place = Place::new();
    let Some(program) = own_program(&place) else { return };
    let (path, truth) = patient(&place, &program);
    let toml = place.path("home/.config/svckit/svckit.toml");
    std::fs::create_dir_all(toml.parent().unwrap()).unwrap();
    let target = |program: &str| format!("[target.own]\nsqlite = [{path:?}]\nsqlite-program = {program:?}\n");
    std::fs::write(&toml, target("Own SQLite")).unwrap();
    place.repair(&["repair", "data/library.db", "--no-service"]).fails(3, &["sqlite-program", "relative path"]);
    std::fs::write(&toml, target(program.to_str().unwrap())).unwrap();
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    assert!(said.succeeds().contains("by the service's own sqlite program: index items_icu"), "{}", said.out);
    assert_eq!(contents(&program, &path), truth);
}

#[test]
fn no_text_of_a_database_is_a_command_for_the_program() {
    let place = Place::new();
    let Some(program) = own_program(&place) else { return };
    let (path, _) = patient(&place, &program);
    let pwned = place.path("pwned");
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    let evil = format!(
        "CREATE INDEX items_icu ON items(title COLLATE icu_root);\n.shell touch '{0}'\nSELECT writefile('{0}', 'x');",
        pwned.display()
    );
    connection.execute_batch("PRAGMA writable_schema=ON").unwrap();
    connection.execute("UPDATE sqlite_schema SET sql = ?1 WHERE name = 'items_icu'", [evil]).unwrap();
    connection.close().unwrap();
    let own = program.to_str().unwrap();
    let value =
        json(&place.repair(&["repair", "data/library.db", "--no-service", "--sqlite-program", own, "--json"]), 13);
    assert!(!pwned.exists());
    assert!(value["losses"].to_string().contains("items_icu (its definition is not one statement)"), "{value}");
    assert_eq!(value["losses"].as_array().unwrap().len(), 1, "the rest is built: {value}");
}

#[test]
fn an_index_of_its_own_that_is_damaged_alone_is_built_by_it() {
    let place = Place::new();
    let Some(program) = own_program(&place) else { return };
    std::fs::create_dir(place.path("data")).unwrap();
    let path = place.path("data/library.db");
    ask(&program, &path, LIBRARY);
    let truth = contents(&program, &path);
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = 'items_icu' AND pagetype = 'leaf' LIMIT 5";
    let mut statement = connection.prepare(sql).unwrap();
    let pages: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    drop(statement);
    connection.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for page in pages {
        let at = usize::try_from(page - 1).unwrap() * 1024;
        bytes[at..at + 1024].fill(0);
    }
    std::fs::write(&path, &bytes).unwrap();
    let alone = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 13);
    assert!(alone["losses"].to_string().contains("items_icu"), "{alone}");
    let own = program.to_str().unwrap();
    let value =
        json(&place.repair(&["repair", "data/library.db", "--no-service", "--sqlite-program", own, "--json"]), 0);
    assert_eq!(value["outcome"], "complete", "{value}");
    assert_eq!(contents(&program, &path), truth);
}
