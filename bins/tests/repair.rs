//! `svc-repair repair`, `undo` and `list` without a service, as a person runs them.

// Helpers of tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rusqlite::Connection;
use serde_json::Value;
use support::{Place, Said};

fn library(place: &Place) -> PathBuf {
    std::fs::create_dir(place.path("data")).unwrap();
    let path = place.path("data/library.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size=1024; PRAGMA journal_mode=WAL; CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
             CREATE INDEX notes_title ON notes(title);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO notes SELECT i, 'title ' || i, 'some words of note ' || i FROM n;",
        )
        .unwrap();
    connection.close().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    path
}

/// Pages of an object, by SQLite's word.
fn pages(path: &Path, object: &str, kind: &str) -> Vec<usize> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = ?2 ORDER BY pageno";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([object, kind], |row| row.get::<_, i64>(0)).unwrap();
    pages.map(|page| usize::try_from(page.unwrap()).unwrap()).collect()
}

fn zero(path: &Path, pages: &[usize]) {
    let mut bytes = std::fs::read(path).unwrap();
    for page in pages {
        bytes[(page - 1) * 1024..page * 1024].fill(0);
    }
    std::fs::write(path, bytes).unwrap();
}

fn rows(path: &Path) -> (i64, String) {
    let connection = Connection::open(path).unwrap();
    let rows = connection.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
    (rows, connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap())
}

fn json(said: &Said, code: i32) -> Value {
    assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
    serde_json::from_str(said.out.lines().last().unwrap()).unwrap()
}

/// Everything that lies in the directory of the database.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What was done is done, and what was found is found: the exit code says it where nothing else can.
#[test]
fn a_result_that_can_not_be_printed_changes_no_exit_code() {
    let place = Place::new();
    let path = library(&place);
    zero(&path, &pages(&path, "notes_title", "leaf")[..5]);
    let run = |out: Stdio, arguments: &[&str]| {
        let mut command = place.command(env!("CARGO_BIN_EXE_svc-repair"));
        let output = command.args(arguments).stdout(out).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let told = |said: (i32, String), code: i32| {
        assert_eq!(said.0, code, "{}", said.1);
        assert!(said.1.contains("write to \"standard output\": No space left on device"), "{}", said.1);
    };
    for json in [&[][..], &["--json"]] {
        let check = [&["check", "data/library.db"], json].concat();
        told(run(full(), &check), 11);
        assert_eq!(run(closed(), &check), (11, String::new()));
    }
    let repair = ["repair", "data/library.db", "--no-service"];
    told(run(full(), &repair), 0);
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
    // Here the text is all that was asked for.
    told(run(full(), &["list", "data"]), 30);
    assert_eq!(run(closed(), &["list", "data"]), (0, String::new()));
    assert_eq!(run(closed(), &["undo", "data/library.db", "--no-service"]).0, 0);
    assert_eq!(run(closed(), &["check", "data/library.db"]).0, 11);
}

#[test]
fn index_damage_is_repaired_whole_and_undone_to_the_byte() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes_title", "leaf");
    zero(&path, &leaves[..5]);
    let damaged = std::fs::read(&path).unwrap();

    let would = place.repair(&["repair", "data/library.db", "--dry-run"]);
    assert!(would.succeeds().contains("would be repaired, complete"), "{}", would.out);
    assert_eq!(names(&path), ["library.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);

    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 0);
    assert_eq!((&value["kind"], &value["outcome"]), (&"done".into(), &"complete".into()), "{value}");
    assert_eq!(value["accounting"]["step"], "indices");
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(&std::fs::read(&path).unwrap()[18..20], [2, 2], "it is a WAL database still");
    let preserved = PathBuf::from(value["preserved"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&preserved).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read(preserved.join("library.db")).unwrap(), damaged);
    assert!(preserved.join("report.json").exists());
    assert_eq!(names(&preserved.join("x")), ["library.db", "preserved.json", "report.json"]);

    // Once more: nothing is left to do, and nothing is done.
    let again = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 0);
    assert_eq!(again["outcome"], "whole");
    let listed = place.repair(&["list", "data"]);
    assert!(listed.succeeds().contains("repaired, complete"), "{}", listed.out);

    let repaired = std::fs::read(&path).unwrap();
    place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let sets = place.repair(&["list", "data/library.db", "--json"]);
    let last: Value = serde_json::from_str(sets.succeeds().lines().last().unwrap()).unwrap();
    assert_eq!(last["before"], "undo");
    // And that can be undone as well.
    let id = last["id"].as_str().unwrap().to_owned();
    place.repair(&["undo", "data/library.db", "--no-service", "--set", &id]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), repaired);
    assert!(names(&path).iter().all(|name| name == "library.db" || name.contains("svckit-preserved-")));
}

#[test]
fn lost_rows_are_told_and_the_original_stays_until_the_loss_is_accepted() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes", "leaf");
    zero(&path, &leaves[3..13]);
    let damaged = std::fs::read(&path).unwrap();
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    for wanted in ["NOT repaired", "--accept-loss", "LOST OR DOUBTFUL: notes: ", " rows are lost", "the original: "] {
        assert!(said.out.contains(wanted), "{wanted:?} is not in {}", said.out);
    }
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--accept-loss", "--json"]), 13);
    assert_eq!((&value["kind"], &value["outcome"]), (&"partial".into(), &"partial-replaced".into()));
    let lost = value["accounting"]["tables"][0]["lost"].as_i64().unwrap();
    assert!(lost > 50);
    assert_eq!(rows(&path), (4000 - lost, "ok".to_owned()));
    // The same original is not preserved twice.
    assert_eq!(names(&path).len(), 2, "{:?}", names(&path));
    place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

#[test]
fn an_undo_brings_the_log_back_with_the_database() {
    let place = Place::new();
    let path = library(&place);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap_or(());
    for id in 5000..5010 {
        connection.execute("INSERT INTO notes VALUES(?1, 'late', 'x')", [id]).unwrap();
    }
    // As a crash leaves it, and then a bit of the log turns.
    let dead = place.path("data/dead.db");
    for suffix in ["", "-wal", "-shm"] {
        let name = |stem: &str| place.path(format!("data/{stem}.db{suffix}"));
        std::fs::copy(name("library"), name("dead")).unwrap();
    }
    drop(connection);
    let wal = place.path("data/dead.db-wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    let frame = 24 + 1024;
    bytes[32 + 4 * frame + 100] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let before: Vec<_> =
        ["", "-wal", "-shm"].map(|s| std::fs::read(place.path(format!("data/dead.db{s}"))).unwrap()).into();
    let said = place.repair(&["repair", "data/dead.db", "--no-service", "--accept-loss"]);
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("by its log or journal alone") && said.out.contains("commits are lost"), "{}", said.out);
    assert!(!wal.exists());
    let (count, verdict) = rows(&dead);
    assert!((4000..4010).contains(&count) && verdict == "ok");
    for suffix in ["-wal", "-shm"] {
        let _not_there = std::fs::remove_file(place.path(format!("data/dead.db{suffix}")));
    }
    place.repair(&["undo", "data/dead.db", "--no-service"]).succeeds();
    let after: Vec<_> =
        ["", "-wal", "-shm"].map(|s| std::fs::read(place.path(format!("data/dead.db{s}"))).unwrap()).into();
    assert!(before == after);
}

#[test]
fn a_database_without_its_first_page_is_repaired_with_the_definitions_of_its_backup() {
    let place = Place::new();
    let path = library(&place);
    place.backup(&["backup", "--sqlite", "data/library.db", "--to", "store"]).succeeds();
    let connection = Connection::open(&path).unwrap();
    connection.execute("INSERT INTO notes VALUES(4001, 'since the backup', 'x')", []).unwrap();
    connection.close().unwrap();
    zero(&path, &[1]);
    let damaged = std::fs::read(&path).unwrap();
    let alone = place.repair(&["repair", "data/library.db", "--no-service"]);
    alone.fails(11, &["no definition of any table can be read", "hint: ", "/lost_and_found.db"]);
    let aside = names(&path).into_iter().find(|name| name.contains("preserved")).unwrap();
    let aside = Connection::open(place.path(format!("data/{aside}/lost_and_found.db"))).unwrap();
    let sql = "SELECT count(*) FROM lost_and_found WHERE c1 LIKE 'title %' AND c2 LIKE 'some words of note %'";
    let notes: i64 = aside.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(notes, 4000);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    place.repair(&["repair", "data/library.db", "--no-service", "--from", "none"]).fails(10, &["there is no store"]);
    // Whether the schema has changed since the backup was written on the page that is lost.
    let words = ["repair", "data/library.db", "--no-service", "--from", "store"];
    let said = place.repair(&words);
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("whether they have changed since it was made can't be told"), "{}", said.out);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    let said = place.repair(&[&words[..], &["--accept-loss"]].concat());
    assert_eq!(said.code, 13, "{}\n{}", said.out, said.err);
    assert_eq!(rows(&path), (4001, "ok".to_owned()));
}

#[test]
fn a_database_that_somebody_has_open_is_not_touched() {
    let place = Place::new();
    let path = library(&place);
    let leaves = pages(&path, "notes_title", "leaf");
    zero(&path, &leaves[..2]);
    let damaged = std::fs::read(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    let _row: i64 = connection.query_row("SELECT id FROM notes WHERE id = 7", [], |row| row.get(0)).unwrap();
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    said.fails(21, &["library.db open", "name its service (--unit"]);
    place.repair(&["undo", "data/library.db", "--no-service"]).fails(10, &["there is no preserved original"]);
    drop(connection);
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    assert_eq!(names(&path), ["library.db"]);
    place.repair(&["repair", "data/library.db"]).fails(2, &["which service", "--no-service"]);
    place.repair(&["repair", "data/library.db", "--unit", "a", "--no-service"]).fails(2, &["cannot be used"]);
}

#[test]
fn what_a_repair_loses_is_filled_from_a_backup_by_the_command_that_it_names() {
    let place = Place::new();
    let path = library(&place);
    place.backup(&["backup", "--sqlite", "data/library.db", "--to", "a store"]).succeeds();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "INSERT INTO notes VALUES(4001, 'since the backup', 'x'); DELETE FROM notes WHERE id IN (3, 1000, 1500);
             UPDATE notes SET body = 'changed since' WHERE id = 3999;",
        )
        .unwrap();
    let truth: Vec<i64> = ids(&connection);
    connection.close().unwrap();
    let leaves = pages(&path, "notes", "leaf");
    zero(&path, &leaves[3..60]);
    let damaged = std::fs::read(&path).unwrap();

    // Without a store nothing is said of one; with one, the command to type is the answer.
    let alone = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 13);
    assert_eq!((&alone["next"], &alone["backup"]), (&Value::Null, &Value::Null));
    place.repair(&["repair", "data/library.db", "--no-service", "--strategy", "restore"]).fails(2, &["--from STORE"]);
    let said = place.repair(&["repair", "data/library.db", "--no-service", "--from", "a store"]);
    assert!(said.code == 13 && said.out.contains("--strategy restore --from '"), "{}\n{}", said.out, said.err);
    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--from", "a store", "--json"]), 13);
    assert_eq!((&value["outcome"], &value["accounting"]["step"]), (&"partial-not-replaced".into(), &"salvage".into()));
    let next = value["next"].as_str().unwrap().to_owned();
    let words: Vec<String> = shlex::split(&next).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);

    let mut dry: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    dry.extend(["--json", "--dry-run"]);
    let would = json(&place.repair(&dry), 13);
    assert_eq!(would["outcome"], "would-be-partial");
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    dry.pop();
    let value = json(&place.repair(&dry), 13);
    assert_eq!((&value["outcome"], &value["accounting"]["step"]), (&"partial-replaced".into(), &"restore".into()));
    let notes = &value["accounting"]["tables"][0];
    let number = |key: &str| notes[key].as_i64().unwrap();
    assert!(number("from_backup") > 500 && number("lost") == 0 && number("proved") == 0, "{notes}");
    assert_eq!(value["losses"].as_array().unwrap().len(), 1, "{value}");
    assert_eq!(value["backup"]["target"], "library");
    let connection = Connection::open(&path).unwrap();
    // The whole index on the title says which rows were deleted since: those, and no others, are gone.
    assert_eq!(ids(&connection), truth);
    let body: String = connection.query_row("SELECT body FROM notes WHERE id = 3999", [], |row| row.get(0)).unwrap();
    assert_eq!(body, "changed since");
    connection.close().unwrap();
    assert_eq!(rows(&path), (3998, "ok".to_owned()));
    place.repair(&["check", "data/library.db"]).succeeds();
    let report = PathBuf::from(value["preserved"].as_str().unwrap()).join("report.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(kept["accounting"], value["accounting"]);
    place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
}

fn ids(connection: &Connection) -> Vec<i64> {
    let mut statement = connection.prepare("SELECT id FROM notes NOT INDEXED").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_store_of_the_configuration_is_known_and_a_restore_is_complete_where_indices_prove_it() {
    let place = Place::new();
    let path = library(&place);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("CREATE INDEX notes_body ON notes(body, title)").unwrap();
    connection.close().unwrap();
    let (store, toml) = (place.path("store"), place.path("home/.config/svckit/svckit.toml"));
    std::fs::create_dir_all(toml.parent().unwrap()).unwrap();
    let text = format!("[target.notes]\nsqlite = [{path:?}]\nstore = {store:?}\n");
    std::fs::write(&toml, text).unwrap();
    let leaves = pages(&path, "notes", "leaf");
    let whole = std::fs::read(&path).unwrap();
    zero(&path, &leaves[3..13]);
    // A store that is not there yet is no failure.
    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 13);
    assert_eq!(value["next"], Value::Null);
    std::fs::write(&path, whole).unwrap();
    place.backup(&["backup", "notes"]).succeeds();
    zero(&path, &leaves[3..13]);
    let value = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 13);
    let next = value["next"].as_str().unwrap();
    assert!(next.ends_with("--target notes") && next.contains(" --no-service "), "{next}");
    let value =
        json(&place.repair(&["repair", "data/library.db", "--no-service", "--strategy", "restore", "--json"]), 0);
    let notes = &value["accounting"]["tables"][0];
    assert_eq!((&value["outcome"], &notes["from_backup"]), (&"complete".into(), &notes["proved"]), "{value}");
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
}

#[test]
fn of_a_database_that_is_no_more_the_backup_is_put_back_and_called_what_it_is() {
    let place = Place::new();
    let path = library(&place);
    place.backup(&["backup", "--sqlite", "data/library.db", "--to", "store"]).succeeds();
    for rest in [&b""[..], b"no database at all"] {
        std::fs::write(&path, rest).unwrap();
        let restore = ["repair", "data/library.db", "--no-service", "--strategy", "restore", "--from", "store"];
        let would = place.repair(&[&restore[..], &["--dry-run"]].concat());
        assert!(would.code == 13 && would.out.contains("would be repaired IN PART"), "{}\n{}", would.out, would.err);
        assert_eq!(std::fs::read(&path).unwrap(), rest);
        let said = place.repair(&restore);
        assert!(said.code == 13 && said.out.contains("nothing could be salvaged"), "{}\n{}", said.out, said.err);
        assert_eq!(rows(&path), (4000, "ok".to_owned()));
        place.repair(&["undo", "data/library.db", "--no-service"]).succeeds();
        assert_eq!(std::fs::read(&path).unwrap(), rest);
    }
    place.repair(&["repair", "data/library.db", "--no-service", "--from", "store"]).fails(2, &["--strategy restore"]);
}

#[test]
fn a_backup_that_is_damaged_itself_is_passed_over_for_the_one_before() {
    let place = Place::new();
    let path = library(&place);
    let backup =
        || place.backup(&["backup", "--sqlite", "data/library.db", "--to", "store", "--json"]).succeeds().to_owned();
    let first: Value = serde_json::from_str(backup().lines().last().unwrap()).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute("INSERT INTO notes VALUES(4001, 'since', 'x')", []).unwrap();
    connection.close().unwrap();
    let second: Value = serde_json::from_str(backup().lines().last().unwrap()).unwrap();
    // Also where both are of one second: the later one has the larger number.
    let (older, newest) = (first, second);
    let stored = PathBuf::from(newest["path"].as_str().unwrap());
    let payload = std::fs::read_dir(&stored).unwrap().map(|entry| entry.unwrap().path());
    let payload = payload.into_iter().find(|path| path.extension().is_some_and(|e| e == "zst")).unwrap();
    let mut bytes = std::fs::read(&payload).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&payload, bytes).unwrap();
    let leaves = pages(&path, "notes", "leaf");
    zero(&path, &leaves[3..13]);
    let restore = ["repair", "data/library.db", "--no-service", "--strategy", "restore", "--from", "store", "--json"];
    let said = place.repair(&restore);
    let value = json(&said, 13);
    assert_eq!(value["backup"]["id"], older["backup"]);
    assert!(said.err.contains("passed over: "), "{}", said.err);
    assert_eq!(rows(&path), (4001, "ok".to_owned()));
}

#[test]
fn a_database_that_is_not_there_is_a_matter_of_the_path() {
    let place = Place::new();
    for what in [&["check", "nowhere.db"][..], &["repair", "nowhere.db", "--no-service"]] {
        place.repair(what).fails(2, &["there is no database", "check the path"]);
    }
}

/// The worst that a person can do then is to start the service: SQLite deletes the log.
#[test]
fn a_database_of_which_only_the_log_is_left_is_had_back_from_it() {
    let place = Place::new();
    let path = library(&place);
    // All of it is in the log, as the first transaction after a restart of the log leaves it.
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA journal_mode=DELETE; PRAGMA journal_mode=WAL")
        .unwrap();
    connection.execute_batch("VACUUM").unwrap();
    let log = std::fs::read(place.path("data/library.db-wal")).unwrap();
    connection.close().unwrap();
    let lay = |name: &str| std::fs::write(place.path("data").join(name), &log).unwrap();
    lay("library.db-wal");
    std::fs::write(&path, "").unwrap();
    let found = json(&place.repair(&["check", "data/library.db", "--json"]), 11);
    assert!(found["findings"][0]["what"].as_str().unwrap().contains("what is left of the database is in its -wal"));
    let repaired = json(&place.repair(&["repair", "data/library.db", "--no-service", "--json"]), 0);
    assert_eq!(repaired["outcome"], "complete", "{repaired}");
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
    // The name of the database is gone, too.
    std::fs::remove_file(&path).unwrap();
    lay("library.db-wal");
    let said = place.repair(&["repair", "data/library.db", "--no-service"]);
    assert_eq!(said.code, 11, "{}", said.err);
    assert!(said.err.contains("create an empty "), "{}", said.err);
    std::fs::write(&path, "").unwrap();
    assert_eq!(place.repair(&["repair", "data/library.db", "--no-service"]).code, 0);
    assert_eq!(rows(&path), (4000, "ok".to_owned()));
}

#[test]
fn of_a_file_that_is_cut_within_its_first_page_the_repair_speaks_by_its_name() {
    let place = Place::new();
    let path = library(&place);
    let whole = std::fs::read(&path).unwrap();
    for bytes in [1, 50, 100, 500] {
        std::fs::write(&path, &whole[..bytes]).unwrap();
        for mode in ["--dry-run", "--accept-loss"] {
            let said = place.repair(&["repair", "data/library.db", "--no-service", mode]);
            assert!([2, 11].contains(&said.code), "{bytes}: {}", said.err);
            assert!(!said.err.contains("svckit-restore"), "{}", said.err);
            assert_eq!(std::fs::read(&path).unwrap(), whole[..bytes]);
        }
    }
}

#[test]
fn a_command_line_that_can_not_be_parsed_is_told_as_json_too() {
    let place = Place::new();
    for (arguments, wanted) in [
        (&["check", "--json"][..], "required arguments were not provided: <PATH>"),
        (&["check", "--json", "--bogus", "x"], "unexpected argument '--bogus' found"),
    ] {
        let told = json(&place.repair(arguments), 2);
        assert_eq!((&told["kind"], &told["exit"]), (&"usage".into(), &2.into()), "{told}");
        assert!(told["error"].as_str().unwrap().contains(wanted), "{told}");
    }
    assert_eq!(place.repair(&["check", "--bogus", "--", "--json"]).out, "");
}
