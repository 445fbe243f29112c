//! What people hand to `svc-backup` by mistake or by misfortune: each is a clear error with its code, and nothing is
//! changed by it. Real databases, real stores.

// Helpers of the tests: a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::{Place, Said};

/// A place with a database of three rows.
fn place() -> Place {
    let place = Place::new();
    make_database(&place.path("notes.db"));
    place
}

fn make_database(path: &Path) {
    let database = rusqlite::Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database.execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO notes (body) VALUES ('a'), ('b'), ('c');").unwrap();
}

fn back_up(place: &Place, database: impl AsRef<OsStr>, more: &[&str]) -> Said {
    let mut words: Vec<OsString> = ["backup", "--to", "store", "--sqlite"].map(OsString::from).to_vec();
    words.push(database.as_ref().to_owned());
    words.extend(more.iter().map(OsString::from));
    place.backup(&words)
}

/// Every file below, with its content.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(content(&entry.path())),
            false => all.push((entry.path(), std::fs::read(entry.path()).unwrap())),
        }
    }
    all.sort();
    all
}

/// The directory of the only backup in the store.
fn only_backup(place: &Place) -> PathBuf {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(place.path("store/notes")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.join("manifest.json").exists());
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn what_is_no_database_is_told_apart() {
    let place = place();
    std::fs::write(place.path("text.db"), "a text that is long enough to have been a header of SQLite. ".repeat(20))
        .unwrap();
    std::fs::write(place.path("empty.db"), b"").unwrap();
    std::fs::create_dir(place.path("dir.db")).unwrap();
    for (name, why) in [
        ("text.db", "is not a SQLite database"),
        ("empty.db", "is empty"),
        ("dir.db", "is a directory"),
        ("none.db", "there is no database"),
        ("none/none.db", "none.db"),
    ] {
        back_up(&place, name, &[]).fails(2, &["svc-backup: back up ", name, why, "hint: "]);
        assert!(!place.path("store").exists(), "{name}");
    }
}

#[test]
fn a_damaged_database_is_named_and_nothing_of_it_is_kept() {
    let place = place();
    let database = rusqlite::Connection::open(place.path("notes.db")).unwrap();
    database
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
             INSERT INTO notes (body) SELECT hex(randomblob(200)) FROM n; PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    database.close().unwrap();
    back_up(&place, "notes.db", &[]).succeeds();
    // The lock file says who had it last.
    let backups = || content(&place.path("store")).into_iter().filter(|(path, _)| !path.ends_with(".lock"));
    let before: Vec<_> = backups().collect();
    edit(&place.path("notes.db"), |bytes| bytes[4096 * 5..4096 * 6].fill(0));
    let path = place.path("notes.db");
    let path = path.to_str().unwrap();
    let hint = format!("hint: run `svc-repair check {path}`");
    back_up(&place, "notes.db", &[]).fails(11, &["back up notes", path, "is damaged", "page 6", &hint]);
    assert!(backups().eq(before), "{:?}", backups().map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn an_include_that_there_is_not_is_said_and_leaves_no_store() {
    let place = place();
    for include in ["none", "none/*.conf"] {
        back_up(&place, "notes.db", &["--include", include]).fails(2, &["back up notes", include, "hint: "]);
        assert!(!place.path("store").exists(), "a refusal leaves no store behind");
    }
}

#[test]
fn a_path_may_have_any_byte_and_is_shown_escaped() {
    let place = place();
    for (bytes, shown) in [(&b"new\nline.db"[..], "new\\nline.db"), (b"not\xffutf8.db", "not\\xFFutf8.db")] {
        let name = OsString::from_vec(bytes.to_vec());
        make_database(&place.path(&name));
        let said = back_up(&place, &name, &["--name", "odd"]);
        assert!(said.succeeds().contains(shown), "{}", said.out);
        let said = back_up(&place, &name, &["--name", "odd", "--json"]);
        let value: serde_json::Value = serde_json::from_str(said.succeeds()).unwrap();
        assert_eq!(value["kind"], "done");
    }
    let said = back_up(&place, OsStr::from_bytes(b"none\nsvc-backup: done\xff"), &[]);
    assert_eq!(said.err.lines().filter(|line| line.starts_with("svc-backup: ")).count(), 1, "{}", said.err);
}

#[test]
fn a_store_inside_its_source_is_refused() {
    let place = place();
    std::fs::create_dir(place.path("data")).unwrap();
    make_database(&place.path("data/notes.db"));
    let said = place.backup(&["backup", "--sqlite", "data/notes.db", "--include", "data", "--to", "data/store"]);
    said.fails(2, &["lies inside the source", "hint: choose a store outside"]);
    assert!(!place.path("data/store").exists(), "a refusal leaves no store behind");
    let said = place.backup(&["backup", "--sqlite", "data/notes.db", "--include", "data/*", "--to", "data/store"]);
    said.fails(2, &["lies inside the source", "hint: choose a store outside"]);
    assert!(!place.path("data/store").exists(), "a refusal leaves no store behind");
}

#[test]
fn a_store_that_can_not_be_written_is_said_with_its_path() {
    let place = place();
    std::fs::write(place.path("file"), b"").unwrap();
    place.backup(&["backup", "--sqlite", "notes.db", "--to", "file"]).fails(30, &["file"]);
    place.backup(&["backup", "--sqlite", "notes.db", "--to", "/proc/store"]).fails(30, &["/proc/store"]);
    if rustix::process::geteuid().is_root() {
        // Rights don't bind root, and a read-only file system takes a mount: the stories as root have that one.
        return;
    }
    std::fs::create_dir(place.path("locked")).unwrap();
    std::fs::set_permissions(place.path("locked"), std::fs::Permissions::from_mode(0o555)).unwrap();
    place.backup(&["backup", "--sqlite", "notes.db", "--to", "locked/store"]).fails(23, &["locked", "hint: "]);
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing_half() {
    let place = place();
    let database = rusqlite::Connection::open(place.path("notes.db")).unwrap();
    database.execute("INSERT INTO notes (body) SELECT hex(randomblob(100000))", []).unwrap();
    database.close().unwrap();
    let program = env!("CARGO_BIN_EXE_svc-backup");
    let line = format!("ulimit -f 40; exec {program} backup --sqlite notes.db --to store");
    let output = place.command("sh").args(["-c", &line]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(30), "{told}");
    assert!(told.contains("back up notes") && told.contains("limit on the size of a file"), "{told}");
    let left = content(&place.path("store")).into_iter().filter(|(path, _)| !path.ends_with(".lock")).count();
    assert_eq!(left, 0);

    // And nothing that a backup could be blamed for.
    back_up(&place, "notes.db", &[]).succeeds();
    let line = format!("ulimit -f 40; exec {program} verify --from store --restore");
    let output = place.command("sh").args(["-c", &line]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(30), "{told}");
    assert!(told.contains("verify") && told.contains("limit on the size of a file"), "{told}");
    place.backup(&["verify", "--from", "store", "--restore"]).succeeds();
}

#[test]
fn a_backup_is_listed_verified_and_kept_as_the_last_good_one() {
    let place = place();
    let said = back_up(&place, "notes.db", &[]);
    assert!(said.succeeds().starts_with("notes 20"), "{}", said.out);
    assert!(place.backup(&["list", "--from", "store"]).succeeds().contains("notes"));
    let said = place.backup(&["verify", "--from", "store", "notes", "--restore"]);
    assert!(said.succeeds().contains("integrity"), "{}", said.out);
    let asked = ["verify", "--from", "store", "notes", "--restore", "--query", "select 1 => 2"];
    place.backup(&asked).fails(2, &["no backup here is a dump", "hint: "]);
    let said = place.backup(&["expire", "--from", "store", "--keep-daily", "1"]);
    assert!(said.succeeds().contains("kept"), "{}", said.out);
    drop(only_backup(&place));
    place.backup(&["list", "--from", "store", "other"]).fails(10, &["there is no such backup"]);
    place.backup(&["verify", "--from", "none"]).fails(10, &["there is no store"]);
    // Somebody's own directory that was taken for the store.
    let theirs = place.path("srv/app/.partial-downloads");
    std::fs::create_dir_all(&theirs).unwrap();
    place.backup(&["expire", "--from", "srv", "--keep-last", "3"]).fails(10, &["there is no backup in it", "hint: "]);
    assert_eq!(std::fs::read_dir(place.path("srv/app")).unwrap().count(), 1, "it is still there, and no lock");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let place = place();
    let before = content(&place.path("."));
    let said = back_up(&place, "notes.db", &["--dry-run"]);
    assert!(said.succeeds().contains("would: "), "{}", said.out);
    let files = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let is_ours = |path: &PathBuf| path.to_string_lossy().contains("/state/");
    let after: Vec<PathBuf> = files(&content(&place.path("."))).into_iter().filter(|path| !is_ours(path)).collect();
    assert_eq!(after, files(&before));
    assert!(!place.path("store").exists());
}

/// Each damage is found by `verify`, the store is left as it is, and a new backup beside it is good.
fn damaged(what: &str, damage: impl FnOnce(&Path), wanted: &str) {
    let place = place();
    back_up(&place, "notes.db", &[]).succeeds();
    damage(&only_backup(&place));
    let before = content(&place.path("store/notes"));
    for arguments in [&["verify", "--from", "store"][..], &["verify", "--from", "store", "notes", "--restore"]] {
        let said = place.backup(arguments);
        assert_eq!(said.code, 12, "{what}: {} {}", said.out, said.err);
        assert!(said.out.contains("DOES NOT VERIFY") && said.out.contains(wanted), "{what}: {}", said.out);
    }
    assert_eq!(content(&place.path("store/notes")), before, "{what}");
    back_up(&place, "notes.db", &[]).succeeds();
    let said = place.backup(&["verify", "--from", "store", "--json"]);
    let results: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.iter().filter(|result| result["kind"] == "done").count(), 1, "{what}: {}", said.out);
    assert_eq!((results.len(), said.code), (2, 12), "{what}");
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn payload(backup: &Path) -> PathBuf {
    let all = content(backup);
    all.into_iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|end| end == "zst")).unwrap()
}

#[test]
fn a_truncated_manifest_does_not_verify() {
    damaged(
        "truncated",
        |backup| edit(&backup.join("manifest.json"), |bytes| bytes.truncate(bytes.len() / 2)),
        "manifest",
    );
}

#[test]
fn an_edited_manifest_does_not_verify() {
    let flip = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("sha256\": \"", "sha256\": \"0").into_bytes();
    };
    damaged("edited", |backup| edit(&backup.join("manifest.json"), flip), "");
}

#[test]
fn a_manifest_of_a_newer_version_is_not_guessed_at() {
    let newer = |bytes: &mut Vec<u8>| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let key = ["version", "format", "format_version"].into_iter().find(|key| value[*key].is_u64()).unwrap();
        value[key] = 999.into();
        *bytes = serde_json::to_vec_pretty(&value).unwrap();
    };
    damaged("newer", |backup| edit(&backup.join("manifest.json"), newer), "999");
}

#[test]
fn a_flipped_or_missing_payload_does_not_verify() {
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    };
    damaged("flipped", |backup| edit(&payload(backup), flip), "");
    damaged("missing", |backup| std::fs::remove_file(payload(backup)).unwrap(), "");
}

#[test]
fn what_is_left_out_of_the_files_is_told_in_the_report() {
    let place = place();
    let app = place.path("app");
    std::fs::create_dir_all(app.join("real")).unwrap();
    std::fs::write(app.join("settings"), b"x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(app.join("socket")).unwrap();
    let link = place.path("link");
    std::os::unix::fs::symlink("/usr/share", &link).unwrap();
    let inner = place.path("inner");
    std::os::unix::fs::symlink(app.join("real"), &inner).unwrap();
    let include = ["--include", "app", "--include", "link", "--include", "inner"];
    let report = back_up(&place, "notes.db", &[&include[..], &["--json", "-q"]].concat());
    let report: serde_json::Value = serde_json::from_str(report.succeeds()).unwrap();
    let notices: Vec<&str> = report["notices"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].contains("app/socket") && notices[0].contains("it is a socket or a pipe"), "{notices:?}");
    assert!(
        notices[1].contains("/link") && notices[1].contains("what it leads to is not in the backup"),
        "{notices:?}"
    );
    let text = back_up(&place, "notes.db", &include);
    assert!(text.succeeds().contains("note: ") && text.out.contains("app/socket"), "{}", text.out);
}

#[test]
fn a_database_among_the_files_is_told_unless_it_is_named_as_one() {
    let place = place();
    std::fs::create_dir(place.path("app")).unwrap();
    for name in ["queue", "sub.db"] {
        let database = rusqlite::Connection::open(place.path("app").join(name)).unwrap();
        database.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    }
    std::fs::write(place.path("app/short"), b"SQLite format").unwrap();
    let report = back_up(&place, "app/sub.db", &["--include", "app", "--json"]);
    let report: serde_json::Value = serde_json::from_str(report.succeeds()).unwrap();
    let notices = report["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 1, "{report}");
    let told = notices[0].as_str().unwrap();
    assert!(told.contains("app/queue") && told.contains("copied as a file") && told.contains("--sqlite"), "{told}");
    let manifest = std::fs::read_to_string(Path::new(report["path"].as_str().unwrap()).join("manifest.json")).unwrap();
    assert!(manifest.contains("it is a SQLite database"), "the backup says so itself");
}

#[test]
fn a_payload_that_is_no_file_is_damage_to_every_command() {
    let place = place();
    back_up(&place, "notes.db", &[]).succeeds();
    let backup = only_backup(&place);
    let (payload, aside) = (backup.join("notes.db.zst"), place.path("aside"));
    let all = || {
        let restore = place.backup(&["restore", "--from", "store", "notes", "--to", "new.db"]);
        let verify = place.backup(&["verify", "--from", "store"]);
        let list = place.backup(&["list", "--from", "store"]);
        restore.fails(12, &["notes.db.zst"]);
        assert!(verify.code == 12 && verify.out.contains("DOES NOT VERIFY"), "{} {}", verify.out, verify.err);
        assert!(list.code == 12 && list.out.contains("UNREADABLE"), "{} {}", list.out, list.err);
    };
    std::fs::rename(&payload, &aside).unwrap();
    all();
    std::os::unix::fs::symlink(&aside, &payload).unwrap();
    all();
    std::fs::remove_file(&payload).unwrap();
    std::fs::create_dir(&payload).unwrap();
    all();
    std::fs::remove_dir(&payload).unwrap();
    assert!(place.command("mkfifo").arg(&payload).status().unwrap().success());
    all();
    std::fs::remove_file(&payload).unwrap();
    std::fs::write(&payload, b"short").unwrap();
    all();
    std::fs::rename(&aside, &payload).unwrap();
    place.backup(&["list", "--from", "store"]).succeeds();
    // The manifest likewise.
    std::fs::rename(backup.join("manifest.json"), &aside).unwrap();
    std::os::unix::fs::symlink(&aside, backup.join("manifest.json")).unwrap();
    place.backup(&["restore", "--from", "store", "notes", "--to", "new.db"]).fails(12, &["manifest.json"]);
}
