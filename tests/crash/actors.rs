//! What this binary is when it is not the tests: the programs that the controls interrupt, and small helpers. They are
//! naive on purpose.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use svckit::world::disk::{remove_durably, write_durably};
use svckit_testbed::command::{ended, sh, signal};

use crate::engine::Program;
use crate::plain::service;

/// The first argument of an actor.
const ACT: &str = "--act";
/// Where the launcher of guards notes that it killed one.
pub(crate) const GUARD_KILLED: &str = "SVCKIT_CRASH_GUARD_KILLED";
/// The launcher itself is found in PATH under this name, and this is where the real one is.
const REAL_SETSID: &str = "/usr/bin/setsid";

/// An actor as a program.
pub(crate) fn actor<S: Into<std::ffi::OsString>>(role: &str, args: impl IntoIterator<Item = S>) -> Program {
    let words = [ACT.into(), role.into()].into_iter().chain(args.into_iter().map(Into::into));
    Program::new(&std::env::current_exe().unwrap(), words)
}

/// Acts, if that is what we were started for.
pub(crate) fn act() -> Option<ExitCode> {
    let args: Vec<PathBuf> = std::env::args_os().map(PathBuf::from).collect();
    if args.first()?.file_name()? == "setsid" {
        return Some(launch(&args[1..]));
    }
    if args.get(1)?.as_os_str() != ACT {
        return None;
    }
    let path = |index: usize| args[index].as_path();
    match args.get(2)?.to_str()? {
        "durable-write" => write_durably(path(3), &vec![b'n'; PATTERN], 0o600).unwrap(),
        "naive-write" => File::create(path(3)).unwrap().write_all(&vec![b'n'; PATTERN]).unwrap(),
        "naive-backup" => naive_backup(path(3), path(4), path(5)),
        "naive-unit-backup" => {
            sh("systemctl", [Path::new("stop"), path(3)]).expect(0);
            copy(path(4), path(5));
            sh("systemctl", [Path::new("start"), path(3)]).expect(0);
        }
        "naive-container-backup" => naive_container_backup(args[3].to_str().unwrap(), path(4), path(5)),
        "naive-dump" => naive_dump(args[3].to_str().unwrap(), path(4)),
        "naive-restore" => naive_restore(path(3), path(4)),
        "naive-durable-restore" => naive_durable_restore(path(3), path(4)),
        "naive-repair" => naive_repair(path(3)),
        "naive-publish" => naive_publish(path(3), path(4)),
        "unsynced-publish" => unsynced_publish(path(3), path(4)),
        "naive-expire" => args[3..].iter().for_each(|backup| std::fs::remove_dir_all(backup).unwrap()),
        other => panic!("no actor is called {other}"),
    }
    Some(ExitCode::SUCCESS)
}

/// The length of what the small programs write.
pub(crate) const PATTERN: usize = 4096;

/// `stop; cp; start`, with the copy made right in the store.
fn naive_backup(root: &Path, finished: &Path, into: &Path) {
    let pid = stop(root);
    copy(finished, into);
    start(root, pid);
}

/// What is found in many a crontab. `DOCKER_HOST` is in the environment.
fn naive_container_backup(name: &str, finished: &Path, into: &Path) {
    sh("docker", ["update", "--restart=no", name]).expect(0);
    sh("docker", ["stop", name]).expect(0);
    copy(finished, into);
    sh("docker", ["start", name]).expect(0);
    sh("docker", ["update", "--restart=unless-stopped", name]).expect(0);
}

/// A dump with its password in a file of the container, moved into the store before it is whole.
fn naive_dump(name: &str, into: &Path) {
    let secret = "echo password >/dev/shm/svckit-secret.naive";
    sh("docker", ["exec", name, "sh", "-c", secret]).expect(0);
    std::fs::create_dir(into).unwrap();
    let dump = sh("docker", ["exec", name, "redis-cli", "info"]);
    std::fs::write(into.join("dump"), dump.stdout).unwrap();
    std::fs::write(into.join("manifest.json"), "{}").unwrap();
    sh("docker", ["exec", name, "rm", "/dev/shm/svckit-secret.naive"]).expect(0);
    std::fs::remove_dir_all(into).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(from).unwrap().flatten().map(|file| file.file_name()).collect();
    // As they come, a directory may have the manifest first, and then half a copy looks whole: that is the one to be caught.
    names.sort_by_key(|name| name != "manifest.json");
    for name in names {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// `stop; cp; start`, with the copy made right onto the database, whatever lies beside it.
fn naive_restore(root: &Path, copy: &Path) {
    let pid = stop(root);
    std::fs::copy(copy, service::database(root)).unwrap();
    start(root, pid);
}

/// Every file durably, and in the wrong order: for a moment the old log lies beside the new database.
fn naive_durable_restore(root: &Path, copy: &Path) {
    let pid = stop(root);
    let database = service::database(root);
    write_durably(&database, &std::fs::read(copy).unwrap(), 0o600).unwrap();
    for suffix in ["-wal", "-shm"] {
        remove_durably(&database.with_extension(format!("db{suffix}"))).unwrap();
    }
    start(root, pid);
}

/// A copy gets its index anew, and is copied over the database; nothing is preserved.
fn naive_repair(root: &Path) {
    let pid = stop(root);
    let (database, copy) = (service::database(root), root.join("copy.db"));
    std::fs::copy(&database, &copy).unwrap();
    std::fs::copy(database.with_extension("db-wal"), root.join("copy.db-wal")).unwrap();
    let drop_index = "PRAGMA writable_schema=1; DELETE FROM sqlite_schema WHERE name = 'notes_title';";
    for sql in [drop_index, "VACUUM", "CREATE INDEX notes_title ON notes(title); PRAGMA journal_mode=DELETE;"] {
        rusqlite::Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
    }
    std::fs::remove_file(database.with_extension("db-wal")).unwrap();
    std::fs::copy(&copy, &database).unwrap();
    start(root, pid);
}

/// The link is removed and made again.
fn naive_publish(source: &Path, tree: &Path) {
    sh("cp", [Path::new("-r"), source, &tree.join("generations/000003")]).expect(0);
    std::fs::remove_file(tree.join("current")).unwrap();
    std::os::unix::fs::symlink("generations/000003", tree.join("current")).unwrap();
}

/// In the right order, and left to the file system's own time. An old generation is removed at the end.
fn unsynced_publish(source: &Path, tree: &Path) {
    let copied = tree.join("generations/.000003.new");
    sh("cp", [Path::new("-r"), source, &copied]).expect(0);
    std::fs::rename(&copied, tree.join("generations/000003")).unwrap();
    std::os::unix::fs::symlink("generations/000003", tree.join(".current.new")).unwrap();
    std::fs::rename(tree.join(".current.new"), tree.join("current")).unwrap();
    std::fs::remove_dir_all(tree.join("generations/000001")).unwrap();
}

fn stop(root: &Path) -> i32 {
    let pid = service::pid(root).unwrap();
    assert!(signal(pid, rustix::process::Signal::TERM));
    assert!(ended(pid, std::time::Duration::from_secs(30)));
    pid
}

fn start(root: &Path, old: i32) {
    // Whoever starts it by hand does not wait for it either.
    #[allow(clippy::zombie_processes, reason = "the naive program ends, and init reaps the service")]
    let child =
        service::command(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_ne!(i32::try_from(child.id()).unwrap(), old);
    std::fs::write(service::pid_file(root), format!("{}\n", child.id())).unwrap();
}

/// setsid(1), except that a guard is killed as soon as it waits, before its owner hears that it does.
fn launch(args: &[PathBuf]) -> ExitCode {
    let is_guard = args.iter().any(|word| word.as_os_str() == "guard");
    let mut real = Command::new(REAL_SETSID);
    real.args(args);
    if !is_guard {
        let error = real.exec();
        panic!("can't run {REAL_SETSID}: {error}");
    }
    let mut guard = real.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0u8; 1];
    guard.stdout.take().unwrap().read_exact(&mut said).unwrap();
    guard.kill().unwrap();
    guard.wait().unwrap();
    if let Some(mark) = std::env::var_os(GUARD_KILLED) {
        std::fs::write(mark, b"").unwrap();
    }
    std::io::stdout().write_all(&said).unwrap();
    ExitCode::SUCCESS
}
