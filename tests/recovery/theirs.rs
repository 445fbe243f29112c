//! SQLite's own recovery, as its shell has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What `.recover` reads pages with, which distributions leave out, and what their shell calls beside.
const OPTIONS: [&str; 8] = [
    "-DSQLITE_ENABLE_DBPAGE_VTAB",
    "-DSQLITE_ENABLE_SESSION",
    "-DSQLITE_ENABLE_PREUPDATE_HOOK",
    "-DSQLITE_ENABLE_DBSTAT_VTAB",
    "-DSQLITE_ENABLE_COLUMN_METADATA",
    "-DSQLITE_ENABLE_FTS3",
    "-DSQLITE_ENABLE_FTS5",
    "-DSQLITE_ENABLE_RTREE",
];

/// Whether this machine has a compiler and a shell.
pub(crate) fn can_run() -> bool {
    let has =
        |program: &str, argument: &str| Command::new(program).arg(argument).output().is_ok_and(|o| o.status.success());
    has("cc", "--version") && has("sqlite3", "-version")
}

/// The two libraries: SQLite, and its word that it is the one the shell was built with.
fn libraries() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let target = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists()).unwrap();
        let directory = target.join(format!("testbed/recover-{}-O2", rusqlite::version()));
        let sqlite = directory.join("libsqlite3.so.0");
        let shim = directory.join("libshim.so");
        if sqlite.exists() && shim.exists() {
            return (sqlite, shim);
        }
        // Complete under its name, whoever builds it first.
        let scratch = tempfile::tempdir_in(target).unwrap();
        let built = scratch.path().join("libsqlite3.so.0");
        cc(Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-w"])
            .args(OPTIONS)
            .arg(amalgamation())
            .arg("-o")
            .arg(&built));
        let source = scratch.path().join("shim.c");
        std::fs::write(&source, "const char *sqlite3_sourceid(void) { return SOURCE; }\n").unwrap();
        let asked = Command::new("sqlite3").args([":memory:", "SELECT sqlite_source_id()"]).output().unwrap();
        let id = String::from_utf8(asked.stdout).unwrap();
        let built_shim = scratch.path().join("libshim.so");
        let define = format!("-DSOURCE=\"{}\"", id.trim());
        cc(Command::new("cc").args(["-shared", "-fPIC", &define]).arg(&source).arg("-o").arg(&built_shim));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::rename(built_shim, &shim).unwrap();
        std::fs::rename(built, &sqlite).unwrap();
        (sqlite, shim)
    })
}

fn cc(command: &mut Command) {
    let said = command.output().unwrap();
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// The source of the SQLite that is linked here.
fn amalgamation() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo).args(["metadata", "--format-version", "1", "--offline"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let packages = value["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "libsqlite3-sys").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("sqlite3").join("sqlite3.c")
}

/// What it makes of a damaged database; it may leave an empty one.
pub(crate) fn recover(damaged: &Path, into: &Path) {
    let (sqlite, shim) = libraries();
    let mut dump = Command::new("sqlite3")
        .arg(damaged)
        .arg(".recover")
        .env("LD_LIBRARY_PATH", sqlite.parent().unwrap())
        .env("LD_PRELOAD", shim)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let load = Command::new("sqlite3").arg(into).stdin(dump.stdout.take().unwrap()).output().unwrap();
    let _status_says_little = (dump.wait().unwrap(), load);
}
