//! What can't be backed up or restored: a clear error with its exit code, and nothing changed.

use std::path::Path;

use svckit_testbed::command::{sh, svc_backup};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::Recipe;

pub(crate) const STORIES: &[Story] = &[
    ("what is no SQLite database is refused by its name", no_database),
    ("a store that is full, read-only or inside the source is refused", bad_stores),
    ("a path with a newline and bytes that are no UTF-8 is backed up and restored", odd_names),
    ("a restore over a database that somebody has open is refused", open_target),
];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn directory(name: &str) -> std::path::PathBuf {
    let directory = Path::new("/srv/testbed").join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn database(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("CREATE TABLE rows (pid, number); INSERT INTO rows VALUES (1, 1), (1, 2)").unwrap();
}

fn no_database() {
    let dir = directory("no-database");
    std::fs::write(dir.join("text"), "this is a text, and long enough to be anything but a header of a database.")
        .unwrap();
    std::fs::write(dir.join("empty"), "").unwrap();
    std::fs::create_dir(dir.join("directory")).unwrap();
    for name in ["text", "empty", "directory", "missing"] {
        let path = dir.join(name);
        let outcome = svc_backup(["backup", "--sqlite", text(&path), "--to", text(&dir.join("store"))]);
        assert!(outcome.status == 2 && outcome.stderr.contains(name), "{outcome:?}");
    }
    assert!(!dir.join("store").exists());
}

fn bad_stores() {
    let dir = directory("bad-stores");
    let source = dir.join("source.db");
    database(&source);
    let small = dir.join("small");
    std::fs::create_dir(&small).unwrap();
    sh("mount", ["-t", "tmpfs", "-o", "size=16k", "small", text(&small)]).expect(0);
    let full = svc_backup(["backup", "--sqlite", text(&source), "--to", text(&small.join("store"))]);
    assert!(full.status == 30 && full.stderr.contains("small") && full.stderr.contains("are free"), "{full:?}");
    assert!(!small.join("store").exists(), "a refusal leaves no store behind");
    sh("mount", ["-o", "remount,ro", text(&small)]).expect(0);
    let read_only = svc_backup(["backup", "--sqlite", text(&source), "--to", text(&small.join("store2"))]);
    assert!(read_only.status == 23 && read_only.stderr.contains("read-only"), "{read_only:?}");
    sh("umount", [text(&small)]).expect(0);
    let files = dir.join("files");
    std::fs::create_dir(&files).unwrap();
    let inside = files.join("store");
    let args = ["backup", "--sqlite", text(&source), "--include", text(&files), "--to", text(&inside)];
    let outcome = svc_backup(args);
    assert!(outcome.status == 2 && outcome.stderr.contains("lies inside"), "{outcome:?}");
    assert!(!inside.exists());
}

fn odd_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = directory("odd-names");
    let odd = dir.join(OsStr::from_bytes(b"a\nb\xff.db"));
    database(&odd);
    let store = dir.join("store");
    let words = |more: &[&OsStr]| -> Vec<std::ffi::OsString> { more.iter().map(|word| (*word).to_owned()).collect() };
    let w = OsStr::new;
    svc_backup(words(&[
        w("backup"),
        w("--sqlite"),
        odd.as_os_str(),
        w("--name"),
        w("odd"),
        w("--to"),
        store.as_os_str(),
    ]))
    .expect(0);
    svc_backup(["list", "--from", text(&store)]).expect(0);
    let to = dir.join(OsStr::from_bytes(b"back\n\xfe.db"));
    svc_backup(words(&[w("restore"), w("--from"), store.as_os_str(), w("odd"), w("--to"), to.as_os_str()])).expect(0);
    svckit_testbed::unit::assert_has_rows(&to, &[(1, 1), (1, 2)]);
}

fn open_target() {
    let unit = Recipe::new().start("restore-open");
    let store = unit.directory.join("store");
    let database = text(&unit.databases[0]);
    svc_backup(["backup", "--sqlite", database, "--name", "o", "--to", text(&store)]).expect(0);
    let refused = svc_backup(["restore", "--from", text(&store), "o", "--to", database]);
    assert!([21, 22].contains(&refused.status), "{refused:?}");
    assert!(refused.stderr.contains(&unit.main_pid().to_string()), "it is said who has it open: {refused:?}");
    unit.assert_running();
    unit.assert_nothing_lost();
}
